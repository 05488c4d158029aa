"""A client of Veza Chat: it connects, reconnects, resumes, sends, and delivers events in order.

::

    session = await Session.sign_in("http://127.0.0.1:8080", login="ada", password="…")
    async with VezaClient(session) as client:
        await client.send(conversation_id="room_6", content="Hello")
        async for event in client.events():
            ...

docs/client-protocol.md of the server has the rules that it follows; README.md of this package has its interface.
"""

from .client import VezaClient
from .errors import VezaError, new_key
from .outbox import Outcome
from .session import Session
from .state import State
from .store import FileStore, Store, StoredState
from .types import CLOSE_CODES, ERROR_CODES, RETRIED, Event

__all__ = [
    "CLOSE_CODES",
    "ERROR_CODES",
    "RETRIED",
    "Event",
    "FileStore",
    "Outcome",
    "Session",
    "State",
    "Store",
    "StoredState",
    "VezaClient",
    "VezaError",
    "new_key",
]
