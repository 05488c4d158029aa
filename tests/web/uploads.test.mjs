// web/uploads.js: every upload ends complete, cancelled on the server too, or with a reason.

import assert from "node:assert/strict";
import test from "node:test";
import { FILES_MAX, Uploads } from "../../web/uploads.js";

const ROOM = "room_6";
const GONE = { status: 0, code: "unreachable", message: "away" };
const turns = async (n = 40) => {
    for (let at = 0; at < n; at++) await new Promise((resolve) => setImmediate(resolve));
};

/** A server that keeps bytes; `fail(method, id)` returns an error, which ends the request before it has an effect. */
class Server {
    files = new Map();
    removed = [];
    log = [];
    fail = () => undefined;
    /** Resolves when a held request may go on. */
    gate = Promise.resolve();

    async #request(method, id) {
        this.log.push(`${method} ${id ?? ""}`.trim());
        await this.gate;
        const error = this.fail(method, id);
        if (error) throw error;
    }

    async create({ name, size }) {
        await this.#request("create");
        const id = this.files.size + 1;
        this.files.set(id, { name, size, text: "", state: "scanning" });
        return { file_id: id, chunk_max: 4, offset: 0 };
    }

    async append(id, offset, chunk, progress) {
        progress(1);
        const file = this.files.get(id);
        const text = await chunk.text();
        if (this.cut?.(id)) {
            file.text += text.slice(0, 2); // the server keeps what came
            throw GONE;
        }
        await this.#request("append", id);
        if (offset !== file.text.length) throw { status: 409, code: "conflict", message: "offset" };
        file.text += text;
        return file.text.length;
    }

    async offset(id) {
        await this.#request("offset", id);
        return this.files.get(id).text.length;
    }

    async show(id) {
        await this.#request("show", id);
        return this.files.get(id);
    }

    async remove(id) {
        this.removed.push(id);
    }
}

/** What a reload keeps. */
class Kept {
    list = [];
    files = new Map();
    rows() {
        return structuredClone(this.list);
    }
    remember(rows) {
        this.list = rows;
    }
    put(key, file) {
        this.files.set(key, file);
    }
    async get(key) {
        return this.files.get(key);
    }
    remove(key) {
        this.files.delete(key);
    }
}

function made(server = new Server(), kept = new Kept()) {
    const waits = [];
    const wait = async (ms) => void waits.push(ms);
    return { server, kept, waits, uploads: new Uploads({ transfer: server, kept, changed: () => {}, wait }) };
}

const file = (name, text) => new File([text], name, { type: "text/plain" });
const states = (uploads) => uploads.of(ROOM).map(({ name, state }) => [name, state]);

test("sends files in pieces, two at once, and keeps their order for the message", async () => {
    const { server, uploads, kept } = made();
    let open;
    server.gate = new Promise((resolve) => (open = resolve));
    uploads.add(ROOM, [file("a", "0123456789"), file("b", ""), file("c", "xyz")]);
    assert.deepEqual(states(uploads), [
        ["a", "running"],
        ["b", "running"],
        ["c", "waiting"],
    ]);
    assert.ok(!uploads.isComplete(ROOM));
    open();
    await turns();
    assert.deepEqual(
        [...server.files.values()].map(({ name, text }) => [name, text]),
        [
            ["a", "0123456789"],
            ["b", ""],
            ["c", "xyz"],
        ],
    );
    assert.ok(uploads.isComplete(ROOM) && uploads.isComplete("room_7"));
    uploads.settled({ file_id: 1, file: { state: "ready" } });
    assert.deepEqual(
        uploads.take(ROOM).map(({ file_id, name }) => [file_id, name]),
        [
            [1, "a"],
            [2, "b"],
            [3, "c"],
        ],
    );
    assert.deepEqual([uploads.of(ROOM), kept.list, kept.files.size, server.removed], [[], [], 0, []]);
});

test("goes on at the server's offset after a cut, however often the network is away", async () => {
    const { server, uploads, waits } = made();
    let cuts = 3;
    server.cut = () => cuts-- > 0;
    let away = 20;
    server.fail = (method) => (method === "offset" && away-- > 0 ? GONE : undefined);
    uploads.add(ROOM, [file("a", "0123456789")]);
    await turns(200);
    assert.equal(server.files.get(1).text, "0123456789");
    assert.deepEqual(states(uploads), [["a", "checking"]]);
    assert.ok(waits.length === 23 && Math.max(...waits) <= 15_000, String(waits));
});

