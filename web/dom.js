// Builds elements without markup: users' text becomes text nodes and properties, never HTML.

import { showsPictures } from "./pictures.js";

/** Counts dialogs: each has a heading with an id of its own. */
let dialogs = 0;

const SVG = "http://www.w3.org/2000/svg";

/** SVG paths on a 24 by 24 grid, drawn as lines. */
const ICONS = {
    hash: "M4 9h16M4 15h16M10 3 8 21M16 3l-2 18",
    lock: "M6 11h12a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1v-8a1 1 0 0 1 1-1zM8 11V7a4 4 0 0 1 8 0v4",
    people:
        "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2 21v-1a6 6 0 0 1 6-6h2a6 6 0 0 1 6 6v1" +
        "M16 3.5a4 4 0 0 1 0 7.5M18.5 14.5A6 6 0 0 1 22 20v1",
    search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM21 21l-5-5",
    plus: "M12 5v14M5 12h14",
    send: "M4 12 20 4l-5 16-3.5-6.5zM11.5 13.5 20 4",
    smile: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM8 14s1.5 2 4 2 4-2 4-2M9 9.5v.5M15 9.5v.5",
    thread: "M21 12a8 8 0 0 1-8 8H4l2-3.5A8 8 0 1 1 21 12zM9 10h7M9 14h4",
    pin: "M9 3h6l-1 7 4 4H6l4-4zM12 14v7",
    edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
    trash: "M4 7h16M9 7V4h6v3M6 7l1 14h10l1-14",
    close: "M6 6l12 12M18 6 6 18",
    back: "M15 5l-7 7 7 7",
    settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 4.5v5M8 14.5v5",
    at: "M16 12a4 4 0 1 0-4 4c1.5 0 2.6-.6 3.4-1.6M16 8v5a2.5 2.5 0 0 0 5 0v-1a9 9 0 1 0-4 7.5",
    down: "M12 5v14M6 13l6 6 6-6",
    copy: "M9 9h11v11H9zM5 15H4V4h11v1",
    compass: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM15.5 8.5l-2 5-5 2 2-5z",
    leave: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
    bell: "M6 10a6 6 0 0 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7M10 20h4",
    block: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM5.8 5.8l12.4 12.4",
    check: "M5 12.5 10 17.5 19.5 7",
    person: "M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21a8 8 0 0 1 16 0",
    shield: "M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6z",
    clip: "M20 11.5 12 19.5a5 5 0 0 1-7-7L13.5 4a3.4 3.4 0 0 1 4.8 4.8L10 17a1.7 1.7 0 0 1-2.4-2.4l7.4-7.4",
    file: "M6 3h8l4 4v14H6zM14 3v4h4M9 12h6M9 16h6",
    next: "M9 5l7 7-7 7",
    pause: "M9 5v14M15 5v14",
    resume: "M8 5l11 7-11 7z",
    zoom: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
    plug: "M9 3v5M15 3v5M6 8h12v4a6 6 0 0 1-12 0zM12 18v3",
    keyboard: "M3 6h18v12H3zM7 10h.5M11 10h.5M15 10h.5M8 14h8",
};

/**
 * Creates an element. `props`: `class`, `dataset`, `on…` handlers, attributes (names with a dash, `role`, `for`), and
 * properties. Children: nodes, texts, and lists of them; null, undefined and false are left out.
 */
export function h(tag, props = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(props)) {
        if (value === undefined || value === null) continue;
        if (name === "class") element.className = value;
        else if (name === "dataset") Object.assign(element.dataset, value);
        else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
        else element[name] = value;
    }
    element.append(...nodes(children));
    return element;
}

export function nodes(children) {
    return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

export function icon(name) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", ICONS[name]);
    svg.append(path);
    return svg;
}

/** A button with an icon; `label` is its tooltip, and what screen readers read. */
export function iconButton(name, label, onclick, props = {}) {
    return h(
        "button",
        {
            type: "button",
            title: label,
            "aria-label": label,
            onclick,
            ...props,
            class: `icon-button ${props.class ?? ""}`,
        },
        icon(name),
    );
}

/** The address of a picture; that of an uploaded one is a path below the page. */
function pictureUrl(url) {
    return url?.startsWith("/avatars/") ? new URL(url.slice(1), document.baseURI).href : url;
}

