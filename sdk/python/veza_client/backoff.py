"""How long to wait before the next attempt to connect. Pure: randomness comes in from outside.

Full jitter: the wait is uniform between 0 and a bound that doubles with each attempt. Clients that lost their
connection at the same moment therefore reconnect spread over the bound, and not in waves. A time that the server sets
is a slot for this client alone: the client keeps it exactly and adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable

BASE_S = 0.25
MAX_S = 5.0
#: A connection that lasted this long, or brought something, has worked: the next wait is short again.
STABLE_S = 1.0
#: Attempts that count after another one.
UNSTABLE_ATTEMPTS = 2


class Backoff:
    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._attempts = 0

    def next(self, slot_s: float) -> float:
        """Seconds until the next attempt. ``slot_s``: what the server asked for."""
        bound = min(MAX_S, BASE_S * 2 ** min(self._attempts, 10))
        self._attempts += 1
        return slot_s if slot_s > 0 else bound * self._random()

    def lived(self, lived_s: float, has_worked: bool) -> None:
        """A connection has ended that was up for ``lived_s``. ``has_worked``: it brought an event or an ack."""
        self._attempts = 0 if has_worked or lived_s >= STABLE_S else min(self._attempts, UNSTABLE_ATTEMPTS)
