"""The HTTP client of the upstreams: pooled connections, a time limit for every wait, raw bytes out.

Knows no dialect and no credential. One per replica, opened by the composition root; executors hold it. Built
on aiohttp, which costs a quarter of what httpx does for each streamed chunk. What the network does wrong
becomes an error of the kernel's tree whose text names the upstream, never its address or what it was sent.

Answers are asked for as they are. A server that compresses them all the same is unpacked piece by piece as
they are read, so that whoever counts the bytes read has counted what they take.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.http import HttpProcessingError

from gateway.kernel.errors import (
    UpstreamEof,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.upstreams.connections import Connections, PooledConnection, Reply

USER_AGENT: Final = f"lingma-gateway/{version('lingma-gateway')}"
MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error's body; what lies behind it is not read."""
ERROR_BODY_S: Final = 5.0
_OURS: Final = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    connect_s: float = 10.0
    first_byte_s: float = 120.0
    """From the request's last byte to the answer's headers."""
    idle_s: float = 300.0
    """The longest silence inside an answer."""


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    upstream: str
    """Its configured name, for errors."""
    url: str
    body: bytes
    headers: Mapping[str, str]
    limits: HttpLimits = HttpLimits()
    total_s: float = 600.0
    """The limit of everything together."""
    proxy: str | None = None
    secrets: Sequence[str] = ()
    """What of it nobody else may read."""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


class _TooLate(Exception):
    """Set by the timer on a read that has waited for too long."""


class UpstreamAnswer:
    """An answer whose body is still to be read. One reader.

    One lazy timer bounds all of its reads: to arm one for every chunk would cost as much as to decode it.
    """

    def __init__(self, request: UpstreamRequest, reply: Reply, until: float) -> None:
        """until: loop time of the end of everything."""
        self._request = request
        self._content = reply.content
        self._loop = asyncio.get_running_loop()
        self._until = until
        self._idle_s = request.limits.idle_s
        self._waiting_since: float | None = None
        """None while the consumer has the chunk: its time is its own."""
        self._timer: asyncio.TimerHandle | None = None
        self.status = reply.status
        self.headers = reply.headers
        """Names in any case."""
        self.close = reply.close
        """See Reply.close: before the end of the body this ends the upstream's work, too."""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, what came together in one piece. Raises UpstreamError."""
        read, time = self._content.readany, self._loop.time
        try:
            while True:
                self._waiting_since = time()
                if self._timer is None:
                    self._watch()
                data = await read()
                if not data:
                    return
                self._waiting_since = None
                yield data
        except _TooLate:
            raise self._too_late() from None
        except (aiohttp.ClientError, OSError) as error:
            upstream, what = self._request.upstream, type(error).__name__
            raise UpstreamEof(f"Upstream {upstream} broke its answer off ({what})") from None
        finally:
            self._unwatch()

    def hurry(self, idle_s: float) -> None:
        """The longest silence from here on, should it have been longer."""
        if idle_s < self._idle_s:
            self._idle_s = idle_s
            self._unwatch()

    def _watch(self) -> None:
        """Look again when the read that waits has waited for too long; a later read is found by then."""
        if self._waiting_since is None:
            self._timer = None  # the next read begins the watch anew
            return
        due = min(self._waiting_since + self._idle_s, self._until)
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._watch)
        else:
            self._content.set_exception(_TooLate())

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> UpstreamTimeout:
        if self._loop.time() >= self._until:
            return UpstreamTimeout("The turn reached its time limit", phase="total")
        message = f"Upstream {self._request.upstream} was silent for {self._idle_s:g} s"
        return UpstreamTimeout(message, phase="idle")

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamError, also when it is longer than the limit."""
        content = self._content
        if content.is_eof() and content.exception() is None and content.total_bytes <= limit:
            return content.read_nowait()  # it came with its head
        pieces: list[bytes] = []
        size = 0
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for piece in chunks:
                size += len(piece)
                if size > limit:
                    raise too_long(self._request.upstream, limit)
                pieces.append(piece)
        return b"".join(pieces)

    async def read_error(self) -> bytes:
        """As much of an error's body as is worth reading and waiting for; the rest is left out."""
        pieces: list[bytes] = []
        size = 0
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(ERROR_BODY_S), contextlib.aclosing(self.chunks()) as chunks:
                async for piece in chunks:
                    pieces.append(piece)
                    size += len(piece)
                    if size >= MAX_ERROR_BYTES:
                        break
        return b"".join(pieces)[:MAX_ERROR_BYTES]


