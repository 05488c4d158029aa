// web/veza-client.js against a small fake server: order, gaps, lost connections, repeated sends, ended sessions.

import assert from "node:assert/strict";
import test from "node:test";
import { decode, encode } from "../../web/msgpack.js";
import { VezaClient } from "../../web/veza-client.js";

/** A conversation's log and its connections; commands in `mute` are ignored. */
class Server {
    log = [];
    sockets = [];
    stored = new Map();
    isUp = true;
    mute = new Set();
    heads = true;

    say(content, key) {
        const seq = this.log.length + 1;
        this.log.push({
            type: "message_created",
            data: { conversation_id: "room_6", seq, content, client_message_id: key },
        });
        for (const socket of this.sockets) socket.give(this.log.at(-1));
        return seq;
    }

    cut(code = 1006, reason = "") {
        for (const socket of this.sockets.splice(0)) socket.onclose?.({ code, reason });
    }

    heard(socket, { type, id, data }) {
        if (this.mute.has(type)) return;
        const reply = (answer) => socket.give({ type: "ack", id, data: answer });
        if (type === "resume") {
            reply({ conversations: { room_6: { last_seq: this.log.length } }, not_member: [] });
            const after = data.cursors.room_6;
            if (this.tooFar)
                return socket.give({ type: "reset", data: { conversation_id: "room_6", last_seq: this.log.length } });
            this.log.slice(after).forEach((event) => socket.give(event));
            socket.give({ type: "caught_up", data: { conversation_id: "room_6", seq: this.log.length } });
        } else if (type === "send_message") {
            const known = this.stored.get(data.client_message_id);
            const refusal = this.refusals?.shift();
            if (refusal) return socket.give({ type: "error", id, data: refusal });
            const seq = known ?? this.log.length + 1;
            this.stored.set(data.client_message_id, seq);
            if (!this.mute.has("ack")) reply({ message_id: seq, seq, duplicate: known !== undefined });
            if (known === undefined) this.say(data.content, data.client_message_id);
        } else if (type === "get_history") reply({ messages: [], has_more: false });
        return undefined;
    }
}

function connect(server, format = "msgpack") {
    const read = format === "json" ? JSON.parse : (frame) => decode(new Uint8Array(frame));
    const write = format === "json" ? JSON.stringify : (frame) => encode(frame).slice().buffer;
    class Socket {
        constructor(url, protocols) {
            assert.deepEqual([new URL(url).searchParams.get("ticket"), protocols], ["t", [`veza.v1.${format}`]]);
            setTimeout(() => {
                if (!server.isUp) return this.onclose?.({ code: 1006, reason: "" });
                server.sockets.push(this);
                const conversations = [{ id: "room_6", last_seq: server.log.length, read_seq: 0 }];
                this.give({
                    type: "welcome",
                    data: { conversations, limits: { max_frame_bytes: 65_536 }, heartbeat_ms: 30_000 },
                });
                return undefined;
            });
        }
        give(frame) {
            this.onmessage?.({ data: write(frame) });
        }
        send(frame) {
            server.heard(this, read(frame));
        }
        close() {}
    }
    const client = new VezaClient({ url: "ws://test/ws", ticket: async () => "t", format, WebSocket: Socket });
    const seen = [];
    client.on("event", ({ type, data }) => seen.push(type === "reset" ? "reset" : data.content));
    client.connect();
    return { client, seen };
}

const until = (client, type) => new Promise((resolve) => client.on(type, resolve));

test("emits events once and in order, and fetches missing ones, in both formats", async () => {
    for (const format of ["json", "msgpack"]) {
        const server = new Server();
        const { client, seen } = connect(server, format);
        await until(client, "up_to_date");
        server.say("1");
        server.sockets[0].give(server.log[0]);
        const sockets = server.sockets.splice(0);
        server.say("2"); // lost by the network
        server.sockets.push(...sockets);
        const again = until(client, "up_to_date");
        server.say("3");
        await again;
        server.say("4");
        assert.deepEqual([seen, client.cursors.get("room_6")], [["1", "2", "3", "4"], 4]);
        client.close();
    }
});

test("after a lost connection, replays events once and sends messages without an ack again", async () => {
    const server = new Server();
    const { client, seen } = connect(server);
    await until(client, "up_to_date");
    server.mute.add("ack"); // committed, but the answer is lost with the connection
    const first = client.send({ conversation_id: "room_6", content: "mine" });
    const second = client.send({ conversation_id: "room_6", content: "mine too" });
    server.isUp = false;
    server.cut();
    server.mute.clear();
    server.say("missed");
    setTimeout(() => {
        server.isUp = true;
    }, 600);
    const { again, missed } = await until(client, "up_to_date");
    assert.equal(again, true);
    assert.deepEqual([(await first).duplicate, (await second).duplicate], [true, false]);
    assert.deepEqual(seen, ["mine", "missed", "mine too"]);
    assert.ok(missed >= 1);
    client.close();
});

