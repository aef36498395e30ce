"""How the chunks of a Gemini stream stand in its bytes: three forms. Pure.

Facts about who reads them (google-genai for Python 3.4, for JavaScript as in Gemini CLI 0.61, and for Go):

- They read lines, not server-sent events: `data: `, one line of JSON, a blank line. A comment or an `id:`
  line breaks every one of them, so the keep-alive is blank lines. JavaScript's ends a line at U+2028 and
  U+2029 too.
- All raise on an error that stands there bare, without `data:`, which is how Google sends it. On one behind
  `data:` Python's raises too, the others see an empty answer that ends well.

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


class Framing(Protocol):
    content_type: bytes
    keepalive: bytes

    def chunk(self, body: bytes, number: int | None) -> bytes:
        """One chunk; `number` is there when the client may want to come back to it."""
        ...

    def error(self, body: bytes, number: int | None) -> bytes:
        """The last word of a stream that failed."""
        ...

    def end(self) -> bytes:
        """What comes after the last word, however the stream ended."""
        ...


class EventFraming:
    """Server-sent events, for whoever reads them by their standard."""

    content_type = CONTENT_TYPE
    keepalive = b"\n\n"

    def chunk(self, body: bytes, number: int | None) -> bytes:
        event = b"data: " + one_line(body) + b"\n\n"
        return event if number is None else b"id: %d\n%b" % (number, event)

    def error(self, body: bytes, number: int | None) -> bytes:
        return self.chunk(body, number)

    def end(self) -> bytes:
        return b""


class SdkFraming(EventFraming):
    """The same for Google's SDKs: no `id:` lines, and errors bare."""

    def chunk(self, body: bytes, number: int | None) -> bytes:
        return super().chunk(body, None)

    def error(self, body: bytes, number: int | None) -> bytes:
        return one_line(body) + b"\n\n"


class ArrayFraming:
    """One JSON array, closed whatever happens."""

    content_type = b"application/json; charset=utf-8"
    keepalive = b"\n"

    def __init__(self) -> None:
        self._begun = False

    def chunk(self, body: bytes, number: int | None) -> bytes:
        before = b",\n" if self._begun else b"["
        self._begun = True
        return before + body

    def error(self, body: bytes, number: int | None) -> bytes:
        return self.chunk(body, number)

    def end(self) -> bytes:
        return b"]" if self._begun else b"[]"


def one_line(body: bytes) -> bytes:
    """JSON without anything that ends a line for anybody."""
    if b"\n" in body or b"\r" in body:
        body = b" ".join(body.split())
    for character, escaped in _PARTING:
        if character in body:
            body = body.replace(character, escaped)
    return body
