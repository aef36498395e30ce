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
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gateway.kernel.errors import (
    UpstreamEof,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
)

USER_AGENT: Final = f"lingma-gateway/{version('lingma-gateway')}"
MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error's body; what lies behind it is not read."""
ERROR_BODY_S: Final = 5.0
KEEPALIVE_S: Final = 30.0
READ_BYTES: Final = 256 * 1024
"""What one read takes at most: events that wait for a slow client are decoded in pieces of this size."""


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

    def __init__(self, request: UpstreamRequest, response: aiohttp.ClientResponse, until: float) -> None:
        """until: loop time of the end of everything."""
        self._request = request
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._until = until
        self._idle_s = request.limits.idle_s
        self._waiting_since: float | None = None
        """None while the consumer has the chunk: its time is its own."""
        self._timer: asyncio.TimerHandle | None = None
        self.status = response.status
        self.headers = response.headers
        """Names in any case."""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, what came together in one piece. Raises UpstreamError."""
        read, time = self._response.content.readany, self._loop.time
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
            self._response.content.set_exception(_TooLate())

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
        self._session: aiohttp.ClientSession | None = None
        self._once: aiohttp.ClientSession | None = None
        """Its connections are for one request each."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["UpstreamHttp"]:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        pooled = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=KEEPALIVE_S, ssl=context)
        fresh = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, force_close=True, ssl=context)
        async with _session(pooled) as session, _session(fresh) as once:
            self._session, self._once = session, once
            try:
                yield self
            finally:
                self._session = self._once = None

    @contextlib.asynccontextmanager
    async def post(self, request: UpstreamRequest) -> AsyncIterator[UpstreamAnswer]:
        """The answer as soon as its headers are there; leaving the block early closes the connection.

        Raises UpstreamUnavailable when nobody answered, UpstreamTimeout when nobody did in time,
        UpstreamProtocol when what came is no answer.
        """
        if self._session is None:
            raise UpstreamUnavailable("The gateway is shutting down")
        limits = request.limits
        now = asyncio.get_running_loop().time()
        until = now + request.total_s
        try:
            async with asyncio.timeout_at(min(now + limits.connect_s + limits.first_byte_s, until)):
                response = await self._sent(request)
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamTimeout(
                f"Upstream {request.upstream} did not take a connection within {limits.connect_s:g} s",
                phase="connect",
            ) from None
        except TimeoutError:
            if asyncio.get_running_loop().time() >= until:
                raise UpstreamTimeout("The turn reached its time limit", phase="total") from None
            raise UpstreamTimeout(
                f"Upstream {request.upstream} sent no answer within {limits.first_byte_s:g} s",
                phase="first_byte",
            ) from None
        except aiohttp.ClientResponseError:
            # No HTTP, or packed in a way that was not asked for and that nobody here can unpack.
            raise UpstreamProtocol(
                f"Upstream {request.upstream} sent an answer that cannot be read"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # A ValueError is about an address or a header that cannot be written.
            raise _broken(request, error) from None
        try:
            yield UpstreamAnswer(request, response, until)
        finally:
            # After the end of the body this gives the connection back; before it, it closes the connection,
            # which is how an upstream learns that nobody listens any more.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _sent(self, request: UpstreamRequest) -> aiohttp.ClientResponse:
        """A connection that was kept may have been closed by its other end meanwhile, which shows when it is
        used: then, and before anything was answered, the request is sent once more, on a new one.
        """
        assert self._session is not None
        assert self._once is not None
        connection = _Connection()
        try:
            return await _post(self._session, request, connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not connection.reused:
                raise
        return await _post(self._once, request, _Connection())


class _Connection:
    """What is known of a request's connection."""

    def __init__(self) -> None:
        self.reused = False


async def _noted(_: object, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_noted)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        # Limits of ours stand around every wait instead: theirs would arm a timer for every chunk.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None),
        read_bufsize=READ_BYTES,
        trust_env=False,
        trace_configs=[tracing],
    )


async def _post(
    session: aiohttp.ClientSession, request: UpstreamRequest, connection: _Connection
) -> aiohttp.ClientResponse:
    return await session.post(
        request.url,
        data=request.body,
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers},
        proxy=request.proxy,
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=request.limits.connect_s),
        trace_request_ctx=connection,
    )


def too_long(upstream: str, limit: int) -> UpstreamProtocol:
    return UpstreamProtocol(f"Upstream {upstream} answered with more than {limit} bytes")


def _broken(request: UpstreamRequest, error: Exception) -> UpstreamUnavailable:
    return UpstreamUnavailable(f"Upstream {request.upstream} could not be reached ({type(error).__name__})")