test("leaves a conversation whose subscription the server has ended during a replay", async () => {
    const server = new Server();
    const { client } = connect(server);
    await until(client, "up_to_date");
    const gone = [];
    client.on("gone", ({ conversation_id: id }) => gone.push(id));
    const error = (details) => ({ type: "error", data: { code: "not_member", message: "no member", details } });
    server.sockets[0].give(error(undefined)); // a refused typing signal names no conversation
    server.sockets[0].give(error({ conversation_id: "room_6" }));
    await new Promise((resolve) => setTimeout(resolve, 0));
    assert.deepEqual([gone, client.cursors.has("room_6")], [["room_6"], false]);
    client.close();
});

test("reports a conversation that the server could not subscribe to", async () => {
    const server = new Server();
    const { client, seen } = connect(server);
    await until(client, "up_to_date");
    const reported = [];
    client.on("unsubscribed", ({ conversation_id: id, error }) => reported.push([id, error.code, error.message]));
    const data = { code: "conflict", message: "too many subscriptions", details: { conversation_id: "room_10" } };
    server.sockets[0].give({ type: "error", data });
    server.say("still live");
    assert.deepEqual(reported, [["room_10", "conflict", "too many subscriptions"]]);
    assert.deepEqual([seen, client.state.name], [["still live"], "live"]);
    client.close();
});

test("retries after temporary errors and rejects after others", async () => {
    const server = new Server();
    const { client, seen } = connect(server);
    await until(client, "up_to_date");
    server.refusals = [
        { code: "rate_limited", message: "slowly", retry_after_ms: 20 },
        undefined,
        { code: "muted", message: "no" },
    ];
    const notes = [];
    const first = client.send({ conversation_id: "room_6", content: "a" }, ({ code }) => notes.push(code));
    const second = client.send({ conversation_id: "room_6", content: "b" });
    await first;
    await assert.rejects(second, { code: "muted", message: "no" });
    assert.deepEqual([notes, seen], [["rate_limited"], ["a"]]);
    await assert.rejects(client.send({ conversation_id: "room_6", content: "x".repeat(70_000) }), {
        code: "too_large",
    });
    client.close();
});

test("drops the connection at once when the network is lost, and reconnects to a server that is there", async () => {
    const server = new Server();
    const { client, seen } = connect(server);
    await until(client, "up_to_date");
    const states = [];
    client.on("state", ({ name }) => states.push(name));
    client.networkLost();
    assert.deepEqual([states, client.state.name], [["waiting"], "waiting"]);
    client.networkLost();
    const sent = client.send({ conversation_id: "room_6", content: "from the tunnel" });
    server.say("missed");
    const { missed } = await until(client, "up_to_date");
    await sent;
    assert.deepEqual([missed >= 1, seen, states[1]], [true, ["missed", "from the tunnel"], "connecting"]);
    client.close();
});

test("emits reset and moves the cursor to the end when too far behind", async () => {
    const server = new Server();
    const { client, seen } = connect(server);
    await until(client, "up_to_date");
    const sockets = server.sockets.splice(0);
    for (let n = 0; n < 5; n++) server.say("lost");
    server.sockets.push(...sockets);
    server.tooFar = true;
    const again = until(client, "up_to_date");
    server.cut();
    await again;
    assert.deepEqual([seen, client.cursors.get("room_6")], [["reset"], 5]);
    client.close();
});

test("repeats reads after a lost connection, rejects other commands, and ends with the session", async () => {
    const server = new Server();
    const { client } = connect(server);
    await until(client, "up_to_date");
    server.mute.add("get_history").add("join_conversation");
    const read = client.request("get_history", { conversation_id: "room_6" });
    const change = client.request("join_conversation", { conversation_id: "room_6" });
    server.mute.clear();
    const again = until(client, "up_to_date");
    server.cut();
    await assert.rejects(change, { code: "disconnected" });
    await again;
    assert.deepEqual(await read, { messages: [], has_more: false });
    server.cut(4002, '{"code":"session_revoked","reconnect":false,"retry_after_ms":0}');
    assert.deepEqual(client.state, { name: "ended", reason: "session_revoked" });
});
