// web/drafts.js: drafts survive a reload, are separate, and their number is bounded.

import assert from "node:assert/strict";
import test from "node:test";
import { Drafts, removeDrafts } from "../../web/drafts.js";

/** A fake of the browser's Storage. `isFull`: it throws instead of storing. */
class Storage {
    #items = new Map();
    isFull = false;

    get length() {
        return this.#items.size;
    }
    key(at) {
        return [...this.#items.keys()][at];
    }
    getItem(key) {
        return this.#items.get(key) ?? null;
    }
    setItem(key, value) {
        if (this.isFull) throw new Error("QuotaExceededError");
        this.#items.set(key, value);
    }
    removeItem(key) {
        this.#items.delete(key);
    }
}

test("keeps drafts per conversation, thread and user across reloads", () => {
    const storage = new Storage();
    const drafts = new Drafts(1, storage);
    drafts.set(Drafts.key("room_6"), "to the room");
    drafts.set(Drafts.key("room_6", 40), "to the thread");
    new Drafts(12, storage).set(Drafts.key("room_6"), "of another user");
    const reloaded = new Drafts(1, storage);
    assert.deepEqual(
        [Drafts.key("room_6"), Drafts.key("room_6", 40), Drafts.key("room_7")].map((key) => reloaded.get(key)),
        ["to the room", "to the thread", ""],
    );
    reloaded.set(Drafts.key("room_6"), " \n");
    assert.deepEqual([reloaded.get(Drafts.key("room_6")), drafts.get(Drafts.key("room_6"))], ["", ""]);
    removeDrafts(1, storage);
    assert.deepEqual(
        [reloaded.get(Drafts.key("room_6", 40)), new Drafts(12, storage).get(Drafts.key("room_6"))],
        ["", "of another user"],
    );
});

test("removes the oldest drafts when there are too many", () => {
    const storage = new Storage();
    const drafts = new Drafts(1, storage);
    for (let n = 0; n < 130; n++) drafts.set(`room_${n}`, `draft ${n}`, n);
    drafts.set("room_40", "changed", 200);
    assert.deepEqual([storage.length, drafts.get("room_29"), drafts.get("room_30")], [100, "", "draft 30"]);
    assert.equal(drafts.get("room_40"), "changed");
});

test("keeps the text in memory when the storage is full, and never restores an older one", () => {
    const storage = new Storage();
    const drafts = new Drafts(1, storage);
    drafts.set("room_6", "first");
    storage.isFull = true;
    drafts.set("room_6", "second");
    assert.equal(drafts.get("room_6"), "second");
    assert.equal(new Drafts(1, storage).get("room_6"), "");
});
