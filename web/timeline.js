// The messages of one conversation: all known ones, the contiguous range that is shown, and threads. Pure, without a
// clock.
//
// Invariants:
// - `shown` is ascending by seq and has no holes. There may be older messages before it (`hasOlder`), and newer ones
//   after it (`hasNewer`, after a jump into the past);
// - a message is one object in all lists: an edit changes it in the timeline, the thread and the pins at once;
// - a page does not undo events that arrived after it was requested. Each page is merged with `asOf`, the cursor at the
//   time of the request, and the remembered events after that are applied again. They carry absolute state, so applying
//   them twice is harmless. Otherwise an edit or a message that arrives while a page is being read would be lost.

/** Events remembered for pages that are being read. A page that is older than all of them is discarded. */
const RECENT_EVENTS_MAX = 300;

export class Timeline {
    shown = [];
    isLoaded = false;
    hasOlder = true;
    hasNewer = false;
    /** Root message id → {replies: ascending, isLoaded, hasOlder, following, readTo}. */
    threads = new Map();
    /** The pinned messages, newest pin first; undefined until read. */
    pins;
    /**
     * The messages with files, newest first: {messages, cursor of older ones, state: "reading", "read" or "failed",
     * why}; undefined until a panel asks for them.
     */
    files;
    /** Message id → message; `version` grows with each visible change. */
    known = new Map();
    /** Grows with each reset: a page that was requested before is discarded. */
    epoch = 0;
    #me;
    #recentEvents = [];
    /** The seq of the newest event that is no longer remembered. */
    #droppedUpTo = 0;

    constructor(me) {
        this.#me = me;
    }

