"""Events for an application that handles them one at a time: ``async for event in client.events()``.

The queue is bounded. When it is full, the client drops numbered events without moving their cursor, and replays the log
when there is room: the log is the queue behind the queue. Unnumbered events (typing, presence) are dropped. An event
counts as handled when the application asks for the next one; only then its cursor is stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from .types import Event


class EventQueue:
    def __init__(self, *, maximum: int, on_room: Callable[[], None], on_handled: Callable[[Event], None]) -> None:
        self._maximum = maximum
        self._on_room = on_room
        self._on_handled = on_handled
        self._events: deque[Event] = deque()
        self._arrival = asyncio.Event()
        self._is_ended = False
        self._was_full = False
        self._current: Event | None = None

    def has_room(self) -> bool:
        """Whether another event can be added. After False, ``on_room`` is called when half of the queue is free."""
        self._was_full = self._was_full or len(self._events) >= self._maximum
        return not self._was_full

    def drain(self) -> list[Event]:
        """Empties the queue."""
        events = list(self._events)
        self._events.clear()
        return events

    def push(self, kind: str, data: object) -> None:
        self._events.append(cast(Event, {"type": kind, "data": data}))
        self._arrival.set()

    def end(self) -> None:
        self._is_ended = True
        self._arrival.set()

    def handled(self) -> None:
        """The application is done with the event that it took."""
        taken, self._current = self._current, None
        if taken is not None:
            self._on_handled(taken)

    def __aiter__(self) -> EventQueue:
        return self

    async def __anext__(self) -> Event:
        self.handled()
        while not self._events:
            if self._is_ended:
                raise StopAsyncIteration
            self._arrival.clear()
            await self._arrival.wait()
        self._current = self._events.popleft()
        if self._was_full and len(self._events) <= self._maximum / 2:
            self._was_full = False
            self._on_room()
        return self._current
