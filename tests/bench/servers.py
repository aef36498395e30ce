"""Servers of the pipeline section: ours without a hub, and two bare ones that send the same bytes.

A process; prints its port and serves until its standard input ends. All three run on Hypercorn with our
configuration. `pipeline` is the real application and engine over an executor that has its raw messages in
memory: decode, grammar, observers, encode and delivery are the real ones.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any, Literal, cast

from hypercorn.asyncio import serve
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.keys import KeyRing
from gateway.access.tiers import Tiers
from gateway.admin.routes import AdminPorts
from gateway.app import build_app
from gateway.engine.admission import Admission
from gateway.engine.drain import Drain
from gateway.engine.routing import KnownModel, Router
from gateway.engine.run import Engine, EngineLimits
from gateway.kernel.clock import SystemClock
from gateway.kernel.json import dumps
from gateway.protocols.http import EdgeLimits
from gateway.protocols.models import ModelEntry
from gateway.protocols.websocket import Sockets
from gateway.serving import hypercorn_config, listen
from gateway.store.keys import Keys
from gateway.store.leases_memory import MemoryLeases
from gateway.telemetry.logs import setup_logs
from gateway.telemetry.metrics import TurnStatistics
from gateway.telemetry.sockets import SocketCounts
from gateway.turn.frame import Burst
from gateway.turn.losses import Loss
from gateway.turn.ports import Call, Capabilities
from gateway.turn.request import Turn
from gateway.upstreams.lingma.decode import LingmaDecoder
from tests.bench.dialects import DIALECTS, Dialect
from tests.bench.measure import say

EVENTS = 200
CHAT = DIALECTS["chat"]


def raw_messages() -> list[bytes]:
    """What Lingma pushes for a turn of EVENTS deltas."""
    ids = {
        "requestId": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "sessionId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    }
    more = {"overwrite": False, "isFiltered": False, "timestamp": 1_790_000_000_000}
    deltas = [
        _push("chat/answer", number, ids | {"text": " lorem"} | more | {"extra": {"sessionType": "chat"}})
        for number in range(EVENTS)
    ]
    end = {"reason": "success", "statusCode": 200, "fullAnswer": " lorem" * EVENTS}
    return [*deltas, _push("chat/finish", EVENTS, ids | end)]


def _push(method: str, number: int, params: dict[str, Any]) -> bytes:
    return dumps({"jsonrpc": "2.0", "id": 71 + number, "method": method, "params": params})


def grouped(messages: Sequence[bytes], size: int) -> Iterable[Sequence[bytes]]:
    return (messages[at : at + size] for at in range(0, len(messages), size))


class Canned:
    """An executor whose upstream has already said everything."""

    name = "lingma"
    capabilities = Capabilities(reasoning="plain")

    def __init__(self) -> None:
        self._messages = raw_messages()

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        return ()

    async def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        turn = call.turn
        decoder = LingmaDecoder(turn.id, turn.model, turn.created_at_ms // 1000, prompt_tokens=9)
        size = int(turn.model.partition("-")[2])
        seq = 1
        for group in grouped(self._messages, size):
            burst: Burst = []
            for raw in group:
                burst.append(decoder.feed(raw, seq))
                seq += 1
            yield burst
            await asyncio.sleep(0)

    def conclude(self, turn: Turn) -> None:
        pass


class Models:
    def models(self) -> Sequence[KnownModel]:
        return [KnownModel(key="org_auto", default=True)]

    async def list(self) -> Sequence[ModelEntry]:
        return []


class Deps:
    """What the application is made of, tracing off."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.tiers = Tiers(KeyRing(()))
        self.catalog = Models()
        self.limits = EdgeLimits()
        self.responses_on_eof: Literal["failed"] = "failed"
        self.sockets = Sockets(lobby=Drain(listen_s=0, deadline_s=0), counts=SocketCounts())
        leases = MemoryLeases(self.clock)
        self.engine = Engine(
            router=Router(
                Canned(),
                Models(),
                aliases={},
                default_model="org_auto",
                fallback="default",
                own_names=frozenset(),
            ),
            admission=Admission(leases, Keys(), max_in_flight=0, queue_max=256),
            drain=Drain(listen_s=0, deadline_s=0),
            recorder=TurnStatistics(),
            clock=self.clock,
            limits=EngineLimits(),
        )
        nothing: Any = None
        self.admin = AdminPorts("bench", self.tiers, *[nothing] * (len(AdminPorts._fields) - 2))

    def draining(self) -> bool:
        return False

    def instrument(self, app: ASGIApp) -> ASGIApp:
        return app


def encoded(dialect: Dialect, burst: int) -> list[list[bytes]]:
    """What the pipeline sends, event by event, in the groups in which it would wait."""
    turn = dialect.turn(burst)
    decoder = LingmaDecoder(turn.id, turn.model, 1_790_000_000, prompt_tokens=9)
    encoder = dialect.protocol.encoder(turn, [])
    events = [encoder.encode([decoder.feed(raw, seq)]) for seq, raw in enumerate(raw_messages(), 1)]
    return [list(group) for group in grouped(events, burst)]


def bare_starlette(dialect: Dialect, burst: int) -> ASGIApp:
    """As an application would naturally be written: every event is yielded when it is there."""
    groups = encoded(dialect, burst)

    async def events() -> AsyncIterator[bytes]:
        for group in groups:
            for event in group:
                yield event
            await asyncio.sleep(0)

    async def answer(_: Request) -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    path = dialect.path(burst).partition("?")[0]
    return Starlette(routes=[Route(path, answer, methods=["POST"])])


def bare_asgi(dialect: Dialect, burst: int) -> ASGIApp:
    """The least that can be done: raw ASGI messages."""
    groups = encoded(dialect, burst)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for group in groups:
            for event in group:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def main(kind: str, burst: int, dialect: Dialect) -> None:
    setup_logs("INFO")
    app = {
        "pipeline": lambda: build_app(Deps()),
        "starlette": lambda: bare_starlette(dialect, burst),
        "asgi": lambda: bare_asgi(dialect, burst),
    }[kind]()
    sock = listen("127.0.0.1", 0)
    sock.listen()  # whoever is told the port may connect at once
    say(port=sock.getsockname()[1])

    async def stdin_ends() -> None:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    await serve(cast(ASGIFramework, app), hypercorn_config(sock), shutdown_trigger=stdin_ends, mode="asgi")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), DIALECTS[sys.argv[3]]))
