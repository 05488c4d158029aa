// Messages on their way to the server: each is committed once, and those of a conversation in the order of `add`.
//
// A message has a client_message_id, under which the server stores it once. So it is sent again, over any number of
// connections and runs of the program, until the server acknowledges or refuses it. One message per conversation is at
// the server at a time: if a later one could overtake an earlier one that was refused for a moment, order would be
// lost.
//
// The outbox is bounded. When it is full, `add` fails at once with `outbox_full`, and the application decides.

import { RETRIED } from "./codes.js";
import { VezaError, newKey } from "./errors.js";

const ACK_TIMEOUT_MS = 15_000;
const WAIT_MS_MIN = 500;
const WAIT_MS_MAX = 15_000;
/** The server's own faults are not the message's; after this many the message is refused. */
const INTERNAL_MAX = 5;

export class Outbox {
    #request;
    #isReady;
    #store;
    #max;
    #onOutcome;
    #onUnauthenticated;
    #onTimeout;
    #size = 0;
    #isEnded = false;
    /** Conversation id → entries; the first one may have been sent. */
    #queues = new Map();

    /** `request` sends a command; `isReady` tests the connection. `onOutcome` runs once per message. */
    constructor({ request, isReady, store, max, onOutcome, onUnauthenticated, onTimeout }) {
        this.#request = request;
        this.#isReady = isReady;
        this.#store = store;
        this.#max = max;
        this.#onOutcome = onOutcome;
        this.#onUnauthenticated = onUnauthenticated;
        this.#onTimeout = onTimeout;
    }

    /** Messages that the server has not acknowledged. */
    get size() {
        return this.#size;
    }

    /** Resolves with the ack. `notify` runs before each retry. */
    add(data, notify) {
        const message = { ...data, client_message_id: data.client_message_id ?? newKey() };
        const sent = new Promise((resolve, reject) => {
            if (this.#isEnded) throw new VezaError({ code: "closed", message: "The client has ended" });
            if (this.#size >= this.#max) {
                const text = `${this.#size} messages wait for the server. Wait until some are acknowledged`;
                throw new VezaError({ code: "outbox_full", message: text });
            }
            this.#store?.putMessage(message);
            this.#push({ message, notify, resolve, reject });
        });
        sent.catch(() => {}); // a send whose promise is not awaited must not end the program
        return sent;
    }

    /** Messages of an earlier run, in their order. Their acks are reported by `sent`. */
    restore(messages) {
        for (const message of messages) this.#push({ message, notify() {}, resolve() {}, reject() {} });
    }

    #push(entry) {
        const id = entry.message.conversation_id;
        if (!this.#queues.has(id)) this.#queues.set(id, []);
        this.#queues.get(id).push(Object.assign(entry, { isBusy: false, failures: 0, notBefore: 0 }));
        this.#size++;
        this.#flush(id);
    }

    flush() {
        for (const id of this.#queues.keys()) this.#flush(id);
    }

    /** The connection is lost: what was sent is sent again on the next one. */
    lost() {
        for (const queue of this.#queues.values()) for (const entry of queue) entry.isBusy = false;
    }

    /** The client connects, for the first time or again. */
    begin() {
        this.#isEnded = false;
    }

    /** The client has ended. The messages stay in the store, for the next run. */
    end(error) {
        this.#isEnded = true;
        for (const queue of this.#queues.values()) {
            for (const entry of queue.splice(0)) {
                clearTimeout(entry.timer);
                entry.reject(error);
            }
        }
        this.#queues.clear();
        this.#size = 0;
    }

    async #flush(id) {
        const entry = this.#queues.get(id)?.[0];
        if (!entry || entry.isBusy || !this.#isReady()) return;
        const early = entry.notBefore - Date.now();
        if (early > 0) {
            clearTimeout(entry.timer);
            entry.timer = setTimeout(() => this.#flush(id), early);
            return;
        }
        entry.isBusy = true;
        const options = { repeat: false, timeoutMs: ACK_TIMEOUT_MS, onTimeout: this.#onTimeout };
        try {
            this.#settle(entry, { ack: await this.#request("send_message", entry.message, options) });
        } catch (error) {
            this.#failed(entry, error);
        }
    }

    #failed(entry, error) {
        if (error.code === "disconnected" || error.code === "closed") return; // the next connection sends it again
        if (error.code === "unauthenticated") {
            entry.isBusy = false;
            this.#onUnauthenticated();
            return;
        }
        const isFault = error.code === "internal" && entry.failures < INTERNAL_MAX;
        if (!RETRIED.has(error.code) && !isFault) {
            this.#settle(entry, { error });
            return;
        }
        const wait = error.retryAfterMs ?? Math.min(WAIT_MS_MIN * 2 ** entry.failures, WAIT_MS_MAX);
        entry.failures++;
        entry.isBusy = false;
        entry.notBefore = Date.now() + wait;
        entry.notify({ code: error.code, message: error.message, retryInMs: wait });
        this.#flush(entry.message.conversation_id);
    }

    #settle(entry, outcome) {
        const { message } = entry;
        const queue = this.#queues.get(message.conversation_id);
        if (queue?.[0] !== entry) return; // ended meanwhile
        queue.shift();
        if (queue.length === 0) this.#queues.delete(message.conversation_id);
        this.#size--;
        this.#store?.removeMessage(message.client_message_id);
        if (outcome.error) entry.reject(outcome.error);
        else entry.resolve(outcome.ack);
        this.#onOutcome({ message, ...outcome });
        this.#flush(message.conversation_id);
    }
}
