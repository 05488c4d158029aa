// The WebSocket side of Veza Chat's protocol, for any page or program: connects, resumes, sends, and gives events in
// order. It knows nothing of what is shown, and needs nothing but msgpack.js beside it.
//
//     const client = new VezaClient({ url: "wss://chat.example.com/ws", ticket: () => fetchTicket() });
//     client.on("event", ({ type, data }) => …);      // each once, in the order of its conversation's seq
//     client.on("state", ({ name }) => …);            // connecting, catching_up, live, waiting, ended
//     client.on("up_to_date", ({ missed }) => …);     // everything that was missed has been given to "event"
//     client.connect();
//     await client.request("get_history", { conversation_id: "room_6" });   // any command of the protocol
//     await client.send({ conversation_id: "room_6", content: "Hello" });
//
//   idle ─► connecting ─► catching_up ─► live        ended: close(), signed out, or a close that says so
//               ▲  │            │          │
//               │  ▼            ▼          ▼
//             waiting ◄──── (connection lost)
//
// How nothing is lost, doubled or reordered:
// 1. `cursors` holds, for each conversation, the seq of the last event that was given. `welcome` begins it.
// 2. Numbered event with seq = cursor + 1: given, and the cursor moves. With seq ≤ cursor: it was given before, dropped.
//    With seq > cursor + 1: something was missed, so it is dropped and `resume` asks for everything after the cursor.
// 3. After a reconnect every cursor that is not at `welcome`'s last_seq is resumed; `caught_up` ends it. `reset` means
//    too far behind: the event "reset" is given, the application reads the history anew, the cursor moves there.
// 4. `send` gives each message a client_message_id and repeats it with the same one, over any number of connections,
//    until the server acknowledges or refuses it; the server stores it once. One message per conversation is on its way
//    at a time, so what is sent in order arrives in order.
//
// Reconnecting begins after 100 to 250 ms; the waiting time grows with the length of the outage, to 5 s. A server that
// announces its restart says itself when to come back.

import { decode, encode } from "./msgpack.js";

const WAIT_MS_MIN = 100;
const WAIT_MS_MAX = 5_000;
/** From the start of a connection to its `welcome`. */
const OPEN_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 20_000;
/** Silence after a ping that means that the connection is dead. */
const PONG_TIMEOUT_MS = 8_000;
/** Conversations in one `resume`, and in `welcome`. */
const RESUME_MAX = 1_000;
/** A refusal with one of these is the server's or the moment's fault: the same command may work later. */
const TRANSIENT = new Set([
    "storage_unavailable",
    "overloaded",
    "deadline_exceeded",
    "rate_limited",
    "slow_mode",
    "internal",
]);
/** Commands that change nothing are simply asked again on the next connection. */
const READS = /^(get|list|search)_|^ping$/;

const FORMATS = {
    json: { subprotocol: "veza.v1.json", encode: JSON.stringify, decode: (frame) => JSON.parse(frame) },
    msgpack: { subprotocol: "veza.v1.msgpack", encode, decode: (frame) => decode(new Uint8Array(frame)) },
};