test("fails with the server's words when the server refuses, or brings no progress", async () => {
    const { server, uploads, waits } = made();
    server.fail = (method) =>
        method === "create" ? { status: 403, code: "muted", message: "You are muted." } : undefined;
    uploads.add(ROOM, [file("a", "0123")]);
    await turns();
    assert.deepEqual([uploads.of(ROOM)[0].state, uploads.of(ROOM)[0].error.message], ["failed", "You are muted."]);
    server.fail = (method) => (method === "append" ? { status: 503, code: "overloaded", message: "busy" } : undefined);
    uploads.again(uploads.of(ROOM)[0].key);
    await turns(100);
    assert.deepEqual(states(uploads), [["a", "failed"]]);
    assert.equal(server.log.filter((line) => line === "append 1").length, 9);
    server.fail = () => ({ status: 429, code: "rate_limited", message: "in an hour", retryAfterMs: 3_600_000 });
    uploads.again(uploads.of(ROOM)[0].key);
    await turns();
    assert.deepEqual(uploads.of(ROOM)[0].error.message, "in an hour");
    assert.ok(Math.max(...waits) <= 15_000, "nobody waits for an hour");
    server.fail = () => undefined;
    uploads.again(uploads.of(ROOM)[0].key);
    await turns();
    assert.ok(uploads.isComplete(ROOM));
});

test("begins again when the server has forgotten the upload", async () => {
    const { server, uploads } = made();
    let expired = 1;
    server.fail = (method) => (method === "append" && expired-- > 0 ? { status: 410, code: "expired" } : undefined);
    uploads.add(ROOM, [file("a", "0123")]);
    await turns();
    assert.deepEqual([server.files.get(2).text, uploads.take(ROOM)[0].file_id], ["0123", 2]);
});

test("cancelling deletes the upload on the server, also one that is just being created", async () => {
    const { server, uploads, kept } = made();
    let open;
    server.gate = new Promise((resolve) => (open = resolve));
    uploads.add(ROOM, [file("a", "0123"), file("b", "0123"), file("c", "0123")]);
    uploads.cancel(uploads.of(ROOM)[0].key);
    assert.deepEqual(states(uploads), [
        ["b", "running"],
        ["c", "running"],
    ]);
    open();
    await turns();
    assert.deepEqual(server.removed, [1]);
    uploads.cancel(uploads.of(ROOM)[1].key);
    assert.deepEqual([server.removed, states(uploads), kept.list.length], [[1, 3], [["b", "checking"]], 1]);
});

test("a verdict that comes before the last answer counts, and a refused file is not sent", async () => {
    const { server, uploads } = made();
    const append = server.append.bind(server);
    server.append = async (...request) => {
        const offset = await append(...request);
        uploads.settled({ file_id: 1, file: { state: "failed" }, reason: "Not a picture." });
        return offset;
    };
    uploads.add(ROOM, [file("a", "0123")]);
    await turns();
    assert.deepEqual([uploads.of(ROOM)[0].state, uploads.of(ROOM)[0].error.message], ["failed", "Not a picture."]);
    assert.deepEqual([uploads.isComplete(ROOM), uploads.take(ROOM)], [false, []]);
});

test("a paused upload keeps what the server has, gives its turn to the next, and goes on there", async () => {
    const { server, uploads } = made();
    let open;
    const append = server.append.bind(server);
    server.append = async (id, offset, chunk, progress, signal) => {
        if (id === 1 && offset === 4) {
            await new Promise((resolve) => (open = resolve));
            if (signal.aborted) throw GONE;
        }
        return append(id, offset, chunk, progress, signal);
    };
    uploads.add(ROOM, [file("a", "0123456789"), file("b", "xyz"), file("c", "xyz")]);
    await turns();
    const [{ key }] = uploads.of(ROOM);
    uploads.pause(key);
    // Resumed before the first run has ended, it begins when that has ended: two runs would send the same bytes.
    uploads.resume(key);
    uploads.pause(key);
    open();
    await turns();
    assert.deepEqual(states(uploads), [
        ["a", "paused"],
        ["b", "checking"],
        ["c", "checking"],
    ]);
    assert.deepEqual([server.files.get(1).text, uploads.isComplete(ROOM)], ["0123", false]);
    server.append = append;
    server.log = [];
    uploads.resumeAll("room_7");
    await turns();
    assert.deepEqual(server.log, [], "another place stays as it is");
    uploads.resumeAll(ROOM);
    await turns();
    assert.equal(server.files.get(1).text, "0123456789");
    assert.deepEqual(server.log, ["offset 1", "append 1", "append 1"]);
});

