"""The two formats of a frame. A connection keeps the one that its subprotocol names."""

from __future__ import annotations

import json
from typing import Any, Protocol


class Codec(Protocol):
    subprotocol: str

    def encode(self, frame: dict[str, Any]) -> str | bytes: ...

    def decode(self, frame: str | bytes) -> dict[str, Any]: ...


class Json:
    subprotocol = "veza.v1.json"

    def encode(self, frame: dict[str, Any]) -> str:
        return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))

    def decode(self, frame: str | bytes) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(frame)
        return decoded


class MessagePack:
    """Needs the package ``msgpack``: ``pip install veza-client[msgpack]``."""

    subprotocol = "veza.v1.msgpack"

    def __init__(self) -> None:
        import msgpack

        self._msgpack: Any = msgpack

    def encode(self, frame: dict[str, Any]) -> bytes:
        encoded: bytes = self._msgpack.packb(frame)
        return encoded

    def decode(self, frame: str | bytes) -> dict[str, Any]:
        if isinstance(frame, str):
            raise ValueError("a text frame on a MessagePack connection")
        decoded: dict[str, Any] = self._msgpack.unpackb(frame)
        return decoded


def codec(name: str) -> Codec:
    """The codec of ``json`` or ``msgpack``."""
    if name == "json":
        return Json()
    if name == "msgpack":
        return MessagePack()
    raise ValueError(f"format must be msgpack or json, not {name}")


def size(encoded: str | bytes) -> int:
    """Bytes of an encoded frame."""
    return len(encoded.encode() if isinstance(encoded, str) else encoded)