/** Whether a picture may be loaded: from this server always, from other servers over https unless that is off. */
function isPicture(url) {
    if (!url || !URL.canParse(url)) return false;
    const { protocol, origin } = new URL(url);
    return origin === location.origin || (protocol === "https:" && showsPictures());
}

/** A picture, if there is one that can be loaded, over initials. The same id always has the same colour. */
export function avatar({ id, name, url }, size = "") {
    const letters = [...(name ?? "?").trim()].filter((c) => !/\s/.test(c));
    const words = (name ?? "?").trim().split(/[\s_-]+/);
    const initials = words.length > 1 ? [...words[0]][0] + ([...words[1]][0] ?? "") : letters.slice(0, 2).join("");
    const element = h("span", { class: `avatar ${size}`, "aria-hidden": "true" }, initials.toUpperCase());
    element.style.setProperty("--hue", String((Number(id) * 137) % 360));
    const address = pictureUrl(url);
    if (!isPicture(address)) return element;
    const picture = h("img", { alt: "", referrerPolicy: "no-referrer", decoding: "async" });
    picture.addEventListener("error", () => picture.remove());
    picture.src = address;
    element.append(picture);
    return element;
}

/** Shows a short note at the bottom of the page, which screen readers read. It disappears after a while. */
export function toast(text, kind = "info") {
    const note = h("div", { class: `toast ${kind}`, role: "status" }, text);
    const list = document.getElementById("toasts");
    list.append(note);
    // The top layer: otherwise an open dialog covers it.
    if (list.showPopover) {
        if (list.matches(":popover-open")) list.hidePopover();
        list.showPopover();
    }
    setTimeout(() => note.remove(), 6_000);
}

/**
 * Shows a modal dialog with the content that `build(close)` returns. Resolves with the argument of `close`, or with
 * undefined when the dialog is dismissed. `keepsOpen`: a click beside it does not dismiss it.
 */
export function dialog(title, build, { wide = false, keepsOpen = false } = {}) {
    const id = `dialog-${++dialogs}`;
    return new Promise((resolve) => {
        let result;
        const close = (value) => {
            result = value;
            box.close();
        };
        const heading = h("header", {}, h("h2", { id }, title));
        const box = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": id }, heading, build(close));
        heading.append(iconButton("close", "Esc", () => close()));
        box.addEventListener("click", (event) => event.target === box && !keepsOpen && close());
        box.addEventListener("close", () => {
            box.remove();
            resolve(result);
        });
        document.body.append(box);
        box.showModal();
        (box.querySelector("[autofocus]") ?? box.querySelector("input, textarea"))?.focus();
    });
}

/** A labelled field of a form, with an optional hint. */
export function field(label, input, hint) {
    return h("label", {}, h("span", {}, label), input, hint && h("small", { class: "soft" }, hint));
}

/** A row of buttons at the end of a form. */
export function buttonRow(...buttons) {
    return h("div", { class: "row end" }, ...buttons);
}

/** Asks for confirmation; resolves with true when the user chose `label`. */
export function confirm(title, text, { cancel, label }, ...more) {
    return dialog(title, (close) =>
        h(
            "div",
            { class: "form" },
            more,
            text && h("p", { class: "soft" }, text),
            buttonRow(
                h("button", { type: "button", onclick: () => close() }, cancel),
                h(
                    "button",
                    { type: "button", class: "primary bad", autofocus: true, onclick: () => close(true) },
                    label,
                ),
            ),
        ),
    );
}

/** Replaces the children of `parent` by `rows`. Children whose key and signature are unchanged are kept. */
export function reconcile(parent, rows) {
    const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
    let at = parent.firstElementChild;
    for (const { key, signature, build } of rows) {
        let element = old.get(key);
        old.delete(key);
        if (!element || element.dataset.signature !== signature) {
            const fresh = build();
            fresh.dataset.key = key;
            fresh.dataset.signature = signature;
            if (element) {
                const hadFocus = element.contains(document.activeElement);
                if (at === element) at = fresh;
                element.replaceWith(fresh);
                if (hadFocus && fresh.tabIndex >= -1) fresh.focus({ preventScroll: true });
            }
            element = fresh;
        }
        if (element === at) at = at.nextElementSibling;
        else parent.insertBefore(element, at);
    }
    for (const gone of old.values()) gone.remove();
}
