// Errors of the client, and the keys that make a send idempotent.

/**
 * A failed command. `code` is an error code of the protocol, or one of the client's own: `disconnected` (the connection
 * was lost before the answer), `closed` (the client has ended), `outbox_full`, `unreachable`.
 */
export class VezaError extends Error {
    constructor({ code, message, retry_after_ms, details, status }) {
        super(message ?? code);
        Object.assign(this, { name: "VezaError", code, retryAfterMs: retry_after_ms, details, status });
    }
}

/** A unique key. (`randomUUID` exists only on pages with TLS.) */
export function newKey() {
    return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
