// The messages of one conversation: those known, the unbroken stretch that is shown, and threads. Pure, without a clock.
//
// Invariants:
// - `shown` is ascending by seq and without holes, from its first to its last message: older ones may follow before it
//   (`hasOlder`), newer ones after it (`hasNewer`, after a jump into the past);
// - a message is one object, whatever lists it: an edit changes it in the timeline, the thread and the pins at once;
// - a page that was read before some events came does not undo them. Each page is merged with `asOf`, the cursor when it
//   was asked for, and the remembered events after that are applied once more; they carry absolute state, so twice is
//   harmless. Without this an edit or a message that arrives while a page is on its way would vanish.

/** Events remembered for pages that are on their way. A page that is older than them all is void. */
const TAIL_MAX = 300;

export class Timeline {
    shown = [];
    isLoaded = false;
    hasOlder = true;
    hasNewer = false;
    /** Root message id → {replies: ascending, isLoaded, hasOlder, following, readTo}. */
    threads = new Map();
    /** Newest pin first; undefined until read. */
    pins;
    /** Message id → message; `version` grows with each change of what is to be seen of it. */
    known = new Map();
    /** Grows with each reset: a page that was asked for before it is void. */
    epoch = 0;
    #me;
    #tail = [];
    /** The seq of the newest event that the tail has lost. */
    #forgottenTo = 0;

    constructor(me) {
        this.#me = me;
    }

    /** A numbered event or `thread_updated` of this conversation, new to it. */
    event(type, data) {
        this.#tail.push({ type, data });
        if (this.#tail.length > TAIL_MAX) this.#forgottenTo = this.#tail.shift().data.seq ?? this.#forgottenTo;
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
                });
            case "message_deleted":
                this.#change(message, { content: "", deleted: true, reactions: [], attachments: [], pinned: false });
                return this.#unpin(data.message_id);
            case "message_pinned":
                this.#change(message, { pinned: data.pinned });
                if (!data.pinned) this.#unpin(data.message_id);
                else if (this.pins && message && !this.pins.includes(message)) this.pins.unshift(message);
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
        // A conversation that nobody has opened keeps nothing but its tail.
        if (!this.isLoaded && !this.known.has(data.message_id) && this.threads.size === 0) return;
        const message = this.#put(data);
        if (this.isLoaded && !this.hasNewer) insert(this.shown, message);
        const root = message.parent_message_id;
        if (root === null || root === undefined) return;
        const thread = this.threads.get(root);
        if (thread) insert(thread.replies, message);
        // Who replies follows the thread.
        if (thread?.following === false && message.sender.id === this.#me) thread.following = true;
        // `thread_updated` follows with the truth; a server that does not send it yet is counted for.
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

    #unpin(messageId) {
        if (this.pins) this.pins = this.pins.filter((message) => message.message_id !== messageId);
    }

    #change(message, fields) {
        if (message) Object.assign(message, fields, { version: message.version + 1 });
    }

    #put(data) {
        const message = this.known.get(data.message_id);
        if (message) {
            // The key stands only in the sender's own copies of the event; other copies do not say that there is none.
            this.#change(message, data.thread ? data : { ...data, thread: undefined });
            return message;
        }
        const fresh = { ...data, version: 0 };
        this.known.set(data.message_id, fresh);
        return fresh;
    }

    #again(asOf) {
        for (const { type, data } of this.#tail) {
            // `thread_updated` has no place of its own: it is as new as the event that it followed.
            if ((data.seq ?? Infinity) > asOf) this.#apply(type, data);
        }
    }

    /** A page of the history. `where`: "newest", "older", "newer" or "around". False when it came too late to be true. */
    merge(where, { messages, has_more }, asOf) {
        if (asOf < this.#forgottenTo) return false;
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
        this.#again(asOf);
        return true;
    }

    /** Lets go of the oldest messages shown when there are more than twice as many as to `keep`. */
    trim(keep) {
        if (this.shown.length <= 2 * keep) return;
        const listed = new Set([...(this.pins ?? []), ...[...this.threads.values()].flatMap(({ replies }) => replies)]);
        const gone = this.shown.slice(0, -keep);
        this.shown = this.shown.slice(-keep);
        this.hasOlder = true;
        for (const message of gone) {
            if (!listed.has(message) && !this.threads.has(message.message_id)) this.known.delete(message.message_id);
        }
    }

    /** A page of a thread; `where`: "newest" or "older". */
    mergeThread(root, where, { root: rootMessage, messages, has_more, following, read_seq }, asOf) {
        if (rootMessage) this.#put(rootMessage);
        const replies = messages.map((message) => this.#put(message));
        const thread = this.threads.get(root) ?? { replies: [] };
        for (const reply of replies) insert(thread.replies, reply);
        if (where === "older" || !thread.isLoaded) thread.hasOlder = has_more;
        // The marker as it was when the thread was opened: what is after it is shown as new.
        const readTo = thread.isLoaded ? thread.readTo : read_seq;
        this.threads.set(root, { ...thread, isLoaded: true, following: following ?? thread.following, readTo });
        this.#again(asOf);
    }

    mergePins({ messages }, asOf) {
        this.pins = messages.map((message) => this.#put(message));
        this.#again(asOf);
    }

    /** The thread of a root, begun with what is known of it: also for a server without `get_thread`. */
    thread(root) {
        if (!this.threads.has(root)) {
            const replies = [...this.known.values()].filter((message) => message.parent_message_id === root);
            replies.sort((a, b) => a.seq - b.seq);
            this.threads.set(root, { replies, isLoaded: false, hasOlder: false, following: undefined });
        }
        return this.threads.get(root);
    }

    /** Forgets everything: too much was missed. */
    reset() {
        this.epoch++;
        this.shown = [];
        this.isLoaded = this.hasNewer = false;
        this.hasOlder = true;
        this.threads.clear();
        this.pins = undefined;
        this.known.clear();
        this.#tail = [];
    }
}

/** Puts a message into a list that is ascending by seq, unless it is there. */
function insert(list, message) {
    let at = list.length;
    while (at > 0 && list[at - 1].seq > message.seq) at--;
    if (at === 0 || list[at - 1].message_id !== message.message_id) list.splice(at, 0, message);
}
