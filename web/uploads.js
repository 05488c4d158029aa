// Uploads of files: which run, which wait, where each of them stopped. A state machine without DOM and network.
//
//   waiting ─► running ⇄ retrying ─► checking ─► ready         lost: the browser no longer has the file; `choose` it
//      ▲ │        │          │           │                     again and the upload goes on
//      │ ▼        ▼          ▼           ▼
//     paused ◄──────────────────       failed
//                 running and retrying fail too
//
// Invariants:
// - at most RUNNING_MAX uploads run at once; the others wait in the order in which they were added;
// - after anything that went wrong, and after a pause, the server is asked for its offset before more bytes are sent;
// - an upload has one run at a time. One that is paused and resumed begins the next run when the last one has ended;
// - a retry that brings no progress is counted, and the upload fails after RETRIES_MAX of them. A network that is away
//   does not count: the upload waits for it as messages do;
// - an upload that the user cancelled is deleted on the server too, also when its creation was still under way.

import { newKey } from "./veza-client.js";

const RUNNING_MAX = 2;
/** Files in one message. */
export const FILES_MAX = 10;
/** Uploads in all conversations of this tab. */
const ROWS_MAX = 50;
const RETRIES_MAX = 8;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15_000;
/** A server that asks for a longer wait refuses: its words are shown, and the user decides. */
const WAIT_MS_MAX = 60_000;
const CHUNK_BYTES = 8 * 1024 * 1024;
/** Refused without asking the server. */
const TOO_LARGE = { code: "too_large", status: 413, message: "" };
/** What is remembered over a reload. */
const REMEMBERED = ["key", "place", "name", "size", "type", "fileId", "chunkMax", "state", "error"];

export class Uploads {
    /** In the order in which they were added, which is their order in the message. */
    #rows = [];
    #transfer;
    #kept;
    #changed;
    #sizeMax;
    #isStopped = false;

    /**
     * `transfer`: {create, append, offset, show, remove}, see transfer.js. `kept`: {rows, remember(rows), put, get,
     * remove}, see kept-files.js. `changed()` is called after each change. `sizeMax()`: bytes that the server accepts
     * in one file, as far as known.
     */
    constructor({ transfer, kept, changed, sizeMax = () => Infinity, wait = pause }) {
        this.#transfer = transfer;
        this.#kept = kept;
        this.#changed = changed;
        this.#sizeMax = sizeMax;
        this.wait = wait;
    }

    /** The uploads of a place: a conversation, or a thread in it. */
    of(place) {
        return this.#rows.filter((row) => row.place === place);
    }

