// What is read from the server: at the beginning of a connection, when a conversation is opened, as one scrolls, and when
// the store asks for something anew. Everything that is read goes into the store; nothing here is told to anybody.

import { few } from "./few.js";

const PAGE = 50;
/** Members and presence that are read when a conversation is opened. */
const MEMBERS_MAX = 600;
/** Several wishes to read the same within this time are one. */
const SOON_MS = 30;
const THREADS_SOON_MS = 300;
/** Private rooms that are asked who wants to come in when a connection begins, those with the newest messages first. */
const REQUESTS_ROOMS_MAX = 100;
/** Questions of one kind that are on their way at once. */
const AT_ONCE = 3;

export class Reads {
    #fetching = new Set();
    /** Whose presence this connection has asked for, and is told of. */
    #askedFor = new Set();
    /** Whose picture this connection has asked for, in vain or not. */
    #picturesOf = new Set();
    #pictures = few(AT_ONCE);
    #threadsAlarm;

    constructor(app) {
        this.app = app;
        this.store = app.store;
    }

    async records(all) {
        const { app, store } = this;
        const unknown = [...store.conversations.values()].filter(({ created_at }) => created_at === null);
        if (!all && unknown.length < 10) return unknown.forEach(({ id }) => this.recordSoon(id));
        for (let cursor; cursor !== null;) {
            const page = await app.ask("list_conversations", { cursor, limit: 200 });
            for (const record of page.conversations) app.apply(store.record(record));
            cursor = page.next_cursor ?? null;
        }
        return undefined;
    }

