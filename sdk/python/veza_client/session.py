"""A signed-in session over HTTP: its tokens, their refresh, and requests that carry them.

The access token is renewed before it expires (20 s before, or a quarter of its lifetime), and when the server no longer
accepts it. One refresh runs at a time, because a refresh token is valid once. A refresh whose answer was lost is
repeated with the same token: the server accepts that for 30 seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from .errors import VezaError

TIMEOUT_S = 15.0
MARGIN_S = 20.0


class Session:
    def __init__(
        self,
        base_url: str,
        *,
        refresh_token: str | None = None,
        access_token: str | None = None,
        expires_in: float | None = None,
        on_tokens: Callable[[dict[str, Any]], None] = lambda tokens: None,
    ) -> None:
        """``base_url``: of the server, https://chat.example.com. ``on_tokens`` is called with each new pair of tokens,
        to store it."""
        self._base = base_url.rstrip("/") + "/"
        self._on_tokens = on_tokens
        self._access_token = access_token
        self._refresh_token = refresh_token
        # Without a lifetime, an access token is used until the server refuses it.
        self._renew_at = float("inf") if expires_in is None else _renewal(expires_in)
        #: An access token that the server no longer accepts.
        self._expired: str | None = None
        self._used: str | None = None
        self._renewal: asyncio.Task[str] | None = None

    @classmethod
    async def sign_in(
        cls,
        base_url: str,
        *,
        login: str,
        password: str,
        totp_code: str | None = None,
        device_name: str | None = None,
        on_tokens: Callable[[dict[str, Any]], None] = lambda tokens: None,
    ) -> Session:
        """Signs in. ``login``: username or email."""
        session = cls(base_url, on_tokens=on_tokens)
        given = {"login": login, "password": password, "totp_code": totp_code, "device_name": device_name}
        credentials = {key: value for key, value in given.items() if value is not None}
        session._accept(await session._call("POST", "auth/login", credentials))
        return session

    @classmethod
    def of_bot(cls, base_url: str, token: str) -> Session:
        """The session of a bot, with one of its tokens instead of a password. It is used until it expires or is revoked,
        and ``sign_out`` does not end it: its owner revokes it."""
        return cls(base_url, access_token=token)

    @property
    def socket_url(self) -> str:
        """The URL of the WebSocket."""
        return "ws" + self._base.removeprefix("http") + "ws"

    @property
    def refresh_token(self) -> str | None:
        return self._refresh_token

    async def token(self, stale: str | None = None) -> str:
        """An access token that is good for a while. ``stale``: one that was refused."""
        token = self._access_token
        refused = (stale, self._expired)
        if token is None or token in refused or time.monotonic() >= self._renew_at:
            if self._renewal is None:
                self._renewal = asyncio.create_task(self._refresh())
                self._renewal.add_done_callback(self._renewed)
            token = await asyncio.shield(self._renewal)
        self._used = token
        return token

    def expire(self) -> None:
        """The server has refused the last token, or closed the connection because it expired."""
        self._expired = self._used

    async def ticket(self) -> str:
        """A ticket for one WebSocket, for clients that cannot set a header."""
        return str((await self.request("POST", "ws-ticket"))["ticket"])

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A request with the access token. When the server does not accept it, it is renewed once."""
        token = await self.token()
        try:
            return await self._call(method, path, body, token)
        except VezaError as error:
            if error.status != 401:
                raise
            return await self._call(method, path, body, await self.token(token))

    async def command(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """A command over HTTP; returns the data of its ack."""
        return await self.request("POST", "api/commands", {"type": kind, "data": data})

    async def sign_out(self) -> None:
        await self.request("POST", "auth/logout")
        self._access_token = self._refresh_token = None

    async def _refresh(self) -> str:
        if self._refresh_token is None:
            raise VezaError("unauthenticated", "Sign in again", status=401)
        return self._accept(await self._call("POST", "auth/refresh", {"refresh_token": self._refresh_token}))

    def _renewed(self, task: asyncio.Task[str]) -> None:
        self._renewal = None
        if not task.cancelled():
            task.exception()

    def _accept(self, tokens: dict[str, Any]) -> str:
        self._access_token, self._refresh_token = str(tokens["access_token"]), tokens["refresh_token"]
        self._renew_at = _renewal(tokens["expires_in"])
        self._on_tokens(tokens)
        return self._access_token

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> dict[str, Any]:
        return await asyncio.to_thread(self._call_blocking, method, path, body, token)

    def _call_blocking(self, method: str, path: str, body: Any, token: str | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        status = 0
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                text = response.read()
            answer: dict[str, Any] = json.loads(text) if text else {}
            return answer
        except urllib.error.HTTPError as error:
            status, after = error.code, error.headers.get("Retry-After")
            try:
                problem = json.loads(error.read())
            except (ValueError, OSError):
                problem = {}
        except Exception as error:  # OSError, a cut answer (http.client.IncompleteRead), an answer that is no JSON
            raise VezaError("unreachable", f"{method} /{path}: {error}", status=0) from None
        wait = problem.get("retry_after_ms")
        seconds = wait / 1000 if wait is not None else float(after) if after and after.isdigit() else None
        code, detail = problem.get("code", "internal"), problem.get("detail", f"HTTP status {status}")
        raise VezaError(code, detail, retry_after=seconds, details=problem.get("details"), status=status)


def _renewal(expires_in: float) -> float:
    """When a token of this lifetime is renewed."""
    return time.monotonic() + expires_in - min(MARGIN_S, expires_in / 4)


async def no_token() -> str:
    """The token of a client that has none."""
    raise VezaError("unauthenticated", "There is no token", status=401)
