// The parts of sdk/js that do no I/O, against the cases of sdk/scenarios/parts.json, which the Python package passes
// too; and the whole client with a store, with a full outbox, and with an application that is slow or late.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { Backoff } from "../../sdk/js/backoff.js";
import { Cursors } from "../../sdk/js/cursors.js";
import { LocalStore, VezaClient } from "../../sdk/js/index.js";
import { FileStore } from "../../sdk/js/node/file-store.js";

const parts = JSON.parse(readFileSync(new URL("../../sdk/scenarios/parts.json", import.meta.url), "utf8"));

for (const { about, steps } of parts.cursors)
    test(about, () => {
        const cursors = new Cursors();
        for (const step of steps) {
            if (step.meet) {
                const { is_first = false, is_complete = true, gone = [], started, behind } = step;
                const met = cursors.compare(new Map(Object.entries(step.meet)), {
                    isFirst: is_first,
                    isComplete: is_complete,
                });
                assert.deepEqual(met, { gone, started, behind });
                met.gone.forEach((id) => cursors.leave(id));
            } else if (step.leave) cursors.leave(step.leave);
            else {
                const { event, seq, user, members = [], place } = step;
                const data = {
                    conversation_id: "room_6",
                    seq,
                    user: { id: user },
                    members: members.map((id) => ({ id })),
                };
                assert.equal(cursors.classify(event, data, 1), place, JSON.stringify(step));
                if (place === "emit" || place === "earlier") cursors.moveTo("room_6", seq, place === "emit");
            }
        }
    });

for (const { about, lived, bounds_ms } of parts.backoff)
    test(about, () => {
        for (const random of [0, 0.5, 0.999]) {
            const backoff = new Backoff(() => random);
            if (lived) {
                for (let n = 0; n < 9; n++) backoff.next();
                backoff.lived(...lived);
            }
            const waits = bounds_ms.map(() => backoff.next());
            assert.deepEqual(
                waits,
                bounds_ms.map((bound) => bound * random),
            );
            assert.equal(backoff.next(1_234), 1_234, "a slot of the server is kept exactly");
        }
    });

for (const { about, lines, user, cursors, left, outbox } of parts.journal)
    test(about, () => {
        const path = join(mkdtempSync(join(tmpdir(), "veza-")), "store.jsonl");
        writeFileSync(path, lines.join("\n"));
        const items = new Map([["key", lines.join("\n")]]);
        const storage = { getItem: (key) => items.get(key), setItem: (key, value) => items.set(key, value) };
        for (const open of [() => new FileStore(path), () => new LocalStore("key", storage)])
            for (let run = 0; run < 2; run++) {
                const state = open().load();
                const keys = state.outbox.map((message) => message.client_message_id);
                assert.deepEqual([state.user, state.cursors, state.left, keys], [user, cursors, left, outbox]);
            }
    });

/** A server with one conversation; `commands` are those that it has received. */
class Server {
    log = [];
    commands = [];
    socket;
    isMute = false;
    user = { id: 1 };

    add(content) {
        this.log.push({
            type: "message_created",
            data: { conversation_id: "room_6", seq: this.log.length + 1, content },
        });
        this.socket?.give(this.log.at(-1));
    }

    get Socket() {
        const server = this;
        return class {
            constructor() {
                setTimeout(() => {
                    server.socket = this;
                    const conversations = [{ id: "room_6", last_seq: server.log.length }];
                    const limits = { max_frame_bytes: 65_536 };
                    this.give({
                        type: "welcome",
                        data: { user: server.user, conversations, limits, heartbeat_ms: 30_000 },
                    });
                });
            }
            give(frame) {
                this.onmessage?.({ data: JSON.stringify(frame) });
            }
            send(text) {
                const { type, id, data } = JSON.parse(text);
                server.commands.push({ type, ...data });
                if (server.isMute) return;
                const ack = type === "resume" ? { conversations: {}, not_member: [] } : { seq: server.log.length + 1 };
                this.give({ type: "ack", id, data: ack });
                if (type === "send_message") server.add(data.content);
                if (type !== "resume") return;
                server.log.slice(data.cursors.room_6).forEach((event) => this.give(event));
                this.give({ type: "caught_up", data: { conversation_id: "room_6", seq: server.log.length } });
            }
            close() {}
        };
    }
}

