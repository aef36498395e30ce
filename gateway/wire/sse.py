"""Server-sent events: bytes to events and back. Sans I/O; knows no dialect.

The splitter is fed whatever the network gave and keeps the exact bytes of every event, so that an upstream's
stream can be passed on as it came: the `raw` of all events joined, plus what is `pending`, is the input.
Framing follows the HTML standard: lines end with LF, CR or CRLF, a blank line ends an event, one byte order
mark may come first. Two decisions go beyond it. A blank line made by a lone CR at the very end of the input
waits for the next byte, which may be its LF; and at the end of the input an event whose last line is complete
counts although its blank line is missing. Blank lines that end nothing belong to the event that follows.
"""

import re

import msgspec

from gateway.kernel.errors import UpstreamProtocol

CONTENT_TYPE = b"text/event-stream; charset=utf-8"

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""Room for one inline image; more than that without a blank line is not an event stream."""

_BOM = b"\xef\xbb\xbf"
# Atomic, so that CRLF is never taken for two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)")
_LINE_ENDS = re.compile(rb"[\r\n]+")
_CR = 0x0D
_CR_LF = b"\r\n"
_LINE_END = re.compile(rb"\r\n|\n|\r")
# The form that nearly every event of every upstream has: one data line, perhaps named before.
_PLAIN = re.compile(rb"(?:event: ([^\r\n]*)\n)?data: ([^\r\n]*)\n\n")
_PLAIN_CRLF = re.compile(rb"(?:event: ([^\r\n]*)\r\n)?data: ([^\r\n]*)\r\n\r\n")


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event, or a block that is none: comments, a lone id."""

    raw: bytes
    """Every byte of it, its blank line included."""
    data: bytes | None
    """The data lines joined with LF; None when there was no data field."""
    event: str | None = None
    id: str | None = None
    retry_ms: int | None = None


class SseSplitter:
    """Feed it pieces of a stream, get the events that became complete."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._searched = 0
        """Where to look on."""
        self._begun = False
        """Of the next event more than line ends is there."""
        self._begins = 0
        """Where that begins."""
        self._first = True
        self._has_cr = False

    @property
    def pending(self) -> bytes:
        """The beginning of an event whose end has not come yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Raises UpstreamProtocol when an event grows beyond the limit."""
        buffer = self._buffer
        events: list[SseEvent] = []
        if not buffer and len(chunk) <= self._max:
            taken = _plain_events(chunk, events)
            self._first = self._first and not taken
            if taken == len(chunk):
                return events
            chunk = chunk[taken:]
        buffer += chunk
        if not self._has_cr:
            self._has_cr = _CR in chunk
        start, at, size = 0, self._searched, len(buffer)
        while True:
            if not self._begun:
                # Any number of line ends may come before an event, and are part of it.
                if at < size and buffer[at] in _CR_LF and (ends := _LINE_ENDS.match(buffer, at)) is not None:
                    at = ends.end()
                if at == size:
                    break
                self._begun, self._begins = True, at
            end = self._end_of_event(at)
            if end < 0:
                # A blank line may have begun in the last three bytes: CR LF CR.
                at = max(self._begins, size - 3)
                break
            events.append(self._event(bytes(buffer[start:end])))
            self._begun = False
            start = at = end
        del buffer[:start]
        self._searched = at - start
        self._begins -= start
        if len(buffer) > self._max:
            raise self._too_large()
        return events

    def eof(self) -> SseEvent | None:
        """The event that only lacks its blank line, if there is one. What is cut inside a line is dropped."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        if not rest.endswith((b"\n", b"\r")):
            return None
        return self._event(rest)

    def _end_of_event(self, position: int) -> int:
        buffer = self._buffer
        if not self._has_cr:
            found = buffer.find(b"\n\n", position)
            return found + 2 if found >= 0 else -1
        found = buffer.find(b"\r\n\r\n", position)
        if found >= 0 and buffer.find(b"\r", position) == found and buffer.find(b"\n", position) == found + 1:
            return found + 4  # an event of one line: all that some upstreams write
        match = _BLANK_LINE.search(buffer, position)
        if match is None:
            return -1
        end = match.end()
        return -1 if end == len(buffer) and buffer[end - 1] == _CR else end

    def _event(self, raw: bytes) -> SseEvent:
        if len(raw) > self._max:
            raise self._too_large()
        block = raw.lstrip(_CR_LF) if raw[0] in _CR_LF else raw
        if self._first:
            self._first = False
            if block is raw:  # behind a line end it is none
                block = block.removeprefix(_BOM)
        found = (_PLAIN_CRLF if self._has_cr else _PLAIN).fullmatch(block)
        return parse_block(block, raw) if found is None else _plain(found, raw)

    def _too_large(self) -> UpstreamProtocol:
        return UpstreamProtocol(f"the upstream sent an event of more than {self._max} bytes")


def _plain_events(chunk: bytes, into: list[SseEvent]) -> int:
    """The hot path: plain events, whole, up to the first that is not. How many bytes they were."""
    match = (_PLAIN_CRLF if _CR in chunk else _PLAIN).match
    start = 0
    while (found := match(chunk, start)) is not None:
        into.append(_plain(found, found[0]))
        start = found.end()
    return start


def _plain(found: re.Match[bytes], raw: bytes) -> SseEvent:
    name, data = found.groups()
    return SseEvent(raw, data, None if name is None else name.decode("utf-8", "replace"))


def parse_block(block: bytes, raw: bytes | None = None) -> SseEvent:
    """The fields of one block of lines. Unknown fields and comments mean nothing."""
    data: list[bytes] = []
    event = event_id = None
    retry_ms = None
    for line in _LINE_END.split(block):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            retry_ms = int(value)
    joined = b"\n".join(data) if data else None
    return SseEvent(block if raw is None else raw, joined, event, event_id, retry_ms)


def write_event(data: bytes, *, event: str | None = None, event_id: str | int | None = None) -> bytes:
    """One event. Line ends inside the data become further data lines, as the format wants it."""
    lines = []
    if event is not None:
        lines.append(b"event: " + _one_line(event))
    if event_id is not None:
        lines.append(b"id: " + _one_line(str(event_id)))
    # JSON never holds a raw line end, so this split finds one piece.
    lines += [b"data: " + line for line in _LINE_END.split(data)]
    return b"\n".join(lines) + b"\n\n"


def write_comment(text: str) -> bytes:
    """A line that keeps the connection busy and means nothing."""
    return b": " + _one_line(text) + b"\n\n"


def _one_line(text: str) -> bytes:
    return " ".join(text.splitlines()).encode()
