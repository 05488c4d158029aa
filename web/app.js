// What holds the client together: the session, the connection, the store, and what is open. Views read from here and are
// told what changed, once per turn, by topic: list, conversation, panel, typing, people, threads, connection, open, look.

import { act } from "./actions.js";
import { Drafts } from "./drafts.js";
import { explain, language, t } from "./i18n.js";
import { notify } from "./notify.js";
import { Reads } from "./reads.js";
import { Store } from "./store.js";
import { VezaClient } from "./veza-client.js";
import { toast } from "./dom.js";

/** Commands that came together: a server that lacks the first, which is asked anyway, is not offered the others. */
const TOGETHER = {
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
};
/** What a server may have switched off, and the commands that go with it. */
const FEATURES = {
    message_reactions: ["add_reaction", "remove_reaction", "list_reactions"],
    pinned_messages: ["pin_message", "list_pins"],
    user_mentions: ["list_mentions"],
    message_threads: ["get_thread", "follow_thread", "list_threads", "mark_thread_read"],
};
const OUTBOX = "veza.outbox";

export class App {
    store = new Store();
    /** What is open: `id` of a conversation, `panel` beside it, `divider` (the seq after which all was new). */
    open = { id: undefined, panel: undefined, divider: undefined, preview: undefined };
    /** What the top of the page says about the connection; `caughtUp` counts how often everything missed had come. */
    connection = { name: "connecting", caughtUp: 0 };
    /** Messages of blocked people that are shown all the same. */
    revealed = new Set();