    /** Adds files to a place. Returns how many did not fit. */
    add(place, files) {
        const room = Math.max(0, Math.min(FILES_MAX - this.of(place).length, ROWS_MAX - this.#rows.length));
        for (const file of files.slice(0, room)) {
            const { name, size, type } = file;
            const row = { key: newKey(), place, name, size, type, file, offset: 0, sent: 0, state: "waiting" };
            this.#rows.push(row);
            if (size > this.#sizeMax()) Object.assign(row, { state: "failed", file: undefined, error: TOO_LARGE });
            else this.#kept.put(row.key, file);
        }
        this.#update();
        this.#next();
        return files.length - Math.min(files.length, room);
    }

    /** Continues what was under way before the page was loaded. */
    async restore() {
        const isSettled = ({ state }) => ["checking", "ready", "failed"].includes(state);
        const rows = this.#kept.rows().map((row) => ({ ...row, offset: 0, sent: 0, isUnsure: true }));
        this.#rows.unshift(...rows);
        for (const row of rows.filter((row) => !isSettled(row))) {
            const next = row.state === "paused" ? "paused" : "waiting";
            row.state = "restoring";
            row.file = await this.#kept.get(row.key);
            row.state = row.file && (await isReadable(row.file)) ? next : "lost";
        }
        this.#update();
        this.recheck();
        this.#next();
    }

    /** Asks for the state of files whose check has not ended. Notices of that are not repeated after a reconnect. */
    recheck() {
        for (const row of this.#rows.filter(({ state }) => state === "checking")) this.#recheck(row);
    }

    async #recheck(row) {
        const file = await this.#transfer.show(row.fileId).catch((error) => error);
        if (file.state) this.settled({ file_id: row.fileId, file, reason: file.reason, failure: file.failure });
        else if (file.status === 404) this.#fail(row, file);
    }

    /** The check of a file has ended. */
    settled({ file_id, file, reason, failure }) {
        const row = this.#rows.find(({ fileId }) => fileId === file_id);
        if (!row) return;
        row.settled = { file, reason, failure };
        if (row.state === "checking") this.#settle(row);
    }

    #settle(row) {
        const { file, reason, failure } = row.settled;
        if (["scanning", "uploading"].includes(file?.state)) return;
        row.state = file?.state === "ready" ? "ready" : "failed";
        if (row.state === "failed") row.error = { code: file?.state ?? "failed", message: reason, details: failure };
        this.#update();
    }

    /** The user chose the file of a lost upload again; returns whether it is the same one. */
    choose(key, file) {
        const row = this.#row(key);
        if (row?.state !== "lost" || file.name !== row.name || file.size !== row.size) return false;
        Object.assign(row, { file, state: "waiting", isUnsure: true });
        this.#kept.put(key, file);
        this.#update();
        this.#next();
        return true;
    }

    /** Stops an upload until `resume`. */
    pause(key) {
        const row = this.#row(key);
        if (!["waiting", "running", "retrying"].includes(row?.state)) return;
        Object.assign(row, { state: "paused", isUnsure: true });
        row.stop?.abort();
        row.wake?.();
        this.#update();
        this.#next();
    }

    resume(key) {
        const row = this.#row(key);
        if (row?.state !== "paused") return;
        row.state = "waiting";
        this.#update();
        this.#next();
    }

    /** Resumes what is paused of a place. */
    resumeAll(place) {
        for (const { key } of this.of(place)) this.resume(key);
    }

    /** Tries a failed upload again. */
    again(key) {
        const row = this.#row(key);
        if (row?.state !== "failed" || !row.file) return;
        // What the check refused would be refused again.
        Object.assign(row, { state: "waiting", error: undefined, isUnsure: true });
        this.#update();
        this.#next();
    }

    /** Ends an upload and deletes what the server has of it. */
    cancel(key) {
        const row = this.#row(key);
        if (!row) return;
        this.#drop(row);
        if (row.fileId !== undefined) this.discard([row.fileId]);
        this.#next();
    }

    /** Deletes files that no message will have. The server does it too, a while later. */
    discard(fileIds) {
        for (const id of fileIds) this.#transfer.remove(id).catch(() => {});
    }

    /** Whether all files of a place can be sent. */
    isComplete(place) {
        return this.of(place).every(({ state }) => state === "checking" || state === "ready");
    }

    /** Takes the complete files of a place for a message. */
    take(place) {
        const rows = this.of(place).filter(({ state }) => state === "checking" || state === "ready");
        for (const row of rows) this.#drop(row);
        return rows.map(({ fileId, name, size, type }) => ({ file_id: fileId, name, size, media_type: type }));
    }

    /** The network is back: uploads that wait for it go on. */
    poke() {
        for (const row of this.#rows) row.wake?.();
    }

    /** Ends all requests; a reload continues them. */
    stop() {
        this.#isStopped = true;
        for (const row of this.#rows) row.stop?.abort();
    }

    #row(key) {
        return this.#rows.find((row) => row.key === key);
    }

    #drop(row) {
        row.isGone = true;
        row.stop?.abort();
        row.wake?.();
        this.#rows = this.#rows.filter((other) => other !== row);
        this.#kept.remove(row.key);
        this.#update();
    }

    #update() {
        if (this.#isStopped) return; // a late answer must not bring back what a sign-out has removed
        const rows = this.#rows.map((row) => Object.fromEntries(REMEMBERED.map((field) => [field, row[field]])));
        this.#kept.remember(rows);
        this.#changed();
    }

    #next() {
        if (this.#isStopped) return;
        const running = this.#rows.filter(({ isBusy }) => isBusy).length;
        const waiting = this.#rows
            .filter(({ state, isBusy }) => state === "waiting" && !isBusy)
            .slice(0, Math.max(0, RUNNING_MAX - running));
        for (const row of waiting) this.#run(row);
    }

    async #run(row) {
        const stop = new AbortController();
        Object.assign(row, { state: "running", failures: 0, stop, isBusy: true });
        this.#update();
        while (!stop.signal.aborted) {
            try {
                await this.#send(row, stop.signal);
                break;
            } catch (error) {
                if (stop.signal.aborted || !(await this.#recovers(row, error, stop.signal))) break;
            }
        }
        row.isBusy = false;
        this.#next();
    }

    /** Sends what the server lacks, until `signal` stops it. */
    async #send(row, signal) {
        const transfer = this.#transfer;
        if (row.fileId === undefined) {
            const created = await transfer.create(row);
            row.fileId = created.file_id;
            if (row.isGone) return this.discard([row.fileId]);
            Object.assign(row, { chunkMax: created.chunk_max, offset: created.offset, isUnsure: signal.aborted });
            this.#update();
        }
        if (row.isUnsure && !signal.aborted) {
            row.offset = await transfer.offset(row.fileId);
            row.isUnsure = signal.aborted;
        }
        while (row.offset < row.size && !signal.aborted) {
            const start = row.offset;
            const progress = (sent) => !signal.aborted && this.#progress(row, start + sent);
            progress(0);
            const chunk = row.file.slice(start, Math.min(start + (row.chunkMax || CHUNK_BYTES), row.size));
            row.offset = await transfer.append(row.fileId, start, chunk, progress, signal);
            if (row.offset > start) row.failures = 0;
        }
        if (signal.aborted) return undefined;
        Object.assign(row, { state: "checking", sent: row.size, file: undefined });
        this.#kept.remove(row.key);
        this.#update();
        if (row.settled) this.#settle(row);
        return undefined;
    }

    #progress(row, sent) {
        row.sent = Math.min(sent, row.size);
        row.state = "running";
        this.#changed();
    }

    /** Waits after an error; returns false when the upload has failed. */
    async #recovers(row, error, signal) {
        row.isUnsure = true;
        const isLost = row.file && !(await isReadable(row.file));
        if (signal.aborted) return false;
        if (isLost) {
            row.state = "lost";
            this.#update();
            return false;
        }
        const isAway = error.status === 0;
        // The server no longer knows the upload: it begins again.
        const isForgotten = row.fileId !== undefined && (error.status === 404 || error.status === 410);
        if (isForgotten) Object.assign(row, { fileId: undefined, offset: 0, sent: 0 });
        const isPassing = isAway || isForgotten || [408, 409, 423, 429].includes(error.status) || error.status >= 500;
        const asked = error.retryAfterMs ?? 0;
        if (!isAway) row.failures += 1;
        if (!isPassing || asked > WAIT_MS_MAX || row.failures > RETRIES_MAX) {
            this.#fail(row, error);
            return false;
        }
        row.waits = isAway ? (row.waits ?? 0) + 1 : row.failures;
        const backoff = Math.min(RETRY_MS_MIN * 2 ** Math.min(row.waits - 1, 10), RETRY_MS_MAX);
        Object.assign(row, { state: "retrying", error });
        this.#update();
        await Promise.race([this.wait(Math.max(asked, backoff)), new Promise((resolve) => (row.wake = resolve))]);
        row.wake = undefined;
        if (signal.aborted) return false;
        row.state = "running";
        return true;
    }

    #fail(row, { code, message, status, retryAfterMs, details }) {
        Object.assign(row, { state: "failed", error: { code, message, status, retryAfterMs, details } });
        this.#update();
    }
}

/** Whether the browser can still read a file: it may have been moved or changed since it was chosen. */
async function isReadable(file) {
    try {
        await file.slice(0, 1).arrayBuffer();
        return true;
    } catch {
        return false;
    }
}

function pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
}
