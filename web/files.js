// The files of messages: pictures, players and cards, which ask for their link when they come into view.
//
// Invariants:
// - the place of a picture or player is reserved before anything is loaded, so nothing jumps;
// - a row that is built again takes over the elements of the old one: a reaction must not stop a video.

import { h, icon, iconButton } from "./dom.js";
import { bytesOf, language, t } from "./i18n.js";
import { isHidden } from "./people.js";
import { showLightbox } from "./lightbox.js";

/** What the server lets browsers show. */
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"]);
const AUDIO = new Set(["audio/mpeg", "audio/ogg", "audio/x-wav", "audio/x-flac", "audio/m4a"]);
const VIDEO = new Set(["video/mp4", "video/webm", "video/ogg", "video/quicktime"]);
const ARCHIVES = /zip|x-tar|gzip|x-7z|rar|x-bzip|x-xz|zstd/;
const DOCUMENTS = /pdf|msword|officedocument|opendocument|rtf|epub/;
const WIDTH_PX_MAX = 380;
const HEIGHT_PX_MAX = 300;
/** A smaller picture gets a larger frame, which can be clicked. */
const SIDE_PX_MIN = 44;
/** Elements that are kept for rows that are built again. */
const ELEMENTS_MAX = 200;
/** How far outside of the view links are asked for. */
const AHEAD = "500px 0px";

/** A link that could not be had is asked for again after this time, when its element is in view. */
const AGAIN_MS = 5_000;
const ATTEMPTS_MAX = 20;

/** App → (key → element). */
const built = new WeakMap();
const loads = new WeakMap();
const observer =
    globalThis.IntersectionObserver &&
    new IntersectionObserver(
        (entries) => {
            for (const { isIntersecting, target } of entries) {
                if (!isIntersecting) continue;
                observer.unobserve(target);
                loads.get(target)?.();
            }
        },
        { rootMargin: AHEAD, scrollMargin: AHEAD },
    );

export function isPicture({ state, media_type }) {
    return state === "ready" && PICTURES.has(media_type);
}

/** The files of a message. `where` tells apart lists that show the same message at once. */
export function filesOf(app, message, where) {
    return h(
        "div",
        { class: "files" },
        message.attachments.map((file) => {
            const { file_id, state, media_type, name } = file;
            return keptElement(
                app,
                [where, message.message_id, file_id, state, media_type, name, language()].join("\t"),
                () => element(app, message, file),
            );
        }),
    );
}

/** The files of a message that is not acknowledged yet. */
export function pendingFiles(files) {
    return h(
        "div",
        { class: "files" },
        files.map((file) => h("div", { class: "file-card" }, icon("file"), description(file, bytesOf(file.size)))),
    );
}

/** The pictures of a conversation that are loaded, oldest first: [message, file]. */
function picturesOf(app, conversationId) {
    const known = app.store.conversations.get(conversationId)?.timeline.known.values() ?? [];
    const messages = [...known].filter((message) => !message.deleted && !isHidden(app, message));
    messages.sort((a, b) => a.seq - b.seq);
    return messages.flatMap((message) => (message.attachments ?? []).filter(isPicture).map((file) => [message, file]));
}

/** Saves the content of a file on the user's device. */
export async function download(app, { file_id, name }) {
    try {
        const link = h("a", { href: await app.transfer.link(file_id), download: name, hidden: true });
        document.body.append(link);
        link.click();
        link.remove();
    } catch (error) {
        app.showError(error);
    }
}

/** A button that saves a file. */
export function downloadButton(app, file, props = {}) {
    return iconButton("down", t("download_file", { name: file.name }), () => download(app, file), {
        dataset: { do: "download" },
        ...props,
    });
}

/** What a file is, in a word. */
export function kindOf({ media_type = "" }) {
    if (media_type.startsWith("image/")) return t("kind_picture");
    if (media_type.startsWith("audio/")) return t("kind_audio");
    if (media_type.startsWith("video/")) return t("kind_video");
    if (media_type.startsWith("text/")) return t("kind_text");
    if (ARCHIVES.test(media_type)) return t("kind_archive");
    return DOCUMENTS.test(media_type) ? t("kind_document") : t("kind_other");
}

/** Name, size and type of a file, or why it cannot be opened. */
export function aboutFile(file) {
    const { state, size } = file;
    return description(file, state === "ready" ? `${bytesOf(size)} · ${kindOf(file)}` : t(`file_${state}`));
}

