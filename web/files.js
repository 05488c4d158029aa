// The files of messages: pictures, players and cards, which ask for their link when they come into view.
//
// Invariants:
// - a preview is the smallest variant that is large enough, or the file. The address of either needs a signed link;
// - the place of a picture or player is reserved before anything is loaded, so nothing jumps;
// - a row that is built again takes over the elements of the old one: a reaction must not stop a video.

import { h, icon, iconButton } from "./dom.js";
import { bytesOf, language, t } from "./i18n.js";
import { isHidden } from "./people.js";
import { showLightbox } from "./lightbox.js";
import { PICTURES, WIDTH_PX_MAX, averageColour, clockOf, filmHeightOf, frameOf, variantFor } from "./previews.js";

/** What the server lets browsers play. */
const AUDIO = new Set(["audio/mpeg", "audio/ogg", "audio/x-wav", "audio/x-flac", "audio/m4a"]);
const VIDEO = new Set(["video/mp4", "video/webm", "video/ogg", "video/quicktime"]);
const ARCHIVES = /zip|x-tar|gzip|x-7z|rar|x-bzip|x-xz|zstd/;
const DOCUMENTS = /pdf|msword|officedocument|opendocument|rtf|epub/;
/** The room of a picture in a list. */
const THUMB = { width: 40, height: 40 };
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
            const key = [where, message.message_id, language(), JSON.stringify(file)].join("\t");
            return keptElement(app, key, () => element(app, message, file));
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

/** Name, size, type and length of a file, or why it cannot be opened. */
export function aboutFile(file) {
    const { state, size, duration } = file;
    const facts = [bytesOf(size), kindOf(file), duration > 0 && clockOf(duration)];
    return description(file, state === "ready" ? facts.filter(Boolean).join(" · ") : t(`file_${state}`));
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
    const open = () =>
        showLightbox(app, {
            list: () => picturesOf(app, message.conversation_id),
            first: [message, file],
            download: (one) => download(app, one),
            opener: () => openerOf(box, file_id),
        });
    const title = t("open_picture", { name });
    const box = h("button", { type: "button", class: "picture", title, onclick: open }, image);
    Object.assign(box.dataset, { file: file_id, state: file.state });
    box.style.width = `${frame.width}px`;
    box.style.aspectRatio = `${frame.width} / ${frame.height}`;
    box.style.backgroundColor = averageColour(file.blurhash);
    // A transparent picture must not keep the colour.
    image.addEventListener("load", () => (box.style.backgroundColor = ""));
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const variant = variantFor(file, frame, { ratio: devicePixelRatio, isCalm });
    loadWhenVisible(app, box, image, file, variant);
    return box;
}

/** The button that opened a picture; its row may have been built again meanwhile. */
function openerOf(box, fileId) {
    return box.isConnected ? box : document.querySelector(`.picture[data-file="${fileId}"]`);
}

function player(app, kind, file) {
    const media = h(kind, { controls: true, preload: "none", "aria-label": file.name });
    const box = h(
        "div",
        { class: `player ${kind}`, dataset: { file: file.file_id, state: file.state } },
        media,
        h("div", { class: "player-foot" }, aboutFile(file), downloadButton(app, file)),
    );
    if (kind === "video") {
        const frame = { width: WIDTH_PX_MAX, height: filmHeightOf(file) };
        media.playsInline = true;
        media.style.aspectRatio = `${frame.width} / ${frame.height}`;
        const still = variantFor(file, frame, { ratio: devicePixelRatio });
        // A film without its still can be played too.
        if (still)
            app.transfer.variantLink(file.file_id, still).then(
                (url) => (media.poster = url),
                () => {},
            );
    }
    loadWhenVisible(app, box, media, file);
    return box;
}

/** A small picture of a file, if the server has made one, or a sign. */
export function thumbnail(app, file) {
    const sign = () => icon("file");
    const variant = file.state === "ready" && variantFor(file, THUMB, { ratio: devicePixelRatio, isCalm: true });
    if (!variant) return h("span", { class: "thumb" }, sign());
    const image = h("img", { alt: "", decoding: "async", draggable: false });
    const box = h("span", { class: "thumb" }, image);
    box.style.backgroundColor = averageColour(file.blurhash);
    loadWhenVisible(app, box, image, file, variant, sign);
    return box;
}

function broken() {
    return h("span", { class: "broken soft" }, t("file_broken"));
}

/**
 * Gives an image or player its link when `box` comes into view. A link that fails is replaced once, and a variant then
 * by the file.
 */
function loadWhenVisible(app, box, media, { file_id: id }, variant, instead = broken) {
    let attempts = 0;
    let failures = 0;
    const failuresMax = variant ? 3 : 1;
    const giveUp = () => media.replaceWith(instead());
    const load = async () => {
        attempts++;
        const isVariant = variant && failures < 2;
        const isNew = failures % 2 === 1;
        try {
            const { transfer } = app;
            media.src = await (isVariant ? transfer.variantLink(id, variant, isNew) : transfer.link(id, isNew));
        } catch ({ status }) {
            const isPassing = status === 0 || status === 429 || status >= 500;
            if (!isPassing || attempts >= ATTEMPTS_MAX) giveUp();
            else setTimeout(() => whenVisible(box, load), AGAIN_MS);
        }
    };
    media.addEventListener("error", () => {
        failures++;
        media.removeAttribute("src"); // no sign of a broken picture while another link is asked for
        return failures > failuresMax ? giveUp() : load();
    });
    whenVisible(box, load);
}

function whenVisible(element, run) {
    loads.set(element, run);
    observer.observe(element);
}
