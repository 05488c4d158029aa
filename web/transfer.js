// The requests for files: uploads in pieces with their progress, the state of a file, links to its content. And the
// upload of the own picture.
//
// XMLHttpRequest, because fetch reports no progress of an upload. Paths are relative to the page: a proxy may serve it
// below another path.

import { ApiError } from "./session.js";

/** A piece of which nothing has been sent for so long is given up; the upload goes on with another request. */
const STALL_MS = 30_000;
/** The server checks a picture before it answers. */
const CHECK_MS = 120_000;
/** Links that are remembered. */
const LINKS_MAX = 500;
/** A link is replaced when less than this is left. */
const MARGIN_MS = 60_000;

export class Transfer {
    #session;
    /** File id → {url: a promise, until}. */
    #links = new Map();

    constructor(session) {
        this.#session = session;
    }

    /** Begins an upload. */
    create({ place, name, size, type }) {
        const media_type = type && /^[ -~]{1,100}$/.test(type) ? type : undefined;
        const conversation_id = place.split("/")[0];
        return this.#session.request("POST", "files", { conversation_id, name, size, media_type });
    }

    /** Sends bytes from `offset` on; returns the offset after them. `progress(sent)` is called meanwhile. */
    async append(id, offset, bytes, progress, signal) {
        const headers = { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
        return offsetOf(await this.#send("PATCH", `files/${id}`, headers, bytes, { progress, signal }));
    }

    /** How many bytes the server has. */
    async offset(id) {
        return offsetOf(await this.#send("HEAD", `files/${id}`));
    }

    /** Makes a file the picture of the user. Returns the new profile. */
    async avatar(file) {
        const headers = { "Content-Type": file.type };
        const answer = await this.#send("PUT", "users/me/avatar", headers, file, { stallMs: CHECK_MS });
        return JSON.parse(answer.responseText);
    }

    /** The file as it is now. */
    show(id) {
        return this.#session.request("GET", `files/${id}`);
    }

    /** Deletes a file that no message has. */
    remove(id) {
        return this.#session.request("DELETE", `files/${id}`);
    }

    /** A link to the content, which works without a token. `isNew`: not one that has failed. */
    link(id, isNew = false) {
        const known = this.#links.get(id);
        if (known && !isNew && known.until > Date.now()) return known.url;
        const entry = { until: Infinity };
        entry.url = this.#session
            .request("POST", `files/${id}/link`)
            .then(({ url, expires_in_s }) => {
                entry.until = Date.now() + expires_in_s * 1_000 - MARGIN_MS;
                return new URL(url.replace(/^\//, ""), document.baseURI).href;
            })
            .catch((error) => {
                this.#links.delete(id);
                throw error;
            });
        this.#links.delete(id);
        this.#links.set(id, entry);
        if (this.#links.size > LINKS_MAX) this.#links.delete(this.#links.keys().next().value);
        return entry.url;
    }

    /** A link to a variant of a file, signed like that of the file. */
    async variantLink(id, { url }, isNew = false) {
        const signed = new URL(await this.link(id, isNew));
        const variant = new URL(url.replace(/^\//, ""), document.baseURI);
        variant.search = signed.search;
        return variant.href;
    }

    async #send(method, path, headers = {}, body = undefined, options = {}) {
        const send = (token) => exchange(method, path, { ...headers, Authorization: `Bearer ${token}` }, body, options);
        const token = await this.#session.token();
        const answer = await send(token);
        // An expired token is renewed once; the server has taken nothing.
        return settled(answer.status === 401 ? await send(await this.#session.token(token)) : answer);
    }
}

function offsetOf(request) {
    const offset = Number(request.getResponseHeader("Upload-Offset") ?? NaN);
    if (!Number.isInteger(offset)) throw new ApiError(502, "internal", "The answer has no Upload-Offset");
    return offset;
}

/** The request, or the error that its answer is. */
function settled(request) {
    if (request.status >= 200 && request.status < 300) return request;
    if (request.status === 0) throw new ApiError(0, "unreachable", "The server cannot be reached");
    let problem = {}; // a proxy's answer is no JSON, and HEAD has none
    try {
        problem = JSON.parse(request.responseText);
    } catch {
        // The status says enough.
    }
    const message = problem.detail ?? `${request.status} ${request.statusText}`;
    throw new ApiError(request.status, problem.code ?? "internal", message, problem);
}

/** One request; resolves when it has ended in any way. */
function exchange(method, path, headers, body, { progress = () => {}, signal, stallMs = STALL_MS }) {
    return new Promise((resolve) => {
        const request = new XMLHttpRequest();
        let alarm;
        const watch = () => {
            clearTimeout(alarm);
            alarm = setTimeout(() => request.abort(), stallMs);
        };
        const stop = () => request.abort();
        request.onloadend = () => {
            clearTimeout(alarm);
            signal?.removeEventListener("abort", stop);
            resolve(request);
        };
        request.upload.onprogress = ({ loaded }) => {
            watch();
            progress(loaded);
        };
        request.open(method, new URL(path, document.baseURI));
        for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
        signal?.addEventListener("abort", stop);
        watch();
        request.send(body);
        if (signal?.aborted) request.abort();
    });
}