function keptElement(app, key, build) {
    if (!built.has(app)) built.set(app, new Map());
    const kept = built.get(app);
    const element = kept.get(key) ?? build();
    kept.delete(key);
    kept.set(key, element);
    if (kept.size > ELEMENTS_MAX) kept.delete(kept.keys().next().value);
    return element;
}

function element(app, message, file) {
    const { state, media_type } = file;
    if (state !== "ready") return card(app, file);
    if (PICTURES.has(media_type)) return picture(app, message, file);
    if (VIDEO.has(media_type)) return player(app, "video", file);
    return AUDIO.has(media_type) ? player(app, "audio", file) : card(app, file);
}

function description({ name }, about) {
    return h(
        "div",
        { class: "file-about" },
        h("strong", { class: "file-name", title: name, dir: "auto" }, name),
        h("small", { class: "soft" }, about),
    );
}

function card(app, file) {
    const isReady = file.state === "ready";
    const mark = { infected: "shield", failed: "block", expired: "block" }[file.state] ?? "file";
    return h(
        "div",
        { class: "file-card", dataset: { file: file.file_id, state: file.state } },
        icon(mark),
        aboutFile(file),
        isReady && downloadButton(app, file),
    );
}

function picture(app, message, file) {
    const { file_id, name } = file;
    const frame = frameOf(file);
    const image = h("img", { alt: name, decoding: "async", draggable: false });
    const open = () => {
        const pictures = picturesOf(app, message.conversation_id);
        const at = pictures.findIndex(
            ([of, { file_id: id }]) => of.message_id === message.message_id && id === file_id,
        );
        showLightbox(
            app,
            pictures.map(([, one]) => one),
            at,
            { download: (one) => download(app, one), opener: () => openerOf(box, file_id) },
        );
    };
    const title = t("open_picture", { name });
    const box = h("button", { type: "button", class: "picture", title, onclick: open }, image);
    Object.assign(box.dataset, { file: file_id, state: file.state });
    box.style.width = `${frame.width}px`;
    box.style.aspectRatio = `${frame.width} / ${frame.height}`;
    loadWhenVisible(app, box, image, file_id);
    return box;
}

/** The button that opened a picture; its row may have been built again meanwhile. */
function openerOf(box, fileId) {
    return box.isConnected ? box : document.querySelector(`.picture[data-file="${fileId}"]`);
}

/** The size in which a picture is shown: its own, at most that of the frame. */
function frameOf({ width, height }) {
    if (!(width > 0 && height > 0)) return { width: 240, height: 180 };
    const scale = Math.min(1, WIDTH_PX_MAX / width, HEIGHT_PX_MAX / height);
    const side = (length) => Math.max(SIDE_PX_MIN, Math.round(length * scale));
    return { width: side(width), height: side(height) };
}

function player(app, kind, file) {
    const media = h(kind, { controls: true, preload: "none", "aria-label": file.name });
    if (kind === "video") media.playsInline = true;
    const box = h(
        "div",
        { class: `player ${kind}`, dataset: { file: file.file_id, state: file.state } },
        media,
        h("div", { class: "player-foot" }, aboutFile(file), downloadButton(app, file)),
    );
    loadWhenVisible(app, box, media, file.file_id);
    return box;
}

function broken() {
    return h("span", { class: "broken soft" }, t("file_broken"));
}

/** Gives an image or player its link when `box` comes into view. A link that fails is replaced once. */
function loadWhenVisible(app, box, media, id) {
    let attempts = 0;
    let hasFailed = false;
    const giveUp = () => media.replaceWith(broken());
    const load = async () => {
        attempts++;
        try {
            media.src = await app.transfer.link(id, hasFailed);
        } catch ({ status }) {
            const isPassing = status === 0 || status === 429 || status >= 500;
            if (!isPassing || attempts >= ATTEMPTS_MAX) giveUp();
            else setTimeout(() => whenVisible(box, load), AGAIN_MS);
        }
    };
    media.addEventListener("error", () => {
        if (hasFailed) return giveUp();
        hasFailed = true;
        return load();
    });
    whenVisible(box, load);
}

function whenVisible(element, run) {
    loads.set(element, run);
    observer.observe(element);
}
