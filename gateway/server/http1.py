"""HTTP/1.1 with less work in Hypercorn 0.18: applied once, before serving. ADR 14 has the figures.

What goes over the wire is what Hypercorn would send, framed and checked by h11 (as in server/h11.py), but:

- The head of an answer leaves with the first piece of its body, as ASGI has it, and the last piece with the
  end: a whole answer is one write, not three.
- A piece of a chunked body is framed here. h11 looks at each as if anything else could still come.
- Whoever writes waits only when the kernel has not taken everything.
- Headers that are as they should be are looked at once, not by Hypercorn and then by h11, and the date is
  written once a second.
- A connection has one task that watches for idleness, not two new ones for every request.
- The last piece of a request's body says that it is the last.
- Nothing goes to Hypercorn's access log, which is off: ours knows more.
"""

import asyncio
import contextlib
import re
import weakref
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, cast

import h11
from h11._headers import Headers
from hypercorn import protocol
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import h11 as server
from hypercorn.protocol.events import Body, EndBody, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.http_stream import ASGIHTTPState
from hypercorn.typing import ASGISendEvent
from hypercorn.utils import build_and_validate_headers, suppress_body

from gateway.kernel.clock import SystemClock
from gateway.server.disconnects import TellingStream
from gateway.server.h11 import PlainConnection

_CHUNKED: Final = b"\r\ntransfer-encoding: chunked\r\n"
_END: Final = h11.EndOfMessage()
_clock: Final = SystemClock()
_name: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]+").fullmatch
_value: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?").fullmatch
"""Of headers that need no second look: h11 would leave them as they are."""


