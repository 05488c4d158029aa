// The files of a message that is being written: the button, drag and drop, paste, and a row for each upload.

import { h, icon, iconButton, reconcile, toast } from "./dom.js";
import { bytesOf, language, t, tn } from "./i18n.js";
import { canRetry, shareOf, stateText } from "./upload-words.js";
import { FILES_MAX } from "./uploads.js";

export class Attachments {
    #place;
    #lost;

    /** `changed()` is called when the uploads of the place have changed. */
    constructor(app, id, changed) {
        this.app = app;
        this.changed = changed;
        this.input = h("input", {
            type: "file",
            multiple: true,
            hidden: true,
            id: `${id}-files`,
            onchange: () => this.#chosen(),
        });
        this.again = h("input", {
            type: "file",
            hidden: true,
            id: `${id}-file-again`,
            onchange: () => this.#chosenAgain(),
        });
        this.button = iconButton("clip", "", () => this.input.click(), { id: `${id}-attach` });
        this.rows = h("ul", { class: "uploads", id: `${id}-uploads`, hidden: true });
        this.note = h("p", { class: "scan-note soft", id: `${id}-scan-note`, hidden: true });
        this.element = h("div", {}, this.rows, this.note, this.input, this.again);
    }

    /** `place`: where the files go, see Uploads; undefined while nothing can be attached. */
    update(place) {
        this.#place = place;
        this.button.hidden = !this.#takesFiles;
        this.button.title = t("attach");
        this.button.setAttribute("aria-label", t("attach"));
        this.rows.setAttribute("aria-label", t("uploads"));
        this.show();
    }

    /** Shows the state of the uploads. */
    show() {
        const uploads = this.#place === undefined ? [] : this.app.uploads.of(this.#place);
        this.rows.hidden = uploads.length === 0;
        reconcile(
            this.rows,
            uploads.map((upload) => ({
                key: upload.key,
                signature: [upload.state === "lost", canRetry(upload), language()].join("\t"),
                build: () => this.#row(upload),
            })),
        );
        const { scanner, fileSizeMax: sizeMax } = this.app;
        if (uploads.length > 0) scanner.look();
        const about = { sizeMax, scanner: scanner.state };
        uploads.forEach((upload, at) => refresh(this.rows.children[at], upload, stateText(upload, about)));
        this.note.hidden = uploads.length === 0 || !this.app.hasUnscannedFiles;
        if (!this.note.hidden) this.note.textContent = t("files_not_scanned");
    }

