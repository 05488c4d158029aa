// The interface of file-store.js.

import { JournalStore } from "../index.js";

/** A store in a file, with the same lines as that of the Python package. */
export class FileStore extends JournalStore {
    constructor(path: string);
}
