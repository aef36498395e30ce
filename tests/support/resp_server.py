"""A server on loopback that speaks RESP2 and says what the test wants: nodes, sentinels and faults on demand.

async with RespServer(lambda args: Error("LOADING") if args[0] == b"GET" else "OK") as server:
    connect_to(server.port)
    assert server.commands == [...]
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Self

import hiredis


class Error(str):
    """An error reply, without its dash."""


class Hang:
    """No reply to this command."""


class HangUp:
    """Close the connection instead of replying."""


Handler = Callable[[list[bytes]], Any]


class RespServer:
    """handler: command -> reply (None, int, str for a status, bytes, list, Error, Hang, HangUp).

    Commands of the handshake are answered here and not shown to it; it may be replaced at any time.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self.silent = False
        """Accept, but answer nothing, not even the handshake."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Listen no longer and cut every connection."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def push(self, raw: bytes) -> None:
        """Say something nobody asked for, on every connection."""
        for writer in self._writers:
            writer.write(raw)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    def named(self, name: bytes) -> list[list[bytes]]:
        return [command for command in self.commands if command[0].upper() == name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    if self.silent:
                        continue
                    if self._handshake(command):
                        writer.write(b"+OK\r\n")
                        continue
                    self.commands.append(command)
                    reply = self.handler(command)
                    if isinstance(reply, Awaitable):
                        reply = await reply
                    if isinstance(reply, HangUp):
                        return
                    if not isinstance(reply, Hang):
                        writer.write(encode(reply))
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _handshake(self, command: list[bytes]) -> bool:
        name = command[0].upper()
        return name in (b"SELECT", b"AUTH") or (
            name == b"CLIENT" and command[1].upper() in (b"SETINFO", b"SETNAME")
        )


def encode(reply: Any) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case Error():
            return b"-%b\r\n" % reply.encode()
        case str():
            return b"+%b\r\n" % reply.encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
