// The application: it connects the session, the WebSocket client, the store and the views. Views read from here. They
// are updated once per turn of the event loop with the topics that changed: list, conversation, panel, typing, people,
// threads, connection, open, look, uploads.

import { act } from "./actions.js";
import { Drafts } from "./drafts.js";
import { KeptFiles } from "./kept-files.js";
import { explain, language, t } from "./i18n.js";
import { notify } from "./notify.js";
import { Reads } from "./reads.js";
import { Commands } from "./slash.js";
import { Scanner } from "./scanner.js";
import { Store } from "./store.js";
import { Transfer } from "./transfer.js";
import { Uploads } from "./uploads.js";
import { VezaClient } from "./veza-client.js";
import { toast } from "./dom.js";

/** Commands of one version. A server without the first one, which is sent anyway, has none of them. */
const SHIPPED_WITH = {
    list_pins: [
        "pin_message",
        "edit_message",
        "delete_message",
        "add_reaction",
        "get_thread",
        "follow_thread",
        "list_mentions",
        "search_messages",
        "update_conversation",
        "create_invite",
        "set_role",
        "mute_member",
        "remove_member",
        "ban_member",
    ],
    get_presence: ["set_presence"],
    list_threads: [
        "mark_thread_read",
        "request_to_join",
        "cancel_join_request",
        "list_join_requests",
        "decide_join_request",
    ],
    list_blocks: ["block_user", "unblock_user"],
    list_invitations: ["accept_invitation", "decline_invitation"],
};
/** Features that a server can switch off, with their commands. */
const FEATURES = {
    message_reactions: ["add_reaction", "remove_reaction", "list_reactions"],
    pinned_messages: ["pin_message", "list_pins"],
    user_mentions: ["list_mentions"],
    message_threads: ["get_thread", "follow_thread", "list_threads", "mark_thread_read"],
};
const OUTBOX = "veza.outbox";

export class App {
    store = new Store();
    /** The open conversation (`id`), the panel beside it, and `divider`: the seq after which messages were unread. */
    open = { id: undefined, panel: undefined, divider: undefined, preview: undefined };
    /** The state of the connection; `caughtUp` counts the reconnects after which everything missed has arrived. */
    connection = { name: "connecting", caughtUp: 0 };
    /** Hidden messages that the user chose to see: those of blocked users, and folded ones. */
    revealed = new Set();

    #views = [];
    #topics = new Set();
    #missing = new Set();
    #stopped = new AbortController();

