"""Python's `websockets`: connects, sends a message, and waits for the answer. Used by tests/tools/foreign_clients.rs.

Arguments: URL TOKEN SUBPROTOCOL ROOM CONTENT AWAITED. Prints the content and the seq of the awaited message, and the
extensions in use.
"""

import asyncio
import json
import sys

import msgpack
from websockets.asyncio.client import connect

url, token, subprotocol, room, content, awaited = sys.argv[1:]


def pack(value):
    return msgpack.packb(value) if subprotocol.endswith("msgpack") else json.dumps(value)


def unpack(frame):
    assert isinstance(frame, bytes) == subprotocol.endswith("msgpack"), frame
    return msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)


async def main():
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers, subprotocols=[subprotocol]) as socket:
        assert socket.subprotocol == subprotocol, socket.subprotocol
        welcome = unpack(await socket.recv())
        assert welcome["type"] == "welcome", welcome
        assert [c["id"] for c in welcome["data"]["conversations"]] == [room], welcome
        data = {"conversation_id": room, "content": content, "client_message_id": "python"}
        await socket.send(pack({"type": "send_message", "id": 1, "data": data}))
        ack = unpack(await socket.recv())
        assert ack["type"] == "ack" and ack["id"] == 1, ack
        own = unpack(await socket.recv())
        assert own["data"]["message_id"] == ack["data"]["message_id"], own
        assert own["data"]["client_message_id"] == "python", own
        await (await socket.ping())
        while True:
            event = unpack(await socket.recv())
            if event["type"] == "message_created" and event["data"]["content"] == awaited:
                break
        extensions = [extension.name for extension in socket.protocol.extensions]
    assert socket.close_code == 1000, socket.close_code
    print(json.dumps({"answer": event["data"]["content"], "seq": event["data"]["seq"], "extensions": extensions}))


asyncio.run(asyncio.wait_for(main(), 60))
