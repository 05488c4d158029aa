// npm's `ws`: connects, sends a message, and waits for the answer. Used by tests/tools/foreign_clients.rs.
// Arguments: MODULES URL TOKEN SUBPROTOCOL ROOM CONTENT AWAITED. Prints the content and the seq of the awaited message,
// and the extensions in use.

import { createRequire } from "node:module";
import assert from "node:assert/strict";

const [modules, url, token, subprotocol, room, content, awaited] = process.argv.slice(2);
const WebSocket = createRequire(`${modules}/`)("ws");

const socket = new WebSocket(url, [subprotocol], { headers: { Authorization: `Bearer ${token}` } });
const giveUp = setTimeout(() => fail(new Error("no close within 60 s")), 60_000);
const expected = ["welcome", "ack", "message_created"];
let answer;

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
        const message = { conversation_id: room, content, client_message_id: "node" };
        socket.send(JSON.stringify({ type: "send_message", id: "first", data: message }));
    } else if (type === "ack") {
        assert.equal(id, "first");
    } else if (type === "message_created" && data.content === awaited) {
        answer = { answer: data.content, seq: data.seq, extensions: Object.keys(socket._extensions) };
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
    if (code !== 1000 || answer === undefined) fail(new Error(`closed with ${code}`));
    console.log(JSON.stringify(answer));
});
