"""A Lingma that lives in the test: framed JSON-RPC over WebSocket, steered and inspected in the same process.

Not a simulator: it knows no chats. A test gives it handlers by method and pushes what it wants pushed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from workers.lingma.framing import FrameDecoder, encode

Message = dict[str, Any]
SILENT = object()
"""A handler returns this to leave a request unanswered."""

LOGGED_IN = {"status": 2, "name": "dev-17", "id": "600100", "accountId": "600100", "token": "pt-SECRET"}
MODELS = {
    "chat": [{"key": "org_auto", "displayName": "Auto", "isDefault": True}],
    "assistant": [{"key": "org_auto", "displayName": "Automatic"}, {"key": "kmodel", "isVl": True}],
}


def framed(message: Message) -> bytes:
    return encode(json.dumps(message, ensure_ascii=False).encode())


class FakeLingma:
    def __init__(self) -> None:
        self.port = 0
        self.connections: list[ServerConnection] = []
        self.connected = 0
        self.ws_messages: list[list[Message]] = []
        """What arrived, one entry for each WebSocket message."""
        self.handlers: dict[str, Callable[[Message], Any]] = {
            "initialize": lambda _: {"capabilities": {}, "serverInfo": {"name": "lingma", "version": "0"}},
            "auth/status": lambda _: LOGGED_IN,
            "config/queryModels": lambda _: MODELS,
            "chat/ask": lambda _: {"success": True, "errorCode": "", "errorMessage": ""},
        }
        self._arrived = asyncio.Condition()

    @property
    def messages(self) -> list[Message]:
        return [message for group in self.ws_messages for message in group]

    def calls(self, method: str) -> list[Message]:
        return [message for message in self.messages if message.get("method") == method]

    @property
    def acks(self) -> list[Message]:
        return [message for message in self.messages if "method" not in message]

    async def wait_for(self, condition: Callable[[], object], within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s), self._arrived:
            await self._arrived.wait_for(condition)

    async def push(self, *messages: Message, text: bool = True) -> None:
        """All of them in one WebSocket message."""
        await self.send_raw(b"".join(map(framed, messages)), text=text)

    async def send_raw(self, data: bytes, *, text: bool = True) -> None:
        await self.connections[-1].send(data, text=text)

    async def drop(self) -> None:
        """Cut the connection without a goodbye."""
        self.connections[-1].transport.abort()

    async def serve_one(self, connection: ServerConnection) -> None:
        async with self._arrived:
            self.connections.append(connection)
            self.connected += 1
            self._arrived.notify_all()
        decoder = FrameDecoder()
        try:
            async for data in connection:
                group = [json.loads(body) for body in decoder.feed(data)]
                async with self._arrived:
                    self.ws_messages.append(group)
                    self._arrived.notify_all()
                for message in group:
                    await self._answer(connection, message)
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)

    async def _answer(self, connection: ServerConnection, message: Message) -> None:
        if "method" not in message or "id" not in message:
            return
        handler = self.handlers.get(message["method"])
        if handler is None:
            answer = {"error": {"code": -32601, "message": f"unknown method: {message['method']}"}}
        else:
            result = handler(message)
            if result is SILENT:
                return
            answer = result if isinstance(result, dict) and "error" in result else {"result": result}
        await connection.send(framed({"jsonrpc": "2.0", "id": message["id"], **answer}).decode())


@asynccontextmanager
async def fake_lingma(port: int = 0) -> AsyncIterator[FakeLingma]:
    fake = FakeLingma()
    server = await serve(
        fake.serve_one, "127.0.0.1", port, compression=None, max_size=80 * 2**20, ping_interval=None
    )
    fake.port = next(iter(server.sockets)).getsockname()[1]
    try:
        yield fake
    finally:
        server.close(close_connections=True)
        await server.wait_closed()
