// Pictures at full size, over the page: arrows go to the next one, Escape closes, z switches between the size of the
// screen and the picture's own.
//
// The dialog is modal: the focus stays inside, and goes back to the button that opened it.

import { h, iconButton } from "./dom.js";
import { bytesOf, numberOf, t } from "./i18n.js";

/** `pictures`: the files; `at`: the first one. `download(file)` saves one, `opener()` is what gets the focus back. */
export function showLightbox(app, pictures, at, { download, opener }) {
    let current = Math.max(0, at);
    let isActual = false;
    const image = h("img", { alt: "", onclick: () => zoom(), decoding: "async" });
    const stage = h("div", { class: "stage" }, image);
    const name = h("strong", { class: "file-name", id: "lightbox-name", dir: "auto" });
    const about = h("small", { id: "lightbox-about", role: "status" });
    const previous = iconButton("back", t("previous_picture"), () => step(-1), { id: "previous-picture" });
    const next = iconButton("next", t("next_picture"), () => step(1), { id: "next-picture" });
    const zoomer = iconButton("zoom", "", () => zoom(), { id: "zoom-picture" });
    const close = iconButton("close", t("close"), () => box.close(), { id: "close-lightbox", autofocus: true });
    const save = iconButton("down", "", () => download(pictures[current]), { id: "save-picture" });
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
        box.remove();
        opener()?.focus({ preventScroll: true });
    });
    document.body.append(box);
    box.showModal();
    close.focus();
    show();

    function label(button, text) {
        button.title = text;
        button.setAttribute("aria-label", text);
    }

    async function show() {
        const file = pictures[current];
        const place = { n: numberOf(current + 1), count: numberOf(pictures.length) };
        name.textContent = file.name;
        about.textContent = [t("pictures_of", place), bytesOf(file.size)].join(" · ");
        label(save, t("download_file", { name: file.name }));
        previous.disabled = current === 0;
        next.disabled = current === pictures.length - 1;
        if (document.activeElement?.disabled || !box.contains(document.activeElement)) close.focus();
        setActual(false);
        image.removeAttribute("src"); // not the picture before under this one's name
        image.alt = file.name;
        for (const side of ["width", "height"]) {
            if (file[side]) image[side] = file[side];
            else image.removeAttribute(side);
        }
        const isCurrent = () => pictures[current] === file;
        try {
            const url = await app.transfer.link(file.file_id);
            if (isCurrent()) image.src = url;
        } catch (error) {
            if (isCurrent()) about.textContent = t("file_broken");
            app.showError(error);
        }
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
        isActual = is;
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
