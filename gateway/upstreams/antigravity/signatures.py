"""Whether a text can be a thought signature of Gemini: the outer shape of it. Pure.

It is base64 of one protobuf record: field 2, which holds field 1 and nothing else, which holds bytes that
begin with 0x01 (a ciphertext and the id of its key) or are a UUID in ASCII. A UUID that is in no record is
not one that an upstream takes back, and neither are Claude's signatures, which begin alike and name their
model. Whether the upstream knows the signature, only the upstream knows.

Upstreams write the standard alphabet. Google's SDK for Python reads bytes and writes them anew in the one for
addresses, so both are read, and the standard one is sent.
"""

import base64
import binascii
import re
from typing import Final

from gateway.store.keys import trim

MAX_CHARS: Final = 32 * 1024 * 1024

_FIELD_1 = 0x0A
_FIELD_2 = 0x12
_CIPHERTEXT = b"\x01"
_CLAUDE = b"claude-"
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MAX_VARINT_BYTES = 5
_TO_STANDARD = str.maketrans("-_", "+/")


def gemini_signature_in(text: str) -> str:
    """The signature in the standard alphabet; empty for a text that is none."""
    text = trim(text)
    if not text or len(text) > MAX_CHARS or not text.isascii():
        return ""
    if ("-" in text or "_" in text) and not ("+" in text or "/" in text):
        text = text.translate(_TO_STANDARD)
    padding = "" if "=" in text else "=" * (-len(text) % 4)
    try:
        decoded = base64.b64decode(text + padding, validate=True)
    except binascii.Error:
        return ""
    record = _only_field(decoded, _FIELD_2)
    payload = _only_field(record, _FIELD_1) if record is not None else None
    if payload is None or _CLAUDE in payload:
        return ""
    return text if payload.startswith(_CIPHERTEXT) or _UUID.fullmatch(payload) else ""


def _only_field(record: bytes, tag: int) -> bytes | None:
    """What the field with this tag holds, when the record is that one field of bytes."""
    if not record or record[0] != tag:
        return None
    length = shift = 0
    for at in range(1, min(len(record), 1 + _MAX_VARINT_BYTES)):
        length |= (record[at] & 0x7F) << shift
        shift += 7
        if record[at] < 0x80:
            content = record[at + 1 :]
            return content if len(content) == length else None
    return None