class LeanStream(TellingStream):
    """One request and its answer over HTTP/1.1."""

    _held: h11.Response | None = None
    """The head of the answer, until there is something of its body."""
    _chunked = False
    _writing = False
    _missing = 0
    """Bytes of the request's body, as far as its head said how many there are."""
    _ended = False
    """The application has been told the end of the body."""

    async def handle(self, event: StreamEvent) -> None:
        if type(event) is Body:
            self._missing -= len(event.data)
            if self._missing == 0 and not self.closed:  # the end comes with it
                self._ended = True
                await self.app_put({"type": "http.request", "body": bytes(event.data), "more_body": False})
                return
        elif type(event) is EndBody and self._ended:
            return
        elif type(event) is Request:
            self._missing = _length(event.headers)
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is None:
            if self._held is not None:  # the application died behind the head: nobody has seen that yet
                self._held, self.state = None, ASGIHTTPState.REQUEST
            connection = self._protocol.connection
            if self._writing and isinstance(connection, h11.Connection):
                connection.send_failed()  # cut short: what was written may never be taken, nothing follows it
        elif self.state is ASGIHTTPState.RESPONSE and message["type"] == "http.response.body":
            await self._body(message.get("body", b""), last=not message.get("more_body", False))
            return
        elif self.state is ASGIHTTPState.REQUEST and message["type"] == "http.response.start":
            self.response = message
            self._held = h11.Response(
                status_code=int(message["status"]),
                headers=_checked([*message.get("headers", ()), *self._own_headers()]),
            )
            self.state = ASGIHTTPState.RESPONSE
            return
        await super().app_send(message)

    def _own_headers(self) -> Iterable[tuple[bytes, bytes]]:
        yield from _server_headers(self.config, _clock.now_ms() // 1000)
        if self._protocol.keep_alive_requests >= self.config.keep_alive_max_requests:
            yield (b"connection", b"close")

    @cached_property
    def _protocol(self) -> server.H11Protocol:
        return cast(Any, self.send).__self__  # type: ignore[no-any-return]

    async def _body(self, piece: bytes, *, last: bool) -> None:
        data = b"" if self._held is None else self._head(self._held)
        if piece and not suppress_body(self.scope["method"], int(self.response["status"])):
            if self._chunked:
                data += b"%x\r\n%b\r\n" % (len(piece), piece)
            else:
                data += self._written(h11.Data(data=bytes(piece)))
        if last:
            data += self._written(_END)
        if data:
            self._writing = True
            await self._protocol.send(RawData(data))
            self._writing = False
        if last:
            self.state = ASGIHTTPState.CLOSED
            await self.send(StreamClosed(stream_id=self.stream_id))

    def _head(self, head: h11.Response) -> bytes:
        self._held = None
        data = self._written(head)
        self._chunked = _CHUNKED in data.lower()
        return data

    def _written(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> bytes:
        """Nothing when the client has sent what makes no sense: it was told, and its connection closed."""
        connection = self._protocol.connection
        try:
            return connection.send(event)
        except h11.LocalProtocolError:
            if connection.their_state is not h11.ERROR:
                raise
            return b""


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Of a request's body; 0 when its head does not say: a chunked body is as long as it is, whatever stands
    beside that.
    """
    fields = dict(headers)
    return 0 if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))


def _checked(headers: Sequence[tuple[bytes, bytes]]) -> Headers | list[tuple[bytes, bytes]]:
    """Headers as h11 has them behind its own look; those that need one as they are."""
    lengths = 0
    for name, value in headers:
        if not (_name(name) and _value(value)):
            break
        if name == b"content-length":
            lengths += 1
            if lengths > 1 or not value.isdigit():
                break
        elif name == b"transfer-encoding":
            break
    else:
        return Headers([(name, name, value) for name, value in headers])
    return build_and_validate_headers(headers)


@lru_cache(maxsize=1)
def _server_headers(config: Config, _second: int) -> list[tuple[bytes, bytes]]:
    return config.response_headers("h11")


class LeanProtocol(server.H11Protocol):
    """A connection. Made as Hypercorn makes its own."""

    def __init__(self, app: Any, config: Config, *more: Any) -> None:
        super().__init__(app, config, *more)
        self._upgrades = False
        self.connection = PlainConnection(
            h11.SERVER, max_incomplete_event_size=config.h11_max_incomplete_size
        )

    async def _check_protocol(self, event: h11.Request) -> None:
        self._upgrades = any(name == b"upgrade" for _, name, _ in event.headers._full_items)
        if event.method == b"PRI" or self._upgrades:
            await super()._check_protocol(event)

    async def _create_stream(self, request: h11.Request) -> None:
        if self._upgrades:
            await super()._create_stream(request)
            return
        self.stream = LeanStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            server.STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=server.STREAM_ID,
                headers=[(name, value) for _, name, value in request.headers._full_items],
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()


_protocol_send = TCPServer.protocol_send


async def _send(self: TCPServer, event: Event) -> None:
    """As the original, but for what the module says of waiting and of idleness."""
    if isinstance(event, RawData):
        if not await _written(self, event.data):
            await self.protocol.handle(Closed())
        return
    if isinstance(event, Updated):
        _idle_since[self] = self.loop.time() if event.idle else None
        if not (event.idle and self.context.terminated.is_set()):
            return  # else its watch may have ended, as the server did, while the last stream ran
    await _protocol_send(self, event)


async def _written(connection: TCPServer, data: bytes) -> bool:
    async with connection.send_lock:
        writer = connection.writer
        transport = writer.transport
        try:
            writer.write(data)
            if transport.is_closing() or transport.get_write_buffer_size():
                await writer.drain()
        except (ConnectionError, RuntimeError):
            return False
    return True


_idle_since: "weakref.WeakKeyDictionary[TCPServer, float | None]" = weakref.WeakKeyDictionary()
"""Loop time; None while a request runs."""


async def _idle_timeout(self: TCPServer) -> None:
    """Runs as long as its connection, which it closes when nothing was asked for too long."""
    timeout_s = self.config.keep_alive_timeout
    _idle_since.setdefault(self, self.loop.time())
    left_s = timeout_s
    while left_s > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):  # wait_for() would need a task, 2 kB more a connection
                await self.context.terminated.wait()
        since = _idle_since[self]
        if self.context.terminated.is_set():
            if since is None:
                return  # closed behind its answer
            break
        left_s = timeout_s if since is None else since + timeout_s - self.loop.time()
    await asyncio.shield(self._initiate_server_close())


def apply() -> None:
    """Idempotent."""
    TCPServer.protocol_send = _send  # type: ignore[method-assign]
    TCPServer._idle_timeout = _idle_timeout  # type: ignore[method-assign]
    server.HTTPStream = LeanStream  # type: ignore[attr-defined]
    protocol.H11Protocol = LeanProtocol  # type: ignore[attr-defined,assignment]
