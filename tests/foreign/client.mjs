// npm's `ws`: connects, says something, and waits for the answer. Used by tests/foreign_clients.rs.
// Arguments: MODULES URL TOKEN SUBPROTOCOL ROOM SAY AWAIT. Prints what it heard, its seq and the extensions in use.

import { createRequire } from "node:module";
import assert from "node:assert/strict";

const [modules, url, token, subprotocol, room, say, awaited] = process.argv.slice(2);
const WebSocket = createRequire(`${modules}/`)("ws");

const socket = new WebSocket(url, [subprotocol], { headers: { Authorization: `Bearer ${token}` } });
const giveUp = setTimeout(() => fail(new Error("nothing came for 60 s")), 60_000);
const expected = ["welcome", "ack", "message_created"];
let heard;

function fail(error) {
    console.error(error);
    process.exit(1);
}

function received(frame, isBinary) {
    assert.equal(isBinary, false);
    const { type, id, data } = JSON.parse(frame.toString());
    if (expected.length > 0) assert.equal(type, expected.shift());
    if (type === "welcome") {
        assert.deepEqual(
            data.conversations.map((conversation) => conversation.id),
            [room],
        );
        const message = { conversation_id: room, content: say, client_message_id: "node" };
        socket.send(JSON.stringify({ type: "send_message", id: "first", data: message }));
    } else if (type === "ack") {
        assert.equal(id, "first");
    } else if (type === "message_created" && data.content === awaited) {
        heard = { heard: data.content, seq: data.seq, extensions: Object.keys(socket._extensions) };
        socket.ping("still there?");
    }
}

socket.on("error", fail);
socket.on("message", (frame, isBinary) => {
    try {
        received(frame, isBinary);
    } catch (error) {
        fail(error);
    }
});
socket.on("pong", (payload) => {
    if (payload.toString() === "still there?") socket.close(1000);
});
socket.on("close", (code) => {
    clearTimeout(giveUp);
    if (code !== 1000 || heard === undefined) fail(new Error(`closed with ${code}`));
    console.log(JSON.stringify(heard));
});
