"""Messages on their way to the server: each is committed once, and those of a conversation in the order of ``add``.

A message has a client_message_id, under which the server stores it once. So it is sent again, over any number of
connections and runs of the program, until the server acknowledges or refuses it. One message per conversation is at the
server at a time: if a later one could overtake an earlier one that was refused for a moment, order would be lost.

The outbox is bounded. When it is full, ``add`` fails at once with ``outbox_full``, and the application decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import VezaError, new_key
from .store import Store
from .types import RETRIED

ACK_TIMEOUT_S = 15.0
WAIT_S_MIN = 0.5
WAIT_S_MAX = 15.0
#: The server's own faults are not the message's; after this many the message is refused.
INTERNAL_MAX = 5


class Ask(Protocol):
    def __call__(
        self, kind: str, data: Mapping[str, Any], *, timeout: float, repeat: bool, on_timeout: Callable[[], None]
    ) -> asyncio.Future[dict[str, Any]]: ...


@dataclass(eq=False)
class Entry:
    message: dict[str, Any]
    #: None for a message of an earlier run: its ack is reported by ``sent``.
    future: asyncio.Future[dict[str, Any]] | None
    is_busy: bool = False
    failures: int = 0
    not_before: float = 0.0
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True)
class Outcome:
    """The end of a message: its ack, or the error with which it was refused."""

    message: dict[str, Any]
    ack: dict[str, Any] | None = None
    error: VezaError | None = None


class Outbox:
    def __init__(
        self,
        *,
        request: Ask,
        is_ready: Callable[[], bool],
        store: Store | None,
        maximum: int,
        on_outcome: Callable[[Outcome], None],
        on_retry: Callable[[dict[str, Any], VezaError, float], None],
        on_unauthenticated: Callable[[], None],
        on_timeout: Callable[[], None],
    ) -> None:
        """``request`` sends a command; ``is_ready`` returns whether there is a connection."""
        self._request = request
        self._is_ready = is_ready
        self._store = store
        self._maximum = maximum
        self._on_outcome = on_outcome
        self._on_retry = on_retry
        self._on_unauthenticated = on_unauthenticated
        self._on_timeout = on_timeout
        #: Conversation id → entries; the first one may have been sent.
        self._queues: dict[str, deque[Entry]] = {}
        #: Messages that the server has not acknowledged.
        self.size = 0
        self._is_ended = False

    def add(self, data: Mapping[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Resolves with the ack."""
        if self._is_ended:
            raise VezaError("closed", "The client has ended")
        if self.size >= self._maximum:
            text = f"{self.size} messages wait for the server. Wait until some are acknowledged"
            raise VezaError("outbox_full", text)
        message = {**data, "client_message_id": data.get("client_message_id") or new_key()}
        if self._store:
            self._store.put_message(message)
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._push(Entry(message, future))
        return future

    def restore(self, messages: Iterable[dict[str, Any]]) -> None:
        """Messages of an earlier run, in their order."""
        for message in messages:
            self._push(Entry(message, None))

    def _push(self, entry: Entry) -> None:
        conversation = entry.message["conversation_id"]
        self._queues.setdefault(conversation, deque()).append(entry)
        self.size += 1
        self._flush(conversation)

    def flush(self) -> None:
        for conversation in list(self._queues):
            self._flush(conversation)

    def lost(self) -> None:
        """The connection is lost: what was sent is sent again on the next one."""
        for queue in self._queues.values():
            for entry in queue:
                entry.is_busy = False

    def begin(self) -> None:
        """The client connects, for the first time or again."""
        self._is_ended = False

    def end(self, error: VezaError) -> None:
        """The client has ended. The messages stay in the store, for the next run."""
        self._is_ended = True
        queues, self._queues, self.size = self._queues, {}, 0
        for queue in queues.values():
            for entry in queue:
                if entry.timer:
                    entry.timer.cancel()
                if entry.future and not entry.future.done():
                    entry.future.set_exception(error)

    def _flush(self, conversation: str) -> None:
        queue = self._queues.get(conversation)
        if not queue or queue[0].is_busy or not self._is_ready():
            return
        entry, loop = queue[0], asyncio.get_running_loop()
        if entry.not_before > loop.time():
            if entry.timer:
                entry.timer.cancel()
            entry.timer = loop.call_at(entry.not_before, self._flush, conversation)
            return
        entry.is_busy = True
        answer = self._request(
            "send_message", entry.message, timeout=ACK_TIMEOUT_S, repeat=False, on_timeout=self._on_timeout
        )
        answer.add_done_callback(lambda done: self._answered(entry, done))

    def _answered(self, entry: Entry, answer: asyncio.Future[dict[str, Any]]) -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if error is None:
            self._settle(entry, Outcome(entry.message, ack=answer.result()))
            return
        if not isinstance(error, VezaError):
            error = VezaError("internal", str(error))
        if error.code in ("disconnected", "closed"):
            return  # the next connection sends it again
        if error.code == "unauthenticated":
            entry.is_busy = False
            self._on_unauthenticated()
            return
        is_fault = error.code == "internal" and entry.failures < INTERNAL_MAX
        if error.code not in RETRIED and not is_fault:
            self._settle(entry, Outcome(entry.message, error=error))
            return
        wait = error.retry_after
        if wait is None:
            wait = min(WAIT_S_MIN * 2**entry.failures, WAIT_S_MAX)
        entry.failures += 1
        entry.is_busy = False
        entry.not_before = asyncio.get_running_loop().time() + wait
        self._on_retry(entry.message, error, wait)
        self._flush(entry.message["conversation_id"])

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        conversation = entry.message["conversation_id"]
        queue = self._queues.get(conversation)
        if not queue or queue[0] is not entry:
            return  # ended meanwhile
        queue.popleft()
        if not queue:
            del self._queues[conversation]
        self.size -= 1
        if self._store:
            self._store.remove_message(entry.message["client_message_id"])
        if entry.future and not entry.future.done():
            if outcome.error:
                entry.future.set_exception(outcome.error)
            elif outcome.ack is not None:
                entry.future.set_result(outcome.ack)
        self._on_outcome(outcome)
        self._flush(conversation)
