"""What a later run of the program needs to go on: the cursors, and the messages without an ack.

The functions of a store are synchronous: a message is stored before it is sent. :class:`FileStore` writes lines of
JSON, where a later line overrides an earlier one. A line that is cut off was not written. The file has the same lines
as that of the JavaScript package.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

#: Lines after which the file is written anew.
LINES_MAX = 10_000


@dataclass
class StoredState:
    user: int | None = None
    cursors: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    outbox: list[dict[str, Any]] = field(default_factory=list)


class Store(Protocol):
    def load(self) -> StoredState: ...

    def begin(self, user: int) -> None: ...

    def set_cursor(self, conversation: str, seq: int, is_member: bool) -> None: ...

    def put_message(self, message: dict[str, Any]) -> None: ...

    def remove_message(self, client_message_id: str) -> None: ...


class FileStore:
    """A store in a file. One client at a time may use it."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._user: int | None = None
        self._cursors: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._outbox: dict[str, dict[str, Any]] = {}
        self._lines = 0
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    self._apply(json.loads(line))
                except ValueError:
                    break  # the last line was cut off
        self._compact()

    def _apply(self, entry: dict[str, Any]) -> None:
        if "user" in entry:
            self._user = entry["user"]
        if "cursor" in entry:
            conversation, seq, is_member = entry["cursor"]
            self._cursors.pop(conversation, None)
            self._left.pop(conversation, None)
            (self._cursors if is_member else self._left)[conversation] = seq
        if "message" in entry:
            self._outbox[entry["message"]["client_message_id"]] = entry["message"]
        if "done" in entry:
            self._outbox.pop(entry["done"], None)

    def _write(self, entry: dict[str, Any]) -> None:
        self._apply(entry)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))
        self._lines += 1
        if self._lines >= LINES_MAX:
            self._compact()

    def _compact(self) -> None:
        """Writes the state beside the file and renames it, so that a crash leaves the old or the new one."""
        entries: list[dict[str, Any]] = [] if self._user is None else [{"user": self._user}]
        entries += [{"cursor": [name, seq, True]} for name, seq in self._cursors.items()]
        entries += [{"cursor": [name, seq, False]} for name, seq in self._left.items()]
        entries += [{"message": message} for message in self._outbox.values()]
        part = self._path.with_name(self._path.name + ".part")
        with part.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, entries))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        self._lines = 0

    def load(self) -> StoredState:
        return StoredState(self._user, dict(self._cursors), dict(self._left), list(self._outbox.values()))

    def begin(self, user: int) -> None:
        self._write({"user": user})

    def set_cursor(self, conversation: str, seq: int, is_member: bool) -> None:
        self._write({"cursor": [conversation, seq, is_member]})

    def put_message(self, message: dict[str, Any]) -> None:
        self._write({"message": message})

    def remove_message(self, client_message_id: str) -> None:
        self._write({"done": client_message_id})


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"
