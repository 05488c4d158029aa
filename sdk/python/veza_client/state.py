"""The states of a client. docs/client-protocol.md has the transitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal["idle", "connecting", "catching_up", "live", "waiting", "ended"]


@dataclass(frozen=True)
class State:
    name: Name
    #: Of a close; 1006 if there was none.
    code: int | None = None
    #: Why the client has ended.
    reason: str | None = None
    #: Seconds until the next attempt.
    retry_in: float | None = None
