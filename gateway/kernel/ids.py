"""Identifiers. Turn ids sort by creation time; everything below a turn is derived from its id, so that
any replica that decodes the same frames again gives the same ids.
"""

import hashlib
import os
import uuid
from typing import NewType

TurnId = NewType("TurnId", str)
WorkerId = NewType("WorkerId", str)
ReplicaId = NewType("ReplicaId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford base 32 in lower case: sorts like the number it spells."""


_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def _base32(value: int, length: int) -> str:
    """`length` is even."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(5 * length - 10, -1, -10)])


def new_turn_id(now_ms: int) -> TurnId:
    """26 characters: 48 bits of unix milliseconds, then 80 random bits (the ULID layout)."""
    return TurnId(_base32(now_ms, 10) + _base32(int.from_bytes(os.urandom(10)), 16))


def derived_hex(turn_id: str, *path: str | int, length: int = 24) -> str:
    """Hex digits that depend on nothing but the turn id and the path below it."""
    text = "\x1f".join([turn_id, *map(str, path)])
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def derived_uuid(turn_id: str, *path: str | int) -> str:
    """A stable UUID (version 8) for upstreams that want one, such as Lingma's requestId."""
    raw = bytearray(hashlib.sha256("\x1f".join([turn_id, *map(str, path)]).encode()).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def new_hex(length: int = 12) -> str:
    """Random hex digits, for replica ids and lease holders."""
    return os.urandom((length + 1) // 2).hex()[:length]
