// How long to wait before the next attempt to connect. Pure: randomness comes in from outside.
//
// Full jitter: the wait is uniform between 0 and a bound that doubles with each attempt. Clients that lost their
// connection at the same moment therefore reconnect spread over the bound, and not in waves. A time that the server
// sets is a slot for this client alone: the client keeps it exactly and adds nothing.

const BASE_MS = 250;
const MAX_MS = 5_000;
/** A connection that lasted this long, or brought something, has worked: the next wait is short again. */
const STABLE_MS = 1_000;
/** Attempts that count after another one. */
const UNSTABLE_ATTEMPTS = 2;

export class Backoff {
    #attempts = 0;
    #random;

    constructor(random = Math.random) {
        this.#random = random;
    }

    /** Milliseconds until the next attempt. `slotMs`: what the server asked for. */
    next(slotMs) {
        const bound = Math.min(MAX_MS, BASE_MS * 2 ** Math.min(this.#attempts++, 10));
        return slotMs > 0 ? slotMs : bound * this.#random();
    }

    /** A connection has ended that was up for `livedMs`. `hasWorked`: it brought an event or an ack. */
    lived(livedMs, hasWorked) {
        this.#attempts = hasWorked || livedMs >= STABLE_MS ? 0 : Math.min(this.#attempts, UNSTABLE_ATTEMPTS);
    }
}
