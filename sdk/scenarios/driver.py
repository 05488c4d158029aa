"""Lets the scenario runner use the Python SDK: commands as lines of JSON on standard input, reports on standard output.

driver.mjs is its twin; run.py has the protocol.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from veza_client import FileStore, Session, VezaClient, VezaError

#: Characters of a text that are reported.
SHOWN = 40


def report(**line: Any) -> None:
    print(json.dumps({key: value for key, value in line.items() if value is not None}), flush=True)


class Driver:
    def __init__(self) -> None:
        self.client: VezaClient
        self.runs = asyncio.Event()
        self.runs.set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_done = asyncio.Event()

    def start(self, base_url: str, tokens: dict[str, Any], store: str, format: Any, events_max: int = 1_000) -> None:
        session = Session(base_url, on_tokens=lambda renewed: report(tokens=renewed), **tokens)
        client = VezaClient(session, format=format, store=FileStore(store), events_max=events_max)
        client.on("state", lambda state: report(state=state.name, code=state.code, reason=state.reason))
        client.on("gone", lambda gone: report(gone=gone["conversation_id"]))
        client.on("sent", lambda out: report(sent=out.message["content"], seq=out.ack["seq"]))
        client.on("refused", lambda out: report(refused=out.message["content"], code=out.error.code))
        self.client = client
        self.spawn(self.handle())
        client.connect()

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def send(self, conversation_id: str, content: str) -> None:
        try:
            self.client.send_soon(conversation_id=conversation_id, content=content)
            report(accepted=content)
        except VezaError as error:
            report(failed=content, code=error.code)

    def request(self, tag: str, type: str, data: dict[str, Any]) -> None:
        async def work() -> None:
            try:
                report(tag=tag, ack=await self.client.request(type, data))
            except VezaError as error:
                report(tag=tag, code=error.code)

        self.spawn(work())

    def pause(self) -> None:
        self.runs.clear()

    def go_on(self) -> None:
        self.runs.set()

    def close(self) -> None:
        async def work() -> None:
            await self.client.close()
            self.is_done.set()

        self.spawn(work())

    async def handle(self) -> None:
        """The application: it handles one event after the other."""
        async for event in self.client.events():
            await self.runs.wait()
            data: Any = event["data"]
            if event["type"] == "reset":
                read = [message["content"][:SHOWN] async for message in self.client.history(data["conversation_id"])]
                report(event="reset", **{"in": data["conversation_id"]}, seq=data["last_seq"], read=read)
            else:
                what = {"in": data.get("conversation_id"), "at": data.get("created_at")}
                content = data.get("content", "")[:SHOWN]
                report(event=event["type"], seq=data.get("seq"), content=content, **what)


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    driver = Driver()

    async def obey() -> None:
        while line := await reader.readline():
            command = json.loads(line)
            getattr(driver, command.pop("do"))(**command)
        driver.is_done.set()

    driver.spawn(obey())
    await driver.is_done.wait()


asyncio.run(main())
