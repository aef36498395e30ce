"""Whether a text can be the encrypted reasoning of a GPT model: the outer shape of a Fernet token. Pure.

A token is base64url of a version byte 0x80, a big-endian time of 8 bytes, 16 bytes of IV, ciphertext in
blocks of 16, and 32 bytes of HMAC. Whether the upstream can still decrypt it, only the upstream knows.
"""

from typing import Final

from gateway.store.keys import trim

MAX_CHARS: Final = 32 * 1024 * 1024

_BEGINNING = "gAAAA"
"""Pins the version, and a time before the year 141,000."""
_ENVELOPE = 1 + 8 + 16 + 32
_BLOCK = 16
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_DIGITS = _ALPHABET.encode()


def is_gpt_signature(text: str) -> bool:
    """White space around the token is forgiven; callers that store it must not forgive that."""
    text = trim(text)
    if len(text) > MAX_CHARS or not text.startswith(_BEGINNING) or not text.isascii():
        return False
    bare = text.rstrip("=")
    digits, padding = len(bare), len(text) - len(bare)
    if digits % 4 == 1 or (padding and (padding > 2 or (digits + padding) % 4)):
        return False
    if bare.encode().translate(None, _DIGITS):  # an expression takes ten times as long
        return False
    spare_bits = digits * 6 % 8
    if _ALPHABET.index(text[digits - 1]) & ((1 << spare_bits) - 1):
        return False  # a strict decoder refuses what its encoder would not have written
    ciphertext = digits * 6 // 8 - _ENVELOPE
    return ciphertext > 0 and ciphertext % _BLOCK == 0
