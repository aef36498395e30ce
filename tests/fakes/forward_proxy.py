"""A forward proxy as companies have them: absolute targets, tunnels (CONNECT), and Basic credentials.

It looks at nothing but who asks and where to; what goes through is recorded by its target alone.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

UNKNOWN = (
    b"HTTP/1.1 407 X\r\nproxy-authenticate: Basic realm=proxy\r\nconnection: close\r\n"
    b"content-length: 0\r\n\r\n"
)


class ForwardProxy:
    def __init__(self, user: str, password: str) -> None:
        self._credentials = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.forwarded: list[str] = []
        """Absolute targets."""
        self.tunnels: list[str] = []
        """Hosts with their ports."""
        self.refused = 0

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator["ForwardProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._connection(reader, writer)
        writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Of one client, who stays with one host."""
        method, target, headers = await _head(reader)
        if headers.get("proxy-authorization") != self._credentials:
            self.refused += 1
            await reader.readexactly(int(headers.get("content-length", 0)))
            writer.write(UNKNOWN)
            await writer.drain()
            return
        host = urlsplit(f"//{target}" if method == "CONNECT" else target)
        there, onward = await asyncio.open_connection(host.hostname, host.port)
        back = asyncio.create_task(_pipe(there, writer))
        try:
            if method == "CONNECT":
                self.tunnels.append(target)
                writer.write(b"HTTP/1.1 200 X\r\n\r\n")
                await _pipe(reader, onward)
                return
            while True:
                self.forwarded.append(target)
                await self._forward(method, target, headers, reader, onward)
                method, target, headers = await _head(reader)
        finally:
            onward.close()
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await back

    async def _forward(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        """As the origin wants it: its own path, and nothing that was for the proxy."""
        split = urlsplit(target)
        path = split.path + (f"?{split.query}" if split.query else "")
        kept = [f"{name}: {value}" for name, value in headers.items() if not name.startswith("proxy-")]
        onward.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "", ""]).encode("latin-1"))
        onward.write(await reader.readexactly(int(headers.get("content-length", 0))))
        await onward.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)}
    return method, target, headers


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
