"""Runs scenario.json: clients of an SDK, each behind a proxy with faults, against a server.

    run.py --server 127.0.0.1:8080 --sdk js|python|both --node NODE --modules NODE_MODULES [--seed N]

Each client is a process (driver.mjs or driver.py), so that both languages follow the same steps and the same checks.
The end of each part is one state for all of them: no faults, no message without an ack, every cursor at the head of its
log. Then the runner reads the logs from the server and compares:

1. every acknowledged message is in its log once, at the seq of its ack;
2. the messages of a sender are in the order in which it sent them;
3. each client received each change after its start once, in order of seq, without a gap, and with the right content;
   a `reset` may stand for a gap if the scenario asks for one.

The caller starts, kills and stops the server: the runner prints `kill`, `stop` or `start` on standard
output and waits for a line on standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

from proxy import Faults, Proxy

HERE = Path(__file__).resolve().parent
#: Characters of a text that the clients report.
SHOWN = 40
PASSWORD = "correct horse battery"


class Broken(Exception):
    """A property does not hold."""


def require(holds: bool, text: str) -> None:
    if not holds:
        raise Broken(text)


class Server:
    """The server without a proxy: what is true."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.base = f"http://{address}"

    def call(self, path: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{self.base}{path}", json.dumps(body).encode(), headers)
        for attempt in range(20):
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    answer: dict[str, Any] = json.load(response)
                    return answer
            except urllib.error.HTTPError as error:
                problem = json.load(error)
                if error.code not in (429, 503) or attempt == 19:
                    raise Broken(f"{path}: {problem}") from None
                time.sleep(problem.get("retry_after_ms", 100) / 1000)
            except OSError:
                time.sleep(0.1)
        raise Broken(f"{path}: the server cannot be reached")

    async def ask(self, path: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.call, path, body, token)


class Person:
    """A user, its client process, and what the client reported."""

    def __init__(self, world: World, name: str, sdk: str) -> None:
        self.world = world
        self.name = name
        self.sdk = sdk
        self.proxy = Proxy(world.server.address, f"{world.seed} {name}")
        self.store = world.folder / f"{name}.jsonl"
        self.tokens: dict[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.own_until = 0.0
        self.id = 0
        self.process: asyncio.subprocess.Process | None = None
        self.reader: asyncio.Task[None] | None = None
        self.options: dict[str, Any] = {}
        self.state = "idle"
        #: Conversation → events in their order of arrival, over all runs of the process.
        self.events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        #: Messages in the order of `send`.
        self.sent: defaultdict[str, list[str]] = defaultdict(list)
        self.acks: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.codes: set[int] = set()
        self.count = 0
        #: Messages that the SDK has accepted.
        self.accepted: set[str] = set()
        #: Whether the process was killed, and whether it has received no event since.
        self.was_killed = self.is_fresh = False

    async def sign_up(self) -> None:
        unique = f"{self.name}_{self.world.tag}"
        account = {"username": unique, "email": f"{unique}@example.org", "password": PASSWORD}
        answer = await self.world.server.ask("/auth/register", account)
        self.id, self.tokens = answer["user"]["id"], answer
        await self.proxy.start()

    async def token(self) -> str:
        """An access token of a session of its own, for requests beside the client."""
        if time.monotonic() > self.own_until:
            unique = f"{self.name}_{self.world.tag}"
            call, body = "/auth/login", {"login": unique, "password": PASSWORD}
            if self.own:
                call, body = "/auth/refresh", {"refresh_token": self.own["refresh_token"]}
            self.own = await self.world.server.ask(call, body)
            self.own_until = time.monotonic() + self.own["expires_in"] / 3
        return str(self.own["access_token"])

    async def start(self, **options: Any) -> None:
        self.options = {"format": "json", **options}
        arguments = self.world.arguments
        command = [sys.executable, str(HERE / "driver.py")]
        if self.sdk == "js":
            command = [arguments.node, str(HERE / "driver.mjs"), arguments.modules]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24)
        self.reader = asyncio.create_task(self.read(self.process))
        kept = ("access_token", "refresh_token", "expires_in")
        tokens = {key: self.tokens[key] for key in kept}
        base = f"http://127.0.0.1:{self.proxy.port}"
        self.command(do="start", base_url=base, tokens=tokens, store=str(self.store), **self.options)

    def command(self, **command: Any) -> None:
        assert self.process and self.process.stdin
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            self.reported(json.loads(line))
            self.world.changed()
        self.state = "ended"
        self.world.changed()

    def reported(self, line: dict[str, Any]) -> None:
        if "event" in line:
            events = self.events[line.get("in", "")]
            is_repeated = self.is_fresh and events and events[-1].get("seq") == line.get("seq")
            if line.get("at") or line["event"] == "reset":
                # A process that is killed between handling an event and storing its cursor receives it once more.
                if not is_repeated:
                    events.append(line)
                self.is_fresh = False
        elif "tokens" in line:
            self.tokens = line["tokens"]
        elif "state" in line:
            self.state = line["state"]
            if line.get("code"):
                self.codes.add(line["code"])
        elif "sent" in line:
            is_new = self.acks.get(line["sent"], line["seq"]) == line["seq"]
            require(is_new, f"{self.name}: two acks for {line['sent']}")
            self.acks[line["sent"]] = line["seq"]
        elif "accepted" in line:
            self.accepted.add(line["accepted"])
        elif "refused" in line or "failed" in line:
            self.failed[line.get("refused") or line["failed"]] = line["code"]
        elif "tag" in line:
            self.answers[line["tag"]] = line

    async def stop(self, *, is_kill: bool) -> None:
        assert self.process and self.reader
        if is_kill:
            self.process.kill()
            self.was_killed = self.is_fresh = True
        else:
            self.command(do="close")
        await asyncio.wait_for(self.reader, self.world.arguments.patience)
        await self.process.wait()
        for room, log in self.sent.items():  # what was still on its way to the process is not the SDK's
            self.sent[room] = [content for content in log if content in self.accepted]

    def send(self, room: str, count: int) -> None:
        for _ in range(count):
            self.count += 1
            content = f"{self.name} {self.count}"
            self.sent[room].append(content)
            self.command(do="send", conversation_id=room, content=content)

    async def request(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        tag = f"request {self.count}"
        self.command(do="request", tag=tag, type=kind, data=data)
        await self.world.until(lambda: tag in self.answers, f"{self.name}: an answer to {kind}")
        require("ack" in self.answers[tag], f"{self.name}: {kind}: {self.answers[tag]}")
        ack: dict[str, Any] = self.answers[tag]["ack"]
        return ack

    def at(self, room: str) -> int:
        """The seq of the last event."""
        return self.events[room][-1]["seq"] if self.events[room] else 0


class World:
    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.seed = arguments.seed
        self.tag = f"{arguments.sdk}{arguments.seed}_{time.time_ns() % 10**9}"[:36]
        self.server = Server(arguments.server)
        self.people: dict[str, Person] = {}
        self.rooms: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        #: Room → its log as it was read last.
        self.logs: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        #: (person, room) → the seq after which the person receives events, and whether `reset` is allowed.
        self.starts: dict[tuple[str, str], int] = {}
        self.resets: set[str] = set()
        self.condition = asyncio.Event()
        self.bulk = 0

    def changed(self) -> None:
        self.condition.set()

    async def until(self, holds: Any, what: str) -> None:
        end = time.monotonic() + self.arguments.patience
        while not holds():
            self.condition.clear()
            try:
                await asyncio.wait_for(self.condition.wait(), min(0.2, max(0.01, end - time.monotonic())))
            except TimeoutError:
                pass
            if time.monotonic() > end:
                states = {name: (person.state, person.sdk) for name, person in self.people.items()}
                raise Broken(f"did not happen: {what}; {states}; {self.progress()}")

    def progress(self) -> str:
        return str({f"{name} {room}": self.people[name].at(self.rooms[room]) for name, room in self.starts})

    async def operate(self, order: str) -> None:
        """Lets the caller kill, stop or start the server."""
        print(order, flush=True)
        answer = await asyncio.to_thread(sys.stdin.readline)
        require(bool(answer), f"the caller has not answered {order}")

    async def run(self, scenario: dict[str, Any]) -> None:
        sdks = ["js", "python"] if self.arguments.sdk == "both" else [self.arguments.sdk]
        for at, name in enumerate(scenario["people"]):
            self.people[name] = Person(self, name, sdks[at % len(sdks)])
        await asyncio.gather(*(person.sign_up() for person in self.people.values()))
        for room, members in scenario["rooms"].items():
            await self.create(room, members)
        for number, part in enumerate(scenario["parts"]):
            if number > 0 and (self.arguments.part or "") not in part["name"]:
                continue
            started = time.monotonic()
            try:
                for step in part["steps"]:
                    await self.step(step)
                await self.settle()
                await self.check()
            except Broken as broken:
                raise Broken(f"{part['name']}: {broken}") from None
            counts = {name: dict(person.proxy.counts) for name, person in self.people.items()}
            events = sum(len(log) for person in self.people.values() for log in person.events.values())
            print(f"# {part['name']}: {time.monotonic() - started:.1f} s, {events} events so far", file=sys.stderr)
            if self.arguments.verbose:
                print(f"#   {counts}", file=sys.stderr)

    async def create(self, room: str, members: list[str]) -> None:
        owner, *others = (self.people[name] for name in members)
        token = await owner.token()
        data = {"kind": "public_room", "name": f"{room} {self.tag}"}
        made = await self.server.ask("/api/commands", {"type": "create_conversation", "data": data}, token)
        self.rooms[room], self.owners[room] = made["conversation"]["id"], members[0]
        for other in others:
            data = {"conversation_id": self.rooms[room]}
            await self.server.ask("/api/commands", {"type": "join_conversation", "data": data}, await other.token())
        head = await self.head(room)
        self.starts.update({(name, room): head for name in members})

    async def head(self, room: str) -> int:
        token, data = await self.people[self.owners[room]].token(), {"conversation_id": self.rooms[room]}
        found = await self.server.ask("/api/commands", {"type": "get_conversation", "data": data}, token)
        head: int = found["conversation"]["last_seq"]
        return head

    async def log(self, room: str) -> tuple[int, list[dict[str, Any]]]:
        """The last seq and all messages, as the server has them."""
        head, messages, after = await self.head(room), [], 0
        while True:
            token = await self.people[self.owners[room]].token()
            page = {"conversation_id": self.rooms[room], "after_seq": after, "limit": 200}
            answer = await self.server.ask("/api/commands", {"type": "get_history", "data": page}, token)
            messages += answer["messages"]
            if not answer["has_more"]:
                return head, messages
            after = messages[-1]["seq"]

    # Steps

    async def step(self, step: dict[str, Any]) -> None:
        (name, given), *options = step.items()
        await getattr(self, f"do_{name}")(given, **dict(options))

    def these(self, names: str | list[str]) -> list[Person]:
        chosen = list(self.people) if names == "all" else [names] if isinstance(names, str) else names
        return [self.people[name] for name in chosen]

    async def do_start(self, names: Any, **options: Any) -> None:
        for person in self.these(names):
            await person.start(**options)
        for person in self.these(names):
            await self.until(lambda person=person: person.state == "live", f"{person.name} is live")

    async def do_send(self, names: Any, to: str, count: int) -> None:
        for person in self.these(names):
            person.send(self.rooms[to], count)

    async def do_bulk(self, name: str, to: str, count: int, size: int) -> None:
        """Messages over HTTP, beside the clients."""
        token = await self.people[name].token()

        async def send(number: int) -> None:
            content = f"bulk {number} ".ljust(size, "👋")
            data = {"conversation_id": self.rooms[to], "content": content, "client_message_id": f"bulk {number}"}
            await self.server.ask("/api/commands", {"type": "send_message", "data": data}, token)

        numbers = range(self.bulk, self.bulk + count)
        self.bulk += count
        await asyncio.gather(*map(send, numbers))

    async def do_faults(self, names: Any, **faults: Any) -> None:
        if "cut_bytes" in faults:
            faults["cut_bytes"] = tuple(faults["cut_bytes"])
        for person in self.these(names):
            person.proxy.faults = Faults(**faults)

    async def do_cut(self, names: Any, times: int = 1, every_ms: int = 100) -> None:
        for turn in range(times):
            if turn:
                await asyncio.sleep(every_ms / 1000)
            for person in self.these(names):
                person.proxy.cut()

    async def do_away(self, names: Any) -> None:
        """There is no way to the server until `back`."""
        for person in self.these(names):
            person.proxy.is_open = False
            person.proxy.cut()

    async def do_back(self, names: Any) -> None:
        for person in self.these(names):
            person.proxy.is_open = True

    async def do_lag(self, name: str, to: str, sender: str, count: int, size: int) -> None:
        """The client reads nothing while much is sent, until the server has announced that it lags.

        An attempt fails if the connection ends meanwhile, for example with its access token.
        """
        person, end = self.people[name], time.monotonic() + self.arguments.patience
        while not person.proxy.counts["lagging"]:
            require(time.monotonic() < end, f"{name} never lags")
            person.proxy.flows.clear()
            await self.do_bulk(sender, to, count, size)
            person.proxy.flows.set()
            head = await self.head(to)
            await self.until(lambda head=head: person.at(self.rooms[to]) >= head, f"{name} catches up")

    async def do_pause(self, names: Any) -> None:
        for person in self.these(names):
            person.command(do="pause")

    async def do_go_on(self, names: Any) -> None:
        for person in self.these(names):
            person.command(do="go_on")

    async def do_restart(self, names: Any, how: str, **options: Any) -> None:
        """The process ends, by `kill` or `close`, and a new one goes on with its store."""
        for person in self.these(names):
            await person.stop(is_kill=how == "kill")
            await person.start(**{**person.options, **options})
        for person in self.these(names):
            await self.until(lambda person=person: person.state == "live", f"{person.name} is live again")

    async def do_ahead(self, name: str, to: str, by: int) -> None:
        """A restart with a cursor that is ahead of the log, as after a restored backup. `reset` follows."""
        person = self.people[name]
        await person.stop(is_kill=False)
        with person.store.open("a") as file:
            file.write(json.dumps({"cursor": [self.rooms[to], await self.head(to) + by, True]}) + "\n")
        self.resets.add(name)
        await person.start(**person.options)
        events = person.events[self.rooms[to]]
        await self.until(lambda: events and events[-1]["event"] == "reset", f"{name} receives reset")

    async def do_acks(self, names: Any) -> None:
        """Every message so far is acknowledged, while the faults go on."""
        for person in self.these(names):
            await self.acknowledged(person)

    async def do_close(self, names: Any, code: int, reason: dict[str, Any]) -> None:
        """The proxy closes the WebSocket as the server would."""
        for person in self.these(names):
            person.codes.discard(code)
            end = time.monotonic() + self.arguments.patience
            while code not in person.codes:  # it may be between two connections
                require(time.monotonic() < end, f"{person.name} is not closed with {code}")
                await person.proxy.close_websockets(code, json.dumps(reason))
                await asyncio.sleep(0.1)

    async def do_server(self, order: str) -> None:
        await self.operate(order)

    async def do_create(self, name: str, room: str, invite: list[str]) -> None:
        """A conversation over the client's own connection. Its members receive it from its first event on."""
        person = self.people[name]
        members = [self.people[other].id for other in invite]
        data = {"kind": "group", "name": room, "member_ids": members}
        made = await person.request("create_conversation", data)
        self.rooms[room], self.owners[room] = made["conversation"]["id"], name
        self.starts.update({(member, room): 0 for member in [name, *invite]})

    async def do_expect(self, name: str, code: int | None = None, frame: str | None = None) -> None:
        person = self.people[name]
        if code:
            await self.until(lambda: code in person.codes, f"a close of {name} with {code}")
        if frame:
            await self.until(lambda: person.proxy.counts[frame] > 0, f"{frame} for {name}")

    async def do_expect_refusal(self, name: str, to: str, content: str, code: str) -> None:
        person = self.people[name]
        person.command(do="send", conversation_id=self.rooms[to], content=content)
        await self.until(lambda: person.failed.get(content) == code, f"{name} is refused with {code}")
        del person.failed[content]

    # The end of a part

    async def settle(self) -> None:
        for person in self.people.values():
            person.proxy.faults = Faults()
            person.proxy.flows.set()
            person.proxy.is_open = True
        for person in self.people.values():
            if person.process is None:
                continue
            person.command(do="go_on")
            # A connection with a byte budget is still to be cut: a new one has none.
            for link in list(person.proxy.links):
                if link.budget is not None:
                    link.cut()
            await self.acknowledged(person)
        heads = {room: await self.head(room) for room in {room for _, room in self.starts}}
        for name, room in self.starts:
            person = self.people[name]
            if person.process is not None:
                at, head = self.starts[name, room], heads[room]
                await self.until(
                    lambda person=person, room=room, at=at, head=head: max(at, person.at(self.rooms[room])) >= head,
                    f"{name} has the log of {room} up to {head}",
                )

    async def acknowledged(self, person: Person) -> None:
        expected = [content for log in person.sent.values() for content in log]
        if person.was_killed:  # between an ack and its report, perhaps
            for room in {room for name, room in self.starts if name == person.name}:
                sent = set(person.sent[self.rooms[room]])
                for message in (await self.log(room))[1] if sent else []:
                    if message["content"] in sent:
                        person.acks.setdefault(message["content"], message["seq"])
            person.was_killed = False
        await self.until(
            lambda: all(content in person.acks for content in expected), f"the acks of {person.name} ({len(expected)})"
        )

    async def check(self) -> None:
        for room in {room for _, room in self.starts}:
            if room not in self.logs or self.logs[room][0] != await self.head(room):
                self.logs[room] = await self.log(room)
            head, messages = self.logs[room]
            contents = {message["seq"]: message["content"] for message in messages}
            seqs: dict[str, int] = {}
            for seq, content in contents.items():
                require(content not in seqs, f"{content} is in {room} twice, at {seqs.get(content)} and {seq}")
                if content:
                    seqs[content] = seq
            for name, person in self.people.items():
                require(not person.failed, f"{name}: refused: {person.failed}")
                self.check_sent(person, self.rooms[room], seqs)
                if (name, room) in self.starts and person.process is not None:
                    self.check_received(person, room, head, contents)

    @staticmethod
    def check_sent(person: Person, room: str, seqs: dict[str, int]) -> None:
        sent = person.sent[room]
        for content in sent:
            require(content in seqs, f"{person.name}: {content} was acknowledged and is lost")
            require(seqs[content] == person.acks[content], f"{person.name}: the ack of {content} has another seq")
        order = [seqs[content] for content in sent]
        require(order == sorted(order), f"{person.name}: messages in another order than sent: {order}")

    def check_received(self, person: Person, room: str, head: int, contents: dict[int, str]) -> None:
        at = self.starts[person.name, room]
        for event in person.events[self.rooms[room]]:
            seq, kind = event["seq"], event["event"]
            if kind == "reset":
                require(person.name in self.resets, f"{person.name}: a reset in {room}")
                read, there = event["read"], [contents[seq][:SHOWN] for seq in sorted(contents)]
                require(there[: len(read)] == read, f"{person.name}: the history after reset is another")
            else:
                require(seq == at + 1, f"{person.name} in {room}: {kind} {seq} after {at}")
            if kind == "message_created":
                require(
                    contents[seq][:SHOWN] == event["content"], f"{person.name} in {room}: {seq} has another content"
                )
            at = seq
        require(at == head, f"{person.name} in {room}: the last event is {at}, the log ends with {head}")


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--sdk", choices=["js", "python", "both"], required=True)
    parser.add_argument("--node", default="node")
    parser.add_argument("--modules", required=True, help="a folder with node_modules")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--patience", type=float, default=40.0, help="seconds that every wait may last")
    parser.add_argument("--part", help="only the parts with this in their name, and the first one")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    print(f"# seed {arguments.seed}, sdk {arguments.sdk}", file=sys.stderr)
    scenario = json.loads((HERE / "scenario.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        world = World(arguments, Path(folder))
        try:
            await world.run(scenario)
        except Broken as broken:
            print(f"seed {arguments.seed}, sdk {arguments.sdk}: {broken}", file=sys.stderr)
            return 1
        finally:
            for person in world.people.values():
                if person.process and person.process.returncode is None:
                    person.process.kill()
                    await person.process.wait()
                person.proxy.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
