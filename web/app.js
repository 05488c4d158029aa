// What holds the client together: the session, the connection, the store, and what is open. Views read from here and are
// told what changed, once per turn, by topic: list, conversation, panel, typing, people, connection, open, look.

import { act } from "./actions.js";
import { explain, language, t } from "./i18n.js";
import { Store } from "./store.js";
import { VezaClient } from "./veza-client.js";
import { toast } from "./dom.js";

const PAGE = 50;
/** Members and presence that are read when a conversation is opened. */
const MEMBERS_MAX = 600;
/** Commands that came together: a server that lacks the first, which is asked anyway, is not offered the others. */
const TOGETHER = {
    list_pins: [
        "pin_message", "edit_message", "delete_message", "add_reaction", "get_thread", "follow_thread", "list_mentions", "search_messages",
        "update_conversation", "create_invite", "set_role", "mute_member", "remove_member", "ban_member",
    ],
    get_presence: ["set_presence"],
};
const OUTBOX = "veza.outbox";

export class App {
    store = new Store();
    /** What is open: `id` of a conversation, `panel` beside it, `divider` (the seq after which all was new). */
    open = { id: undefined, panel: undefined, divider: undefined, preview: undefined };
    /** What the top of the page says about the connection; `caughtUp` counts how often everything missed had come. */
    connection = { name: "connecting", caughtUp: 0 };
    drafts = new Map();

    #views = [];
    #topics = new Set();
    #missing = new Set();
    #fetching = new Set();
    /** Whose presence this connection has asked for, and is told of. */
    #askedFor = new Set();

    constructor(session) {
        this.session = session;
        const address = new URL("ws", document.baseURI);
        address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
        const asked = new URLSearchParams(location.search).get("format");
        this.client = new VezaClient({
            url: address.href,
            ticket: () => session.ticket(),
            expired: () => session.expire(),
            format: asked === "json" ? "json" : "msgpack",
        });
        this.act = act(this);
        this.client
            .on("state", (state) => this.#connectionIs(state))
            .on("welcome", (welcome) => this.#welcomed(welcome))
            .on("event", (event) => this.apply(this.store.event(event, Date.now())))
            .on("gone", ({ conversation_id }) => this.apply(this.store.gone(conversation_id)))
            .on("up_to_date", (outcome) => this.#upToDate(outcome));
        addEventListener("online", () => this.client.poke());
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
        document.title = `${unread > 0 ? `(${unread}) ` : ""}${this.current ? `${this.nameOf(this.current)} · ` : ""}Veza Chat`;
    }

    get current() {
        return this.store.conversations.get(this.open.id);
    }

    nameOf(conversation) {
        if (conversation.name) return conversation.name;
        const others = [...conversation.members.values()].filter(({ id }) => id !== this.store.me.id);
        return others.map(({ display_name }) => display_name).join(", ") || t("unnamed");
    }

    person(id) {
        return this.store.people.get(id) ?? { id, username: "?", display_name: t("somebody") };
    }

    /** Whether the server knows a command, as far as has been seen. */
    can(command) {
        return !this.#missing.has(command);
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
            if (kind === "list" || kind === "people") this.changed(kind);
            else if (kind === "member") id === this.open.id && this.lookForPresence([rest.user]);
            else if (kind === "conversation" || kind === "typing") id === this.open.id && this.changed(kind);
            else if (kind === "fetch") this.#fetch(id);
            else if (kind === "reload") id === this.open.id && this.#load(this.store.conversations.get(id));
            else if (kind === "left") this.#left(id, rest.reason);
            else if (kind === "arrived") this.#arrived(id, rest.message);
        }
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
        const shown = this.connection;
        setTimeout(() => {
            shown.notice = false;
            this.changed("connection");
        }, away > 10_000 ? 8_000 : 5_000);
    }

    async #welcomed(welcome) {
        const isFirst = this.store.me === undefined;
        // Who came and went meanwhile was not told: everybody is asked about anew.
        const known = [...this.store.presence.keys()];
        this.store.presence.clear();
        this.#askedFor.clear();
        this.apply(this.store.welcome(welcome));
        this.changed("look", "list");
        if (isFirst) this.#route();
        if (isFirst) for (const message of this.#unsent()) this.act.send(message);
        try {
            await this.#readRecords(isFirst);
            await this.act.restorePresence();
            await this.#readPresence(known);
        } catch (error) {
            if (error.code !== "disconnected") console.warn(error);
        }
    }

    async #readRecords(all) {
        const unknown = [...this.store.conversations.values()].filter(({ created_at }) => created_at === null);
        if (!all && unknown.length < 10) return unknown.forEach(({ id }) => this.#fetch(id));
        for (let cursor; cursor !== null; ) {
            const page = await this.ask("list_conversations", { cursor, limit: 200 });
            for (const record of page.conversations) this.apply(this.store.record(record));
            cursor = page.next_cursor ?? null;
        }
        return undefined;
    }

    async #readPresence(known) {
        const direct = this.store.sorted().filter(({ kind, hasMembers }) => kind === "direct" && !hasMembers).slice(0, 40);
        for (const { id } of direct) await this.loadMembers(id);
        await this.lookForPresence([...direct.map((conversation) => this.store.peer(conversation)?.id), ...known]);
    }

    async lookForPresence(ids) {
        const unknown = [...new Set([this.store.me.id, ...ids])].filter((id) => id && !this.#askedFor.has(id));
        unknown.forEach((id) => this.#askedFor.add(id));
        for (let from = 0; from < unknown.length && this.can("get_presence"); from += 200) {
            const page = await this.ask("get_presence", { user_ids: unknown.slice(from, from + 200) }).catch(() => undefined);
            for (const data of page?.presence ?? []) this.apply(this.store.event({ type: "presence", data }, Date.now()));
        }
    }

    /** Reads a conversation's record soon; several requests for it become one. */
    #fetch(id) {
        if (this.#fetching.has(id)) return;
        this.#fetching.add(id);
        setTimeout(async () => {
            this.#fetching.delete(id);
            const answer = await this.ask("get_conversation", { conversation_id: id }).catch(() => undefined);
            const conversation = this.store.conversations.get(id);
            if (!answer || !conversation) return;
            this.apply(this.store.record(answer.conversation));
            if (conversation.kind === "direct" && !conversation.hasMembers) await this.loadMembers(id).catch(() => {});
        }, 30);
    }

    #left(id, reason) {
        this.client.cursors.delete(id);
        if (id !== this.open.id) return;
        if (reason !== "left") toast(t(reason === "banned" ? "you_were_banned" : "you_were_removed"), "bad");
        location.hash = "#/";
    }

    #arrived(id, message) {
        if (!document.hidden || globalThis.Notification?.permission !== "granted") return;
        const conversation = this.store.conversations.get(id);
        const concerns = conversation.kind === "direct" || message.mentions.includes(this.store.me.id);
        if (!concerns || this.connection.name !== "live") return;
        const note = new Notification(message.sender.display_name, { body: message.content.slice(0, 200), tag: id, icon: "web/icon.svg" });
        note.onclick = () => {
            focus();
            location.hash = `#/${id}`;
        };
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
            await this.#load(conversation);
        } catch (error) {
            if (this.open.id === id && !conversation) {
                this.failed(error);
                location.hash = "#/";
            }
        }
    }

