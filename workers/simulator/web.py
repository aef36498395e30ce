"""The local HTTP server: the login callback and a profile page. GET only, one request per connection."""

import asyncio
import html
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

from workers.simulator.journal import Journal
from workers.simulator.login import Account

_LIMIT = 16 * 1024
_TIMEOUT_S = 5.0
_PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


class Web:
    """Routes of the HTTP port."""

    def __init__(self, account: Account, journal: Journal, announce: Callable[[], Awaitable[None]]) -> None:
        self._account = account
        self._journal = journal
        self._announce = announce

    async def start(self, port: int) -> asyncio.Server:
        """Listen on port; when it is taken, which two processes with default ports meet, on a free one."""
        try:
            return await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_LIMIT)
        except OSError as error:
            self._journal.line(f"http port {port} unusable ({error.strerror}), taking another", level="WARN")
            return await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = await self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
                page = f"<!doctype html><meta charset=utf-8><p>{html.escape(body)}</p>\n".encode()
                writer.write(
                    f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: text/html; charset=utf-8\r\n"
                    f"content-length: {len(page)}\r\nconnection: close\r\n\r\n".encode()
                    + page
                )
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def _answer(self, request_line: str) -> tuple[int, str]:
        parts = request_line.split(" ")
        if len(parts) != 3:
            return 400, "bad request"
        if parts[0] != "GET":
            return 405, "GET only"
        address = urlsplit(parts[1])
        match address.path:
            case "/auth/callback":
                return await self._callback(parse_qs(address.query))
            case "/auth/start":
                return 200, "Login is started by the client."
            case "/profile":
                status = self._account.status()
                return 200, f"Signed in as {status['name']}" if status["status"] == 2 else "Not signed in"
            case _:
                return 404, "not found"

    async def _callback(self, query: dict[str, list[str]]) -> tuple[int, str]:
        if not self._account.finish_login(query.get("state", [""])[0]):
            return 400, "This login link is not valid any more."
        await self._announce()
        return 200, "Login succeeded. You can close this page."
