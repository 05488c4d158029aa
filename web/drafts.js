// Drafts: text that was typed and not sent, one per conversation and thread. They survive a reload, and other tabs of
// the browser see them when they open the conversation.
//
// Each draft is an item of its own in the storage, so two tabs never overwrite each other's drafts. The oldest are
// removed when there are more than DRAFTS_MAX. A storage that is full or switched off loses drafts at the next reload,
// nothing else.

const PREFIX = "veza.draft.";
const DRAFTS_MAX = 100;

export class Drafts {
    #storage;
    #prefix;
    /** Draft key → text, of drafts that the storage refused. */
    #memory = new Map();

    /** `userId`: drafts of other users of this browser stay out of sight. */
    constructor(userId, storage = globalThis.localStorage) {
        this.#storage = storage;
        this.#prefix = `${PREFIX}${userId}.`;
    }

    /** The key of a conversation's draft, or of the draft in one of its threads. */
    static key(conversationId, root) {
        return root === undefined ? conversationId : `${conversationId}/${root}`;
    }

    get(key) {
        try {
            const { text } = JSON.parse(this.#storage.getItem(this.#prefix + key)) ?? {};
            if (typeof text === "string") return text;
        } catch {
            // Another version wrote it.
        }
        return this.#memory.get(key) ?? "";
    }

    /** An empty text removes the draft. */
    set(key, text, now = Date.now()) {
        const isNew = this.get(key) === "";
        this.#memory.delete(key);
        if (text.trim() === "") return this.#storage.removeItem(this.#prefix + key);
        try {
            this.#storage.setItem(this.#prefix + key, JSON.stringify({ text, at: now }));
        } catch {
            this.#memory.set(key, text);
            this.#storage.removeItem(this.#prefix + key); // an older text must not come back
        }
        return isNew ? this.#removeOldest() : undefined;
    }

    #removeOldest() {
        const keys = keysOf(this.#storage, this.#prefix);
        if (keys.length <= DRAFTS_MAX) return;
        const writtenAt = (key) => {
            try {
                return JSON.parse(this.#storage.getItem(key)).at ?? 0;
            } catch {
                return 0;
            }
        };
        const oldest = keys.map((key) => [writtenAt(key), key]).sort(([a], [b]) => a - b);
        for (const [, key] of oldest.slice(0, keys.length - DRAFTS_MAX)) this.#storage.removeItem(key);
    }
}

/** Removes all drafts of a user, who signs out of this browser. */
export function removeDrafts(userId, storage = globalThis.localStorage) {
    for (const key of keysOf(storage, `${PREFIX}${userId}.`)) storage.removeItem(key);
}

function keysOf(storage, prefix) {
    const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at));
    return keys.filter((key) => key.startsWith(prefix));
}
