"""The HTTP edge without an engine: scripted turns, an in-memory ASGI driver, and the app on a real server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp

from gateway.access.keys import KeyRing
from gateway.access.tiers import Tiers
from gateway.admin.routes import AdminPorts
from gateway.app import build_app
from gateway.engine.drain import Drain
from gateway.kernel.clock import FakeClock
from gateway.kernel.json import Json, dumps, loads
from gateway.protocols.http import EdgeLimits
from gateway.protocols.models import ModelEntry
from gateway.protocols.websocket import Sockets
from gateway.telemetry.sockets import SocketCounts
from gateway.turn.events import ItemDone, ItemStarted, TextDelta, TurnCompleted, TurnEvent, TurnStarted
from gateway.turn.frame import Burst, Frame
from gateway.turn.items import Message, TextPart
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage

Script = Callable[[Turn], AsyncIterator[Burst]]

STARTED = TurnStarted(model="upstream-model", created_at=1_790_000_000)


def burst(*events: TurnEvent) -> Burst:
    return [Frame((event,)) for event in events]


def text_events(*texts: str, usage: Usage | None = None) -> list[TurnEvent]:
    """A whole turn that says these texts."""
    whole = Message(role="assistant", parts=(TextPart("".join(texts)),))
    return [
        STARTED,
        ItemStarted(0, "message", "msg_1"),
        *(TextDelta(0, text) for text in texts),
        ItemDone(0, whole),
        TurnCompleted("stop", usage),
    ]


def saying(*events: TurnEvent) -> Script:
    """All of it at once, in one burst."""

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield burst(*events)

    return script


class FakeRun:
    """A TurnRun that follows a script and remembers how it was treated."""

    def __init__(self, bursts: AsyncIterator[Burst], losses: list[Loss]) -> None:
        self._bursts = bursts
        self.losses = losses
        self.begun = False
        self.finished = False
        self.cut = False
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Burst]:
        self.begun = True
        try:
            async for item in self._bursts:
                yield item
            self.finished = True
        except asyncio.CancelledError:
            self.cut = True
            raise

    async def aclose(self) -> None:
        self.closed.set()


class FakeEngine:
    def __init__(self, script: Script | None = None, losses: Sequence[Loss] = ()) -> None:
        self.script = script or saying(*text_events("hi"))
        self.losses = list(losses)
        self.turns: list[Turn] = []
        self.runs: list[FakeRun] = []

    def run_turn(self, turn: Turn) -> FakeRun:
        run = FakeRun(self.script(turn), [*turn.losses, *self.losses])
        self.turns.append(turn)
        self.runs.append(run)
        return run


class FakeCatalog:
    def __init__(self, *entries: ModelEntry) -> None:
        self.entries = list(entries)
        self.error: Exception | None = None

    async def list(self) -> Sequence[ModelEntry]:
        if self.error is not None:
            raise self.error
        return self.entries


class FakeDeps:
    """Everything the app needs; tests change what they are about."""

    def __init__(
        self,
        engine: FakeEngine | None = None,
        *,
        keys: str = "",
        limits: EdgeLimits | None = None,
        catalog: FakeCatalog | None = None,
    ) -> None:
        self.engine = engine or FakeEngine()
        self.tiers = Tiers(KeyRing.from_csv(keys))
        self.catalog = catalog or FakeCatalog()
        self.clock = FakeClock()
        self.limits = limits or EdgeLimits()
        self.responses_on_eof: Any = "failed"
        self.lobby = Drain(listen_s=0, deadline_s=5)
        self.sockets = Sockets(lobby=self.lobby, counts=SocketCounts())
        self.is_draining = False
        nothing: Any = None
        self.admin = AdminPorts("r-1", self.tiers, *[nothing] * (len(AdminPorts._fields) - 2))

    def draining(self) -> bool:
        return self.is_draining

    def instrument(self, app: ASGIApp) -> ASGIApp:
        return app


class Reply:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.ended = False

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def json(self) -> Any:
        return loads(self.body)


class Driver:
    """One request to an ASGI app in this process. `gone` is the client's leaving."""

    def __init__(
        self,
        app: ASGIApp,
        method: str,
        path: str,
        *,
        body: bytes | Sequence[bytes] = b"",
        headers: dict[str, str] | None = None,
        http_version: str = "1.1",
    ) -> None:
        self._app = app
        self.gone = asyncio.Event()
        self.reply = Reply()
        chunks = [body] if isinstance(body, bytes) else list(body)
        self.unread = [
            {"type": "http.request", "body": chunk, "more_body": at < len(chunks) - 1}
            for at, chunk in enumerate(chunks)
        ]
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": http_version,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        self.on_send: Callable[[dict[str, Any]], Any] | None = None

    async def run(self) -> Reply:
        await self._app(self._scope, self._receive, self._send)
        return self.reply

    async def _receive(self) -> dict[str, Any]:
        if self.unread:
            return self.unread.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        reply = self.reply
        if message["type"] == "http.response.start":
            assert reply.status == 0, "a second start"
            reply.status = message["status"]
            reply.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            assert not reply.ended, "a body after the end"
            reply.bodies.append(message["body"])
            reply.ended = not message.get("more_body", False)
        if self.on_send is not None and (waiting := self.on_send(message)) is not None:
            await waiting


async def call(app: ASGIApp, method: str, path: str, **options: Any) -> Reply:
    return await Driver(app, method, path, **options).run()


def chat_body(stream: bool = False, **fields: Json) -> bytes:
    messages: Json = [{"role": "user", "content": "hello"}]
    return dumps({"model": "m", "messages": messages, "stream": stream, **fields})


async def chat(deps: FakeDeps, stream: bool = False, **fields: Json) -> Reply:
    return await call(build_app(deps), "POST", "/v1/chat/completions", body=chat_body(stream, **fields))


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, *, port: int = 0, host: str = "127.0.0.1", graceful_s: float = 0.1
) -> AsyncIterator[str]:
    """The app on a real Hypercorn; gives its base address. Any free port unless one is given."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    port = sock.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = graceful_s
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(app, config, shutdown_trigger=stop.wait, mode="asgi"))  # type: ignore[arg-type]
        try:
            await _listening(host, port)
            yield f"http://{host}:{port}"
        finally:
            stop.set()


async def _listening(host: str, port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.01)