function clientOf(server, options) {
    const ticket = async () => "t";
    return new VezaClient({ url: "ws://test/ws", ticket, format: "json", WebSocket: server.Socket, ...options });
}

const contents = (count) => Array.from({ length: count }, (_, n) => `${n}`);
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

async function take(client, count) {
    const taken = [];
    for await (const { data } of client.events()) if (taken.push(data.content) === count) break;
    return taken;
}

test("an application that takes events late or slowly receives all of them once", async () => {
    const server = new Server();
    const client = clientOf(server, { eventsMax: 4 });
    client.connect();
    await client.upToDate();
    contents(20).forEach((content) => server.add(content));
    assert.deepEqual(await take(client, 20), contents(20));
    assert.ok(server.commands.filter(({ type }) => type === "resume").length > 1, "what had no room is replayed");
    client.close();
});

test("a listener that is added after connect receives what came before it", async () => {
    const server = new Server();
    const client = clientOf(server);
    client.connect();
    await client.upToDate();
    server.add("before");
    const seen = [];
    client.on("event", ({ data }) => seen.push(data.content));
    contents(2_000).forEach((content) => server.add(content));
    assert.deepEqual(seen, ["before", ...contents(2_000)]);
    client.close();
});

test("a later run receives what the earlier one has not handled, and sends what it has not sent", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "veza-")), "store.jsonl");
    const server = new Server();
    const first = clientOf(server, { store: new FileStore(path) });
    first.connect();
    await first.upToDate();
    contents(5).forEach((content) => server.add(content));
    assert.deepEqual(await take(first, 2), ["0", "1"]);
    server.isMute = true;
    first.send({ conversation_id: "room_6", content: "mine" });
    first.close();
    server.isMute = false;
    const second = clientOf(server, { store: new FileStore(path) });
    const sent = new Promise((resolve) => second.on("sent", ({ message }) => resolve(message.client_message_id)));
    second.connect();
    assert.deepEqual(await take(second, 4), ["2", "3", "4", "mine"]);
    const keys = server.commands.filter(({ type }) => type === "send_message").map((sent) => sent.client_message_id);
    assert.deepEqual(keys, [await sent, await sent], "under the same key");
    await turn();
    second.close();
    assert.deepEqual(new FileStore(path).load().outbox, []);
});

test("a store of another user ends the client before anything is sent", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "veza-")), "store.jsonl");
    writeFileSync(path, '{"user":2}\n{"message":{"conversation_id":"room_6","content":"a","client_message_id":"k"}}\n');
    const server = new Server();
    const client = clientOf(server, { store: new FileStore(path) });
    client.connect();
    await assert.rejects(client.upToDate(), /other_user/);
    assert.deepEqual(server.commands, []);
});

test("a full outbox and an ended client refuse a message at once", async () => {
    const server = new Server();
    const client = clientOf(server, { outboxMax: 2 });
    const message = { conversation_id: "room_6", content: "x" };
    const waiting = [client.send(message), client.send(message)];
    await assert.rejects(client.send(message), { code: "outbox_full" });
    client.connect();
    await Promise.all(waiting);
    await client.send(message);
    client.close();
    await assert.rejects(client.send(message), { code: "closed" });
});

test("a replay that brings nothing is requested again", async (context) => {
    const server = new Server();
    context.mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
    const client = clientOf(server, { eventsMax: 0 });
    client.cursors.set("room_6", 0);
    server.log.push({ type: "message_created", data: { conversation_id: "room_6", seq: 1, content: "missed" } });
    server.isMute = true;
    client.connect();
    await new Promise((resolve) => client.on("welcome", resolve));
    assert.equal(client.state.name, "catching_up");
    const resumes = () => server.commands.filter(({ type }) => type === "resume").length;
    const before = resumes();
    server.isMute = false;
    context.mock.timers.tick(15_000);
    assert.equal(resumes(), before, "it may still come");
    context.mock.timers.tick(15_000);
    assert.equal(resumes(), before + 1);
    assert.equal(client.state.name, "live");
    client.close();
});
