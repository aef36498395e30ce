"""How the chunks of a Gemini stream stand in its bytes: three forms. Pure.

Facts about who reads them: google-genai for Python (3.4), for JavaScript (in Gemini CLI 0.61), for Go (1.71).

- They read lines, not server-sent events: `data: `, JSON on one line, a blank line. A comment breaks all of
  them, an `id:` line too, and a blank line too many the one for Go. But JSON may have spaces before it: the
  keep-alive is the beginning of the next event, and then more and more spaces.
- The one for JavaScript ends a line at U+2028, too.
- All raise on an error that stands there bare, without `data:`, which is how Google sends it. On one behind
  `data:` the one for Python raises too, the others see an empty answer that ends well.

Anybody else who reads server-sent events skips a line without a field name, and needs the error as data.
"""

from typing import Final, Protocol

from gateway.wire.sse import CONTENT_TYPE

_PARTING: Final = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
"""Characters that some readers end a line at; JSON holds them only inside strings."""


_LF: Final = 10
_CR: Final = 13
# Numbers, because to look for those costs an eighth of looking for bytes.


class Framing(Protocol):
    content_type: bytes
    around: tuple[bytes, bytes]
    """What is put before and behind a chunk without a number, if it is not the first and follows another."""
    begun: bool
    """A keep-alive has begun an event that the next chunk ends."""

    def chunk(self, body: bytes, number: int | None) -> bytes:
        """One chunk; `number` is there when the client may want to come back to it."""
        ...

    def error(self, body: bytes, number: int | None) -> bytes:
        """The last word of a stream that failed."""
        ...

    def end(self) -> bytes:
        """What comes after the last word, however the stream ended."""
        ...

    def keepalive(self) -> bytes: ...


class EventFraming:
    """Server-sent events, for whoever reads them by their standard."""

    content_type = CONTENT_TYPE
    around = (b"data: ", b"\n\n")

    def __init__(self) -> None:
        self.begun = False

    def chunk(self, body: bytes, number: int | None) -> bytes:
        if self.begun:
            self.begun = False
            event_id = b"" if number is None else b"\nid: %d" % number
            return one_line(body) + event_id + b"\n\n"
        event = b"data: " + one_line(body) + b"\n\n"
        return event if number is None else b"id: %d\n%b" % (number, event)

    def error(self, body: bytes, number: int | None) -> bytes:
        return self.chunk(body, number)

    def end(self) -> bytes:
        return b""

    def keepalive(self) -> bytes:
        if self.begun:
            return b" "
        self.begun = True
        return b"data: "


class SdkFraming(EventFraming):
    """The same for Google's SDKs: no `id:` lines, and errors bare."""

    def chunk(self, body: bytes, number: int | None) -> bytes:
        return super().chunk(body, None)

    def error(self, body: bytes, number: int | None) -> bytes:
        bare = one_line(body) + b"\n\n"
        return self.chunk(body, None) + bare if self.begun else bare


class ArrayFraming:
    """One JSON array, closed whatever happens; a line for each chunk, since some read it by lines."""

    content_type = b"application/json; charset=utf-8"
    around = (b",\n", b"")
    begun = False

    def __init__(self) -> None:
        self._empty = True

    def chunk(self, body: bytes, number: int | None) -> bytes:
        before = b"[" if self._empty else b",\n"
        self._empty = False
        return before + one_line(body)

    def error(self, body: bytes, number: int | None) -> bytes:
        return self.chunk(body, number)

    def end(self) -> bytes:
        return b"[]" if self._empty else b"]"

    def keepalive(self) -> bytes:
        return b"\n"


def one_line(body: bytes) -> bytes:
    """JSON without anything that ends a line for anybody."""
    if _LF in body or _CR in body:
        body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    if not body.isascii():
        for character, escaped in _PARTING:
            body = body.replace(character, escaped)
    return body
