// Reads from the server: when a connection starts, when a conversation is opened, while the user scrolls, and when the
// store needs something again. The results go into the store.

import { limitConcurrency } from "./concurrency.js";
import { explain } from "./i18n.js";
import { isModerator } from "./roles.js";

const PAGE = 50;
/** Messages with files that are read at once. */
const FILES_PAGE = 30;
/** Most members that are read when a conversation is opened. */
const MEMBERS_MAX = 600;
/** Several requests for the same record within this time become one. */
const SOON_MS = 30;
const THREADS_SOON_MS = 300;
/** Most private rooms whose requests to join are read when a connection starts, the most recent rooms first. */
const REQUESTS_ROOMS_MAX = 100;
/** Most reads of one kind at the same time. */
const CONCURRENT_MAX = 3;

export class Reads {
    #fetching = new Set();
    /** Users whose presence this connection has requested; the server sends their changes. */
    #presenceRequested = new Set();
    /** Users whose picture this connection has requested. */
    #picturesRequested = new Set();
    #pictures = limitConcurrency(CONCURRENT_MAX);
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
            const page = await app.request("list_conversations", { cursor, limit: 200 });
            for (const record of page.conversations) app.apply(store.record(record));
            cursor = page.next_cursor ?? null;
        }
        return undefined;
    }

    /** Reads a conversation's record after a short delay, so that several requests become one. */
    recordSoon(id) {
        if (this.#fetching.has(id)) return;
        this.#fetching.add(id);
        setTimeout(async () => {
            this.#fetching.delete(id);
            const answer = await this.app.request("get_conversation", { conversation_id: id }).catch(() => undefined);
            const conversation = this.store.conversations.get(id);
            if (!answer || !conversation) return;
            this.app.apply(this.store.record(answer.conversation));
            if (conversation.kind === "direct" && !conversation.hasMembers) await this.members(id).catch(() => {});
        }, SOON_MS);
    }

    /** Reads the list of blocked users. No event reports changes made in another window. */
    async blocks() {
        if (!this.app.can("list_blocks")) return;
        const answer = await this.app.request("list_blocks", {}).catch(() => undefined);
        if (answer) this.app.apply(this.store.blocks(answer.users));
    }

    /** Reads the first page of followed threads, or the next one. */
    async threads(more = false) {
        const { app, store } = this;
        if (!app.can("list_threads")) return;
        const { changes, cursor } = store.threads;
        const page = await app
            .request("list_threads", { cursor: more ? cursor : undefined, limit: 100 })
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

    /** A new connection: everything may be requested again. */
    connected() {
        this.#presenceRequested.clear();
        this.#picturesRequested.clear();
    }

    /** Lets the presence of a user be requested again. */
    forgetPresence(id) {
        this.#presenceRequested.delete(id);
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
        const unknown = [...new Set([store.me.id, ...ids])].filter((id) => id && !this.#presenceRequested.has(id));
        unknown.forEach((id) => this.#presenceRequested.add(id));
        for (let from = 0; from < unknown.length && app.can("get_presence"); from += 200) {
            const page = await app
                .request("get_presence", { user_ids: unknown.slice(from, from + 200) })
                .catch(() => undefined);
            for (const data of page?.presence ?? []) app.apply(store.event({ type: "presence", data }, Date.now()));
        }
    }

    /** Reads everything that is missing of the open conversation. */
    async opened(conversation) {
        const { id, timeline } = conversation;
        if (!timeline.isLoaded) await this.newest(id);
        if (!conversation.hasMembers) await this.members(id).catch(() => {});
        if (!timeline.pins && this.app.can("list_pins")) await this.pins(id).catch(() => {});
        await this.requests(conversation); // events announced only those since the connection started
    }

    /** Reads the requests to join of all rooms where the user may decide. Events announce only later ones. */
    async allRequests() {
        this.invitations();
        const all = this.store.sorted();
        const asked = all.filter(canDecideRequests).slice(0, REQUESTS_ROOMS_MAX);
        for (const conversation of all) if (!asked.includes(conversation)) conversation.requests = undefined;
        const inTurn = limitConcurrency(CONCURRENT_MAX);
        await Promise.all(asked.map((conversation) => inTurn(() => this.requests(conversation))));
    }

    /** Reads the user's open invitations. Events announce only later ones. */
    async invitations() {
        if (!this.app.can("list_invitations")) return;
        const answer = await this.app.request("list_invitations", {}).catch(() => undefined);
        if (answer) this.app.apply(this.store.invited(answer.invitations));
    }

    /** Reads the requests to join a private room, if the user may decide. */
    async requests(conversation) {
        if (!conversation || !canDecideRequests(conversation) || !this.app.can("list_join_requests")) return;
        const { id } = conversation;
        const answer = await this.app.request("list_join_requests", { conversation_id: id }).catch(() => undefined);
        if (answer) this.app.apply(this.store.requests(id, answer.requests));
    }

    /** Reads a page of history, after any page that is being read; `window` holds the bounds for get_history. */
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
        const page = await this.app.request("get_history", { conversation_id: id, limit: PAGE, ...window });
        for (const { sender } of page.messages) this.store.rememberUser(sender);
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
            const page = await app.request("list_members", { conversation_id: id, cursor, limit: 200 });
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
        const pins = await this.app.request("list_pins", { conversation_id: id });
        conversation.timeline.mergePins(pins, asOf);
        this.app.changed("conversation", "panel");
    }

    /** Reads the newest messages with files, or the next page of them. */
    async files({ id, cursor: asOf, timeline }) {
        if (timeline.files?.state === "reading") return;
        const { app, store } = this;
        const { epoch } = timeline;
        const { messages = [], cursor } = timeline.files ?? {};
        timeline.files = { messages, cursor, state: "reading" };
        try {
            const page = await app.request("search_messages", {
                conversation_id: id,
                has: "file",
                cursor,
                limit: FILES_PAGE,
            });
            if (timeline.epoch !== epoch) return;
            for (const { sender } of page.messages) store.rememberUser(sender);
            if (!timeline.mergeFiles(page, asOf)) timeline.files = undefined; // the panel asks again
        } catch (error) {
            if (timeline.epoch === epoch) timeline.files = { messages, cursor, state: "failed", why: explain(error) };
        } finally {
            app.changed("panel");
        }
    }

    /** Reads a page of a thread's replies; `where`: "newest" or "older". */
    async thread(conversation, root, where) {
        const { app, store } = this;
        const { replies } = conversation.timeline.thread(root);
        const before_seq = where === "older" ? replies[0]?.seq : undefined;
        const asOf = conversation.cursor;
        const request = { message_id: root, conversation_id: conversation.id, before_seq, limit: 100 };
        const page = await app.request("get_thread", request).catch(() => undefined);
        for (const { sender } of page ? [page.root, ...page.messages] : []) store.rememberUser(sender);
        if (page) conversation.timeline.mergeThread(root, where, page, asOf);
        if (page) store.threads.threadOpened(page);
        app.changed("panel");
    }

    /** Reads a user's profile; undefined when that fails. */
    async profile(id) {
        const profile = await this.app.session.request("GET", `users/${id}`).catch(() => undefined);
        if (!profile) return undefined;
        this.store.rememberUser(profile);
        this.app.apply([{ kind: "profile" }]);
        return profile;
    }

    /** Reads a user's profile for its picture, once per connection. */
    requestPicture(id) {
        if (this.#picturesRequested.has(id)) return;
        this.#picturesRequested.add(id);
        this.#pictures(() => this.profile(id));
    }

    /** Finds a user by username; undefined when there is none. */
    async userByUsername(username) {
        const wanted = username.toLowerCase();
        const answer = await this.app.session
            .request("GET", `users?query=${encodeURIComponent(wanted)}&limit=50`)
            .catch(() => undefined);
        const found = answer?.users.find((user) => user.username.toLowerCase() === wanted);
        if (found) this.store.rememberUser(found);
        return found;
    }
}

/** Whether the user may accept or decline requests to join. */
function canDecideRequests({ kind, role }) {
    return kind === "private_room" && isModerator(role);
}