    /** Reads a conversation's record soon; several requests for it become one. */
    recordSoon(id) {
        if (this.#fetching.has(id)) return;
        this.#fetching.add(id);
        setTimeout(async () => {
            this.#fetching.delete(id);
            const answer = await this.app.ask("get_conversation", { conversation_id: id }).catch(() => undefined);
            const conversation = this.store.conversations.get(id);
            if (!answer || !conversation) return;
            this.app.apply(this.store.record(answer.conversation));
            if (conversation.kind === "direct" && !conversation.hasMembers) await this.members(id).catch(() => {});
        }, SOON_MS);
    }

    /** Whom one has blocked: no event says that another of one's windows has changed it. */
    async blocks() {
        if (!this.app.can("list_blocks")) return;
        const answer = await this.app.ask("list_blocks", {}).catch(() => undefined);
        if (answer) this.app.apply(this.store.blocks(answer.users));
    }

    /** The threads that one follows: the first page, or the next. */
    async threads(more = false) {
        const { app, store } = this;
        if (!app.can("list_threads")) return;
        const { changes, cursor } = store.threads;
        const page = await app
            .ask("list_threads", { cursor: more ? cursor : undefined, limit: 100 })
            .catch(() => undefined);
        if (page) app.apply(store.threads.list(page, !more));
        if (page && store.threads.changes !== changes) this.threadsSoon();
    }

    threadsSoon() {
        this.#threadsAlarm ??= setTimeout(() => {
            this.#threadsAlarm = undefined;
            this.threads();
        }, THREADS_SOON_MS);
    }

    /** A new connection: what has been asked may be asked again. */
    begin() {
        this.#askedFor.clear();
        this.#picturesOf.clear();
    }

    /** Somebody's presence is to be asked for again. */
    forgetPresence(id) {
        this.#askedFor.delete(id);
    }

    async presence(known) {
        const direct = this.store
            .sorted()
            .filter(({ kind, hasMembers }) => kind === "direct" && !hasMembers)
            .slice(0, 40);
        for (const { id } of direct) await this.members(id);
        await this.presenceOf([...direct.map((conversation) => this.store.peer(conversation)?.id), ...known]);
    }

    async presenceOf(ids) {
        const { app, store } = this;
        const unknown = [...new Set([store.me.id, ...ids])].filter((id) => id && !this.#askedFor.has(id));
        unknown.forEach((id) => this.#askedFor.add(id));
        for (let from = 0; from < unknown.length && app.can("get_presence"); from += 200) {
            const page = await app
                .ask("get_presence", { user_ids: unknown.slice(from, from + 200) })
                .catch(() => undefined);
            for (const data of page?.presence ?? []) app.apply(store.event({ type: "presence", data }, Date.now()));
        }
    }

    /** Reads what is not known yet of a conversation that is shown. */
    async opened(conversation) {
        const { id, timeline } = conversation;
        if (!timeline.isLoaded) await this.newest(id);
        if (!conversation.hasMembers) await this.members(id).catch(() => {});
        if (!timeline.pins && this.app.can("list_pins")) await this.pins(id).catch(() => {});
        await this.requests(conversation); // events may have told of some, not of those before
    }

    /** Who asks to join, in all rooms where one may decide: no event tells of what happened before a connection. */
    async allRequests() {
        const all = this.store.sorted();
        const asked = all.filter(decides).slice(0, REQUESTS_ROOMS_MAX);
        for (const conversation of all) if (!asked.includes(conversation)) conversation.requests = undefined;
        const inTurn = few(AT_ONCE);
        await Promise.all(asked.map((conversation) => inTurn(() => this.requests(conversation))));
    }

    /** Who asks to join a private room, for those who may decide. */
    async requests(conversation) {
        if (!conversation || !decides(conversation) || !this.app.can("list_join_requests")) return;
        const { id } = conversation;
        const answer = await this.app.ask("list_join_requests", { conversation_id: id }).catch(() => undefined);
        if (answer) this.app.apply(this.store.requests(id, answer.requests));
    }

    /** One page of history, after any that is on its way; `window` is what get_history takes. */
    async history(id, where, window) {
        const conversation = this.store.conversations.get(id);
        if (!conversation) return;
        while (conversation.reading) await conversation.reading.catch(() => {});
        conversation.reading = this.#page(conversation, where, window);
        try {
            await conversation.reading;
        } finally {
            conversation.reading = undefined;
            if (id === this.app.open.id) this.app.changed("conversation");
        }
    }

    async #page({ id, cursor, timeline }, where, window) {
        const { epoch } = timeline;
        const page = await this.app.ask("get_history", { conversation_id: id, limit: PAGE, ...window });
        for (const { sender } of page.messages) this.store.meet(sender);
        const isTrue = timeline.epoch === epoch && timeline.merge(where, page, cursor);
        if (!isTrue && !timeline.isLoaded) setTimeout(() => this.app.open.id === id && this.newest(id));
    }

    async newest(id) {
        await this.history(id, "newest", {}).catch(() =>
            setTimeout(() => {
                const conversation = this.store.conversations.get(id);
                if (id === this.app.open.id && conversation && !conversation.timeline.isLoaded) this.newest(id);
            }, 1_500),
        );
    }

    async members(id) {
        const { app, store } = this;
        let cursor;
        for (let read = 0; read < MEMBERS_MAX; read += 200) {
            const page = await app.ask("list_members", { conversation_id: id, cursor, limit: 200 });
            app.apply(store.members(id, page.members, !page.next_cursor || read + 200 >= MEMBERS_MAX));
            cursor = page.next_cursor;
            if (!cursor) break;
        }
        const members = store.conversations.get(id)?.members ?? new Map();
        await this.presenceOf([...members.keys()]);
    }

    async pins(id) {
        const conversation = this.store.conversations.get(id);
        const asOf = conversation.cursor;
        const pins = await this.app.ask("list_pins", { conversation_id: id });
        conversation.timeline.mergePins(pins, asOf);
        this.app.changed("conversation", "panel");
    }

    /** A thread's replies; `where`: "newest" or "older". */
    async thread(conversation, root, where) {
        const { app, store } = this;
        const { replies } = conversation.timeline.thread(root);
        const before_seq = where === "older" ? replies[0]?.seq : undefined;
        const asOf = conversation.cursor;
        const request = { message_id: root, conversation_id: conversation.id, before_seq, limit: 100 };
        const page = await app.ask("get_thread", request).catch(() => undefined);
        for (const { sender } of page ? [page.root, ...page.messages] : []) store.meet(sender);
        if (page) conversation.timeline.mergeThread(root, where, page, asOf);
        if (page) store.threads.opened(page);
        app.changed("panel");
    }

    /** Somebody's profile; undefined when there is none to be had. */
    async profile(id) {
        const profile = await this.app.session.request("GET", `users/${id}`).catch(() => undefined);
        if (!profile) return undefined;
        this.store.meet(profile);
        this.app.apply([{ kind: "profile" }]);
        return profile;
    }

    /** Reads somebody's picture, when their turn comes. What has been learned is not asked again by any connection. */
    pictureOf(id) {
        if (this.#picturesOf.has(id)) return;
        this.#picturesOf.add(id);
        this.#pictures(() => this.profile(id));
    }

    /** Somebody by their username; undefined when there is nobody of that name. */
    async personCalled(username) {
        const wanted = username.toLowerCase();
        const answer = await this.app.session
            .request("GET", `users?query=${encodeURIComponent(wanted)}&limit=50`)
            .catch(() => undefined);
        const found = answer?.users.find((user) => user.username.toLowerCase() === wanted);
        if (found) this.store.meet(found);
        return found;
    }
}

/** Whether one lets people into a room, or does not. */
function decides({ kind, role }) {
    return kind === "private_room" && ["owner", "admin", "moderator"].includes(role);
}
