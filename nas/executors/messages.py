"""Messages between coordinator and worker: a length, then JSON. No pickles."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_HEADER = struct.Struct(">I")
_MOST_BYTES = 256 * 2**20


class Broken(Exception):
    """The other side is gone, or sent what is no message."""


def encode(message: Any) -> bytes:
    """A message as bytes."""
    body = json.dumps(message).encode()
    return _HEADER.pack(len(body)) + body


def send(end: socket.socket, message: Any) -> None:
    """Send a message. Raises Broken where the other side is gone or doesn't read."""
    try:
        end.sendall(encode(message))
    except OSError as error:
        raise Broken(f"can't send: {error}") from error


def receive(end: socket.socket) -> Any:
    """The next message, waiting for it. Raises Broken."""
    reader = Reader()
    while True:
        try:
            data = end.recv(reader.wanted)
        except OSError as error:
            raise Broken(f"can't receive: {error}") from error
        if not data:
            raise Broken("the other side closed the connection")
        found, message = reader.feed(data)
        if found:
            return message


class Reader:
    """Puts one message together from pieces."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def wanted(self) -> int:
        """Bytes missing to the end of the header, or of the message."""
        return min(self._total() - len(self._held), 2**20)

    def feed(self, data: bytes) -> tuple[bool, Any]:
        """Take at most `wanted` bytes; (True, message) when it is whole. Raises Broken."""
        self._held += data
        if len(self._held) < _HEADER.size or len(self._held) < self._total():
            return False, None
        body = bytes(self._held[_HEADER.size :])
        self._held.clear()
        try:
            return True, json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Broken(f"no JSON: {error}") from error

    def _total(self) -> int:
        if len(self._held) < _HEADER.size:
            return _HEADER.size
        (length,) = _HEADER.unpack_from(self._held)
        if length > _MOST_BYTES:
            raise Broken(f"a message of {length} bytes")
        return _HEADER.size + length
