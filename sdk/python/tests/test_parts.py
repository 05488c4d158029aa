"""The parts that do no I/O, against the cases of sdk/scenarios/parts.json, which the JavaScript package passes too."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from veza_client import FileStore, VezaClient, VezaError
from veza_client.backoff import Backoff
from veza_client.cursors import Cursors

CASES: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).resolve().parents[2] / "scenarios/parts.json").read_text()
)


class Parts(unittest.IsolatedAsyncioTestCase):
    def test_an_event_is_emitted_exactly_if_it_follows_the_cursor(self) -> None:
        for case in CASES["cursors"]:
            cursors = Cursors()
            for step in case["steps"]:
                with self.subTest(case["about"], step=step):
                    self.play(cursors, step)

    def play(self, cursors: Cursors, step: dict[str, Any]) -> None:
        if "meet" in step:
            first, complete = step.get("is_first", False), step.get("is_complete", True)
            met = cursors.compare(step["meet"], is_first=first, is_complete=complete)
            expected = (step.get("gone", []), step["started"], step["behind"])
            self.assertEqual((met.gone, met.started, met.behind), expected)
            for conversation in met.gone:
                cursors.leave(conversation)
        elif "leave" in step:
            cursors.leave(step["leave"])
        else:
            members = [{"id": member} for member in step.get("members", [])]
            user = {"id": step.get("user")}
            data = {"conversation_id": "room_6", "seq": step["seq"], "user": user, "members": members}
            self.assertEqual(cursors.classify(step["event"], data, 1), step["place"])
            if step["place"] in ("emit", "earlier"):
                cursors.move_to("room_6", step["seq"], is_emitted=step["place"] == "emit")

    def test_the_wait_is_below_a_bound_that_doubles(self) -> None:
        for case in CASES["backoff"]:
            for random in (0.0, 0.5, 0.999):
                with self.subTest(case["about"], random=random):
                    backoff = Backoff(lambda random=random: random)
                    if "lived" in case:
                        for _ in range(9):
                            backoff.next(0)
                        lived_ms, has_worked = case["lived"]
                        backoff.lived(lived_ms / 1000, has_worked)
                    for bound_ms in case["bounds_ms"]:
                        self.assertAlmostEqual(backoff.next(0), bound_ms / 1000 * random)
                    self.assertEqual(backoff.next(1.234), 1.234, "a slot of the server is kept exactly")

    def test_a_store_ignores_a_line_that_is_cut_off(self) -> None:
        for case in CASES["journal"]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "store.jsonl"
                path.write_text("\n".join(case["lines"]))
                for _ in range(2):
                    state = FileStore(path).load()
                    keys = [message["client_message_id"] for message in state.outbox]
                    found = (state.user, state.cursors, state.left, keys)
                    self.assertEqual(found, (case["user"], case["cursors"], case["left"], case["outbox"]))

    async def test_a_full_outbox_refuses_a_message_at_once(self) -> None:
        client = VezaClient(url="ws://127.0.0.1:1/ws", ticket=self.ticket, outbox_max=2)
        waiting = [client.send_soon(conversation_id="room_6", content="x") for _ in range(2)]
        with self.assertRaises(VezaError) as raised:
            client.send_soon(conversation_id="room_6", content="x")
        self.assertEqual(raised.exception.code, "outbox_full")
        await client.close()
        with self.assertRaises(VezaError) as raised:
            await waiting[0]
        self.assertEqual(raised.exception.code, "closed")

    async def ticket(self) -> str:
        return "t"


if __name__ == "__main__":
    unittest.main()
