"""Sealing state at rest: AES-256-GCM under a ring of keys, each value bound to the place it belongs to. Pure.

    0x01 | length of the key's name | the key's name | nonce, 12 bytes | ciphertext and tag

The first key of the ring seals, all of them open: rotation is adding a key in front and dropping the last one
when what it sealed has expired. A value that was copied to another place, altered, or sealed by a key that is
not in the ring does not open. Used by store/sealed.py for values and by jobs/codec.py for payloads.
"""

import base64
import binascii
import os
import re
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = 1
_NONCE: Final = 12
_TAG: Final = 16
_KEY_BYTES: Final = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Unsealable(ValueError):
    """Not sealed by a key of this ring for this place."""


class SealRing:
    """Names and keys, the sealing one first."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Raises ValueError for an empty ring, a name twice, a name or a key of the wrong form."""
        if not keys:
            raise ValueError("a ring needs at least one key")
        self._ciphers: dict[bytes, AESGCM] = {}
        for name, key in keys:
            if not _NAME.fullmatch(name):
                raise ValueError("a key's name is 1 to 32 letters, digits, dots, dashes or underscores")
            if len(key) != _KEY_BYTES:
                raise ValueError(f"key {name} has {len(key)} bytes instead of {_KEY_BYTES}")
            if name.encode() in self._ciphers:
                raise ValueError(f"key {name} is there twice")
            self._ciphers[name.encode()] = AESGCM(key)
        newest = keys[0][0].encode()
        self._cipher = self._ciphers[newest]
        self._head = bytes((_VERSION, len(newest))) + newest

    def seal(self, value: bytes, place: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return self._head + nonce + self._cipher.encrypt(nonce, value, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Raises Unsealable."""
        if len(sealed) < 2 or sealed[0] != _VERSION:
            raise Unsealable("no sealed value")
        end = 2 + sealed[1]
        cipher = self._ciphers.get(sealed[2:end])
        if cipher is None or len(sealed) < end + _NONCE + _TAG:
            raise Unsealable("sealed by a key that is not in the ring")
        try:
            return cipher.decrypt(sealed[end : end + _NONCE], sealed[end + _NONCE :], place)
        except InvalidTag:
            raise Unsealable("altered, or moved from another place") from None


def parse_ring(entries: Sequence[str]) -> SealRing:
    """From `name:key` entries, each key being the base64 of 32 bytes. Errors name no key."""
    keys = []
    for number, entry in enumerate(entries, start=1):
        name, colon, text = entry.partition(":")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not key:
            raise ValueError(f"entry {number} is not of the form name:base64 of 32 bytes")
        keys.append((name, key))
    return SealRing(keys)
