"""Decides by `seq` whether an event is new. Pure.

Each change of a conversation has the next seq. The cursor of a conversation is the seq of the last event that the
application received. Arithmetic decides about an event::

    seq = cursor + 1   new: it is delivered, and the cursor moves
    seq ≤ cursor       old: it was delivered before
    seq > cursor + 1   a gap: events are missing, and the log is replayed after the cursor

The cursor of a conversation that the user has left is kept apart. If they join again, nothing is delivered twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Place = Literal["emit", "old", "gap", "earlier"]

#: Events whose seq is that of another entry of the log.
UNNUMBERED = frozenset({"mention"})


def is_numbered(kind: str, data: Mapping[str, Any]) -> bool:
    """Whether an event is an entry of the log."""
    return isinstance(data.get("seq"), int) and kind not in UNNUMBERED


@dataclass(frozen=True)
class Comparison:
    """The result of comparing the cursors with a ``welcome``."""

    gone: list[str]
    started: list[str]
    behind: list[str]


class Cursors:
    def __init__(self) -> None:
        #: Conversation id → seq of the last delivered event.
        self.current: dict[str, int] = {}
        #: The same for conversations that the user has left.
        self.left: dict[str, int] = {}
        #: Conversations whose log is read from its start; events before the user joined are not delivered.
        self.joining: set[str] = set()

    def classify(self, kind: str, data: Mapping[str, Any], me: int | None) -> Place:
        """What to do with a numbered event. ``earlier`` moves the cursor and delivers nothing."""
        conversation, seq = data["conversation_id"], data["seq"]
        cursor = self.current.get(conversation)
        if cursor is None:
            return "old" if seq <= self.left.get(conversation, -1) else "emit"
        if seq <= cursor:
            return "old"
        if seq > cursor + 1:
            return "gap"
        if conversation not in self.joining:
            return "emit"
        return "emit" if is_arrival(kind, data, me) else "earlier"

    def move_to(self, conversation: str, seq: int, *, is_emitted: bool = True) -> None:
        """An event was delivered or skipped."""
        self.current[conversation] = seq
        self.left.pop(conversation, None)
        if is_emitted:
            self.joining.discard(conversation)

    def leave(self, conversation: str, seq: int | None = None) -> int | None:
        """The user has left: the next event may have any larger seq.

        ``seq``: of the last event, if it was received. Returns the cursor, if there was one.
        """
        self.joining.discard(conversation)
        cursor = self.current.pop(conversation, seq)
        if cursor is not None:
            self.left[conversation] = cursor
        return cursor

    def compare(
        self, heads: Mapping[str, int], *, is_first: bool, is_complete: bool, skips_joined: bool = False
    ) -> Comparison:
        """Compares with the heads of a ``welcome``.

        ``is_first``: there is no earlier run to continue. Then the log of each conversation is followed from now on;
        otherwise a conversation without a cursor was joined in the meantime, and is followed from the join.
        """
        gone = {name for name in self.current if name not in heads} if is_complete else set()
        started = []
        for name, head in heads.items():
            if name in self.current:
                continue
            left = self.left.get(name)
            cursor = head if is_first or skips_joined else (left or 0)
            if cursor == 0 and left is None and head > 0:
                self.joining.add(name)
            self.move_to(name, cursor, is_emitted=False)
            started.append(name)
        behind = [name for name, seq in self.current.items() if name not in gone and heads.get(name) != seq]
        return Comparison(sorted(gone), started, behind)


def is_arrival(kind: str, data: Mapping[str, Any], me: int | None) -> bool:
    """Whether an event is the start of the user's membership."""
    if kind == "conversation_created":
        return any(member["id"] == me for member in data["members"])
    return kind == "member_joined" and data["user"]["id"] == me
