"""The connection and its state. docs/client-protocol.md has the rules.

::

    idle ─► connecting ─► catching_up ─► live        ended: close(), signed out, or a close without reconnect
                ▲  │            │          │
                │  ▼            ▼          ▼
              waiting ◄──── (connection lost)

It is put together from parts that do no I/O: cursors.py decides what is new, outbox.py what is sent, requests.py whose
answer has arrived, backoff.py when to try again.
"""

from __future__ import annotations

import asyncio
import random as randomness
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Unpack, cast

from . import types
from .backoff import Backoff
from .codec import codec
from .commands import Commands
from .connection import OPEN_TIMEOUT_S, Connection, Loss, attempt
from .cursors import Cursors, is_numbered
from .errors import VezaError
from .events import EventQueue
from .heartbeat import Heartbeat
from .outbox import Outbox
from .requests import Requests
from .session import Session, no_token
from .state import State
from .store import Store

#: A replay without an event for this long is requested again.
REPLAY_TIMEOUT_S = 20.0
#: Most conversations in one `resume`.
RESUME_MAX = 1_000
#: Commands after whose ack the user is a member: the events from their `seq` on belong to the client.
JOINS = frozenset({"join_conversation", "join_by_invite", "accept_invitation"})

Listener = Callable[[Any], None]


