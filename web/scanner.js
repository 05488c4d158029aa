// Whether the virus scanner answers, from the server's health report: "ok", "failing" or "off". A server in production
// shows it to its operators only; then it stays unknown. Whether files are scanned at all is in `welcome.features`.

/** A report is asked for again after this time, when files are shown. */
const AGE_MS_MAX = 60_000;

export class Scanner {
    /** "ok", "failing" or "off"; undefined if unknown. */
    state;
    #session;
    #changed;
    #askedAt = -Infinity;

    constructor(session, changed) {
        this.#session = session;
        this.#changed = changed;
    }

    /** Asks the server, unless it was asked a moment ago. */
    async look(now = Date.now()) {
        if (now - this.#askedAt < AGE_MS_MAX) return;
        this.#askedAt = now;
        const report = await this.#session.request("GET", "health").catch(() => undefined);
        const state = report?.checks?.antivirus?.status;
        if (state === this.state) return;
        this.state = state;
        this.#changed();
    }
}