test("a pause during the creation leaves one upload on the server", async () => {
    const { server, uploads } = made();
    let open;
    server.gate = new Promise((resolve) => (open = resolve));
    uploads.add(ROOM, [file("a", "0123")]);
    const [{ key }] = uploads.of(ROOM);
    uploads.pause(key);
    uploads.resume(key);
    await turns();
    open();
    await turns();
    assert.deepEqual([server.files.size, server.files.get(1).text, server.removed], [1, "0123", []]);
    assert.ok(uploads.isComplete(ROOM));
});

test("an answer after the end of the session leaves nothing on the device", async () => {
    const { server, kept, uploads } = made();
    let open;
    server.gate = new Promise((resolve) => (open = resolve));
    uploads.add(ROOM, [file("a", "0123")]);
    await turns();
    uploads.stop();
    kept.list = []; // signed out
    open();
    await turns();
    assert.deepEqual([kept.list, server.files.get(1).text], [[], ""]);
});

test("a pause outlives a reload", async () => {
    const first = made();
    first.server.gate = new Promise(() => {});
    first.uploads.add(ROOM, [file("a", "0123"), file("b", "0123")]);
    first.uploads.pause(first.uploads.of(ROOM)[0].key);
    first.uploads.stop();
    const second = made(new Server(), first.kept);
    await second.uploads.restore();
    await turns();
    assert.deepEqual(states(second.uploads), [
        ["a", "paused"],
        ["b", "checking"],
    ]);
    second.uploads.resumeAll(ROOM);
    await turns();
    assert.ok(second.uploads.isComplete(ROOM));
});

test("a file that is too large is refused without a request", async () => {
    const { server, kept } = made();
    const uploads = new Uploads({ transfer: server, kept, changed: () => {}, sizeMax: () => 3 });
    uploads.add(ROOM, [file("a", "0123"), file("b", "012")]);
    await turns();
    assert.deepEqual(states(uploads), [
        ["a", "failed"],
        ["b", "checking"],
    ]);
    assert.deepEqual([uploads.of(ROOM)[0].error.code, server.files.size], ["too_large", 1]);
});

test("a reload continues what the browser still has, and asks for the rest", async () => {
    const first = made();
    first.server.fail = (method, id) => (method === "append" && id !== 3 ? GONE : undefined);
    first.uploads.add(ROOM, [file("a", "0123456789"), file("b", "0123")]);
    first.uploads.add("room_7", [file("c", "xyz")]);
    first.uploads.wait = () => new Promise(() => {});
    await turns();
    first.uploads.stop();
    const [a, b] = first.kept.list;
    first.kept.files.delete(b.key);
    first.server.files.get(1).text = "012";

    const second = made(first.server, first.kept);
    first.server.fail = () => undefined;
    await second.uploads.restore();
    await turns();
    assert.equal(first.server.files.get(1).text, "0123456789");
    assert.deepEqual(states(second.uploads), [
        ["a", "checking"],
        ["b", "lost"],
    ]);
    assert.ok(second.uploads.isComplete("room_7"));
    assert.ok(!second.uploads.choose(b.key, file("b", "01234")) && !second.uploads.choose(a.key, file("a", "0")));
    assert.ok(second.uploads.choose(b.key, file("b", "0123")));
    await turns();
    assert.equal(first.server.files.get(2).text, "0123");

    // A third page learns how the checks have ended.
    first.server.files.get(1).state = "ready";
    first.server.files.get(2).state = "infected";
    const third = made(first.server, first.kept);
    await third.uploads.restore();
    await turns();
    assert.deepEqual(states(third.uploads), [
        ["a", "ready"],
        ["b", "failed"],
    ]);
});

test("a message has a limited number of files", () => {
    const { uploads } = made();
    const files = Array.from({ length: FILES_MAX + 3 }, (_, n) => file(`f${n}`, "x"));
    assert.equal(uploads.add(ROOM, files), 3);
    assert.equal(uploads.of(ROOM).length, FILES_MAX);
});
