// Pictures at full size, over the page: arrows go to the next one, Escape closes, z switches between the size of the
// screen and the picture's own.
//
// The dialog is modal: the focus stays inside, and goes back to the button that opened it. It closes when the message
// of its picture is deleted.

import { h, iconButton, toast } from "./dom.js";
import { bytesOf, numberOf, t } from "./i18n.js";
import { averageColour, frameOf, variantFor } from "./previews.js";

/** A picture: its message and its file. */
const nameOf = ([message, file]) => `${message.message_id}/${file.file_id}`;

/**
 * `list()`: the pictures as they are now, [message, file] each; `first`: the one to begin with. `download(file)` saves
 * one, `opener()` is what gets the focus back.
 */
export function showLightbox(app, { list, first, download, opener }) {
    let pictures = list();
    let current = indexOf(first);
    if (current < 0) [pictures, current] = [[first], 0];
    let isActual = false;
    /** The picture that loads at full size, over its preview. */
    let full;
    const image = h("img", { alt: "", onclick: () => zoom(), decoding: "async" });
    image.addEventListener("load", () => (image.style.backgroundColor = ""));
    const stage = h("div", { class: "stage" }, image);
    const name = h("strong", { class: "file-name", id: "lightbox-name", dir: "auto" });
    const about = h("small", { id: "lightbox-about", role: "status" });
    const previous = iconButton("back", t("previous_picture"), () => step(-1), { id: "previous-picture" });
    const next = iconButton("next", t("next_picture"), () => step(1), { id: "next-picture" });
    const zoomer = iconButton("zoom", "", () => zoom(), { id: "zoom-picture" });
    const close = iconButton("close", t("close"), () => box.close(), { id: "close-lightbox", autofocus: true });
    const save = iconButton("down", "", () => download(pictures[current][1]), { id: "save-picture" });
    const head = h("header", {}, h("div", { class: "file-about" }, name, about), zoomer, save, close);
    const box = h(
        "dialog",
        { class: "lightbox", id: "lightbox", "aria-labelledby": "lightbox-name", onkeydown: (event) => key(event) },
        head,
        previous,
        stage,
        next,
    );
    box.addEventListener("click", ({ target }) => (target === stage || target === box) && box.close());
    box.addEventListener("close", () => {
        app.unwatch(view);
        full = undefined;
        box.remove();
        opener()?.focus({ preventScroll: true });
    });
    const view = { update: (topics) => (topics.has("conversation") || topics.has("open") ? refresh() : undefined) };
    app.watch(view);
    document.body.append(box);
    box.showModal();
    close.focus();
    show();

    function label(button, text) {
        button.title = text;
        button.setAttribute("aria-label", text);
    }

    function indexOf(picture) {
        return pictures.findIndex((other) => nameOf(other) === nameOf(picture));
    }

    /** Follows the conversation. */
    function refresh() {
        const shown = pictures[current];
        const isOpen = shown[0].conversation_id === app.open.id;
        pictures = isOpen ? list() : [];
        current = indexOf(shown);
        if (current >= 0) return showPlace();
        app.unwatch(view);
        box.close();
        return isOpen ? toast(t("picture_gone")) : undefined;
    }

    function showPlace(note) {
        const file = pictures[current][1];
        const place = { n: numberOf(current + 1), count: numberOf(pictures.length) };
        const text = [t("pictures_of", place), bytesOf(file.size), note ?? (full && t("loading"))];
        const shown = text.filter(Boolean).join(" · ");
        if (about.textContent !== shown) about.textContent = shown;
        previous.disabled = current === 0;
        next.disabled = current === pictures.length - 1;
        if (document.activeElement?.disabled || !box.contains(document.activeElement)) close.focus();
    }

    function show() {
        const file = pictures[current][1];
        name.textContent = file.name;
        label(save, t("download_file", { name: file.name }));
        image.removeAttribute("src"); // not the picture before under this one's name
        image.alt = file.name;
        image.style.backgroundColor = averageColour(file.blurhash);
        for (const side of ["width", "height"]) {
            if (file[side]) image[side] = file[side];
            else image.removeAttribute(side);
        }
        setActual(false);
        load(file);
        showPlace();
    }

    /** Shows a variant, which is there soon, until the file is loaded. */
    async function load(file) {
        const loading = new Image();
        full = loading;
        const isCurrent = () => full === loading;
        const ended = (note) => {
            if (!isCurrent()) return;
            full = undefined;
            showPlace(note);
        };
        const failed = () => ended(t("file_broken"));
        loading.onload = () => {
            if (isCurrent()) image.src = loading.src;
            ended();
        };
        const variant = variantFor(file, frameOf(file), { ratio: devicePixelRatio });
        const preview = variant && (await app.transfer.variantLink(file.file_id, variant).catch(() => undefined));
        if (isCurrent() && preview) image.src = preview;
        let hasFailed = false;
        const begin = async () => {
            try {
                const url = await app.transfer.link(file.file_id, hasFailed);
                if (isCurrent()) loading.src = url;
            } catch (error) {
                failed();
                app.showError(error);
            }
        };
        loading.onerror = () => {
            if (hasFailed) return failed();
            hasFailed = true;
            return begin();
        };
        return begin();
    }

    function step(by) {
        const to = current + by;
        if (to < 0 || to >= pictures.length) return;
        current = to;
        show();
    }

    function zoom() {
        setActual(!isActual);
    }

    function setActual(is) {
        const { width, height } = pictures[current][1];
        isActual = is;
        // The preview takes the same room as the file, which may be larger.
        const isKnown = width > 0 && height > 0 && !is;
        image.style.width = isKnown ? `min(${width}px, 100cqw, ${(100 * width) / height}cqh)` : "";
        image.style.aspectRatio = isKnown ? `${width} / ${height}` : "";
        box.classList.toggle("actual", is);
        zoomer.setAttribute("aria-pressed", String(is));
        label(zoomer, t(is ? "fit_to_screen" : "actual_size"));
    }

    function key(event) {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (event.key === "Tab") return keepFocus(event);
        if (event.altKey || event.ctrlKey || event.metaKey) return undefined;
        if (by && !isActual)
            step(by); // else the arrows scroll the picture
        else if (event.key === "Home") step(-current);
        else if (event.key === "End") step(pictures.length - 1 - current);
        else if (event.key === "z") zoom();
        else return undefined;
        return event.preventDefault();
    }

    /** The last button is followed by the first one. */
    function keepFocus(event) {
        const buttons = [...box.querySelectorAll("button:not(:disabled)")];
        const end = event.shiftKey ? buttons[0] : buttons.at(-1);
        if (document.activeElement !== end) return;
        event.preventDefault();
        (event.shiftKey ? buttons.at(-1) : buttons[0]).focus();
    }
}
