"""Whether the other end of a connection still answers. Pure.

The client pings when nothing was received for half of the server's heartbeat. A dead network sends no close, so only a
ping without an answer shows that the connection is lost.
"""

from __future__ import annotations

from collections.abc import Callable

#: A connection without an answer to a ping for this long is dead.
PONG_TIMEOUT_S = 8.0
EVERY_S_MIN = 5.0
EVERY_S_MAX = 30.0


class Heartbeat:
    def __init__(self, heartbeat_s: float, ping: Callable[[], None]) -> None:
        self._every_s = min(max(heartbeat_s / 2, EVERY_S_MIN), EVERY_S_MAX)
        self._ping = ping
        #: The time between two looks.
        self.step_s = 1.0

    def look(self, now: float, last_frame_at: float, pinged_at: float | None) -> bool:
        """Pings if it is time. False: the connection is dead."""
        if pinged_at is not None and now - pinged_at >= PONG_TIMEOUT_S:
            return False
        if now - last_frame_at >= self._every_s:
            self._ping()
        return True
