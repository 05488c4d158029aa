// A store in a file, for programs under Node.js. The file has the same lines as that of the Python package.

import { appendFileSync, closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { Journal, JournalStore } from "../store.js";

/** Lines after which the file is written anew. */
const LINES_MAX = 10_000;

export class FileStore extends JournalStore {
    #path;
    #lines = 0;

    /** Reads the file, if there is one. One client at a time may use it. */
    constructor(path) {
        super();
        this.#path = path;
        let text = "";
        try {
            text = readFileSync(path, "utf8");
        } catch (error) {
            if (error.code !== "ENOENT") throw error;
        }
        this.journal = new Journal(text);
        this.#compact();
    }

    write(line) {
        appendFileSync(this.#path, line);
        if (++this.#lines >= LINES_MAX) this.#compact();
    }

    /** Writes the state beside the file and renames it, so that a crash leaves the old or the new one. */
    #compact() {
        const part = `${this.#path}.part`;
        writeFileSync(part, this.journal.text());
        const file = openSync(part, "r");
        fsyncSync(file);
        closeSync(file);
        renameSync(part, this.#path);
        this.#lines = 0;
    }
}
