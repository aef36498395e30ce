"""Requests on aiohttp's connections, without aiohttp's requests: for upstreams/http.py alone.

Its connector (pool, names, TLS, proxies) and its response parser do the work. What its session does for a
request beside that, redirects and cookies and forms and uploads, no upstream needs, and it costs more than
all the rest: 85 us of CPU for an answer that is not streamed (m). Errors are aiohttp's own.
"""

import asyncio
import re
import ssl
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

KEEPALIVE_S: Final = 30.0
READ_BYTES: Final = 256 * 1024
"""What one read takes at most: events that wait for a slow client are decoded in pieces of this size."""
MAX_TARGETS: Final = 256
MAX_BEGINNINGS: Final = 8
"""Of requests to one target that are kept written: as many as it has keys, unless clients add their own."""
END_S: Final = 1.0
"""How long the end of a body may come behind its last word."""
MAX_JOINED: Final = 64 * 1024
"""Bytes of a body that is copied behind its head, to leave in one piece."""
_SWITCHING: Final = 101
_BROKEN_LINE: Final = re.compile(r"[\r\n\0]")


class Target:
    """Where requests go. Made once; what is written of a request before its own headers."""

    def __init__(self, url: str, proxy: str | None, loop: asyncio.AbstractEventLoop) -> None:
        """Raises ValueError for what is no address."""
        self.template = aiohttp.ClientRequest(
            "POST",
            URL(url),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            proxy=None if proxy is None else URL(proxy),
            loop=loop,
        )
        if self.template.url.scheme not in ("http", "https") or not self.template.url.raw_host:
            raise aiohttp.InvalidURL(url)
        self._relayed = proxy is not None and not self.template.is_ssl()
        self._beginnings: dict[tuple[tuple[str, str], ...], bytes] = {}

    def head(self, headers: Mapping[str, str], size: int) -> bytes:
        """To be asked for when there is a connection, which knows what its proxy wants to be told."""
        asked = tuple(headers.items())
        beginning = self._beginnings.get(asked)
        if beginning is None:
            if len(self._beginnings) >= MAX_BEGINNINGS:
                self._beginnings.clear()
            beginning = self._beginnings[asked] = self._written(asked)
        return beginning + b"%d\r\n\r\n" % size

    def _written(self, headers: Sequence[tuple[str, str]]) -> bytes:
        """All but the length, which alone differs from one request to the next."""
        url, own = self.template.url, self.template.headers
        told = {name.lower() for name, _ in headers}
        lines = [
            f"POST {url if self._relayed else url.raw_path_qs} HTTP/1.1",
            *(
                f"{name}: {value}"
                for name, value in own.items()
                if name.lower() not in told and name.lower() != "content-length"
            ),
            *(f"{name}: {value}" for name, value in headers),
            "Content-Length: ",
        ]
        if _BROKEN_LINE.search("".join(lines)):
            raise ValueError("a header with a line break")
        return "\r\n".join(lines).encode()


class Reply:
    """The head of an answer, and its body to be read. Close it."""

    __slots__ = ("_connection", "_pool", "content", "headers", "status")

    def __init__(
        self,
        pool: "Connections",
        connection: Connection,
        message: RawResponseMessage,
        content: StreamReader,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self.status = message.code
        self.headers = message.headers
        self.content = content

    def close(self, *, ended: bool = False) -> None:
        """Give the connection back behind the end of the body; before it, the connection is closed, which is
        how an upstream learns that nobody listens any more. `ended`: the body has said its last word, and its
        end is waited for a little: often it comes by itself, and a new connection costs a handshake.
        """
        connection = self._connection
        transport = connection.transport
        unsent = transport is not None and transport.get_write_buffer_size()
        if unsent or self.status == _SWITCHING:
            connection.close()
        elif self.content.is_eof():
            connection.release()
        elif ended and self.content.exception() is None:
            self._pool.wait_for_end(connection, self.content)
        else:
            connection.close()


class Connections:
    """The connections to the upstreams that trust the same certificates."""

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._pooled = aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=60, keepalive_timeout=KEEPALIVE_S, ssl=trusted
        )
        self._fresh = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, force_close=True, ssl=trusted)
        """Its connections are for one request each."""
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()
        self._ending: dict[Connection, asyncio.TimerHandle] = {}
        """Those whose answers have said their last word, and when that is not waited for any more."""
        self._loop = asyncio.get_running_loop()
        self._target = lru_cache(MAX_TARGETS)(Target)

    async def aclose(self) -> None:
        for connection in list(self._ending):
            self._over(connection, connection.close)
        await self._pooled.close()
        await self._fresh.close()

    async def take(
        self, url: str, proxy: str | None, *, within_s: float, fresh: bool = False
    ) -> "PooledConnection":
        """Raises TimeoutError, OSError, ValueError and aiohttp.ClientError."""
        target = self._target(url, proxy, self._loop)
        connector = self._fresh if fresh else self._pooled
        while True:
            connection = await connector.connect(target.template, [], _timeout(within_s))
            protocol = connection.protocol
            assert protocol is not None
            reused = protocol in self._used
            if not (reused and protocol.should_close):
                break
            # It has spoken while nobody asked, and that would be taken for the answer to what is asked now.
            connection.close()
        if not (reused or fresh):
            self._used.add(protocol)
        return PooledConnection(self, target, connection, protocol, reused=reused)

    def wait_for_end(self, connection: Connection, content: StreamReader) -> None:
        """Give the connection back at the end of its body, or close it when that takes too long."""
        self._ending[connection] = self._loop.call_later(END_S, self._over, connection, connection.close)
        content.on_eof(lambda: self._over(connection, connection.release))

    def _over(self, connection: Connection, end: Callable[[], None]) -> None:
        if (timer := self._ending.pop(connection, None)) is not None:
            timer.cancel()
            end()


class PooledConnection:
    """A connection for one request."""

    def __init__(
        self,
        pool: Connections,
        target: Target,
        connection: Connection,
        protocol: ResponseHandler,
        *,
        reused: bool,
    ) -> None:
        self._pool = pool
        self._target = target
        self._connection = connection
        self._protocol = protocol
        self.reused = reused
        """It may have been closed by its other end meanwhile."""

    def give_up(self, error: Exception) -> None:
        """Whoever waits for the answer gets the error."""
        self._protocol.set_exception(error)

    async def post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Raises OSError, ValueError, aiohttp.ClientError and HttpProcessingError."""
        connection, protocol = self._connection, self._protocol
        try:
            data = self._target.head(headers, len(body))
            protocol.set_response_params(read_until_eof=True, read_bufsize=READ_BYTES)
            transport = connection.transport
            assert transport is not None
            if len(body) <= MAX_JOINED:
                transport.write(data + body)
            else:
                transport.write(data)
                transport.write(body)
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == _SWITCHING:
                    return Reply(self._pool, connection, message, content)
        except BaseException:
            connection.close()
            raise


@lru_cache(64)
def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s)
