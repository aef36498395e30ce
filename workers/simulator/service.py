"""The process as its clients see it: open connections, running asks, dispatch of what they send."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from workers.simulator.ask import Ask, Shared
from workers.simulator.connection import ClientGone, Connection
from workers.simulator.login import Account
from workers.simulator.options import KnobReader, Knobs

NOT_INITIALIZED = -32002
INVALID_PARAMS = -32602
UNKNOWN_METHOD = -32601
PARSE_ERROR = -32700


class RpcError(Exception):
    """Answered as a JSON-RPC error; a notification is only logged."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class NoReply(Exception):
    """The request stays without a response."""


@dataclass(slots=True)
class Call:
    """One request or notification on its way through a handler."""

    service: "Service"
    connection: Connection
    method: str
    params: dict[str, Any]
    rpc_id: object
    knobs: Knobs
    afterwards: list[Coroutine[Any, Any, None]] = field(default_factory=list)
    """Started as tasks once the response is out."""

    @property
    def is_request(self) -> bool:
        return self.rpc_id is not None

    def record(self) -> None:
        """Leave evidence of this call."""
        if self.knobs.record:
            journal = self.service.shared.journal
            journal.record(self.method, self.connection.number, self.rpc_id, self.params)


Handler = Callable[[Call], object]


class Service:
    """Connections and asks of one process. Owns every task it starts; `aclose()` ends them."""

    def __init__(
        self,
        shared: Shared,
        account: Account,
        knobs: KnobReader,
        handlers: Mapping[str, Handler],
        *,
        endpoint: str,
        leave: Callable[[], None],
    ) -> None:
        self.shared = shared
        self.account = account
        self.knobs = knobs
        self.endpoint = endpoint
        self.http_port = 0
        self.leave = leave
        self.asks: list[Ask] = []
        self._handlers = handlers
        self._connections: dict[int, Connection] = {}
        self._connected = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, socket: ServerConnection) -> None:
        """Talk to one client until it leaves; its asks end with it."""
        self._connected += 1
        journal = self.shared.journal
        connection = Connection(self._connected, socket, lambda: self.knobs.current, journal)
        self._connections[connection.number] = connection
        try:
            async for data in socket:
                for message in connection.messages(data):
                    await self._handle(connection, message)
        except (ClientGone, ConnectionClosed):
            pass
        finally:
            del self._connections[connection.number]
            connection.forget()
            for ask in self.asks:
                if ask.connection is connection:
                    journal.line(f"Client {connection.number} is closed, ignore request", level="WARN")
                    ask.drop()

    async def _handle(self, connection: Connection, message: dict[str, Any]) -> None:
        params = message.get("params")
        call = Call(
            service=self,
            connection=connection,
            method=str(message["method"]),
            params=params if isinstance(params, dict) else {},
            rpc_id=message.get("id"),
            knobs=self.knobs.read(),
        )
        try:
            result = self._dispatch(call)
        except NoReply:
            pass
        except RpcError as error:
            await self._refuse(call, error)
        else:
            if call.is_request:
                await connection.reply(call.rpc_id, result)
        for work in call.afterwards:
            self.spawn(work)

    def _dispatch(self, call: Call) -> object:
        if call.method == "":
            raise RpcError(PARSE_ERROR, "parse error")
        if call.knobs.require_initialize and not call.connection.initialized and call.method != "initialize":
            raise RpcError(NOT_INITIALIZED, "not initialized")
        handler = self._handlers.get(call.method)
        if handler is None:
            raise RpcError(UNKNOWN_METHOD, f"unknown method: {call.method}")
        return handler(call)

    async def _refuse(self, call: Call, error: RpcError) -> None:
        is_request = str(call.is_request).lower()
        self.shared.journal.line(
            f"err occur in {call.method}, isReq: {is_request}, err: {error.message}", level="ERROR"
        )
        if call.is_request or error.code == PARSE_ERROR:
            await call.connection.reply_error(call.rpc_id, error.code, error.message)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.shared.journal.line(f"internal error: {error!r}", level="ERROR")

    async def run_ask(self, ask: Ask) -> None:
        """Run an ask that is registered already: a stop may arrive before its first step."""
        try:
            await ask.run()
        finally:
            self.asks.remove(ask)

    async def broadcast(self, method: str, params: dict[str, Any]) -> None:
        """Push an event to every client that has introduced itself."""
        clients = [connection for connection in self._connections.values() if connection.initialized]
        self.shared.journal.line(f"broadcast(call) method: {method}, {len(clients)} clients")
        for connection in clients:
            try:
                await connection.push(self.knobs.current, [(method, params)], hold=False)
            except ClientGone:
                continue

    async def announce_login(self) -> None:
        """Tell clients that the login changed."""
        status = self.account.status()
        if status["status"] == 2:
            await self.broadcast("config/changeEndpoint", {"endpoint": self.endpoint})
            await self.broadcast("config/refreshModels", {})
        await self.broadcast("auth/report", status)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