    /** Applies a new numbered event, or `thread_updated`, of this conversation. */
    event(type, data) {
        this.#recentEvents.push({ type, data });
        if (this.#recentEvents.length > RECENT_EVENTS_MAX)
            this.#droppedUpTo = this.#recentEvents.shift().data.seq ?? this.#droppedUpTo;
        this.#apply(type, data);
    }

    #apply(type, data) {
        const message = this.known.get(data.message_id);
        switch (type) {
            case "message_created":
                return this.#created(data);
            case "message_edited":
                return this.#change(message, {
                    content: data.content,
                    edited_at: data.edited_at,
                    mentions: data.mentions ?? message?.mentions,
                    attachments: data.attachments ?? message?.attachments,
                });
            case "message_deleted":
                this.#change(message, { content: "", deleted: true, reactions: [], attachments: [], pinned: false });
                return this.#unpin(data.message_id);
            case "message_pinned":
                this.#change(message, { pinned: data.pinned });
                if (!data.pinned) this.#unpin(data.message_id);
                else if (this.pins && message && !this.pins.includes(message)) this.pins.unshift(message);
                return undefined;
            case "file_updated":
                for (const id of data.message_ids ?? []) this.#fileUpdated(this.known.get(id), data);
                return undefined;
            case "reaction_added":
            case "reaction_removed":
                return this.#reacted(message, data, type === "reaction_added");
            case "thread_updated":
                return this.#change(message, {
                    thread:
                        data.reply_count > 0
                            ? { reply_count: data.reply_count, last_reply_at: data.last_reply_at }
                            : undefined,
                });
            default:
                return undefined;
        }
    }

    #created(data) {
        // A conversation that was never opened keeps only its recent events.
        if (!this.isLoaded && !this.known.has(data.message_id) && this.threads.size === 0) return;
        const message = this.#put(data);
        if (this.isLoaded && !this.hasNewer) insert(this.shown, message);
        const root = message.parent_message_id;
        if (root === null || root === undefined) return;
        const thread = this.threads.get(root);
        if (thread) insert(thread.replies, message);
        // A reply makes its sender follow the thread.
        if (thread?.following === false && message.sender.id === this.#me) thread.following = true;
        // `thread_updated` follows with the exact count. Older servers do not send it, so replies are counted here.
        const parent = this.known.get(root);
        const replies = [...this.known.values()].filter((other) => other.parent_message_id === root && !other.deleted);
        if (parent && replies.length > (parent.thread?.reply_count ?? 0)) {
            this.#change(parent, { thread: { reply_count: replies.length, last_reply_at: message.created_at } });
        }
    }

    #reacted(message, { emoji, count, user }, added) {
        if (!message) return;
        const before = message.reactions.find((reaction) => reaction.emoji === emoji);
        const me = user.id === this.#me ? added : (before?.me ?? false);
        const reactions = message.reactions.filter((reaction) => reaction !== before || count > 0);
        const at = reactions.indexOf(before);
        if (count > 0) reactions.splice(at < 0 ? reactions.length : at, at < 0 ? 0 : 1, { emoji, count, me });
        this.#change(message, { reactions });
    }

    /** A file without a record is gone. */
    #fileUpdated(message, { file_id, file }) {
        if (!message || message.deleted) return;
        const current = (old) => (old.file_id === file_id ? (file ?? { ...old, state: "expired" }) : old);
        this.#change(message, { attachments: (message.attachments ?? []).map(current) });
    }

    #unpin(messageId) {
        if (this.pins) this.pins = this.pins.filter((message) => message.message_id !== messageId);
    }

    #change(message, fields) {
        if (message) Object.assign(message, fields, { version: message.version + 1 });
    }

    #put(data) {
        const message = this.known.get(data.message_id);
        if (message) {
            // Only the sender's copies of an event have client_message_id; its absence elsewhere means nothing.
            this.#change(message, data.thread ? data : { ...data, thread: undefined });
            return message;
        }
        const fresh = { ...data, version: 0 };
        this.known.set(data.message_id, fresh);
        return fresh;
    }

    #reapplyEvents(asOf) {
        for (const { type, data } of this.#recentEvents) {
            // `thread_updated` has no seq: it is always applied.
            if ((data.seq ?? Infinity) > asOf) this.#apply(type, data);
        }
    }

    /** Merges a page of history; `where`: "newest", "older", "newer" or "around". Returns false if it is outdated. */
    merge(where, { messages, has_more }, asOf) {
        if (asOf < this.#droppedUpTo) return false;
        const page = messages.map((message) => this.#put(message));
        if (where === "newest" || where === "around") {
            this.shown = page;
            this.isLoaded = true;
            this.hasOlder = where === "around" || has_more;
            this.hasNewer = where === "around";
        } else if (where === "older") {
            this.shown = [...page.filter((message) => !this.shown.includes(message)), ...this.shown];
            this.hasOlder = has_more;
        } else {
            this.shown = [...this.shown, ...page.filter((message) => !this.shown.includes(message))];
            this.hasNewer = has_more;
        }
        this.#reapplyEvents(asOf);
        return true;
    }

    /** Removes the oldest messages shown when there are more than twice as many as `keep`. */
    trim(keep) {
        if (this.shown.length <= 2 * keep) return;
        const replies = [...this.threads.values()].flatMap((thread) => thread.replies);
        const listed = new Set([...(this.pins ?? []), ...(this.files?.messages ?? []), ...replies]);
        const gone = this.shown.slice(0, -keep);
        this.shown = this.shown.slice(-keep);
        this.hasOlder = true;
        for (const message of gone) {
            if (!listed.has(message) && !this.threads.has(message.message_id)) this.known.delete(message.message_id);
        }
    }

    /** Merges a page of a thread; `where`: "newest" or "older". */
    mergeThread(root, where, { root: rootMessage, messages, has_more, following, read_seq }, asOf) {
        if (rootMessage) this.#put(rootMessage);
        const replies = messages.map((message) => this.#put(message));
        const thread = this.threads.get(root) ?? { replies: [] };
        for (const reply of replies) insert(thread.replies, reply);
        if (where === "older" || !thread.isLoaded) thread.hasOlder = has_more;
        // The read position at the time the thread was opened: replies after it are shown as new.
        const readTo = thread.isLoaded ? thread.readTo : read_seq;
        this.threads.set(root, { ...thread, isLoaded: true, following: following ?? thread.following, readTo });
        this.#reapplyEvents(asOf);
    }

    mergePins({ messages }, asOf) {
        this.pins = messages.map((message) => this.#put(message));
        this.#reapplyEvents(asOf);
    }

    /** Merges a page of messages with files. Returns false if it is outdated. */
    mergeFiles({ messages, next_cursor }, asOf) {
        if (asOf < this.#droppedUpTo) return false;
        // What a search shows of a text is no part of the message.
        const page = messages.map(({ highlight: _, ...message }) => this.#put(message));
        this.files = {
            messages: [...(this.files?.messages ?? []), ...page],
            cursor: next_cursor ?? undefined,
            state: "read",
        };
        this.#reapplyEvents(asOf);
        return true;
    }

    /** The known messages with files, newest first, as far back as all of them are known. */
    withFiles() {
        const { messages = [], cursor } = this.files ?? {};
        const oldest = cursor === undefined ? -Infinity : Math.min(...messages.map(({ seq }) => seq));
        return [...this.known.values()]
            .filter(({ deleted, attachments, seq }) => !deleted && attachments?.length > 0 && seq >= oldest)
            .sort((a, b) => b.seq - a.seq);
    }

    /** The thread of a root, created from the known replies, also for servers without `get_thread`. */
    thread(root) {
        if (!this.threads.has(root)) {
            const replies = [...this.known.values()].filter((message) => message.parent_message_id === root);
            replies.sort((a, b) => a.seq - b.seq);
            this.threads.set(root, { replies, isLoaded: false, hasOlder: false, following: undefined });
        }
        return this.threads.get(root);
    }

    /** Forgets everything, because too many events were missed. */
    reset() {
        this.epoch++;
        this.shown = [];
        this.isLoaded = this.hasNewer = false;
        this.hasOlder = true;
        this.threads.clear();
        this.pins = this.files = undefined;
        this.known.clear();
        this.#recentEvents = [];
    }
}

/** Inserts a message into a list that is ascending by seq, unless the list has it. */
function insert(list, message) {
    let at = list.length;
    while (at > 0 && list[at - 1].seq > message.seq) at--;
    if (at === 0 || list[at - 1].message_id !== message.message_id) list.splice(at, 0, message);
}
