"""Replay items as bytes in the store, and JSON as it is hashed; byte for byte what HOME nodes do. Pure.

A stored value is a JSON array of base64 strings, each one item of compact JSON. What the items are is the
business of codex.py and its siblings. Where no HOME node reads it, a value may be packed instead: the items
on a line each, as one frame of Zstandard. Both are read everywhere.
"""

import base64
import binascii
import math
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from gateway.kernel.json import Json, JsonError, dumps, dumps_canonical, fragment, loads
from gateway.replay.limits import MAX_VALUE_BYTES
from gateway.store.keys import hash_key_part as hash_key_part

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PACKED: Final = b"\x28\xb5\x2f\xfd"
"""What every frame begins with, and no JSON."""
_WINDOW_LOG: Final = 25
"""More than any value: agents write the same file many times, megabytes apart."""
_PACKING: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.enable_long_distance_matching: 1,
    zstd.CompressionParameter.window_log: _WINDOW_LOG,
}
_EXACT = 2**53
"""Beyond it not every integer is a float64."""


class CorruptValue(ValueError):
    """A stored value that is no list of items."""


def encode_items(items: Iterable[bytes]) -> bytes:
    return dumps([base64.b64encode(item).decode() for item in items])


def decode_items(value: bytes) -> list[bytes]:
    """Raises CorruptValue. An item that is null is empty, as in Go."""
    if value.startswith(_PACKED):
        return _unpacked(value)
    try:
        texts = loads(value)
        if texts is None:
            return []
        if not isinstance(texts, list):
            raise CorruptValue("no list")
        return [b"" if text is None else _decode_item(text) for text in texts]
    except (JsonError, binascii.Error) as error:
        raise CorruptValue(type(error).__name__) from None


def pack_items(items: Iterable[bytes]) -> bytes:
    """As encode_items(), smaller. The items are compact JSON, which has no line ends."""
    return zstd.compress(b"\n".join(items), options=_PACKING)


def _unpacked(value: bytes) -> list[bytes]:
    reader = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
    try:
        text = reader.decompress(value, MAX_VALUE_BYTES + 1)
    except zstd.ZstdError:
        raise CorruptValue("a frame that is broken") from None
    if not reader.eof or reader.unused_data or len(text) > MAX_VALUE_BYTES:
        raise CorruptValue("a frame that is cut, or too large")
    return text.split(b"\n")


def _decode_item(text: Json) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise CorruptValue("an item that is no base64")
    return base64.b64decode(text, validate=True)


def canonical_json(value: Json) -> bytes:
    """Compact JSON with sorted members, HTML characters escaped and every number a float64 as Go prints it.

    Raises ValueError for what is nested deeper than an upstream could be sent (254 levels).
    """
    try:
        text = dumps_canonical(_with_go_numbers(value))
    except (TypeError, RecursionError):
        raise ValueError("nested too deep") from None
    for raw, escaped in _HTML:
        if raw in text:
            text = text.replace(raw, escaped)
    return text


_HTML = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def _with_go_numbers(value: object) -> object:
    match value:
        case bool() | str() | None:
            return value
        case int():
            return value if -_EXACT <= value <= _EXACT else fragment(go_number(float(value)))
        case float():
            return fragment(go_number(value))
        case list():
            return [_with_go_numbers(item) for item in value]
        case dict():
            return {name: _with_go_numbers(item) for name, item in value.items()}
        case _:
            raise TypeError(type(value).__name__)


def go_number(number: float) -> str:
    """The shortest digits that give the number back: as an integer where it is one, with an exponent below
    1e-6 and from 1e21 on.
    """
    if not number:
        return "-0" if math.copysign(1, number) < 0 else "0"
    digits = repr(number)
    if 1e-6 <= abs(number) < 1e21:
        return format(Decimal(digits), "f").removesuffix(".0")
    return digits.replace("e-0", "e-")