/** A key that nobody else has; `randomUUID` exists only on pages that came over TLS. */
export function newKey() {
    return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Why a command failed: `code` is one of the protocol's, or `disconnected`, `closed`. */
export class VezaError extends Error {
    constructor({ code, message, retry_after_ms, details }) {
        super(message ?? code);
        Object.assign(this, { code, retryAfterMs: retry_after_ms, details });
    }
}

export class VezaClient {
    /**
     * Conversation id → seq of the last event given. To resume an earlier run, fill it before `connect`; of a conversation
     * that the user has left, delete it.
     */
    cursors = new Map();
    /** The last `welcome`'s data. */
    welcome;
    state = { name: "idle" };

    #options;
    #format;
    #listeners = new Map();
    #socket;
    /** Counts connections: whatever belongs to an earlier one is ignored. */
    #generation = 0;
    #nextId = 1;
    /** Commands without an answer: id → {frame, resolve, reject, alarm, repeat, sent}. */
    #requests = new Map();
    /** Conversation id → messages to send, the first one possibly on its way. */
    #outboxes = new Map();
    /** Conversations whose missed events are on their way. */
    #catchingUp = new Set();
    #missed = 0;
    #lostAt;
    #hint;
    #timers = {};
    #heardAt = 0;
    #pingedAt;

    /**
     * `url`: of the endpoint, ws(s)://…/ws. `ticket`: an async function that gives a fresh ticket; when it fails with
     * `status` 401 or 403 the client ends, otherwise it tries again. `expired`: called when the server says that the
     * access token has expired. `format`: "msgpack" or "json".
     */
    constructor({ url, ticket, expired = () => {}, format = "msgpack", WebSocket = globalThis.WebSocket }) {
        this.#options = { url, ticket, expired, WebSocket };
        this.#format = FORMATS[format];
        if (!this.#format) throw new TypeError(`format must be msgpack or json, not ${format}`);
    }

    /** Calls `listener` at every `type`: state, welcome, event, up_to_date, gone. */
    on(type, listener) {
        if (!this.#listeners.has(type)) this.#listeners.set(type, []);
        this.#listeners.get(type).push(listener);
        return this;
    }

    connect() {
        if (this.state.name === "idle" || this.state.name === "ended") this.#open();
    }

    /** Ends; what has no answer yet is refused with `closed`. */
    close() {
        this.#end("closed");
    }

    /** The network may be back: checks the connection now instead of waiting for the next timer. */
    poke() {
        if (this.state.name === "waiting") this.#open();
        else if (this.welcome && this.#socket) this.#ping();
    }

    /** The browser reports that the network is gone. A server on this machine is reached again at the next attempt. */
    networkLost() {
        if (this.#isConnected() || this.state.name === "connecting") this.#lost(1006);
    }

    /** A command and its ack's data. Reads survive a reconnect; anything else fails with `disconnected` when it is cut. */
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

    /** A command without an answer (`typing`); lost when there is no connection. */
    tell(type, data) {
        if (this.#isConnected()) this.#write({ type, data });
    }

    /** Sends a message until it is acknowledged or finally refused; the ack's data. `notify` hears of retries. */
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

    #enter(name, detail = {}) {
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
        this.#enter("connecting", { lostAt: this.#lostAt });
        this.#timers.open = setTimeout(() => isCurrent() && this.#lost(1006), OPEN_TIMEOUT_MS);
        let ticket;
        try {
            ticket = await this.#options.ticket();
        } catch (error) {
            if (!isCurrent()) return undefined;
            const isRefused = error.status === 401 || error.status === 403;
            return isRefused ? this.#end("signed_out") : this.#lost(1006, error.retryAfterMs);
        }
        if (!isCurrent()) return undefined;
        const url = `${this.#options.url}?ticket=${encodeURIComponent(ticket)}&subscribe=all`;
        const socket = new this.#options.WebSocket(url, [this.#format.subprotocol]);
        this.#socket = socket;
        socket.binaryType = "arraybuffer";
        socket.onmessage = ({ data }) => isCurrent() && this.#heard(this.#format.decode(data));
        socket.onclose = ({ code, reason }) => isCurrent() && this.#closed(code, reason);
        return undefined;
    }

    #closed(code, reason) {
        let words = {}; // a proxy's reason is no JSON, and often there is none
        if (reason.startsWith("{")) words = JSON.parse(reason);
        if (code === 4001) this.#options.expired();
        if (words.reconnect === false) this.#end(words.code ?? "closed");
        else this.#lost(code, words.retry_after_ms);
    }

    /** The connection is gone, or did not come about: wait, then try again. */
    #lost(code, retryAfterMs = 0) {
        this.#drop();
        const now = Date.now();
        this.#lostAt ??= now;
        const grown = Math.min((now - this.#lostAt) / 6, WAIT_MS_MAX);
        const wait = Math.max(WAIT_MS_MIN + Math.random() * 150, grown * (0.75 + Math.random() / 2));
        const retryInMs = Math.max(wait, this.#hint ?? retryAfterMs);
        this.#hint = undefined;
        this.#timers.wait = setTimeout(() => this.#open(), retryInMs);
        this.#enter("waiting", { code, lostAt: this.#lostAt, retryAt: now + retryInMs });
    }

    /** Leaves the present socket without waiting for its end: over a dead network that may take minutes. */
    #drop() {
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
        this.#drop();
        const error = new VezaError({ code: "closed", message: "The connection was closed" });
        for (const [id, request] of this.#requests) {
            this.#settle(id);
            request.reject(error);
        }
        const isFinal = reason !== "too_many_connections"; // after which `connect` may be called again
        for (const outbox of isFinal ? this.#outboxes.values() : [])
            outbox.splice(0).forEach((entry) => entry.reject(error));
        this.#enter("ended", { reason });
    }

    #write(frame) {
        const encoded = this.#format.encode(frame);
        if (encoded.length > this.welcome.limits.max_frame_bytes) {
            // The server would close the connection, and the next one, and so on.
            const error = new VezaError({ code: "too_large", message: "This is larger than the server accepts" });
            this.#settle(frame.id)?.reject(error);
        } else this.#socket.send(encoded);
    }

    #transmit(request) {
        if (!this.#isConnected() || request.sent) return;
        request.sent = true;
        this.#write(request.frame);
    }

    #settle(id) {
        const request = this.#requests.get(id);
        this.#requests.delete(id);
        clearTimeout(request?.alarm);
        return request;
    }

    #heard({ type, id, data }) {
        this.#heardAt = Date.now();
        this.#pingedAt = undefined;
        if (type === "ack") this.#settle(id)?.resolve(data);
        else if (type === "error") this.#settle(id)?.reject(new VezaError(data));
        else if (type === "welcome") this.#welcomed(data);
        else if (type === "going_away") this.#hint = data.retry_after_ms;
        else if (type === "caught_up") this.#caughtUp(data.conversation_id);
        else if (type === "reset") {
            this.cursors.set(data.conversation_id, data.last_seq);
            this.#emit("event", { type, data });
            this.#caughtUp(data.conversation_id);
        } else if (type === "lagging") {
            this.#catchingUp.add(data.conversation_id); // the server reads on from where it stopped
            if (this.state.name === "live") this.#enter("catching_up");
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
            if (!heads.has(id) && heads.size < RESUME_MAX) this.#gone(id);
            else if (heads.get(id) !== cursor) behind.push(id);
        }
        for (const [id, seq] of heads) {
            if (!this.cursors.has(id)) this.cursors.set(id, seq);
        }
        const away = this.#lostAt === undefined ? 0 : Date.now() - this.#lostAt;
        this.#lostAt = undefined;
        this.#missed = 0;
        this.#beat(welcome.heartbeat_ms);
        this.#enter("catching_up", { again, away });
        this.#emit("welcome", welcome);
        for (const request of this.#requests.values()) this.#transmit(request);
        for (const id of this.#outboxes.keys()) this.#flush(id);
        if (behind.length > 0) this.#resume(behind);
        else this.#upToDate();
    }

    #resume(ids) {
        for (const id of ids) this.#catchingUp.add(id);
        if (this.state.name === "live") this.#enter("catching_up");
        for (let from = 0; from < ids.length; from += RESUME_MAX) this.#resumePage(ids.slice(from, from + RESUME_MAX));
    }

    async #resumePage(ids) {
        const generation = this.#generation;
        const cursors = Object.fromEntries(ids.map((id) => [id, this.cursors.get(id)]));
        try {
            const { not_member } = await this.request("resume", { cursors }, { repeat: false });
            for (const id of not_member ?? []) this.#gone(id);
        } catch (error) {
            if (generation !== this.#generation) return; // the next connection resumes anew
            setTimeout(() => generation === this.#generation && this.#resumePage(ids), error.retryAfterMs ?? 1_000);
        }
    }

    /** The user is no member of a conversation any more. */
    #gone(id) {
        this.cursors.delete(id);
        this.#emit("gone", { conversation_id: id });
        this.#caughtUp(id);
    }

    #caughtUp(id) {
        if (this.#catchingUp.delete(id) && this.#catchingUp.size === 0) this.#upToDate();
    }

    #upToDate() {
        const { again, away } = this.state;
        this.#enter("live");
        this.#emit("up_to_date", { missed: this.#missed, again: again ?? true, away: away ?? 0 });
        this.#missed = 0;
    }

    /** The server pings too, but a page cannot see it: silence is met with a ping of our own. */
    #beat(heartbeatMs) {
        const every = Math.min(Math.max(heartbeatMs / 2, 5_000), 30_000);
        this.#timers.beat = setInterval(() => Date.now() - this.#heardAt >= every && this.#ping(), every);
    }

    #ping() {
        if (this.#pingedAt !== undefined || !this.#isConnected()) return;
        const pingedAt = (this.#pingedAt = Date.now());
        this.#write({ type: "ping", id: 0, data: {} });
        this.#timers.pong = setTimeout(() => this.#pingedAt === pingedAt && this.#lost(4006), PONG_TIMEOUT_MS);
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
            if (error.code === "disconnected" || error.code === "closed") return; // the next connection repeats it
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
