// A WebSocket client of Veza Chat for any page or program: it connects, reconnects, resumes, sends, and emits events in
// order. It is independent of the rest of this folder, except for msgpack.js.
//
//     const client = new VezaClient({ url: "wss://chat.example.com/ws", ticket: () => fetchTicket() });
//     client.on("event", ({ type, data }) => …);      // each event once, ordered by seq in its conversation
//     client.on("state", ({ name }) => …);            // connecting, catching_up, live, waiting, ended
//     client.on("up_to_date", ({ missed }) => …);     // all missed events have been emitted
//     client.on("gone", ({ conversation_id }) => …);  // the user is no longer a member
//     client.on("unsubscribed", ({ conversation_id, error }) => …);  // too many conversations: no events from it
//     client.connect();
//     await client.request("get_history", { conversation_id: "room_6" });   // any command of the protocol
//     await client.send({ conversation_id: "room_6", content: "Hello" });
//
//   idle ─► connecting ─► catching_up ─► live        ended: close(), signed out, or a close without reconnect
//               ▲  │            │          │
//               │  ▼            ▼          ▼
//             waiting ◄──── (connection lost)
//
// How it avoids losing, repeating and reordering events:
// 1. `cursors` holds the seq of the last emitted event of each conversation. `welcome` initializes it.
// 2. A numbered event with seq = cursor + 1 is emitted, and the cursor moves. An event with seq ≤ cursor was emitted
//    before and is dropped. With seq > cursor + 1 events are missing: it is dropped, and `resume` replays all after the
//    cursor.
// 3. After a reconnect, every conversation whose cursor is not at `welcome`'s last_seq is resumed until `caught_up`.
//    `reset` means that it is too far behind: "reset" is emitted, the application reads the history again, the cursor
//    moves on.
// 4. `send` gives each message a client_message_id and sends it again with the same id, over any number of connections,
//    until the server acknowledges or refuses it. The server stores it once. One message per conversation is sent at a
//    time, so messages arrive in the order in which they were sent.
//
// The first reconnect follows after 100 to 250 ms. The backoff grows with the length of the outage, up to 5 s. A server
// that announces its restart tells clients when to reconnect.

import { decode, encode } from "./msgpack.js";

const WAIT_MS_MIN = 100;
const WAIT_MS_MAX = 5_000;
/** Longest time from opening a connection to its `welcome`. */
const OPEN_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 20_000;
/** A connection without an answer to a ping for this long is dead. */
const PONG_TIMEOUT_MS = 8_000;
/** Most conversations in one `resume`. */
const RESUME_MAX = 1_000;
/** Codes of temporary errors: the same command may succeed later. */
const TRANSIENT = new Set([
    "storage_unavailable",
    "overloaded",
    "deadline_exceeded",
    "rate_limited",
    "slow_mode",
    "internal",
]);
/** Commands that change nothing; they are sent again on the next connection. */
const READS = /^(get|list|search)_|^ping$/;

const FORMATS = {
    json: { subprotocol: "veza.v1.json", encode: JSON.stringify, decode: (frame) => JSON.parse(frame) },
    msgpack: { subprotocol: "veza.v1.msgpack", encode, decode: (frame) => decode(new Uint8Array(frame)) },
};

