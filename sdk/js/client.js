// The connection and its state. docs/client-protocol.md has the rules; the numbers in this file are theirs.
//
//   idle ─► connecting ─► catching_up ─► live        ended: close(), signed out, or a close without reconnect
//               ▲  │            │          │
//               │  ▼            ▼          ▼
//             waiting ◄──── (connection lost)
//
// It is put together from parts that do no I/O: cursors.js decides what is new, outbox.js what is sent, requests.js
// whose answer has arrived, backoff.js when to try again.

import { Backoff } from "./backoff.js";
import { FORMATS } from "./codec.js";
import { CLOSE_CODES, RETRIED } from "./codes.js";
import { Cursors, isNumbered } from "./cursors.js";
import { VezaError } from "./errors.js";
import { EventQueue } from "./events.js";
import { Outbox } from "./outbox.js";
import { Requests } from "./requests.js";

/** Longest time from opening a connection to its `welcome`. */
const OPEN_TIMEOUT_MS = 10_000;
/** A connection without an answer to a ping for this long is dead. */
const PONG_TIMEOUT_MS = 8_000;
/** A replay without an event for this long is requested again. */
const REPLAY_TIMEOUT_MS = 20_000;
/** Most conversations in one `resume`. */
const RESUME_MAX = 1_000;
/** Commands after whose ack the user is a member: the events from their `seq` on belong to the client. */
const JOINS = new Set(["join_conversation", "join_by_invite", "accept_invitation"]);

export class VezaClient {
    /** The data of the last `welcome`. */
    welcome;
    state = { name: "idle" };

    #options;
    #format;
    #listeners = new Map();
    #socket;
    /** Counts connections, so that callbacks of an earlier one are ignored. */
    #generation = 0;
    #isWelcomed = false;
    #cursors = new Cursors();
    #requests;
    #outbox;
    #queue;
    /** Whether the application iterates over `events()`. */
    #isIterated = false;
    #backoff;
    #store;
    /** The user of the store. */
    #storedUser;
    /** Conversations whose missed events are being replayed. */
    #catchingUp = new Set();
    /** Conversations with events for which the queue had no room. */
    #overflowed = new Set();
    #missed = 0;
    #lostAt;
    #welcomedAt;
    /** Whether this connection has brought an event or an ack. */
    #hasWorked = false;
    #reconnectAfterMs;
    #timers = {};
    #lastFrameAt = 0;
    /** When a replay was requested, or has brought an event. */
    #replayedAt = 0;
    #pingedAt;