class VezaClient:
    def __init__(
        self,
        session: Session | None = None,
        *,
        url: str | None = None,
        token: Callable[[], Awaitable[str]] | None = None,
        ticket: Callable[[], Awaitable[str]] | None = None,
        expired: Callable[[], None] | None = None,
        format: Literal["json", "msgpack"] = "json",
        store: Store | None = None,
        outbox_max: int = 1_000,
        events_max: int = 1_000,
        skips_joined: bool = False,
        connect_options: dict[str, Any] | None = None,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        """``session``, or instead ``url`` (ws(s)://…/ws), ``token`` or ``ticket``, and ``expired``.

        When ``token`` or ``ticket`` fails with ``status`` 401 or 403, the client ends, otherwise it tries again.

        ``store``: see :mod:`veza_client.store`. ``outbox_max``: messages without an ack. ``events_max``: events that
        wait in :meth:`events`; 0 for a client that only sends. ``skips_joined``: whether the log of a conversation that
        was joined while away is skipped. ``connect_options``: for ``websockets.connect``.
        """
        if session is None and (url is None or not (token or ticket)):
            raise TypeError("pass a session, or a url and a token or ticket function")
        self._url = url or (session.socket_url if session else "")
        self._token = token or (session.token if session else no_token)
        self._ticket = ticket
        self._expired = expired or (session.expire if session else lambda: None)
        self._codec = codec(format)
        self._connect_options = connect_options or {}
        self._skips_joined = skips_joined
        self._events_max = events_max
        self._store = store
        self._backoff = Backoff(random)
        self._cursors = Cursors()
        self._requests = Requests(self._transmit, self._is_connected)
        self._outbox = Outbox(
            request=self._requests.request,
            is_ready=self._is_connected,
            store=store,
            maximum=outbox_max,
            on_outcome=lambda outcome: self._emit("refused" if outcome.error else "sent", outcome),
            on_retry=lambda message, error, wait: self._emit("retry", (message, error, wait)),
            on_unauthenticated=self._token_refused,
            on_timeout=self._ping,
        )
        #: Every command with typed arguments.
        self.call = Commands(self.request)
        #: The data of the last `welcome`.
        self.welcome: types.WelcomeEvent | None = None
        self.state = State("idle")
        self._listeners: dict[str, list[Listener]] = {}
        self._queue: EventQueue | None = None
        self._is_iterated = False
        self._connection: Connection | None = None
        self._generation = 0
        self._catching_up: set[str] = set()
        self._overflowed: set[str] = set()
        self._missed, self._again = 0, False
        self._slot_s: float | None = None
        self._last_frame_at = self._replayed_at = 0.0
        self._has_worked = False
        self._welcomed_at: float | None = None
        self._was_refused = False  # the token, in the last attempt
        self._pinged_at: float | None = None
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._stored_user: int | None = None
        if store:
            stored = store.load()
            self._stored_user = stored.user
            self._cursors.current.update(stored.cursors)
            self._cursors.left.update(stored.left)
            self._outbox.restore(stored.outbox)

    @property
    def cursors(self) -> dict[str, int]:
        """Conversation id → seq of the last delivered event. Fill it before :meth:`connect` to go on after a run."""
        return self._cursors.current

    @property
    def unsent(self) -> int:
        """Messages without an ack."""
        return self._outbox.size

    def on(self, kind: str, listener: Listener) -> None:
        """``kind``: state, welcome, event, up_to_date, gone, unsubscribed, sent, refused or retry."""
        self._listeners.setdefault(kind, []).append(listener)
        if kind == "event" and self._queue and not self._is_iterated:
            self._listen_instead(listener)

    def events(self) -> EventQueue:
        """The events since :meth:`connect`, one at a time. For one loop; it ends with the client."""
        self._is_iterated = True
        if self._queue is None:
            self._queue = self._new_queue()
        return self._queue

    def connect(self) -> None:
        """Connects until :meth:`close`. Without a listener for events, they wait for :meth:`events`."""
        if self._task is None or self._task.done():
            self._outbox.begin()
            if "event" not in self._listeners and self._events_max > 0 and self._queue is None:
                self._queue = self._new_queue()
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Closes the connection for good. Commands without an answer fail with ``closed``."""
        task, self._task = self._task, None
        connection, self._connection = self._connection, None
        self._lost()
        if self.state.name != "ended":
            self._end("closed")
        if task and not task.done():
            task.cancel()
            await asyncio.wait([task])
        if connection:
            await connection.close()

    async def __aenter__(self) -> VezaClient:
        self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._queue:
            self._queue.handled()
        await self.close()

    def poke(self) -> None:
        """The network may be back: checks the connection now instead of waiting for the next timer."""
        self._poked.set()
        self._ping()

    async def up_to_date(self) -> None:
        """Waits until all missed events have been delivered. Fails when the client ends."""
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look(state: State) -> None:
            if reached.done():
                return
            if state.name == "live":
                reached.set_result(None)
            elif state.name == "ended":
                reached.set_exception(VezaError("closed", f"The client ended: {state.reason}"))

        self.on("state", look)
        look(self.state)
        try:
            await reached
        finally:
            self._listeners["state"].remove(look)

    async def request(
        self, kind: str, data: Mapping[str, Any], *, timeout: float | None = None, repeat: bool | None = None
    ) -> dict[str, Any]:
        """Sends a command; returns its ack's data. After a reconnect, reads are sent again; others fail."""
        ack = await self._requests.request(kind, data, timeout=timeout, repeat=repeat)
        if kind == "create_conversation" and ack["conversation"]["last_seq"] <= 1:
            self._joined(ack["conversation"]["id"], 0)
        if kind in JOINS:
            self._joined(ack["conversation"]["id"], ack["seq"] - 1)
        return ack

    def signal(self, kind: Literal["typing"], data: types.TypingData) -> None:
        """Sends a command that has no answer. Without a connection it is dropped."""
        if self._is_connected():
            self._transmit({"type": kind, "data": data})

    async def send(self, **message: Unpack[types.SendMessageData]) -> types.SendMessageAck:
        """Sends a message until it is acknowledged or refused; returns the ack. A cancelled call only stops waiting."""
        return await asyncio.shield(self.send_soon(**message))

    def send_soon(self, **message: Unpack[types.SendMessageData]) -> asyncio.Future[types.SendMessageAck]:
        """The same without waiting. Messages of a conversation arrive in the order of these calls."""
        return cast("asyncio.Future[types.SendMessageAck]", self._outbox.add(cast(Mapping[str, Any], message)))

    async def history(self, conversation_id: str, after_seq: int = 0) -> AsyncIterator[types.Message]:
        """The messages of a conversation after a seq, in order, page by page: what to read after ``reset``."""
        while True:
            page = await self.call.get_history(conversation_id=conversation_id, after_seq=after_seq, limit=200)
            for message in page["messages"]:
                yield message
            if not page["has_more"] or not page["messages"]:
                return
            after_seq = page["messages"][-1]["seq"]

    def _new_queue(self) -> EventQueue:
        return EventQueue(
            maximum=self._events_max,
            on_room=self._room_again,
            on_handled=lambda event: self._handled(event["type"], cast(dict[str, Any], event["data"])),
        )

    def _listen_instead(self, listener: Listener) -> None:
        """The application listens to events instead of iterating: the listener receives what is queued."""
        waiting = self._queue.drain() if self._queue else []
        self._queue = None
        for event in waiting:
            listener(event)
            self._handled(event["type"], cast(dict[str, Any], event["data"]))
        self._room_again()

    def _emit(self, kind: str, detail: Any) -> None:
        for listener in list(self._listeners.get(kind, ())):
            try:
                listener(detail)
            except Exception as error:  # a fault of the application, which must not stop the client halfway
                _report(f"A listener for {kind} failed", error)

    def _set_state(self, state: State) -> None:
        self.state = state
        self._emit("state", state)

    def _is_connected(self) -> bool:
        return self.state.name in ("live", "catching_up")

    async def _run(self) -> None:
        while True:
            self._set_state(State("connecting"))
            self._welcomed_at, self._has_worked = None, False
            loss = await self._one_connection()
            self._lost()
            if loss.is_final:
                self._end(loss.name)
                return
            if self._welcomed_at is not None:
                self._backoff.lived(asyncio.get_running_loop().time() - self._welcomed_at, self._has_worked)
            wait = self._backoff.next(loss.slot_s if self._slot_s is None else self._slot_s)
            self._slot_s = None
            self._poked.clear()
            self._set_state(State("waiting", code=loss.code, retry_in=wait))
            try:
                await asyncio.wait_for(self._poked.wait(), wait)
            except TimeoutError:
                pass

    async def _one_connection(self) -> Loss:
        """Opens a connection and reads it until it is lost."""
        opened = await attempt(
            self._url, self._codec, token=self._token, ticket=self._ticket, options=self._connect_options
        )
        if isinstance(opened, Loss):
            if opened.status == 401 and not self._was_refused:
                self._was_refused = True
                self._expired()  # the next attempt gets a new token
                return Loss(1006)
            return opened
        self._connection = connection = opened
        alarm = asyncio.get_running_loop().call_later(OPEN_TIMEOUT_S, connection.drop, Loss(1006))
        heartbeat: asyncio.Task[None] | None = None
        try:
            while True:
                frame = await connection.receive()
                if isinstance(frame, Loss):
                    if frame.code == 4001:
                        self._expired()
                    return frame
                self._last_frame_at = asyncio.get_running_loop().time()
                self._pinged_at = None
                if frame["type"] == "welcome":
                    if heartbeat:
                        continue  # repeated on its way
                    alarm.cancel()
                    if self._stored_user not in (None, frame["data"]["user"]["id"]):
                        return Loss(1000, "other_user", is_final=True)
                    heartbeat = asyncio.create_task(self._beat(connection, frame["data"]["heartbeat_ms"] / 1000))
                    self._welcomed(frame["data"])
                elif heartbeat:
                    self._dispatch(frame["type"], frame.get("id"), frame["data"])
        except (LookupError, TypeError, AttributeError) as error:
            _report("A frame lacks its fields", error)
            return Loss(1007)  # the log has the change
        finally:
            alarm.cancel()
            if heartbeat:
                heartbeat.cancel()

    def _token_refused(self) -> None:
        """The server has refused the token in an answer: a new connection uses a new one."""
        self._expired()
        self._drop(4001)

    def _drop(self, code: int) -> None:
        if self._connection:
            self._connection.drop(Loss(code))

    def _lost(self) -> None:
        """There is no connection any more: nothing is sent until the next one."""
        self._generation += 1
        connection, self._connection = self._connection, None
        if self._is_connected():
            self.state = State("waiting")
        if connection:
            connection.drop(Loss(1006))
        self._pinged_at = None
        self._catching_up.clear()
        self._outbox.lost()
        self._requests.lost()

    def _end(self, reason: str) -> None:
        error = VezaError("closed", "The connection was closed")
        self._requests.end(error)
        is_final = reason != "too_many_connections"  # then `connect` may be called again
        if is_final:
            self._outbox.end(error)
        self._set_state(State("ended", reason=reason))
        if is_final and self._queue:
            self._queue.end()

    def _transmit(self, frame: dict[str, Any]) -> None:
        if self._connection is None or self.welcome is None:
            return
        try:
            self._connection.send(frame, self.welcome["limits"]["max_frame_bytes"])
        except VezaError as error:
            self._requests.refuse(frame.get("id"), error)

    # What arrives

    def _dispatch(self, kind: str, number: Any, data: dict[str, Any]) -> None:
        match kind:
            case "ack":
                self._has_worked = True
                self._requests.resolve(number, data)
            case "error" if number is None:
                self._subscription_refused(data)
            case "error":
                self._requests.refuse(number, VezaError.from_data(data))
            case "going_away":
                self._slot_s = data["retry_after_ms"] / 1000
            case "caught_up":
                self._replayed(data["conversation_id"], data["seq"])
            case "reset":
                self._reset(data)
            case "lagging":
                self._catching_up.add(data["conversation_id"])  # the server replays the rest
                self._replayed_at = self._last_frame_at
                if self.state.name == "live":
                    self._set_state(State("catching_up"))
            case _:
                self._event(kind, data)

    @property
    def _me(self) -> int | None:
        return self.welcome["user"]["id"] if self.welcome else None

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        if not is_numbered(kind, data):
            if self._queue is None or self._queue.has_room():
                self._deliver(kind, data)
            return
        conversation, novelty = data["conversation_id"], self._cursors.classify(kind, data, self._me)
        is_known = conversation in self._catching_up or conversation in self._overflowed
        if novelty == "gap" and not is_known:
            self._resume([conversation])
        if novelty in ("old", "gap"):
            return
        if novelty == "emit" and self._queue and not self._queue.has_room():
            self._overflowed.add(conversation)
            return
        self._cursors.move_to(conversation, data["seq"], is_emitted=novelty == "emit")
        self._has_worked = True
        if novelty == "earlier":
            return
        if conversation in self._catching_up:
            self._missed, self._replayed_at = self._missed + 1, self._last_frame_at
        self._deliver(kind, data)
        if kind == "member_left" and data["user"]["id"] == self._me:
            self._cursors.leave(conversation, data["seq"])
            self._caught_up(conversation)

    def _deliver(self, kind: str, data: dict[str, Any]) -> None:
        """Delivers an event to the application."""
        self._emit("event", {"type": kind, "data": data})
        if self._queue:
            self._queue.push(kind, data)
        else:
            self._handled(kind, data)

    def _handled(self, kind: str, data: dict[str, Any]) -> None:
        """The application has handled an event: a later run goes on after it."""
        if self._store is None:
            return
        if kind == "reset":
            self._store.set_cursor(data["conversation_id"], data["last_seq"], True)
        elif is_numbered(kind, data):
            is_member = kind != "member_left" or data["user"]["id"] != self._me
            self._store.set_cursor(data["conversation_id"], data["seq"], is_member)

    def _room_again(self) -> None:
        """The queue has room again: the log has what it had no room for."""
        conversations = list(self._overflowed)
        self._overflowed.clear()
        if self._is_connected() and conversations:
            self._resume(conversations)

    def _reset(self, data: dict[str, Any]) -> None:
        self._cursors.move_to(data["conversation_id"], data["last_seq"])
        self._overflowed.discard(data["conversation_id"])
        self._deliver("reset", data)
        self._caught_up(data["conversation_id"])

    # Catching up

    def _welcomed(self, data: dict[str, Any]) -> None:
        welcome = cast(types.WelcomeEvent, data)
        self._again = self.welcome is not None
        is_first = not self._again and self._stored_user is None and not self.cursors
        self.welcome = welcome
        self._welcomed_at, self._was_refused = asyncio.get_running_loop().time(), False
        if self._store and self._stored_user is None:
            self._store.begin(welcome["user"]["id"])
            self._stored_user = welcome["user"]["id"]
        met = self._cursors.compare(
            {head["id"]: head["last_seq"] for head in welcome.get("conversations", [])},
            is_first=is_first,
            is_complete=not welcome.get("has_more_conversations", False),
            skips_joined=self._skips_joined,
        )
        if self._store:
            for conversation in met.started:
                self._store.set_cursor(conversation, self.cursors[conversation], True)
        for conversation in met.gone:
            self._gone(conversation)
        self._missed = 0
        self._overflowed.clear()  # their cursors are behind
        generation = self._generation
        self._set_state(State("catching_up"))
        self._emit("welcome", welcome)
        if generation != self._generation:
            return  # a listener has closed the client
        if met.behind:
            self._resume(met.behind)
        else:
            self._up_to_date()
        self._requests.flush()
        self._outbox.flush()

    def _resume(self, conversations: list[str]) -> None:
        self._catching_up.update(conversations)
        self._replayed_at = asyncio.get_running_loop().time()
        if self.state.name == "live":
            self._set_state(State("catching_up"))
        for start in range(0, len(conversations), RESUME_MAX):
            task = asyncio.create_task(self._resume_page(conversations[start : start + RESUME_MAX]))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _resume_page(self, conversations: list[str]) -> None:
        generation = self._generation
        while generation == self._generation:
            cursors = {name: self.cursors[name] for name in conversations if name in self.cursors}
            try:
                ack = await self._requests.request("resume", {"cursors": cursors}, is_first=True, repeat=False)
            except VezaError as error:
                if generation != self._generation:
                    return  # the next connection resumes it
                if error.code in types.RETRIED or error.code == "internal":
                    await asyncio.sleep(1.0 if error.retry_after is None else error.retry_after)
                    continue
                if error.code == "unauthenticated":
                    self._token_refused()
                    return
                for conversation in conversations:
                    self._unsubscribed(conversation, error)
                return
            if generation == self._generation:
                for conversation in ack.get("not_member", []):
                    self._gone(conversation)
            return

    def _joined(self, conversation: str, seq: int) -> None:
        """After the ack of a join, what follows ``seq`` is the client's, even if the connection is lost."""
        if conversation in self.cursors or self._cursors.left.get(conversation, 0) > seq:
            return
        self._cursors.move_to(conversation, seq)
        if self._store:
            self._store.set_cursor(conversation, seq, True)

    def _gone(self, conversation: str) -> None:
        """The user is no longer a member of a conversation."""
        cursor = self._cursors.leave(conversation)
        if cursor is not None:
            if self._store and self._queue is None:
                self._store.set_cursor(conversation, cursor, False)
            self._emit("gone", {"conversation_id": conversation})
        self._caught_up(conversation)

    def _subscription_refused(self, error: dict[str, Any]) -> None:
        """An error without an id answers no command. It names a conversation whose events do not arrive."""
        conversation = error.get("details", {}).get("conversation_id")
        if conversation is None:
            return  # a refused typing signal
        if error["code"] == "not_member":
            self._gone(conversation)
        else:
            self._unsubscribed(conversation, VezaError.from_data(error))

    def _unsubscribed(self, conversation: str, error: VezaError) -> None:
        self._emit("unsubscribed", {"conversation_id": conversation, "error": error})
        self._caught_up(conversation)

    def _replayed(self, conversation: str, seq: int) -> None:
        """The server has sent everything up to ``seq``. If something is missing, it is asked for again."""
        if self.cursors.get(conversation, seq) < seq:
            if conversation not in self._overflowed:
                self._resume([conversation])
            return
        self._cursors.joining.discard(conversation)
        self._caught_up(conversation)

    def _caught_up(self, conversation: str) -> None:
        if conversation in self._catching_up:
            self._catching_up.discard(conversation)
            if not self._catching_up:
                self._up_to_date()

    def _up_to_date(self) -> None:
        if not self._is_connected():
            return
        missed, self._missed = self._missed, 0
        self._set_state(State("live"))
        self._emit("up_to_date", {"missed": missed, "again": self._again})

    # Heartbeats

    async def _beat(self, connection: Connection, heartbeat_s: float) -> None:
        beat = Heartbeat(heartbeat_s, self._ping)
        while True:
            await asyncio.sleep(beat.step_s)
            now = asyncio.get_running_loop().time()
            if not beat.look(now, self._last_frame_at, self._pinged_at):
                connection.drop(Loss(4006, "heartbeat_timeout"))
                return
            stuck = self._catching_up - self._overflowed
            if now - self._replayed_at >= REPLAY_TIMEOUT_S and stuck:
                self._resume(list(stuck))

    def _ping(self) -> None:
        if self._pinged_at is None and self._is_connected():
            self._pinged_at = asyncio.get_running_loop().time()
            self._transmit({"type": "ping", "id": 0, "data": {}})


def _report(message: str, error: Exception) -> None:
    """Reports an error as one that nothing has caught."""
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
