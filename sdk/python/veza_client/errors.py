"""Errors of the client, and the keys that make a send idempotent."""

from __future__ import annotations

import secrets
from typing import Any


class VezaError(Exception):
    """A failed command.

    ``code`` is an error code of the protocol, or one of the client's own: ``disconnected`` (the connection was lost
    before the answer), ``closed`` (the client has ended), ``outbox_full``, ``unreachable``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        #: Seconds to wait before the same request.
        self.retry_after = retry_after
        self.details = details or {}
        #: Of an HTTP answer; 0 if there was none.
        self.status = status

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> VezaError:
        """The error in the data of an ``error`` frame."""
        wait = data.get("retry_after_ms")
        after = None if wait is None else wait / 1000
        return cls(data["code"], data["message"], retry_after=after, details=data.get("details"))


def new_key() -> str:
    """A unique client_message_id."""
    return secrets.token_hex(16)