    /** Reads what is not known yet of a conversation that is shown. */
    async #load(conversation) {
        const { id, timeline } = conversation;
        if (!timeline.isLoaded) await this.loadNewest(id);
        if (!conversation.hasMembers) await this.loadMembers(id).catch(() => {});
        if (!timeline.pins && this.can("list_pins")) await this.loadPins(id).catch(() => {});
    }

    /** One page of history, after any that is on its way; `window` is what get_history takes. */
    async loadHistory(id, where, window) {
        const conversation = this.store.conversations.get(id);
        if (!conversation) return;
        while (conversation.reading) await conversation.reading.catch(() => {});
        conversation.reading = this.#readPage(conversation, where, window);
        try {
            await conversation.reading;
        } finally {
            conversation.reading = undefined;
            if (id === this.open.id) this.changed("conversation");
        }
    }

    async #readPage({ id, cursor, timeline }, where, window) {
        const { epoch } = timeline;
        const page = await this.ask("get_history", { conversation_id: id, limit: PAGE, ...window });
        for (const { sender } of page.messages) this.store.people.set(sender.id, sender);
        const isTrue = timeline.epoch === epoch && timeline.merge(where, page, cursor);
        if (!isTrue && !timeline.isLoaded) setTimeout(() => this.open.id === id && this.loadNewest(id));
    }

    async loadNewest(id) {
        await this.loadHistory(id, "newest", {}).catch(() => setTimeout(() => {
            const conversation = this.store.conversations.get(id);
            if (id === this.open.id && conversation && !conversation.timeline.isLoaded) this.loadNewest(id);
        }, 1_500));
    }

    async loadMembers(id) {
        let cursor;
        for (let read = 0; read < MEMBERS_MAX; read += 200) {
            const page = await this.ask("list_members", { conversation_id: id, cursor, limit: 200 });
            this.apply(this.store.members(id, page.members, !page.next_cursor || read + 200 >= MEMBERS_MAX));
            cursor = page.next_cursor;
            if (!cursor) break;
        }
        const members = this.store.conversations.get(id)?.members ?? new Map();
        await this.lookForPresence([...members.keys()]);
    }

    async loadPins(id) {
        const conversation = this.store.conversations.get(id);
        const asOf = conversation.cursor;
        const pins = await this.ask("list_pins", { conversation_id: id });
        conversation.timeline.mergePins(pins, asOf);
        this.changed("conversation", "panel");
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

    keepUnsent() {
        const pending = [...this.store.conversations.values()].flatMap((conversation) => conversation.pending);
        const messages = pending.filter(({ state }) => state === "sending").map(
            ({ conversation_id, content, parent_message_id, client_message_id }) =>
                ({ conversation_id, content, parent_message_id, client_message_id }),
        );
        sessionStorage.setItem(OUTBOX, JSON.stringify({ user: this.store.me.id, messages }));
    }

    get language() {
        return language();
    }
}