    /** Adds files. A message that is being edited takes none. */
    add(files) {
        if (!this.#takesFiles || files.length === 0) return;
        const left = this.app.uploads.add(this.#place, files);
        if (left > 0) toast(tn("too_many_files", left, { max: FILES_MAX }), "bad");
        this.changed();
    }

    /** Adds the files of a paste. Office programs copy a text together with a picture of it: that is a text. */
    pasted(event) {
        const { clipboardData: data } = event;
        const isText = ["text/plain", "text/html"].every((type) => data.types.includes(type));
        if (data.files.length === 0 || isText) return;
        event.preventDefault();
        if (!this.#takesFiles) toast(this.#refusal, "bad");
        else this.add([...data.files]);
    }

    /** A server whose files were switched off keeps the uploads that are there: each says so. */
    get #takesFiles() {
        return this.#place !== undefined && this.app.sendsFiles;
    }

    /** Why nothing can be attached now. */
    get #refusal() {
        return t(this.app.sendsFiles ? "no_files_here" : "uploads_off");
    }

    /** Lets files be dropped on an element. */
    acceptDrops(element) {
        const hint = h("p", { class: "drop-hint", hidden: true, "aria-hidden": "true" });
        element.append(hint);
        let depth = 0; // children report their own enter and leave
        const isOver = (event) => event.dataTransfer?.types.includes("Files");
        const show = (by) => {
            depth = by === 0 ? 0 : Math.max(0, depth + by);
            hint.textContent = this.#takesFiles ? t("drop_files") : this.#refusal;
            hint.classList.toggle("refused", !this.#takesFiles);
            hint.hidden = depth === 0;
        };
        element.addEventListener("dragenter", (event) => isOver(event) && show(1));
        element.addEventListener("dragleave", (event) => isOver(event) && show(-1));
        element.addEventListener("dragover", (event) => {
            if (!isOver(event)) return;
            event.preventDefault();
            event.dataTransfer.dropEffect = this.#takesFiles ? "copy" : "none";
        });
        element.addEventListener("drop", (event) => {
            if (!isOver(event)) return;
            event.preventDefault();
            show(0);
            if (!this.#takesFiles) return; // the hint has said why
            const { files, isFolder } = droppedFiles(event.dataTransfer);
            if (isFolder) toast(t("no_folders"), "bad");
            this.add(files);
        });
    }

    #row({ key, name, size, state, ...upload }) {
        const { uploads } = this.app;
        const remove = () => {
            const next = this.rows.children.length > 1 ? this.rows : undefined;
            uploads.cancel(key);
            // The button that had the focus is gone.
            this.show();
            (next?.querySelector("button") ?? this.button).focus();
            this.changed();
        };
        const choose = () => {
            this.#lost = { key, name, size };
            this.again.click();
        };
        const retry = () => uploads.again(key);
        const toggle = () =>
            uploads.of(this.#place).find((one) => one.key === key)?.state === "paused"
                ? uploads.resume(key)
                : uploads.pause(key);
        return h(
            "li",
            { class: "upload" },
            h(
                "div",
                { class: "upload-text" },
                h("strong", { class: "file-name", title: name, dir: "auto" }, name),
                h("progress", { max: 1, value: 0, "aria-label": name }),
                h("small"),
            ),
            state === "lost" && h("button", { type: "button", class: "link", onclick: choose }, t("choose_again")),
            canRetry({ state, ...upload }) &&
                h("button", { type: "button", class: "link", onclick: retry }, t("try_again")),
            iconButton("pause", "", toggle, { dataset: { do: "pause", name } }),
            iconButton("close", t("cancel_upload", { name }), remove, { dataset: { do: "cancel" } }),
        );
    }

    #chosen() {
        const files = [...this.input.files];
        this.input.value = ""; // the same file can be chosen again
        this.add(files);
    }

    #chosenAgain() {
        const [file] = this.again.files;
        this.again.value = "";
        const { key, name, size } = this.#lost ?? {};
        if (!file || !key || this.app.uploads.choose(key, file)) return;
        toast(t("another_file", { name, size: bytesOf(size) }), "bad");
    }
}

/** Shows the state of an upload. The buttons stay the same elements, so that they keep the focus. */
function refresh(row, upload, text) {
    const { state } = upload;
    row.dataset.state = state;
    const isUnderway = ["waiting", "restoring", "running", "retrying", "paused"].includes(state);
    const bar = row.querySelector("progress");
    bar.hidden = !isUnderway;
    bar.value = shareOf(upload);
    refreshPause(row.querySelector("[data-do=pause]"), state);
    const note = row.querySelector("small");
    // Not every percent is read aloud, only how it ends.
    note.setAttribute("aria-live", isUnderway ? "off" : "polite");
    if (note.textContent !== text) note.textContent = text;
    note.className = state === "failed" || state === "lost" ? "error" : "soft";
}

function refreshPause(button, state) {
    button.hidden = !["waiting", "running", "retrying", "paused"].includes(state);
    const does = state === "paused" ? "resume" : "pause";
    const label = t(`${does}_upload`, { name: button.dataset.name });
    if (button.title === label) return;
    button.title = label;
    button.setAttribute("aria-label", label);
    button.replaceChildren(icon(does));
}

/** The files of a drop, without folders, which a page cannot read as files. */
function droppedFiles({ items, files }) {
    const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory ?? false;
    const dropped = [...items].filter(({ kind }) => kind === "file");
    if (dropped.length === 0) return { files: [...files], isFolder: false };
    const found = dropped.filter((item) => !isFolder(item)).map((item) => item.getAsFile());
    return { files: found.filter(Boolean), isFolder: dropped.some(isFolder) };
}