    /**
     * `session`: a Session, or instead `url` (ws(s)://…/ws), `ticket` (an async function that returns a new ticket) and
     * `expired` (called when the access token has expired). When `ticket` fails with `status` 401 or 403 the client
     * ends, otherwise it tries again. `store`: see store.js. `WebSocket`: under Node.js 20 that of the package `ws`.
     */
    constructor({
        session,
        url = session?.socketUrl,
        ticket = () => session.ticket(),
        expired = () => session?.expire(),
        format = "msgpack",
        WebSocket = globalThis.WebSocket,
        store,
        outboxMax = 1_000,
        eventsMax = 1_000,
        skipsJoined = false,
        random = Math.random,
    }) {
        this.#options = { url, ticket, expired, WebSocket, eventsMax, skipsJoined };
        this.#format = FORMATS[format];
        if (!this.#format) throw new TypeError(`format must be msgpack or json, not ${format}`);
        if (!WebSocket) throw new TypeError("this runtime has no WebSocket: pass one, for example that of `ws`");
        this.#backoff = new Backoff(random);
        this.#store = store;
        const isReady = () => this.#isConnected();
        this.#requests = new Requests((frame) => this.#sendFrame(frame), isReady);
        this.#outbox = new Outbox({
            request: (...command) => this.#requests.request(...command),
            isReady,
            store,
            max: outboxMax,
            onOutcome: (outcome) => this.#emit(outcome.error ? "refused" : "sent", outcome),
            onUnauthenticated: () => this.#tokenRefused(),
            onTimeout: () => this.#ping(),
        });
        const stored = store?.load();
        if (stored) {
            this.#storedUser = stored.user;
            this.#cursors.restore(stored);
            this.#outbox.restore(stored.outbox);
        }
    }

    /** Conversation id → seq of the last emitted event. Fill it before `connect` to go on after an earlier run. */
    get cursors() {
        return this.#cursors.current;
    }

    /** Messages without an ack. */
    get unsent() {
        return this.#outbox.size;
    }

    /** Calls `listener` for each `type`: state, welcome, event, up_to_date, gone, unsubscribed, sent, refused. */
    on(type, listener) {
        if (!this.#listeners.has(type)) this.#listeners.set(type, []);
        this.#listeners.get(type).push(listener);
        if (type === "event" && this.#queue && !this.#isIterated) this.#listenInstead(listener);
        return this;
    }

    /** The events since `connect`, one at a time: {type, data}. For one loop; it ends with the client. */
    events() {
        this.#isIterated = true;
        this.#queue ??= this.#newQueue();
        return this.#queue;
    }

    /** Connects, and stays connected until `close`. Without a listener for events, they wait for `events()`. */
    connect() {
        if (this.state.name !== "idle" && this.state.name !== "ended") return;
        this.#outbox.begin();
        if (!this.#listeners.has("event") && this.#options.eventsMax > 0) this.#queue ??= this.#newQueue();
        this.#open();
    }

    /** Closes the connection for good. Commands without an answer fail with `closed`. */
    close() {
        this.#end("closed");
    }

    /** The network may be back: checks the connection now instead of waiting for the next timer. */
    poke() {
        if (this.state.name === "waiting") this.#open();
        else if (this.#isWelcomed) this.#ping();
    }

    /** The browser reports that the network is lost. A server on this machine is reached again at the next attempt. */
    networkLost() {
        if (this.#isConnected() || this.state.name === "connecting") this.#connectionLost(1006);
    }

    /** Resolves when all missed events have been emitted, and rejects when the client ends. */
    upToDate() {
        return new Promise((resolve, reject) => {
            const look = ({ name, reason }) => {
                if (name === "live") resolve();
                if (name === "ended") reject(new VezaError({ code: "closed", message: `The client ended: ${reason}` }));
            };
            this.on("state", look);
            look(this.state);
        });
    }

    /** Sends a command; resolves with its ack's data. After a reconnect, reads are sent again; others fail. */
    async request(type, data = {}, options = {}) {
        const ack = await this.#requests.request(type, data, options);
        if (type === "create_conversation" && ack.conversation.last_seq <= 1) this.#joined(ack.conversation.id, 0);
        if (JOINS.has(type)) this.#joined(ack.conversation.id, ack.seq - 1);
        return ack;
    }

    /** Sends a command that has no answer (`typing`). Without a connection it is dropped. */
    signal(type, data) {
        if (this.#isConnected()) this.#sendFrame({ type, data });
    }

    /** Sends a message until it is acknowledged or refused; resolves with the ack. `notify` runs before retries. */
    send(data, notify = () => {}) {
        return this.#outbox.add(data, notify);
    }

    /** The messages of a conversation after a seq, in order, page by page: what to read after `reset`. */
    async *history(conversationId, afterSeq = 0) {
        for (;;) {
            const page = { conversation_id: conversationId, after_seq: afterSeq, limit: 200 };
            const { messages, has_more } = await this.request("get_history", page);
            yield* messages;
            if (!has_more || messages.length === 0) return;
            afterSeq = messages.at(-1).seq;
        }
    }

    #newQueue() {
        return new EventQueue({
            max: this.#options.eventsMax,
            onRoom: () => this.#roomAgain(),
            onHandled: ({ type, data }) => this.#handled(type, data),
        });
    }

    /** The application listens to events instead of iterating: the listener receives what is queued. */
    #listenInstead(listener) {
        const waiting = this.#queue.drain();
        this.#queue = undefined;
        for (const event of waiting) {
            listener(event);
            this.#handled(event.type, event.data);
        }
        this.#roomAgain();
    }

    #emit(type, detail) {
        for (const listener of this.#listeners.get(type) ?? []) {
            try {
                listener(detail);
            } catch (error) {
                throwLater(error); // a fault of the application, which must not stop the client halfway
            }
        }
    }

    #setState(name, detail = {}) {
        this.state = { name, ...detail };
        this.#emit("state", this.state);
    }

    #isConnected() {
        return this.state.name === "live" || this.state.name === "catching_up";
    }

    // The connection

    async #open() {
        const generation = ++this.#generation;
        const isCurrent = () => generation === this.#generation;
        clearTimeout(this.#timers.wait);
        this.#setState("connecting", { lostAt: this.#lostAt });
        if (!isCurrent()) return undefined;
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
        socket.onmessage = ({ data }) => isCurrent() && this.#received(data);
        socket.onclose = ({ code, reason }) => isCurrent() && this.#socketClosed(code, reason);
        socket.onerror = () => {}; // `close` follows; without a listener, `ws` throws
        return undefined;
    }

    #socketClosed(code, reason) {
        const info = closeReason(code, reason);
        if (code === 4001) this.#options.expired();
        if (info.reconnect === false) this.#end(info.code);
        else this.#connectionLost(code, info.retry_after_ms);
    }

    /** The server has refused the token in an answer: a new connection uses a new one. */
    #tokenRefused() {
        this.#options.expired();
        this.#connectionLost(4001);
    }

    /** The connection was lost or could not be opened: waits, then tries again. */
    #connectionLost(code, slotMs = 0) {
        const now = Date.now();
        if (this.#welcomedAt !== undefined) this.#backoff.lived(now - this.#welcomedAt, this.#hasWorked);
        this.#disconnect();
        this.#lostAt ??= now;
        const retryInMs = this.#backoff.next(this.#reconnectAfterMs ?? slotMs);
        this.#reconnectAfterMs = undefined;
        this.#timers.wait = setTimeout(() => this.#open(), retryInMs);
        this.#setState("waiting", { code, lostAt: this.#lostAt, retryAt: now + retryInMs });
    }

    /** Drops the socket without waiting for its close, which may take minutes over a dead network. */
    #disconnect(isClean = false) {
        this.#generation++;
        this.#isWelcomed = this.#hasWorked = false;
        this.#welcomedAt = this.#pingedAt = undefined;
        for (const timer of ["open", "wait", "pong"]) clearTimeout(this.#timers[timer]);
        clearInterval(this.#timers.beat);
        const socket = this.#socket;
        this.#socket = undefined;
        if (socket) {
            socket.onmessage = socket.onclose = null;
            if (isClean || !socket.terminate) socket.close();
            else socket.terminate();
        }
        this.#catchingUp.clear();
        this.state = { name: "waiting" }; // nothing is sent any more; listeners get the state that follows
        this.#outbox.lost();
        this.#requests.lost();
    }

    #end(reason) {
        this.#disconnect(true);
        const error = new VezaError({ code: "closed", message: "The connection was closed" });
        this.#requests.end(error);
        const isFinal = reason !== "too_many_connections"; // then `connect` may be called again
        if (isFinal) this.#outbox.end(error);
        this.#setState("ended", { reason });
        if (isFinal) this.#queue?.end();
    }

    #sendFrame(frame) {
        const encoded = this.#format.encode(frame);
        if (this.#format.size(encoded) > this.welcome.limits.max_frame_bytes) {
            // The server would close this connection, and every later one.
            const error = new VezaError({ code: "too_large", message: "This is larger than the server accepts" });
            this.#requests.settle(frame.id)?.reject(error);
        } else this.#socket.send(encoded);
    }

    // What arrives

    #received(data) {
        let frame;
        try {
            frame = this.#format.decode(data);
        } catch {
            this.#connectionLost(1007); // not a frame of the server: something between has damaged it
            return;
        }
        this.#lastFrameAt = Date.now();
        this.#pingedAt = undefined;
        try {
            this.#dispatch(frame);
        } catch (error) {
            throwLater(error);
            this.#connectionLost(1007); // a frame without its fields; the log has the change
        }
    }

    #dispatch({ type, id, data }) {
        if (type === "ack") {
            this.#requests.settle(id)?.resolve(data);
            this.#hasWorked = true;
            this.#requests.flush();
        } else if (type === "error") {
            if (id === undefined) this.#subscriptionRefused(data);
            else this.#requests.settle(id)?.reject(new VezaError(data));
            this.#requests.flush();
        } else if (type === "welcome") {
            if (!this.#isWelcomed) this.#welcomed(data);
        } else if (!this.#isWelcomed) return;
        else if (type === "going_away") this.#reconnectAfterMs = data.retry_after_ms;
        else if (type === "caught_up") this.#replayed(data.conversation_id, data.seq);
        else if (type === "reset") this.#reset(data);
        else if (type === "lagging") {
            this.#catchingUp.add(data.conversation_id); // the server replays the rest
            this.#replayedAt = Date.now();
            if (this.state.name === "live") this.#setState("catching_up");
        } else this.#event(type, data);
    }

    #event(type, data) {
        const { conversation_id: id, seq } = data;
        if (!isNumbered(type, data)) {
            if (this.#queue?.hasRoom() ?? true) this.#deliver(type, data);
            return;
        }
        const me = this.welcome.user?.id;
        const novelty = this.#cursors.classify(type, data, me);
        if (novelty === "gap" && !this.#catchingUp.has(id) && !this.#overflowed.has(id)) this.#resume([id]);
        if (novelty === "old" || novelty === "gap") return;
        if (novelty === "emit" && this.#queue && !this.#queue.hasRoom()) {
            this.#overflowed.add(id);
            return;
        }
        this.#cursors.moveTo(id, seq, novelty === "emit");
        this.#hasWorked = true;
        if (novelty === "earlier") return;
        if (this.#catchingUp.has(id)) {
            this.#missed++;
            this.#replayedAt = Date.now();
        }
        this.#deliver(type, data);
        if (type === "member_left" && data.user?.id === me) {
            this.#cursors.leave(id, seq);
            this.#caughtUp(id);
        }
    }

    /** Delivers an event to the application. */
    #deliver(type, data) {
        this.#emit("event", { type, data });
        if (this.#queue) this.#queue.push({ type, data });
        else this.#handled(type, data);
    }

    /** The application has handled an event: a later run goes on after it. */
    #handled(type, data) {
        if (!this.#store) return;
        if (type === "reset") this.#store.setCursor(data.conversation_id, data.last_seq, true);
        else if (isNumbered(type, data)) {
            const isMember = type !== "member_left" || data.user?.id !== this.welcome.user?.id;
            this.#store.setCursor(data.conversation_id, data.seq, isMember);
        }
    }

    /** The queue has room again: the log has what it had no room for. */
    #roomAgain() {
        const ids = [...this.#overflowed];
        this.#overflowed.clear();
        if (this.#isConnected() && ids.length > 0) this.#resume(ids);
    }

    #reset(data) {
        this.#cursors.moveTo(data.conversation_id, data.last_seq);
        this.#overflowed.delete(data.conversation_id);
        this.#deliver("reset", data);
        this.#caughtUp(data.conversation_id);
    }

    // Catching up

    #welcomed(welcome) {
        if (this.#storedUser !== undefined && this.#storedUser !== welcome.user.id) return this.#end("other_user");
        clearTimeout(this.#timers.open);
        const again = this.welcome !== undefined;
        const isFirst = !again && this.#storedUser === undefined && this.cursors.size === 0;
        this.welcome = welcome;
        this.#isWelcomed = true;
        this.#welcomedAt = Date.now();
        if (this.#store && this.#storedUser === undefined) this.#store.begin(welcome.user.id);
        this.#storedUser = this.#store ? welcome.user.id : undefined;
        const heads = new Map(welcome.conversations.map(({ id, last_seq }) => [id, last_seq]));
        const { skipsJoined } = this.#options;
        const isComplete = !welcome.has_more_conversations;
        const { gone, started, behind } = this.#cursors.compare(heads, { isFirst, isComplete, skipsJoined });
        for (const id of started) this.#store?.setCursor(id, this.cursors.get(id), true);
        for (const id of gone) this.#gone(id);
        const away = this.#lostAt === undefined ? 0 : Date.now() - this.#lostAt;
        this.#lostAt = undefined;
        this.#missed = 0;
        this.#overflowed.clear(); // their cursors are behind
        this.#startHeartbeat(welcome.heartbeat_ms);
        const generation = this.#generation;
        this.#setState("catching_up", { again, away });
        this.#emit("welcome", welcome);
        if (generation !== this.#generation) return undefined; // a listener has closed the client
        if (behind.length > 0) this.#resume(behind);
        else this.#upToDate();
        this.#requests.flush();
        this.#outbox.flush();
        return undefined;
    }

    #resume(ids) {
        for (const id of ids) this.#catchingUp.add(id);
        this.#replayedAt = Date.now();
        if (this.state.name === "live") this.#setState("catching_up");
        for (let from = 0; from < ids.length; from += RESUME_MAX) this.#resumePage(ids.slice(from, from + RESUME_MAX));
    }

    async #resumePage(ids) {
        const generation = this.#generation;
        const known = ids.filter((id) => this.cursors.has(id));
        const cursors = Object.fromEntries(known.map((id) => [id, this.cursors.get(id)]));
        try {
            const { not_member } = await this.#requests.request(
                "resume",
                { cursors },
                { isFirst: true, repeat: false },
            );
            if (generation === this.#generation) for (const id of not_member ?? []) this.#gone(id);
        } catch (error) {
            if (generation !== this.#generation) return; // the next connection resumes it
            if (RETRIED.has(error.code) || error.code === "internal")
                setTimeout(() => generation === this.#generation && this.#resumePage(ids), error.retryAfterMs ?? 1_000);
            else if (error.code === "unauthenticated") this.#tokenRefused();
            else for (const id of ids) this.#unsubscribed(id, error);
        }
    }

    /** After the ack of a join, what follows `seq` is the client's, even if the connection is lost. */
    #joined(id, seq) {
        const isNew = !this.cursors.has(id) && !(this.#cursors.left.get(id) > seq);
        if (!isNew) return;
        this.#cursors.moveTo(id, seq);
        this.#store?.setCursor(id, seq, true);
    }

    /** The user is no longer a member of a conversation. */
    #gone(id) {
        const cursor = this.#cursors.leave(id);
        if (cursor !== undefined) {
            if (!this.#queue) this.#store?.setCursor(id, cursor, false);
            this.#emit("gone", { conversation_id: id });
        }
        this.#caughtUp(id);
    }

    /**
     * An error without an id answers no command. It names a conversation whose events do not arrive: the user left it
     * while its changes were being replayed, or joined it while the connection had too many subscriptions.
     */
    #subscriptionRefused(error) {
        const id = error.details?.conversation_id;
        if (id === undefined) return; // a refused typing signal
        if (error.code === "not_member") this.#gone(id);
        else this.#unsubscribed(id, new VezaError(error));
    }

    #unsubscribed(id, error) {
        this.#emit("unsubscribed", { conversation_id: id, error });
        this.#caughtUp(id);
    }

    /** The server has sent everything up to `seq`. If something is missing, it is asked for again. */
    #replayed(id, seq) {
        if (this.cursors.has(id) && this.cursors.get(id) < seq) {
            if (!this.#overflowed.has(id)) this.#resume([id]);
            return;
        }
        this.#cursors.joining.delete(id);
        this.#caughtUp(id);
    }

    #caughtUp(id) {
        if (this.#catchingUp.delete(id) && this.#catchingUp.size === 0) this.#upToDate();
    }

    #upToDate() {
        if (!this.#isConnected()) return;
        const { again, away } = this.state;
        const missed = this.#missed;
        this.#missed = 0;
        this.#setState("live");
        this.#emit("up_to_date", { missed, again: again ?? true, away: away ?? 0 });
    }

    // Heartbeats

    /** Pings when nothing was received for a while. (A page cannot see the server's pings.) */
    #startHeartbeat(heartbeatMs) {
        const every = Math.min(Math.max(heartbeatMs / 2, 5_000), 30_000);
        this.#timers.beat = setInterval(() => {
            const now = Date.now();
            if (now - this.#lastFrameAt >= every) this.#ping();
            const stuck = [...this.#catchingUp].filter((id) => !this.#overflowed.has(id));
            if (now - this.#replayedAt >= REPLAY_TIMEOUT_MS && stuck.length > 0) this.#resume(stuck);
        }, every);
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
}

/** Reports an error as one that nothing has caught. */
function throwLater(error) {
    queueMicrotask(() => {
        throw error;
    });
}

/** The meaning of a close. A close by a proxy has no JSON; then its code decides. An unknown code: reconnect. */
function closeReason(code, reason) {
    const known = CLOSE_CODES[code] ?? { code: "lost", reconnect: true };
    // The server answers 1000 only to a client that closed, so this one is of something between.
    const standard = code === 1000 ? { ...known, reconnect: true } : known;
    try {
        return { ...standard, ...JSON.parse(reason) };
    } catch {
        return standard;
    }
}
