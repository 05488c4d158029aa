// The threads that one follows, with the number of replies that one has not read. Pure, as the store that holds it.
//
// `entries` begins as the server's list and is kept up by events. A list that is on its way while replies come may count
// them or not: `changes` grows with each reply and marker, and a list that was asked for before it grew is read again.
//
// Effects: {kind: "threads"} what is to be seen changed; {kind: "read_threads"} the list is to be read (again): a thread
// has a reply that may be one's own to follow, or something was taken away that only the server can count.

export class Threads {
    /** Root message id → {id, conversation_id, root, last_reply_at, read_seq, unread}. */
    entries = new Map();
    isLoaded = false;
    /** Where the list goes on, or undefined. */
    cursor;
    changes = 0;
    /** Roots that were not in the list when it was read for them: not followed. */
    #others = new Set();
    #asked = new Set();

    /** Unread replies in all of them. */
    get unread() {
        return [...this.entries.values()].reduce((sum, { unread }) => sum + unread, 0);
    }

    /** The newest reply first. */
    sorted() {
        return [...this.entries.values()].sort((a, b) => b.last_reply_at.localeCompare(a.last_reply_at) || b.id - a.id);
    }

    /** A page of list_threads; the first one replaces what is known. */
    list({ threads, next_cursor }, isFirst) {
        if (isFirst) this.entries.clear();
        for (const { root, last_reply_at, read_seq, unread_count } of threads) {
            const id = root.message_id;
            this.entries.set(id, {
                id,
                conversation_id: root.conversation_id,
                root,
                last_reply_at,
                read_seq,
                unread: unread_count,
            });
        }
        for (const id of isFirst ? this.#asked : []) {
            if (!this.entries.has(id)) this.#others.add(id);
        }
        if (isFirst) this.#asked.clear();
        this.isLoaded = true;
        this.cursor = next_cursor ?? undefined;
        return [{ kind: "threads" }];
    }

    /** A thread that was opened, as get_thread gives it: one that the list has not come to yet is known from then on. */
    opened({ root, following, read_seq, unread_count }) {
        const id = root.message_id;
        if (!following || read_seq === undefined || !root.thread || this.entries.has(id)) return;
        const { last_reply_at } = root.thread;
        this.entries.set(id, {
            id,
            conversation_id: root.conversation_id,
            root,
            last_reply_at,
            read_seq,
            unread: unread_count,
        });
    }

    /** A numbered event of a conversation, or `thread_updated`. `me`: one's own id. */
    event(type, data, me) {
        if (type === "message_created") return this.#replied(data, me);
        if (type === "message_deleted") {
            const known = this.entries.has(data.message_id) || this.entries.has(data.parent_message_id);
            return known ? this.#ask() : [];
        }
        const entry = this.entries.get(data.message_id);
        if (entry && type === "message_edited") entry.root = { ...entry.root, content: data.content };
        else if (entry && type === "thread_updated")
            entry.root = {
                ...entry.root,
                thread: { reply_count: data.reply_count, last_reply_at: data.last_reply_at },
            };
        else return [];
        return [{ kind: "threads" }];
    }

    #replied({ parent_message_id: root, sender, seq, created_at, deleted }, me) {
        if (root === null || root === undefined || deleted) return [];
        const mine = sender.id === me;
        const entry = this.entries.get(root);
        if (!entry) {
            if (mine) this.#others.delete(root);
            if (this.#others.has(root)) return [];
            this.#asked.add(root);
            return this.#ask();
        }
        this.changes++;
        entry.last_reply_at = created_at;
        if (!mine && seq > entry.read_seq) entry.unread++;
        return [{ kind: "threads" }];
    }

    /** Where one stands in a thread, from an ack or from `thread_follow_updated`. */
    marker({ message_id: root, following, read_seq, unread_count }) {
        this.changes++;
        const entry = this.entries.get(root);
        if (!following) {
            this.entries.delete(root);
            this.#others.add(root);
            return [{ kind: "threads" }];
        }
        this.#others.delete(root);
        if (!entry) return this.#ask();
        if (read_seq >= entry.read_seq) Object.assign(entry, { read_seq, unread: unread_count });
        return [{ kind: "threads" }];
    }

    /** Everything up to `seq` has been seen; whether that is news. */
    read(root, seq) {
        const entry = this.entries.get(root);
        if (!entry || seq <= entry.read_seq) return false;
        this.changes++;
        Object.assign(entry, { read_seq: seq, unread: 0 });
        return true;
    }

    /** A conversation is the user's no more. */
    gone(conversationId) {
        for (const [id, { conversation_id }] of this.entries) {
            if (conversation_id === conversationId) this.entries.delete(id);
        }
    }

    #ask() {
        this.changes++;
        return [{ kind: "read_threads" }];
    }
}
