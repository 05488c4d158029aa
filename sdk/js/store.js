// What a later run of the program needs to go on: the cursors, and the messages without an ack.
//
// A store has load(), begin(userId), setCursor(id, seq, isMember), putMessage(message) and removeMessage(key). They are
// synchronous: a message is stored before it is sent. `Journal` is the form that all stores of this package share:
// lines of JSON, where a later line overrides an earlier one. A line that is cut off was not written.

export class Journal {
    #user;
    #cursors = {};
    #left = {};
    /** Key → message, in the order of `putMessage`. */
    #outbox = new Map();

    constructor(text = "") {
        for (const line of text.split("\n")) {
            if (line === "") continue;
            try {
                this.apply(JSON.parse(line));
            } catch {
                break; // the last line was cut off
            }
        }
    }

    /** Applies an entry and returns its line. */
    apply(entry) {
        const { user, cursor, message, done } = entry;
        if (user !== undefined) this.#user = user;
        if (cursor) {
            const [id, seq, isMember] = cursor;
            delete this.#cursors[id];
            delete this.#left[id];
            (isMember ? this.#cursors : this.#left)[id] = seq;
        }
        if (message) this.#outbox.set(message.client_message_id, message);
        if (done) this.#outbox.delete(done);
        return `${JSON.stringify(entry)}\n`;
    }

    /** The whole state in the fewest lines. */
    text() {
        const entries = [];
        if (this.#user !== undefined) entries.push({ user: this.#user });
        for (const [id, seq] of Object.entries(this.#cursors)) entries.push({ cursor: [id, seq, true] });
        for (const [id, seq] of Object.entries(this.#left)) entries.push({ cursor: [id, seq, false] });
        for (const message of this.#outbox.values()) entries.push({ message });
        return entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
    }

    state() {
        return {
            user: this.#user,
            cursors: { ...this.#cursors },
            left: { ...this.#left },
            outbox: [...this.#outbox.values()],
        };
    }
}

/** A store whose subclass writes lines. */
export class JournalStore {
    journal = new Journal();

    /** Appends a line; a subclass may write the whole journal instead. */
    write(_line) {}

    load() {
        return this.journal.state();
    }

    begin(user) {
        this.write(this.journal.apply({ user }));
    }

    setCursor(id, seq, isMember) {
        this.write(this.journal.apply({ cursor: [id, seq, isMember] }));
    }

    putMessage(message) {
        this.write(this.journal.apply({ message }));
    }

    removeMessage(key) {
        this.write(this.journal.apply({ done: key }));
    }
}

/** A store in localStorage or something of its shape, under one key. For one tab. */
export class LocalStore extends JournalStore {
    #key;
    #storage;

    constructor(key, storage = globalThis.localStorage) {
        super();
        this.#key = key;
        this.#storage = storage;
        this.journal = new Journal(storage.getItem(key) ?? "");
    }

    write() {
        this.#storage.setItem(this.#key, this.journal.text());
    }
}