class UpstreamHttp:
    """Open it, post with it, close it."""

    def __init__(self, *, ca_file: str | None = None) -> None:
        """`ca_file`: certificates to trust beside those of the system."""
        self._ca_file = ca_file
        self._connections: Connections | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["UpstreamHttp"]:
        trusted = ssl.create_default_context()
        if self._ca_file is not None:
            trusted.load_verify_locations(self._ca_file)
        async with contextlib.aclosing(Connections(trusted)) as connections:
            self._connections = connections
            try:
                yield self
            finally:
                self._connections = None

    async def post(self, request: UpstreamRequest) -> UpstreamAnswer:
        """The answer as soon as its headers are there, to be closed.

        Raises UpstreamUnavailable when nobody answered, UpstreamTimeout when nobody did in time,
        UpstreamProtocol when what came is no answer.
        """
        if self._connections is None:
            raise UpstreamUnavailable("The gateway is shutting down")
        until = asyncio.get_running_loop().time() + request.total_s
        try:
            return UpstreamAnswer(request, await _posted(self._connections, request, until), until)
        except HttpProcessingError:
            # No HTTP, or packed in a way that was not asked for and that nobody here can unpack.
            raise UpstreamProtocol(
                f"Upstream {request.upstream} sent an answer that cannot be read"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # A ValueError is about an address or a header that cannot be written.
            raise _broken(request, error) from None


async def _posted(connections: Connections, request: UpstreamRequest, until: float) -> Reply:
    """A connection that was kept may have been closed by its other end meanwhile, which shows when it is
    used: then, and before anything was answered, the request is sent once more, on a new one.
    """
    connection = await _connected(connections, request, until)
    try:
        return await _answered(connection, request, until)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        if not connection.reused:
            raise
    return await _answered(await _connected(connections, request, until, fresh=True), request, until)


async def _connected(
    connections: Connections, request: UpstreamRequest, until: float, *, fresh: bool = False
) -> PooledConnection:
    connect_s = request.limits.connect_s
    left_s = until - asyncio.get_running_loop().time()
    try:
        return await connections.take(
            request.url, request.proxy, within_s=min(connect_s, max(left_s, 0.001)), fresh=fresh
        )
    except TimeoutError:
        if left_s <= connect_s:
            raise _over() from None
        raise UpstreamTimeout(
            f"Upstream {request.upstream} did not take a connection within {connect_s:g} s", phase="connect"
        ) from None


async def _answered(connection: PooledConnection, request: UpstreamRequest, until: float) -> Reply:
    loop = asyncio.get_running_loop()
    first_byte_s = request.limits.first_byte_s
    timer = loop.call_at(min(loop.time() + first_byte_s, until), connection.give_up, _TooLate())
    try:
        return await connection.post({**_OURS, **request.headers}, request.body)
    except _TooLate:
        if loop.time() >= until:
            raise _over() from None
        raise UpstreamTimeout(
            f"Upstream {request.upstream} sent no answer within {first_byte_s:g} s", phase="first_byte"
        ) from None
    finally:
        timer.cancel()


def _over() -> UpstreamTimeout:
    return UpstreamTimeout("The turn reached its time limit", phase="total")


def too_long(upstream: str, limit: int) -> UpstreamProtocol:
    return UpstreamProtocol(f"Upstream {upstream} answered with more than {limit} bytes")


def _broken(request: UpstreamRequest, error: Exception) -> UpstreamUnavailable:
    return UpstreamUnavailable(f"Upstream {request.upstream} could not be reached ({type(error).__name__})")
