// The followed threads, with their numbers of unread replies. Pure, like the store that holds it.
//
// `entries` starts as the server's list and is updated by events. A list that was requested before a reply arrived may
// or may not count it. So `changes` grows with each reply and marker, and a list that was requested before the last
// change is read again.
//
// Effects: {kind: "threads"} the followed threads changed; {kind: "read_threads"} read the list again, because a reply
// may belong to a thread that the user follows, or because only the server can count after a deletion.

/** An entry of the list. */
function entryOf(root, last_reply_at, read_seq, unread) {
    return { id: root.message_id, conversation_id: root.conversation_id, root, last_reply_at, read_seq, unread };
}

export class Threads {
    /** Root message id → {id, conversation_id, root, last_reply_at, read_seq, unread}. */
    entries = new Map();
    isLoaded = false;
    /** The cursor of the next page, if there is one. */
    cursor;
    changes = 0;
    /** Roots that were not in the list when it was read because of them. */
    #unfollowed = new Set();
    #readFor = new Set();

    /** Unread replies in all followed threads. */
    get unread() {
        return [...this.entries.values()].reduce((sum, { unread }) => sum + unread, 0);
    }

    /** All entries, the one with the newest reply first. */
    sorted() {
        return [...this.entries.values()].sort((a, b) => b.last_reply_at.localeCompare(a.last_reply_at) || b.id - a.id);
    }

    /** Applies a page of list_threads; the first page replaces all entries. */
    list({ threads, next_cursor }, isFirst) {
        if (isFirst) this.entries.clear();
        for (const { root, last_reply_at, read_seq, unread_count } of threads) {
            const id = root.message_id;
            this.entries.set(id, entryOf(root, last_reply_at, read_seq, unread_count));
        }
        for (const id of isFirst ? this.#readFor : []) {
            if (!this.entries.has(id)) this.#unfollowed.add(id);
        }
        if (isFirst) this.#readFor.clear();
        this.isLoaded = true;
        this.cursor = next_cursor ?? undefined;
        return [{ kind: "threads" }];
    }

    /** Applies the answer of get_thread: the thread may be on a page of the list that has not been read. */
    threadOpened({ root, following, read_seq, unread_count }) {
        const id = root.message_id;
        if (!following || read_seq === undefined || !root.thread || this.entries.has(id)) return;
        this.entries.set(id, entryOf(root, root.thread.last_reply_at, read_seq, unread_count));
    }

    /** Applies a numbered event of a conversation, or `thread_updated`. `me` is the user's id. */
    event(type, data, me) {
        if (type === "message_created") return this.#replied(data, me);
        if (type === "message_deleted") {
            const known = this.entries.has(data.message_id) || this.entries.has(data.parent_message_id);
            return known ? this.#readAgain() : [];
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
            if (mine) this.#unfollowed.delete(root);
            if (this.#unfollowed.has(root)) return [];
            this.#readFor.add(root);
            return this.#readAgain();
        }
        this.changes++;
        entry.last_reply_at = created_at;
        if (!mine && seq > entry.read_seq) entry.unread++;
        return [{ kind: "threads" }];
    }

    /** Applies the read position in a thread, from an ack or from `thread_follow_updated`. */
    marker({ message_id: root, following, read_seq, unread_count }) {
        this.changes++;
        const entry = this.entries.get(root);
        if (!following) {
            this.entries.delete(root);
            this.#unfollowed.add(root);
            return [{ kind: "threads" }];
        }
        this.#unfollowed.delete(root);
        if (!entry) return this.#readAgain();
        if (read_seq >= entry.read_seq) Object.assign(entry, { read_seq, unread: unread_count });
        return [{ kind: "threads" }];
    }

    /** Marks a thread as read up to `seq`; returns whether that changed anything. */
    read(root, seq) {
        const entry = this.entries.get(root);
        if (!entry || seq <= entry.read_seq) return false;
        this.changes++;
        Object.assign(entry, { read_seq: seq, unread: 0 });
        return true;
    }

    /** Removes the threads of a conversation that the user has left. */
    removeConversation(conversationId) {
        for (const [id, { conversation_id }] of this.entries) {
            if (conversation_id === conversationId) this.entries.delete(id);
        }
    }

    #readAgain() {
        this.changes++;
        return [{ kind: "read_threads" }];
    }
}
