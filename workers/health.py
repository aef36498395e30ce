"""The worker's own small HTTP endpoint: probes, a status document, counters. GET only, one request each.

Not the product's HTTP surface (that is the gateway's), and no framework: four fixed paths need none, and a
probe must answer while everything else is busy. Called by the supervisor.

    /livez    200 as long as the event loop runs
    /readyz   200 when an instance can take work, else 503
    /healthz  200 and a JSON document whose `ok` says the same
    /metrics  counters, in plain text or OpenMetrics
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gateway.kernel import json
from gateway.kernel.json import JsonObject
from gateway.telemetry.exposition import negotiated, whole

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 8 * 1024
MAX_CONNECTIONS = 64
REQUEST_TIMEOUT_S = 5.0

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Too Large",
    503: "Unavailable",
}
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class HealthView:
    """What the endpoint shows; each is called once a request and must not wait."""

    ready: Callable[[], bool]
    document: Callable[[], JsonObject]
    metrics: Callable[[], str]
    """As plain text."""


class HealthServer:
    """`async with HealthServer(...).serving() as port`: the port it listens on."""

    def __init__(self, view: HealthView, *, host: str, port: int) -> None:
        self._view = view
        self._host = host
        self._port = port
        self._open = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Raises OSError when the address is taken."""
        server = await asyncio.start_server(self._connection, self._host, self._port, limit=MAX_HEAD_BYTES)
        try:
            port: int = server.sockets[0].getsockname()[1]
            log.info("health.listening", extra={"host": self._host, "port": port})
            yield port
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._exchange(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            log.debug("health.connection_dropped")
        finally:
            self._open -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open > MAX_CONNECTIONS:
            status, kind, body = 503, _TEXT, b"busy\n"
        else:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                status, kind, body = 431, _TEXT, b"too large\n"
            else:
                status, kind, body = self._answer(head)
        writer.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()

    def _answer(self, head: bytes) -> tuple[int, str, bytes]:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, _TEXT, b"bad request\n"
        method, target, _ = words
        if method != b"GET":
            return 405, _TEXT, b"GET only\n"
        match target.split(b"?", 1)[0]:
            case b"/livez":
                return 200, _TEXT, b"ok\n"
            case b"/readyz":
                return (200, _TEXT, b"ready\n") if self._view.ready() else (503, _TEXT, b"not ready\n")
            case b"/healthz":
                return 200, "application/json", json.dumps(self._view.document())
            case b"/metrics":
                form = negotiated(_accept(head))
                return 200, form, whole(form, self._view.metrics()).encode()
            case _:
                return 404, _TEXT, b"not found\n"


def _accept(head: bytes) -> str:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return ",".join(value.decode("latin-1") for name, _, value in lines if name.lower() == b"accept")
