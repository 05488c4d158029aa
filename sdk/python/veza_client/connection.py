"""One WebSocket: opened with a token, read frame by frame, written by a task of its own.

Writing never blocks reading: frames wait in a list, whose length the window of the commands bounds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .codec import Codec, size
from .errors import VezaError
from .types import CLOSE_CODES

#: Longest time for the handshake.
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
#: `welcome` lists up to 10,000 conversations.
FRAME_BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True)
class Loss:
    """Why a connection is over, and what follows."""

    code: int
    name: str = "lost"
    is_final: bool = False
    slot_s: float = 0.0
    #: Of the answer to a handshake that the server has refused.
    status: int | None = None


class Connection:
    def __init__(self, socket: ClientConnection, codec: Codec) -> None:
        self._socket = socket
        self._codec = codec
        self._frames: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._writer = asyncio.create_task(self._write())
        self._loss: Loss | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        codec: Codec,
        *,
        token: Callable[[], Awaitable[str]],
        ticket: Callable[[], Awaitable[str]] | None,
        options: dict[str, Any],
    ) -> Connection:
        address, headers = f"{url}?subscribe=all", {}
        if ticket:
            address += f"&ticket={quote(await ticket())}"
        else:
            headers["Authorization"] = f"Bearer {await token()}"
        socket = await connect(
            address,
            additional_headers=headers,
            subprotocols=[websockets.Subprotocol(codec.subprotocol)],
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=FRAME_BYTES_MAX,
            **options,
        )
        return cls(socket, codec)

    def send(self, frame: dict[str, Any], bytes_max: int) -> None:
        """Queues a frame. The server closes a connection that sends a larger one than ``bytes_max``."""
        encoded = self._codec.encode(frame)
        if size(encoded) > bytes_max:
            raise VezaError("too_large", "This is larger than the server accepts")
        self._frames.put_nowait(encoded)

    async def _write(self) -> None:
        try:
            while True:
                await self._socket.send(await self._frames.get())
        except ConnectionClosed:
            pass  # the reader has the reason

    async def receive(self) -> dict[str, Any] | Loss:
        """The next frame, or why there is none."""
        try:
            data = await self._socket.recv()
        except ConnectionClosed as closed:
            return self._loss or loss(closed)
        try:
            return self._codec.decode(data)
        except ValueError:
            return Loss(1007)  # not a frame of the server: something between has damaged it

    def drop(self, why: Loss) -> None:
        """Ends the connection without waiting for its close, which may take minutes over a dead network."""
        self._loss = self._loss or why
        self._writer.cancel()
        self._socket.transport.abort()

    async def close(self) -> None:
        """A clean close."""
        await self._socket.close(1000)
        self._writer.cancel()


async def attempt(
    url: str,
    codec: Codec,
    *,
    token: Callable[[], Awaitable[str]],
    ticket: Callable[[], Awaitable[str]] | None,
    options: dict[str, Any],
) -> Connection | Loss:
    """Opens a connection, or returns why that failed."""
    try:
        opening = Connection.open(url, codec, token=token, ticket=ticket, options=options)
        return await asyncio.wait_for(opening, OPEN_TIMEOUT_S)
    except InvalidStatus as refused:
        status, after = refused.response.status_code, refused.response.headers.get("Retry-After", "")
        is_final = status in (401, 403)
        name = "signed_out" if is_final else "lost"
        return Loss(1006, name, is_final, float(after) if after.isdigit() else 0.0, status)
    except VezaError as error:
        is_final = error.status in (401, 403)
        return Loss(1006, "signed_out" if is_final else "lost", is_final, error.retry_after or 0.0)
    except Exception:  # no route, a cut handshake, a proxy that speaks something else
        return Loss(1006)


def loss(closed: ConnectionClosed) -> Loss:
    """The meaning of a close. A close by a proxy has no JSON; then its code decides. An unknown code: reconnect."""
    if closed.rcvd is None:
        return Loss(1006)
    code = int(closed.rcvd.code)
    name, reconnects = CLOSE_CODES.get(code, ("lost", True))
    if code == 1000:
        reconnects = True  # the server answers 1000 only to a client that closed: this is something between
    try:
        reason = json.loads(closed.rcvd.reason)
        slot = reason.get("retry_after_ms", 0) / 1000
        return Loss(code, reason.get("code", name), not reason.get("reconnect", reconnects), slot)
    except (ValueError, AttributeError, TypeError):
        return Loss(code, name, not reconnects)
