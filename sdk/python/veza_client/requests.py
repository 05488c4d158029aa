"""Commands without an answer.

Each has an id that this client never uses again, so a late or repeated answer cannot answer another command. A window
bounds how many are at the server at the same time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import VezaError

TIMEOUT_S = 20.0
#: The server accepts 256 unanswered commands on a connection.
WINDOW = 100
#: Commands that change nothing; they are sent again on the next connection.
READS = re.compile(r"(get|list|search)_|ping$")


@dataclass
class Request:
    frame: dict[str, Any]
    future: asyncio.Future[dict[str, Any]]
    repeat: bool
    is_sent: bool = False
    alarm: asyncio.TimerHandle | None = None


class Requests:
    def __init__(self, transmit: Callable[[dict[str, Any]], None], is_ready: Callable[[], bool]) -> None:
        """``transmit`` sends a frame on the current connection; ``is_ready`` returns whether there is one."""
        self._transmit = transmit
        self._is_ready = is_ready
        self._next_id = 1
        self._open: dict[int, Request] = {}
        self._sent = 0

    def request(
        self,
        kind: str,
        data: Mapping[str, Any],
        *,
        timeout: float | None = None,
        repeat: bool | None = None,
        is_first: bool = False,
        on_timeout: Callable[[], None] = lambda: None,
    ) -> asyncio.Future[dict[str, Any]]:
        """Resolves with the data of the ack. ``is_first``: goes before commands that wait for the window."""
        loop = asyncio.get_running_loop()
        number, self._next_id = self._next_id, self._next_id + 1
        repeats = bool(READS.match(kind)) if repeat is None else repeat
        request = Request({"type": kind, "id": number, "data": dict(data)}, loop.create_future(), repeats)
        request.future.add_done_callback(lambda done: done.cancelled() or done.exception())

        def expire() -> None:
            self.settle(number)
            on_timeout()
            self.reject(request, VezaError("deadline_exceeded", "The server did not answer in time"))
            self.flush()

        request.alarm = loop.call_later(timeout or TIMEOUT_S, expire)
        self._open[number] = request
        if is_first and self._is_ready():
            self._send(request)
        else:
            self.flush()
        return request.future

    def flush(self) -> None:
        """Sends what waits, as far as the window allows."""
        if not self._is_ready():
            return
        for request in list(self._open.values()):
            if self._sent >= WINDOW:
                return
            if not request.is_sent:
                self._send(request)

    def _send(self, request: Request) -> None:
        request.is_sent = True
        self._sent += 1
        self._transmit(request.frame)

    def settle(self, number: Any) -> Request | None:
        """Removes a command from the list; None if it was answered before."""
        request = self._open.pop(number, None)
        if request is None:
            return None
        if request.is_sent:
            self._sent -= 1
        if request.alarm:
            request.alarm.cancel()
        return request

    def resolve(self, number: Any, data: dict[str, Any]) -> None:
        request = self.settle(number)
        if request and not request.future.done():
            request.future.set_result(data)
        self.flush()

    def refuse(self, number: Any, error: VezaError) -> None:
        request = self.settle(number)
        if request:
            self.reject(request, error)
        self.flush()

    @staticmethod
    def reject(request: Request, error: VezaError) -> None:
        if not request.future.done():
            request.future.set_exception(error)

    def lost(self) -> None:
        """The connection is lost. Commands that may have had an effect fail; the others wait for the next one."""
        for number, request in list(self._open.items()):
            if request.is_sent and not request.repeat:
                self.settle(number)
                self.reject(request, VezaError("disconnected", "The connection was lost"))
            request.is_sent = False
        self._sent = 0

    def end(self, error: VezaError) -> None:
        for number, request in list(self._open.items()):
            self.settle(number)
            self.reject(request, error)
