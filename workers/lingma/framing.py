"""Messages inside the WebSocket stream: `Content-Length: N`, a blank line, N bytes of JSON. Pure: no I/O.

The borders of WebSocket messages mean nothing: a frame may be cut anywhere, and one WebSocket message may
hold several frames. One FrameDecoder per connection and direction. Called by rpc.py.
"""

from typing import TypeAlias

from workers.lingma.errors import FramingError

MAX_HEADER_BYTES = 8 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

Chunk: TypeAlias = bytes | bytearray | memoryview | str

_USUAL_START = b"Content-Length: "
_BLANK_LINE = b"\r\n\r\n"


def encode(body: bytes) -> bytes:
    """One frame. The length counts bytes, not characters."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class FrameDecoder:
    """Chunks in, complete bodies out. After a FramingError the stream is lost: there is no border to find."""

    def __init__(
        self, *, max_header_bytes: int = MAX_HEADER_BYTES, max_body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._needed_bytes = 0
        """Nothing can be complete before the buffer holds this much."""

    def feed(self, data: Chunk) -> list[bytes]:
        """The bodies that data completes, in order. Raises FramingError."""
        chunk = data.encode() if isinstance(data, str) else data
        if not self._buffer:
            body = self._whole_frame(chunk)
            if body is not None:
                return [body]
        self._buffer += chunk
        if len(self._buffer) < self._needed_bytes:
            return []
        return self._take_all()

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def _whole_frame(self, chunk: bytes | bytearray | memoryview) -> bytes | None:
        """The body when the chunk is exactly one ordinary frame, which is nearly always: no buffering."""
        if isinstance(chunk, memoryview) or not chunk.startswith(_USUAL_START):
            return None
        end = chunk.find(_BLANK_LINE, 0, 64)
        digits = chunk[len(_USUAL_START) : end]
        start = end + len(_BLANK_LINE)
        if end < 0 or not digits.isdigit() or len(digits) > 9 or int(digits) != len(chunk) - start:
            return None
        if len(chunk) - start > self._max_body_bytes:
            return None
        return bytes(memoryview(chunk)[start:])

    def _take_all(self) -> list[bytes]:
        """Cut every complete frame off the front of the buffer; the rest stays."""
        buffer = self._buffer
        bodies: list[bytes] = []
        position = 0
        self._needed_bytes = 0
        while position < len(buffer):
            end = buffer.find(_BLANK_LINE, position, position + self._max_header_bytes)
            if end < 0:
                self._check_unfinished_header(position)
                break
            start = end + len(_BLANK_LINE)
            stop = start + self._length(bytes(buffer[position:end]))
            if stop > len(buffer):
                self._needed_bytes = stop - position
                break
            with memoryview(buffer) as view:
                bodies.append(bytes(view[start:stop]))
            position = stop
        del buffer[:position]
        return bodies

    def _check_unfinished_header(self, position: int) -> None:
        if len(self._buffer) - position >= self._max_header_bytes:
            raise FramingError("a message header is too long")
        if not self._buffer[position : position + 1].isalpha():
            # Bare JSON, most likely: it would otherwise be waited on for ever.
            raise FramingError("a message does not begin with a header")

    def _length(self, header: bytes) -> int:
        length: int | None = None
        for line in header.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise FramingError("a line of a message header has no name")
            if name.lower() != b"content-length":
                continue
            digits = value.strip(b" \t")
            if length is not None or not digits.isdigit() or len(digits) > 19:
                raise FramingError("a message header has no single valid length")
            length = int(digits)
        if length is None:
            raise FramingError("a message header has no length")
        if length > self._max_body_bytes:
            raise FramingError(f"a message of {length} bytes is too long")
        return length