    #views = [];
    #topics = new Set();
    #missing = new Set();

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
        });
        this.reads = new Reads(this);
        this.act = act(this);
        this.client
            .on("state", (state) => this.#connectionIs(state))
            .on("welcome", (welcome) => this.#welcomed(welcome))
            .on("event", (event) => this.apply(this.store.event(event, Date.now())))
            .on("gone", ({ conversation_id }) => this.apply(this.store.gone(conversation_id)))
            .on("up_to_date", (outcome) => this.#upToDate(outcome));
        addEventListener("online", () => {
            this.client.poke();
            this.changed("connection");
        });
        addEventListener("offline", () => {
            this.client.networkLost();
            this.changed("connection");
        });
        addEventListener("hashchange", () => this.#route());
        document.addEventListener("visibilitychange", () => {
            if (!document.hidden) this.client.poke();
            this.changed("conversation");
        });
    }

    start() {
        this.client.connect();
    }

    stop() {
        this.client.close();
        this.#views = [];
    }

    /** `view.update(topics)` is called when something changed. */
    watch(view) {
        this.#views.push(view);
    }

    changed(...topics) {
        if (this.#topics.size === 0) queueMicrotask(() => setTimeout(() => this.#tell()));
        for (const topic of topics) this.#topics.add(topic);
    }

    #tell() {
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
        if (peer) return this.person(peer.id).display_name; // the record's name may be an old one
        if (conversation.name) return conversation.name;
        const others = [...conversation.members.keys()].filter((id) => id !== this.store.me.id);
        return others.map((id) => this.person(id).display_name).join(", ") || t("unnamed");
    }

    person(id) {
        return this.store.people.get(id) ?? { id, username: "?", display_name: t("somebody") };
    }

    /** The present name of somebody, who came with the name of then. */
    called({ id, display_name }) {
        return this.store.people.get(id)?.display_name ?? display_name;
    }

    /** Whether the server knows a command, as far as has been seen, and has not switched off what it is for. */
    can(command) {
        return (
            !this.#missing.has(command) &&
            !Object.keys(FEATURES).some((name) => !this.has(name) && FEATURES[name].includes(command))
        );
    }

    /** Whether a feature is on; a server that does not speak of it has it. */
    has(feature) {
        return this.client.welcome?.features?.[feature] !== false;
    }

    /** A command; one that the server does not know is never offered again. */
    async ask(type, data, options) {
        try {
            return await this.client.request(type, data, options);
        } catch (error) {
            if (error.code === "unknown_command") {
                for (const command of [type, ...(TOGETHER[type] ?? [])]) this.#missing.add(command);
                this.changed("list", "conversation", "panel", "look");
            }
            throw error;
        }
    }

    /** Says why something did not work. */
    failed(error) {
        toast(explain(error), "bad");
        if (!error.code) console.error(error);
    }

    /** Does what the store's effects ask for. */
    apply(effects) {
        for (const { kind, id, ...rest } of effects) {
            if (kind === "list" || kind === "people" || kind === "threads") this.changed(kind);
            else if (kind === "profile") this.changed("list", "people", "conversation", "panel");
            else if (kind === "requests") this.changed("list", "conversation", "panel");
            else if (kind === "rank") this.reads.requests(this.store.conversations.get(id));
            else if (kind === "read_threads") this.reads.threadsSoon();
            else if (kind === "decided") this.act.decided(id, rest.outcome);
            else if (kind === "member") id === this.open.id && this.reads.presenceOf([rest.user]);
            else if (kind === "conversation" || kind === "typing") id === this.open.id && this.changed(kind);
            else if (kind === "fetch") this.reads.recordSoon(id);
            else if (kind === "reload") id === this.open.id && this.reads.opened(this.store.conversations.get(id));
            else if (kind === "outbox") this.#keepUnsent();
            else if (kind === "left") this.#left(id, rest.reason);
            else if (kind === "arrived") notify(this, id, rest.message);
        }
        // A room that was only looked at has become one's own.
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
        this.#readUntold();
        const shown = this.connection;
        setTimeout(
            () => {
                shown.notice = false;
                this.changed("connection");
            },
            away > 10_000 ? 8_000 : 5_000,
        );
    }

    /** What no log keeps, and a connection that was cut has therefore missed. */
    #readUntold() {
        this.reads.threadsSoon();
        this.reads.allRequests();
        this.changed("list", "conversation", "panel");
        if (!this.current && this.open.preview?.kind === "private_room") this.#showClosed(this.open.id);
    }

    async #welcomed(welcome) {
        const isFirst = this.store.me === undefined;
        // Who came and went meanwhile was not told: everybody is asked about anew.
        const known = [...this.store.presence.keys()];
        this.store.presence.clear();
        this.reads.begin();
        this.apply(this.store.welcome(welcome));
        this.changed("look", "list");
        if (isFirst) this.#route();
        if (isFirst) for (const message of this.#unsent()) this.act.send(message);
        try {
            await this.reads.records(isFirst);
            await this.reads.blocks();
            await this.reads.threads();
            if (isFirst) this.reads.allRequests(); // later ones when everything missed has come
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

    /** Goes to what the address names: #/CONVERSATION, then /thread/MESSAGE or /MESSAGE. */
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
                const { conversation: preview } = await this.ask("get_conversation", { conversation_id: id });
                if (this.open.id === id) this.open.preview = preview;
                return this.changed("conversation");
            }
            await this.reads.opened(conversation);
        } catch (error) {
            if (this.open.id !== id || conversation) return;
            if (isClosed(id, error) && this.can("request_to_join")) return this.#showClosed(id);
            this.failed(error);
            location.hash = "#/";
        }
    }

    /** A private room that the user is not in: they may ask. */
    async #showClosed(id) {
        const answer = await this.ask("list_join_requests", {}).catch(() => undefined);
        if (this.open.id !== id) return;
        const isRequested = answer?.requests.some(({ conversation_id }) => conversation_id === id);
        if (isRequested) this.store.requested.add(id);
        else if (answer) this.store.requested.delete(id);
        if (answer) this.open.preview = { id, kind: "private_room" };
        else location.hash = "#/";
        this.changed("conversation");
    }

    /** Messages without an ack outlive the page; the key makes sending them again harmless. */
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

/** Whether a room exists, as far as one is told, and is not for everybody. */
function isClosed(id, { code }) {
    return id.startsWith("room_") && (code === "not_member" || code === "forbidden");
}
