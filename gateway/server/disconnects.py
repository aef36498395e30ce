"""Hypercorn 0.18 tells an application that its client has gone: applied once, before serving.

ASGI has a disconnect as a message to be waited for. A turn waits for its upstream, and so each one would need
a task of its own for that message alone. Here the scope holds a function that takes who is to be told; see
protocols/http.py. The message comes, too.
"""

from collections.abc import Callable
from typing import Any, cast

from hypercorn.protocol import h2
from hypercorn.protocol.events import Event, Request, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream

from gateway.protocols.http import ON_DISCONNECT


class _Client:
    """Not the stream, which holds the scope that holds this: such circles stay until somebody looks."""

    __slots__ = ("_gone", "_tell")

    def __init__(self) -> None:
        self._gone = False
        self._tell: Callable[[], None] | None = None

    def register(self, tell: Callable[[], None] | None) -> None:
        self._tell = tell
        if self._gone and tell is not None:
            tell()

    def left(self) -> None:
        self._gone = True
        if self._tell is not None:
            self._tell()


class TellingStream(HTTPStream):
    """One request and its answer, whatever carries them."""

    _reader: _Client | None = None

    async def handle(self, event: Event) -> None:
        if type(event) is StreamClosed and self._reader is not None:
            self._reader.left()
        await super().handle(event)
        if type(event) is Request:
            self._reader = _Client()
            # The task that reads the scope has not begun yet.
            cast(dict[str, Any], self.scope)[ON_DISCONNECT] = self._reader.register


def apply() -> None:
    """Idempotent."""
    h2.HTTPStream = TellingStream  # type: ignore[attr-defined]