/** A unique key. (`randomUUID` exists only on pages with TLS.) */
export function newKey() {
    return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A failed command: `code` is an error code of the protocol, or `disconnected`, or `closed`. */
export class VezaError extends Error {
    constructor({ code, message, retry_after_ms, details }) {
        super(message ?? code);
        Object.assign(this, { code, retryAfterMs: retry_after_ms, details });
    }
}

export class VezaClient {
    /**
     * Conversation id → seq of the last emitted event. To resume an earlier run, fill it before `connect`. Delete the
     * entry of a conversation that the user has left.
     */
    cursors = new Map();
    /** The data of the last `welcome`. */
    welcome;
    state = { name: "idle" };

    #options;
    #format;
    #listeners = new Map();
    #socket;
    /** Counts connections, so that callbacks of an earlier one are ignored. */
    #generation = 0;
    #nextId = 1;
    /** Commands without an answer: id → {frame, resolve, reject, alarm, repeat, sent}. */
    #requests = new Map();
    /** Conversation id → messages to send; the first one may have been sent. */
    #outboxes = new Map();
    /** Conversations whose missed events are being replayed. */
    #catchingUp = new Set();
    #missed = 0;
    #lostAt;
    #reconnectAfterMs;
    #timers = {};
    #lastFrameAt = 0;
    #pingedAt;

    /**
     * `url`: the endpoint, ws(s)://…/ws. `ticket`: an async function that returns a new ticket. When it fails with
     * `status` 401 or 403 the client ends, otherwise it tries again. `expired`: called when the access token has
     * expired. `format`: "msgpack" or "json".
     */
    constructor({ url, ticket, expired = () => {}, format = "msgpack", WebSocket = globalThis.WebSocket }) {
        this.#options = { url, ticket, expired, WebSocket };
        this.#format = FORMATS[format];
        if (!this.#format) throw new TypeError(`format must be msgpack or json, not ${format}`);
    }

    /** Calls `listener` for each `type`: state, welcome, event, up_to_date, gone. */
    on(type, listener) {
        if (!this.#listeners.has(type)) this.#listeners.set(type, []);
        this.#listeners.get(type).push(listener);
        return this;
    }

    connect() {
        if (this.state.name === "idle" || this.state.name === "ended") this.#open();
    }

    /** Closes the connection for good. Commands without an answer fail with `closed`. */
    close() {
        this.#end("closed");
    }

    /** The network may be back: checks the connection now instead of waiting for the next timer. */
    poke() {
        if (this.state.name === "waiting") this.#open();
        else if (this.welcome && this.#socket) this.#ping();
    }

    /** The browser reports that the network is lost. A server on this machine is reached again at the next attempt. */
    networkLost() {
        if (this.#isConnected() || this.state.name === "connecting") this.#connectionLost(1006);
    }

    /** Sends a command; resolves with its ack's data. After a reconnect, reads are sent again; others fail. */
    request(type, data = {}, { timeoutMs = REQUEST_TIMEOUT_MS, repeat = READS.test(type) } = {}) {
        return new Promise((resolve, reject) => {
            const id = this.#nextId++;
            const alarm = setTimeout(() => {
                this.#requests.delete(id);
                reject(new VezaError({ code: "deadline_exceeded", message: "The server did not answer in time" }));
            }, timeoutMs);
            const request = { frame: { type, id, data }, resolve, reject, alarm, repeat, sent: false };
            this.#requests.set(id, request);
            this.#transmit(request);
        });
    }

    /** Sends a command that has no answer (`typing`). Without a connection it is dropped. */
    signal(type, data) {
        if (this.#isConnected()) this.#sendFrame({ type, data });
    }

    /** Sends a message until it is acknowledged or refused; resolves with the ack. `notify` runs before retries. */
    send(data, notify = () => {}) {
        const message = { client_message_id: newKey(), ...data };
        return new Promise((resolve, reject) => {
            const id = message.conversation_id;
            if (!this.#outboxes.has(id)) this.#outboxes.set(id, []);
            this.#outboxes.get(id).push({ message, notify, resolve, reject, busy: false, failures: 0 });
            this.#flush(id);
        });
    }

    #emit(type, detail) {
        for (const listener of this.#listeners.get(type) ?? []) listener(detail);
    }

    #setState(name, detail = {}) {
        this.state = { name, ...detail };
        this.#emit("state", this.state);
    }

    #isConnected() {
        return this.state.name === "live" || this.state.name === "catching_up";
    }

    async #open() {
        const generation = ++this.#generation;
        const isCurrent = () => generation === this.#generation;
        clearTimeout(this.#timers.wait);
        this.#setState("connecting", { lostAt: this.#lostAt });
        this.#timers.open = setTimeout(() => isCurrent() && this.#connectionLost(1006), OPEN_TIMEOUT_MS);
        let ticket;
        try {
            ticket = await this.#options.ticket();
        } catch (error) {
            if (!isCurrent()) return undefined;
            const isRefused = error.status === 401 || error.status === 403;
            return isRefused ? this.#end("signed_out") : this.#connectionLost(1006, error.retryAfterMs);
        }
        if (!isCurrent()) return undefined;
        const url = `${this.#options.url}?ticket=${encodeURIComponent(ticket)}&subscribe=all`;
        const socket = new this.#options.WebSocket(url, [this.#format.subprotocol]);
        this.#socket = socket;
        socket.binaryType = "arraybuffer";
        socket.onmessage = ({ data }) => isCurrent() && this.#frameReceived(this.#format.decode(data));
        socket.onclose = ({ code, reason }) => isCurrent() && this.#socketClosed(code, reason);
        return undefined;
    }

    #socketClosed(code, reason) {
        let info = {}; // a proxy's close has no JSON, and often no reason
        if (reason.startsWith("{")) info = JSON.parse(reason);
        if (code === 4001) this.#options.expired();
        if (info.reconnect === false) this.#end(info.code ?? "closed");
        else this.#connectionLost(code, info.retry_after_ms);
    }

    /** The connection was lost or could not be opened: waits, then tries again. */
    #connectionLost(code, retryAfterMs = 0) {
        this.#disconnect();
        const now = Date.now();
        this.#lostAt ??= now;
        const grown = Math.min((now - this.#lostAt) / 6, WAIT_MS_MAX);
        const wait = Math.max(WAIT_MS_MIN + Math.random() * 150, grown * (0.75 + Math.random() / 2));
        const retryInMs = Math.max(wait, this.#reconnectAfterMs ?? retryAfterMs);
        this.#reconnectAfterMs = undefined;
        this.#timers.wait = setTimeout(() => this.#open(), retryInMs);
        this.#setState("waiting", { code, lostAt: this.#lostAt, retryAt: now + retryInMs });
    }

    /** Drops the socket without waiting for its close, which may take minutes over a dead network. */
    #disconnect() {
        this.#generation++;
        for (const timer of ["open", "wait", "pong"]) clearTimeout(this.#timers[timer]);
        clearInterval(this.#timers.beat);
        const socket = this.#socket;
        this.#socket = undefined;
        if (socket) {
            socket.onmessage = socket.onclose = null;
            socket.close();
        }
        this.#catchingUp.clear();
        for (const outbox of this.#outboxes.values())
            outbox.forEach((entry) => {
                entry.busy = false;
            });
        for (const [id, request] of this.#requests) {
            if (request.sent && !request.repeat) {
                this.#settle(id);
                request.reject(new VezaError({ code: "disconnected", message: "The connection was lost" }));
            }
            request.sent = false;
        }
    }

    #end(reason) {
        this.#disconnect();
        const error = new VezaError({ code: "closed", message: "The connection was closed" });
        for (const [id, request] of this.#requests) {
            this.#settle(id);
            request.reject(error);
        }
        const isFinal = reason !== "too_many_connections"; // then `connect` may be called again
        for (const outbox of isFinal ? this.#outboxes.values() : [])
            outbox.splice(0).forEach((entry) => entry.reject(error));
        this.#setState("ended", { reason });
    }

    #sendFrame(frame) {
        const encoded = this.#format.encode(frame);
        if (encoded.length > this.welcome.limits.max_frame_bytes) {
            // The server would close this connection, and every later one.
            const error = new VezaError({ code: "too_large", message: "This is larger than the server accepts" });
            this.#settle(frame.id)?.reject(error);
        } else this.#socket.send(encoded);
    }

    #transmit(request) {
        if (!this.#isConnected() || request.sent) return;
        request.sent = true;
        this.#sendFrame(request.frame);
    }

    #settle(id) {
        const request = this.#requests.get(id);
        this.#requests.delete(id);
        clearTimeout(request?.alarm);
        return request;
    }

    #frameReceived({ type, id, data }) {
        this.#lastFrameAt = Date.now();
        this.#pingedAt = undefined;
        if (type === "ack") this.#settle(id)?.resolve(data);
        else if (type === "error") {
            if (id === undefined) this.#subscriptionRefused(data);
            else this.#settle(id)?.reject(new VezaError(data));
        } else if (type === "welcome") this.#welcomed(data);
        else if (type === "going_away") this.#reconnectAfterMs = data.retry_after_ms;
        else if (type === "caught_up") this.#caughtUp(data.conversation_id);
        else if (type === "reset") {
            this.cursors.set(data.conversation_id, data.last_seq);
            this.#emit("event", { type, data });
            this.#caughtUp(data.conversation_id);
        } else if (type === "lagging") {
            this.#catchingUp.add(data.conversation_id); // the server replays the rest
            if (this.state.name === "live") this.#setState("catching_up");
        } else this.#event(type, data);
    }

    #event(type, data) {
        const { conversation_id: id, seq } = data;
        if (type === "mention" || !Number.isInteger(seq)) return this.#emit("event", { type, data });
        const cursor = this.cursors.get(id);
        if (cursor !== undefined && seq !== cursor + 1) {
            if (seq > cursor && !this.#catchingUp.has(id)) this.#resume([id]);
            return;
        }
        this.cursors.set(id, seq);
        if (this.#catchingUp.has(id)) this.#missed++;
        this.#emit("event", { type, data });
    }

    #welcomed(welcome) {
        clearTimeout(this.#timers.open);
        const again = this.welcome !== undefined;
        this.welcome = welcome;
        const heads = new Map(welcome.conversations.map(({ id, last_seq }) => [id, last_seq]));
        const behind = [];
        for (const [id, cursor] of this.cursors) {
            if (!heads.has(id) && !welcome.has_more_conversations) this.#gone(id);
            else if (heads.get(id) !== cursor) behind.push(id);
        }
        for (const [id, seq] of heads) {
            if (!this.cursors.has(id)) this.cursors.set(id, seq);
        }
        const away = this.#lostAt === undefined ? 0 : Date.now() - this.#lostAt;
        this.#lostAt = undefined;
        this.#missed = 0;
        this.#startHeartbeat(welcome.heartbeat_ms);
        this.#setState("catching_up", { again, away });
        this.#emit("welcome", welcome);
        for (const request of this.#requests.values()) this.#transmit(request);
        for (const id of this.#outboxes.keys()) this.#flush(id);
        if (behind.length > 0) this.#resume(behind);
        else this.#upToDate();
    }

    #resume(ids) {
        for (const id of ids) this.#catchingUp.add(id);
        if (this.state.name === "live") this.#setState("catching_up");
        for (let from = 0; from < ids.length; from += RESUME_MAX) this.#resumePage(ids.slice(from, from + RESUME_MAX));
    }

    async #resumePage(ids) {
        const generation = this.#generation;
        const cursors = Object.fromEntries(ids.map((id) => [id, this.cursors.get(id)]));
        try {
            const { not_member } = await this.request("resume", { cursors }, { repeat: false });
            for (const id of not_member ?? []) this.#gone(id);
        } catch (error) {
            if (generation !== this.#generation) return; // the next connection resumes it
            setTimeout(() => generation === this.#generation && this.#resumePage(ids), error.retryAfterMs ?? 1_000);
        }
    }

    /** The user is no longer a member of a conversation. */
    #gone(id) {
        this.cursors.delete(id);
        this.#emit("gone", { conversation_id: id });
        this.#caughtUp(id);
    }

    /**
     * An error without an id answers no command. It names a conversation whose events do not arrive: the user left it
     * while its changes were being replayed, or joined it while the connection had too many subscriptions.
     */
    #subscriptionRefused(error) {
        const id = error.details?.conversation_id;
        if (id === undefined) return; // a refused typing signal
        if (error.code === "not_member") return this.#gone(id);
        this.#emit("unsubscribed", { conversation_id: id, error: new VezaError(error) });
        this.#caughtUp(id);
    }

    #caughtUp(id) {
        if (this.#catchingUp.delete(id) && this.#catchingUp.size === 0) this.#upToDate();
    }

    #upToDate() {
        const { again, away } = this.state;
        this.#setState("live");
        this.#emit("up_to_date", { missed: this.#missed, again: again ?? true, away: away ?? 0 });
        this.#missed = 0;
    }

    /** Pings when nothing was received for a while. (A page cannot see the server's pings.) */
    #startHeartbeat(heartbeatMs) {
        const every = Math.min(Math.max(heartbeatMs / 2, 5_000), 30_000);
        this.#timers.beat = setInterval(() => Date.now() - this.#lastFrameAt >= every && this.#ping(), every);
    }

    #ping() {
        if (this.#pingedAt !== undefined || !this.#isConnected()) return;
        const pingedAt = (this.#pingedAt = Date.now());
        this.#sendFrame({ type: "ping", id: 0, data: {} });
        this.#timers.pong = setTimeout(
            () => this.#pingedAt === pingedAt && this.#connectionLost(4006),
            PONG_TIMEOUT_MS,
        );
    }

    async #flush(id) {
        const outbox = this.#outboxes.get(id);
        const entry = outbox?.[0];
        if (!entry || entry.busy || !this.#isConnected()) return;
        entry.busy = true;
        const generation = this.#generation;
        try {
            const ack = await this.request("send_message", entry.message, { repeat: false });
            entry.resolve(ack);
        } catch (error) {
            if (error.code === "disconnected" || error.code === "closed") return; // the next connection sends it again
            if (TRANSIENT.has(error.code)) {
                const wait = error.retryAfterMs ?? Math.min(500 * 2 ** entry.failures++, 15_000);
                entry.notify({ code: error.code, message: error.message, retryInMs: wait });
                await new Promise((resolve) => setTimeout(resolve, wait));
                if (generation === this.#generation) entry.busy = false;
                return this.#flush(id);
            }
            entry.reject(error);
        }
        if (outbox[0] === entry) outbox.shift();
        this.#flush(id);
    }
}
