"""veza_client/session.py against a small server.

A token is renewed before it expires and after it was refused, by one refresh at a time, which is repeated with the same
refresh token when its answer is lost.
"""

from __future__ import annotations

import asyncio
import json
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from veza_client import Session, VezaError


class Tokens:
    """What the server has issued and received."""

    def __init__(self) -> None:
        self.issued = 0
        self.expires_in = 900.0
        self.refreshed: list[str] = []
        #: Answers to a refresh that are lost.
        self.lose = 0
        self.is_revoked = False
        self.last: dict[str, Any] = {}

    def pair(self) -> dict[str, Any]:
        self.issued += 1
        names = {"access_token": f"access {self.issued}", "refresh_token": f"refresh {self.issued}"}
        self.last = {"user": {"id": 1}, "expires_in": self.expires_in, **names}
        return self.last

    def answer(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Status and body; None if the answer is lost."""
        if path == "/auth/login":
            return 200, self.pair()
        if path == "/auth/refresh":
            if self.is_revoked:
                return 401, {"code": "refresh_invalid", "detail": "Sign in again."}
            is_repeat = body["refresh_token"] in self.refreshed
            self.refreshed.append(body["refresh_token"])
            pair = self.last if is_repeat else self.pair()
            self.lose -= 1
            return None if self.lose >= 0 else (200, pair)
        if token != f"access {self.issued}":
            return 401, {"code": "unauthenticated", "detail": "The token has expired."}
        return 200, {"ticket": f"ticket of {token}"}


class SessionTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        tokens = self.tokens = Tokens()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                answered = tokens.answer(self.path, token, body)
                if answered is None:
                    self.close_connection = True
                    return
                self.send_response(answered[0])
                self.end_headers()
                self.wfile.write(json.dumps(answered[1]).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tearDown(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    async def sign_in(self) -> Session:
        return await Session.sign_in(f"http://127.0.0.1:{self.server.server_port}", login="ada", password="x")

    async def test_a_token_is_renewed_before_it_expires_once_for_requests_at_the_same_time(self) -> None:
        self.tokens.expires_in = 0.0
        session = await self.sign_in()
        self.tokens.expires_in = 900.0
        tickets = await asyncio.gather(*(session.ticket() for _ in range(3)))
        self.assertEqual(tickets, ["ticket of access 2"] * 3)
        self.assertEqual(self.tokens.refreshed, ["refresh 1"])

    async def test_a_token_is_renewed_after_the_server_has_refused_it_or_closed_with_4001(self) -> None:
        session = await self.sign_in()
        self.tokens.issued = 5  # the server accepts another token now
        self.assertEqual(await session.ticket(), "ticket of access 6")
        session.expire()
        self.assertEqual(await session.token(), "access 7")

    async def test_a_refresh_whose_answer_was_lost_is_repeated_and_a_refused_one_ends_the_session(self) -> None:
        session = await self.sign_in()
        await session.token()
        session.expire()
        self.tokens.lose = 1
        with self.assertRaises(VezaError) as raised:
            await session.token()
        self.assertEqual((raised.exception.code, raised.exception.status), ("unreachable", 0))
        self.assertEqual(await session.token(), "access 2")
        self.assertEqual(self.tokens.refreshed, ["refresh 1", "refresh 1"])
        session.expire()
        self.tokens.is_revoked = True
        with self.assertRaises(VezaError) as raised:
            await session.token()
        self.assertEqual(raised.exception.status, 401)

    async def test_a_bot_uses_its_token_until_the_server_refuses_it(self) -> None:
        self.tokens.issued = 1
        session = Session.of_bot(f"http://127.0.0.1:{self.server.server_port}", "access 1")
        self.assertEqual(await session.ticket(), "ticket of access 1")
        self.tokens.issued = 2
        with self.assertRaises(VezaError) as raised:
            await session.ticket()
        self.assertEqual((raised.exception.status, self.tokens.refreshed), (401, []))


if __name__ == "__main__":
    unittest.main()
