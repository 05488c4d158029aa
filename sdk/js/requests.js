// Commands without an answer. Each has an id that this client never uses again, so a late or repeated answer cannot
// answer another command. A window bounds how many are at the server at the same time.

import { VezaError } from "./errors.js";

const TIMEOUT_MS = 20_000;
/** The server accepts 256 unanswered commands on a connection. */
const WINDOW = 100;
/** Commands that change nothing; they are sent again on the next connection. */
const READS = /^(get|list|search)_|^ping$/;

export class Requests {
    #transmit;
    #isReady;
    #nextId = 1;
    /** Id → {frame, resolve, reject, alarm, repeat, isSent}. */
    #open = new Map();
    #sent = 0;

    /** `transmit` sends a frame on the current connection; `isReady` returns whether there is one. */
    constructor(transmit, isReady) {
        this.#transmit = transmit;
        this.#isReady = isReady;
    }

    /** Resolves with the data of the ack. `isFirst`: goes before commands that wait for the window. */
    request(type, data, { timeoutMs = TIMEOUT_MS, repeat = READS.test(type), isFirst = false, onTimeout } = {}) {
        return new Promise((resolve, reject) => {
            const id = this.#nextId++;
            const alarm = setTimeout(() => {
                this.settle(id);
                onTimeout?.();
                reject(new VezaError({ code: "deadline_exceeded", message: "The server did not answer in time" }));
                this.flush();
            }, timeoutMs);
            const request = { frame: { type, id, data }, resolve, reject, alarm, repeat, isSent: false };
            this.#open.set(id, request);
            if (isFirst && this.#isReady()) this.#send(request);
            else this.flush();
        });
    }

    /** Sends what waits, as far as the window allows. */
    flush() {
        if (!this.#isReady() || this.#sent >= WINDOW) return;
        for (const request of this.#open.values()) {
            if (this.#sent >= WINDOW) return;
            if (!request.isSent) this.#send(request);
        }
    }

    #send(request) {
        request.isSent = true;
        this.#sent++;
        this.#transmit(request.frame);
    }

    /** Removes a command from the list; undefined if it was answered before. */
    settle(id) {
        const request = this.#open.get(id);
        if (!request) return undefined;
        this.#open.delete(id);
        if (request.isSent) this.#sent--;
        clearTimeout(request.alarm);
        return request;
    }

    /** The connection is lost. Commands that may have had an effect fail; the others wait for the next connection. */
    lost() {
        for (const [id, request] of this.#open) {
            if (request.isSent && !request.repeat) {
                this.settle(id);
                request.reject(new VezaError({ code: "disconnected", message: "The connection was lost" }));
            }
            request.isSent = false;
        }
        this.#sent = 0;
    }

    end(error) {
        for (const [id, request] of this.#open) {
            this.settle(id);
            request.reject(error);
        }
    }
}
