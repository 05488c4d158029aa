// Read markers on their way to the server: at most one per conversation or thread in flight, and the newest replaces
// those that wait. A refused marker is sent again when the server allows it, unless a newer one has replaced it.

/** Several messages that are read within this time need one marker. */
const AFTER_MS = 400;
/** A marker is given up after this many attempts; the next message that is read sends another one. */
const ATTEMPTS_MAX = 5;
const RETRY_MS = 1_000;
const TRANSIENT = new Set(["rate_limited", "overloaded", "storage_unavailable", "deadline_exceeded"]);

export class Marks {
    #send;
    #afterMs;
    /** Conversation or thread → {type, data, attempts}: the newest marker that is not in flight. */
    #waiting = new Map();
    #timers = new Map();
    #inFlight = new Set();
    /** The rate limit is the user's, so a refusal holds back the markers of all conversations. */
    #pausedUntil = 0;

    /** `send(type, data)` sends a command and returns a promise of its ack. */
    constructor(send, afterMs = AFTER_MS) {
        this.#send = send;
        this.#afterMs = afterMs;
    }

    /** Sends the marker of `key` soon. */
    mark(key, type, data) {
        this.#waiting.set(key, { type, data, attempts: 0 });
        this.#plan(key, this.#afterMs);
    }

    #plan(key, waitMs) {
        clearTimeout(this.#timers.get(key));
        this.#timers.set(
            key,
            setTimeout(() => this.#flush(key), waitMs),
        );
    }

    async #flush(key) {
        this.#timers.delete(key);
        const marker = this.#waiting.get(key);
        if (!marker || this.#inFlight.has(key)) return; // the answer sends it
        const pause = this.#pausedUntil - Date.now();
        if (pause > 0) return this.#plan(key, pause);
        this.#waiting.delete(key);
        this.#inFlight.add(key);
        try {
            await this.#send(marker.type, marker.data);
        } catch (error) {
            const again = TRANSIENT.has(error.code) && ++marker.attempts < ATTEMPTS_MAX;
            if (TRANSIENT.has(error.code)) this.#pausedUntil = Date.now() + (error.retryAfterMs ?? RETRY_MS);
            if (again && !this.#waiting.has(key)) this.#waiting.set(key, marker);
        }
        this.#inFlight.delete(key);
        if (this.#waiting.has(key) && !this.#timers.has(key)) this.#plan(key, 0);
    }
}
