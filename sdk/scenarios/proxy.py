"""A proxy between one client and the server that cuts, delays, repeats, stalls, and loses acks.

Requests of HTTP and WebSockets pass through it. It parses the frames of a WebSocket, so that it repeats whole ones and
can cut in the middle of one. What it does follows from a seed and the bytes that pass.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgpack

#: Bytes that the kernel keeps for a stalled client, so that the server notices it soon.
STALLED_BYTES = 16 * 1024


@dataclass
class Faults:
    #: Each piece waits this long at most.
    delay_ms: float = 0.0
    #: The probability that a frame is sent twice, in both directions.
    repeat: float = 0.0
    #: A connection is cut after a number of bytes between these.
    cut_bytes: tuple[int, int] | None = None
    #: The probability that the ack of a message is lost together with the connection.
    lose_acks: float = 0.0


class Link:
    """One connection from the client to the server."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.is_cut = False
        self.is_websocket = False
        low_high = proxy.faults.cut_bytes
        #: Bytes that still pass.
        self.budget = proxy.random.randint(*low_high) if low_high else None

    def cut(self) -> None:
        """Ends both connections as a lost network does: without a close."""
        if not self.is_cut:
            self.is_cut = True
            self.proxy.counts["cut"] += 1
            for end in (self.client, self.server):
                end.transport.abort()

    async def write(self, end: asyncio.StreamWriter, data: bytes) -> None:
        """Writes as much as the budget allows."""
        if self.proxy.faults.delay_ms:
            await asyncio.sleep(self.proxy.random.random() * self.proxy.faults.delay_ms / 1000)
        if self.budget is not None:
            data, self.budget = data[: self.budget], self.budget - len(data)
        end.write(data)
        await end.drain()
        if self.budget is not None and self.budget <= 0:
            self.cut()

    async def up(self, source: asyncio.StreamReader) -> None:
        """From the client to the server."""
        await self.frames(source, self.server, is_up=True)

    async def down(self, source: asyncio.StreamReader) -> None:
        await self.frames(source, self.client, is_up=False)

    async def frames(self, source: asyncio.StreamReader, end: asyncio.StreamWriter, *, is_up: bool) -> None:
        head = await source.readuntil(b"\r\n\r\n")
        # Without compression, the proxy can read what passes.
        head = re.sub(rb"\r\nSec-WebSocket-Extensions:[^\r]*", b"", head, flags=re.IGNORECASE)
        await self.write(end, head)
        is_websocket = b"upgrade: websocket" in head.lower() and (is_up or b" 101 " in head.split(b"\r\n")[0])
        self.is_websocket = is_websocket
        if not is_websocket:
            while data := await source.read(64 * 1024):
                await self.write(end, data)
            return
        while True:
            if not is_up:
                await self.proxy.flows.wait()
            frame, opcode, payload = await read_frame(source)
            value = None if is_up else decode(opcode, payload)
            if value:
                self.proxy.counts[value["type"]] += 1
                if is_send_ack(value) and self.proxy.random.random() < self.proxy.faults.lose_acks:
                    self.proxy.counts["lost ack"] += 1
                    self.cut()
                    return
            is_repeated = opcode in (1, 2) and self.proxy.random.random() < self.proxy.faults.repeat
            copies = 2 if is_repeated else 1
            self.proxy.counts["repeated"] += copies - 1
            for _ in range(copies):
                await self.write(end, frame)


async def read_frame(source: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """One frame as it came, its opcode, and its payload, which is masked if the client sent it."""
    head = await source.readexactly(2)
    length = head[1] & 0x7F
    if length >= 126:
        more = await source.readexactly(2 if length == 126 else 8)
        head, length = head + more, int.from_bytes(more, "big")
    if head[1] & 0x80:
        head += await source.readexactly(4)
    payload = await source.readexactly(length)
    return head + payload, head[0] & 0x0F if head[0] & 0x80 else 0, payload


def decode(opcode: int, payload: bytes) -> dict[str, Any] | None:
    """A data frame of the server; None for a control frame."""
    value: dict[str, Any] | None = None
    if opcode in (1, 2):
        value = json.loads(payload) if opcode == 1 else msgpack.unpackb(payload)
    return value


def is_send_ack(value: dict[str, Any]) -> bool:
    return value["type"] == "ack" and "duplicate" in value["data"]


class Proxy:
    def __init__(self, server: tuple[str, int], seed: str) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.faults = Faults()
        #: Set unless what the server sends is stalled.
        self.flows = asyncio.Event()
        self.flows.set()
        self.is_open = True
        #: Types of frames that the server sent, and what the proxy did.
        self.counts: Counter[str] = Counter()
        self.links: set[Link] = set()
        self.listener: asyncio.Server
        self.port = 0

    async def start(self) -> None:
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.transport.abort()
            return
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BYTES)
        plug.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plug, self.server)
            back, server = await asyncio.open_connection(sock=plug, limit=STALLED_BYTES)
        except OSError:
            plug.close()
            writer.transport.abort()
            return
        link = Link(self, writer, server)
        self.links.add(link)
        ways: list[asyncio.Future[None]] = []
        try:
            ways = [asyncio.ensure_future(link.up(reader)), asyncio.ensure_future(link.down(back))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            # The last bytes of the other end still pass.
            await asyncio.wait(ways, timeout=0.2)
        except asyncio.CancelledError:
            pass  # the end of the run
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.links.discard(link)
            for end in (writer, server):
                end.close()

    async def close_websockets(self, code: int, reason: str) -> None:
        """Sends a close frame to the client, and nothing after it."""
        payload = code.to_bytes(2, "big") + reason.encode()
        for link in [link for link in self.links if link.is_websocket]:
            link.client.write(bytes([0x88, len(payload)]) + payload)
            await link.client.drain()
            link.server.transport.abort()

    def cut(self) -> None:
        for link in list(self.links):
            link.cut()

    def close(self) -> None:
        self.is_open = False
        self.cut()
        self.listener.close()
