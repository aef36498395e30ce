"""LSP framing inside a WebSocket stream: `Content-Length: N`, blank line, N bytes of JSON. No I/O.

A frame may be cut anywhere over WebSocket messages and a message may hold several frames, hence one
FrameReader per connection. What does not begin like a header is thrown away, as the binary does.
"""

import itertools
import random
import re
from collections.abc import Iterator
from typing import NoReturn

import orjson

_USUAL = re.compile(rb"Content-Length: (\d+)\r\n\r\n")
_SEPARATOR = b"\r\n\r\n"
_HEADER_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]*:[^\r\n]*")
_HEADER_START = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]*(?::[^\n]*)?")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d+)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_HEADER_LIMIT = 8192


class UnknownHeader(ValueError):
    """The stream does not stand at a header; what was buffered is gone."""


def encode(message: object) -> bytes:
    """One framed JSON-RPC message; the length counts bytes."""
    body = orjson.dumps(message)
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class FrameReader:
    """Collects bytes and gives back whole bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need: int | None = None

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def bodies(self) -> Iterator[bytes]:
        """Every body that is complete; raises UnknownHeader where a header should be and is not."""
        while self._buffer or self._need == 0:
            if self._need is None:
                self._need = self._read_header()
            if self._need is None or len(self._buffer) < self._need:
                return
            body = bytes(self._buffer[: self._need])
            del self._buffer[: self._need]
            self._need = None
            yield body

    def _read_header(self) -> int | None:
        usual = _USUAL.match(self._buffer)
        if usual is not None:
            length = int(usual[1])
            del self._buffer[: usual.end()]
            return length
        end = self._buffer.find(_SEPARATOR, 0, _HEADER_LIMIT)
        if end < 0:
            if not self._may_become_header():
                self._drop()
            return None
        header = bytes(self._buffer[:end])
        named = _LENGTH.search(header.replace(b"\r\n", b"\n"))
        if named is None or not all(_HEADER_LINE.fullmatch(line) for line in header.split(b"\r\n")):
            self._drop()
        del self._buffer[: end + len(_SEPARATOR)]
        return int(named[1])

    def _may_become_header(self) -> bool:
        if len(self._buffer) >= _HEADER_LIMIT:
            return False
        lines = bytes(self._buffer).split(b"\r\n")
        whole = all(_HEADER_LINE.fullmatch(line) for line in lines[:-1])
        last = lines[-1].removesuffix(b"\r")
        return whole and (not last or _HEADER_START.fullmatch(last) is not None)

    def _drop(self) -> NoReturn:
        self._buffer.clear()
        raise UnknownHeader


def pieces(frame: bytes, fragment: str, dice: random.Random) -> list[bytes]:
    """Cut a frame into what goes into one WebSocket message each."""
    if fragment == "byte":
        return [frame[at : at + 1] for at in range(len(frame))]
    if fragment == "random":
        cuts = sorted(dice.randrange(1, len(frame)) for _ in range(dice.randrange(1, 5)))
        edges = [0, *dict.fromkeys(cuts), len(frame)]
        return [frame[start:end] for start, end in itertools.pairwise(edges)]
    return [frame]


def is_text(piece: bytes) -> bool:
    """Whether a piece may travel as a text message: a cut inside a character may not."""
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
