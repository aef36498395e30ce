"""Compressed request bodies: which codings are read, and how they unpack in small pieces. No I/O, no limits.

Called by protocols/http.py, which stops pulling pieces when the body has grown too large: what a small body
claims to hold is never unpacked whole. A body is one stream (one gzip member, one zstd frame): nothing that
sends requests sends more, and millions of empty ones would cost time and yield nothing to count. Names are
those of RFC 9110; zstd frames may ask for the window that RFC 9659 allows and for no larger one.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 256 * 1024
"""Largest piece that is unpacked at once."""
_SLICE_BYTES: Final = 64 * 1024
_WINDOW_LOG_MAX: Final = 23


class UnknownCoding(Exception):
    """The body is packed in a way that nothing here can undo."""


class BrokenBody(Exception):
    """The body is not what its coding says. The message is safe to show."""


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inner.decompress(data, PIECE_BYTES)
            yield piece
            data = self._inner.unconsumed_tail
            if len(piece) < PIECE_BYTES and not data:
                return


class _Zstd:
    def __init__(self) -> None:
        limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
        self._inner = zstd.ZstdDecompressor(options=limit)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data, PIECE_BYTES)
        while not (self._inner.eof or self._inner.needs_input):
            yield self._inner.decompress(b"", PIECE_BYTES)


def _gzip(_: bytes) -> _Unpacker:
    return _Zlib(16 + zlib.MAX_WBITS)


def _deflate(data: bytes) -> _Unpacker:
    """As the standard has it, with a zlib header, or bare, as some clients have always sent it."""
    has_header = len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0
    return _Zlib(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _zstd(_: bytes) -> _Unpacker:
    return _Zstd()


_CODINGS: Mapping[str, Callable[[bytes], _Unpacker]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}

ACCEPTED: Final = "gzip, deflate, zstd"


def coding_of(values: Iterable[bytes]) -> str | None:
    """The coding that Content-Encoding headers name; None when the body is as it is.

    Raises UnknownCoding, also for a body that was packed twice.
    """
    named = [name.strip().lower() for name in b",".join(values).decode("latin-1").split(",")]
    codings = [name for name in named if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _CODINGS:
        raise UnknownCoding
    return codings[0]


def unpack(coding: str, data: bytes) -> Iterator[bytes]:
    """The body in pieces of at most PIECE_BYTES. Raises BrokenBody, after the pieces that came before it."""
    unpacker = _CODINGS[coding](data)
    try:
        for start in range(0, len(data), _SLICE_BYTES):
            if unpacker.eof:
                raise BrokenBody(f"The request body goes on after the end of its {coding} data")
            yield from unpacker.pieces(data[start : start + _SLICE_BYTES])
    except (zlib.error, zstd.ZstdError):
        raise BrokenBody(f"The request body is not valid {coding} data") from None
    if not unpacker.eof:
        raise BrokenBody(f"The {coding} data of the request body is cut off")
    if unpacker.unused_data:
        raise BrokenBody(f"The request body goes on after the end of its {coding} data")