    constructor(session) {
        this.session = session;
        this.drafts = new Drafts(session.user?.id);
        const address = new URL("ws", document.baseURI);
        address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
        const asked = new URLSearchParams(location.search).get("format");
        this.client = new VezaClient({
            url: address.href,
            ticket: () => session.ticket(),
            expired: () => session.expire(),
            format: asked === "json" ? "json" : "msgpack",
            skipsJoined: true, // the history of a conversation is read when it is opened
        });
        this.transfer = new Transfer(session);
        const kept = new KeptFiles(session.user?.id);
        kept.sweep();
        this.uploads = new Uploads({
            transfer: this.transfer,
            kept,
            changed: () => this.changed("uploads"),
            sizeMax: () => this.fileSizeMax,
        });
        this.scanner = new Scanner(session, () => this.changed("uploads", "panel"));
        this.reads = new Reads(this);
        this.act = act(this);
        this.commands = new Commands(session);
        this.client
            .on("state", (state) => this.#connectionIs(state))
            .on("welcome", (welcome) => this.#welcomed(welcome))
            .on("event", (event) => this.apply(this.store.event(event, Date.now())))
            .on("gone", ({ conversation_id }) => this.apply(this.store.removeConversation(conversation_id)))
            .on("unsubscribed", () => toast(t("too_many_conversations"), "bad"))
            .on("up_to_date", (outcome) => this.#upToDate(outcome));
        this.#listen(globalThis, "online", () => {
            this.client.poke();
            this.uploads.poke();
            this.changed("connection");
        });
        // A file that is dropped beside the conversation must not replace the page.
        for (const type of ["dragover", "drop"])
            this.#listen(globalThis, type, (event) => {
                if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
                event.preventDefault();
                event.dataTransfer.dropEffect = "none";
            });
        this.#listen(globalThis, "offline", () => {
            this.client.networkLost();
            this.changed("connection");
        });
        this.#listen(globalThis, "hashchange", () => this.#route());
        this.#listen(document, "visibilitychange", () => {
            if (!document.hidden) this.client.poke();
            this.changed("conversation");
        });
    }

    /** Listens until `stop`: after signing in again, another app listens. */
    #listen(target, type, listener) {
        target.addEventListener(type, listener, { signal: this.#stopped.signal });
    }

    start() {
        this.client.connect();
    }

    stop() {
        this.#stopped.abort();
        this.uploads.stop();
        this.client.close();
        this.#views = [];
    }

    /** Registers a view, whose `update(topics)` is called after changes. */
    watch(view) {
        this.#views.push(view);
    }

    unwatch(view) {
        this.#views = this.#views.filter((other) => other !== view);
    }

    changed(...topics) {
        if (this.#topics.size === 0) queueMicrotask(() => setTimeout(() => this.#updateViews()));
        for (const topic of topics) this.#topics.add(topic);
    }

    #updateViews() {
        const topics = this.#topics;
        this.#topics = new Set();
        for (const view of this.#views) view.update(topics);
        const unread = this.store.sorted().filter(({ unread }) => unread > 0).length;
        const count = unread > 0 ? `(${unread}) ` : "";
        const name = this.current ? `${this.nameOf(this.current)} · ` : "";
        document.title = `${count}${name}Veza Chat`;
    }

    /** Whether there is no connection because the device has no network. */
    get isOffline() {
        return !navigator.onLine && ["waiting", "connecting"].includes(this.connection.name);
    }

    get current() {
        return this.store.conversations.get(this.open.id);
    }

    nameOf(conversation) {
        const peer = this.store.peer(conversation);
        if (peer) return this.person(peer.id).display_name; // the name in the record may be out of date
        if (conversation.name) return conversation.name;
        const others = [...conversation.members.keys()].filter((id) => id !== this.store.me.id);
        return others.map((id) => this.person(id).display_name).join(", ") || t("unnamed");
    }

    person(id) {
        return this.store.people.get(id) ?? { id, username: "?", display_name: t("someone") };
    }

    /** The current name of a user; messages carry the name of their time. */
    displayName({ id, display_name }) {
        return this.store.people.get(id)?.display_name ?? display_name;
    }

    /** Whether the server supports a command, as far as known, and its feature is on. */
    can(command) {
        return (
            !this.#missing.has(command) &&
            !Object.keys(FEATURES).some((name) => !this.has(name) && FEATURES[name].includes(command))
        );
    }

    /** Whether a feature is on. Older servers do not list features: there, all are on. */
    has(feature) {
        return this.client.welcome?.features?.[feature] !== false;
    }

    /** Whether files can be sent. Servers that do not list the feature do not have it. */
    get sendsFiles() {
        return this.client.welcome?.features?.file_uploads === true;
    }

    /** Whether the server releases files without a virus scan, as far as known. */
    get hasUnscannedFiles() {
        return this.client.welcome?.features?.files_scanned === false;
    }

    /** Bytes that the server accepts in one file, as far as known. */
    get fileSizeMax() {
        return this.client.welcome?.limits?.max_file_size ?? Infinity;
    }

    /** Sends a command and returns its ack. A command that the server does not know is not offered again. */
    async request(type, data, options) {
        try {
            return await this.client.request(type, data, options);
        } catch (error) {
            if (error.code === "unknown_command") {
                for (const command of [type, ...(SHIPPED_WITH[type] ?? [])]) this.#missing.add(command);
                this.changed("list", "conversation", "panel", "look");
            }
            throw error;
        }
    }

    /** Shows an error to the user. */
    showError(error) {
        toast(explain(error), "bad");
        if (!error.code) console.error(error);
    }

    /** Carries out the effects of a change in the store. */
    apply(effects) {
        for (const { kind, id, ...rest } of effects) {
            if (kind === "list" || kind === "people" || kind === "threads") this.changed(kind);
            else if (kind === "profile") this.changed("list", "people", "conversation", "panel");
            else if (kind === "requests") this.changed("list", "conversation", "panel");
            else if (kind === "rank") this.reads.requests(this.store.conversations.get(id));
            else if (kind === "read_threads") this.reads.threadsSoon();
            else if (kind === "decided") this.act.requestDecided(id, rest.outcome);
            else if (kind === "rejected") this.act.rejected(id, rest.data);
            else if (kind === "member") id === this.open.id && this.reads.presenceOf([rest.user]);
            else if (kind === "conversation" || kind === "typing") id === this.open.id && this.changed(kind);
            else if (kind === "fetch") this.reads.recordSoon(id);
            else if (kind === "reload") id === this.open.id && this.reads.opened(this.store.conversations.get(id));
            else if (kind === "outbox") this.#keepUnsent();
            else if (kind === "file") this.uploads.settled(rest.file);
            else if (kind === "left") this.#left(id, rest.reason);
            else if (kind === "arrived") notify(this, id, rest.message);
        }
        // The user has joined the room whose preview is open.
        if (this.open.preview && this.store.conversations.has(this.open.id)) this.#show(this.open.id);
    }

    #connectionIs(state) {
        const { caughtUp } = this.connection;
        if (state.name === "ended") {
            this.connection = { ...state, caughtUp };
            if (state.reason === "signed_out" || state.reason === "session_revoked") this.session.onLost(state.reason);
        } else if (state.name !== "live") this.connection = { ...state, caughtUp };
        this.changed("connection");
    }

    #upToDate({ missed, again, away }) {
        const caughtUp = this.connection.caughtUp + (again ? 1 : 0);
        this.connection = { name: "live", caughtUp, missed, notice: again };
        this.changed("connection", "conversation");
        if (!again) return;
        this.#readUnnumbered();
        const shown = this.connection;
        setTimeout(
            () => {
                shown.notice = false;
                this.changed("connection");
            },
            away > 10_000 ? 8_000 : 5_000,
        );
    }

    /** Reads what has no place in the log, so that a reconnect does not replay it. */
    #readUnnumbered() {
        this.reads.threadsSoon();
        this.reads.allRequests();
        this.uploads.poke();
        this.uploads.recheck();
        this.changed("list", "conversation", "panel");
        if (!this.current && this.open.preview?.kind === "private_room") this.#showClosed(this.open.id);
    }

    async #welcomed(welcome) {
        const isFirst = this.store.me === undefined;
        // Presence changes are not replayed, so the presence of all known users is read again.
        const known = [...this.store.presence.keys()];
        this.store.presence.clear();
        this.reads.connected();
        this.apply(this.store.welcome(welcome));
        this.changed("look", "list");
        if (isFirst) this.#route();
        if (isFirst) for (const message of this.#unsent()) this.act.send(message);
        if (isFirst && this.sendsFiles) this.uploads.restore();
        try {
            await this.reads.records(isFirst);
            await this.reads.blocks();
            await this.reads.threads();
            if (isFirst) this.reads.allRequests(); // after a reconnect, #upToDate does it
            await this.act.restorePresence();
            await this.reads.presence(known);
        } catch (error) {
            if (error.code !== "disconnected") console.warn(error);
        }
    }

    #left(id, reason) {
        this.client.cursors.delete(id);
        if (id !== this.open.id) return;
        if (reason !== "left") toast(t(reason === "banned" ? "you_were_banned" : "you_were_removed"), "bad");
        location.hash = "#/";
    }

    /** Opens what the address names: #/CONVERSATION, then optionally /thread/MESSAGE or /MESSAGE. */
    #route() {
        const [id, what, root] = location.hash.replace(/^#\/?/, "").split("/");
        if (!this.store.me) return;
        if ((id || undefined) !== this.open.id) this.#show(id || undefined);
        if (what === "thread") this.act.showThread(Number(root));
        else if (/^\d+$/.test(what ?? "")) this.act.jump(Number(what));
    }

    async #show(id) {
        const conversation = this.store.conversations.get(id);
        this.open = { id, panel: undefined, preview: undefined, divider: undefined };
        if (conversation?.unread > 0) this.open.divider = conversation.read_seq;
        this.changed("open", "list", "conversation", "panel");
        if (!id) return;
        try {
            if (!conversation) {
                const { conversation: preview } = await this.request("get_conversation", { conversation_id: id });
                if (this.open.id === id) this.open.preview = preview;
                return this.changed("conversation");
            }
            await this.reads.opened(conversation);
        } catch (error) {
            if (this.open.id !== id || conversation) return;
            if (isPrivateRoom(id, error) && this.can("request_to_join")) return this.#showClosed(id);
            this.showError(error);
            location.hash = "#/";
        }
    }

    /** Shows the form that asks to join a private room. */
    async #showClosed(id) {
        const answer = await this.request("list_join_requests", {}).catch(() => undefined);
        if (this.open.id !== id) return;
        const isRequested = answer?.requests.some(({ conversation_id }) => conversation_id === id);
        if (isRequested) this.store.requested.add(id);
        else if (answer) this.store.requested.delete(id);
        if (answer) this.open.preview = { id, kind: "private_room" };
        else location.hash = "#/";
        this.changed("conversation");
    }

    /** Messages without an ack, from before a reload. Their client_message_id makes sending them again harmless. */
    #unsent() {
        try {
            const { user, messages } = JSON.parse(sessionStorage.getItem(OUTBOX));
            return user === this.store.me.id ? messages : [];
        } catch {
            return [];
        }
    }

    #keepUnsent() {
        const outbox = { user: this.store.me.id, messages: this.store.unsent() };
        try {
            sessionStorage.setItem(OUTBOX, JSON.stringify(outbox));
        } catch (error) {
            console.warn(error); // the storage is full: a reload would lose these messages
        }
    }

    get language() {
        return language();
    }
}

/** Whether an error means that the room may be a private one, which can be asked to admit the user. */
function isPrivateRoom(id, { code }) {
    return id.startsWith("room_") && (code === "not_member" || code === "not_found");
}
