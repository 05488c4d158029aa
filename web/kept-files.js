// What a reload must not lose of uploads: their list in the tab's own storage, and the files in a database of the
// browser. Both are best effort: without them an upload waits until the user chooses the file again.
//
// Files are kept until they are uploaded, cancelled or a day old, and removed when the user signs out.

const LIST = "veza.uploads";
const DATABASE = "veza.files";
const STORE = "files";
/** A larger file is not copied into the database. */
const BYTES_MAX = 256 * 1024 * 1024;
const LIFE_MS = 86_400_000;

export class KeptFiles {
    #userId;
    #storage;

    constructor(userId, storage = globalThis.sessionStorage) {
        this.#userId = userId;
        this.#storage = storage;
    }

    /** The uploads of this tab, as they were remembered. */
    rows() {
        try {
            const { user, rows } = JSON.parse(this.#storage.getItem(LIST));
            return user === this.#userId ? rows : [];
        } catch {
            return [];
        }
    }

    remember(rows) {
        try {
            if (rows.length === 0) this.#storage.removeItem(LIST);
            else this.#storage.setItem(LIST, JSON.stringify({ user: this.#userId, rows }));
        } catch {
            // The storage is full: a reload loses the list, and the server deletes the uploads.
        }
    }

    async put(key, file) {
        if (file.size > BYTES_MAX) return;
        await inStore("readwrite", (store) => store.put({ file, user: this.#userId, at: Date.now() }, key));
    }

    async get(key) {
        const kept = await inStore("readonly", (store) => store.get(key));
        return kept?.user === this.#userId ? kept.file : undefined;
    }

    async remove(key) {
        await inStore("readwrite", (store) => store.delete(key));
    }

    /** Removes files that tabs left behind, or all of the user. */
    async sweep(isAll = false) {
        const isOver = ({ user, at }) => (isAll ? user === this.#userId : at < Date.now() - LIFE_MS);
        if (isAll) this.remember([]);
        await inStore("readwrite", (store) => {
            const request = store.openCursor();
            request.onsuccess = () => {
                const cursor = request.result;
                if (!cursor) return;
                if (isOver(cursor.value)) cursor.delete();
                cursor.continue();
            };
            return request;
        });
    }
}

/** Runs one request in a transaction; undefined if the browser refuses. */
async function inStore(mode, run) {
    let database;
    try {
        database = await opened();
        return await new Promise((resolve, reject) => {
            const transaction = database.transaction(STORE, mode);
            const request = run(transaction.objectStore(STORE));
            transaction.oncomplete = () => resolve(request.result);
            transaction.onabort = () => reject(transaction.error);
        });
    } catch {
        return undefined;
    } finally {
        database?.close();
    }
}

function opened() {
    return new Promise((resolve, reject) => {
        const request = indexedDB.open(DATABASE, 1);
        request.onupgradeneeded = () => request.result.createObjectStore(STORE);
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
}
