"""A live gateway in this process with Gemini upstreams and nothing else, and attempts without one."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from gateway.app import build_app
from gateway.engine.admission import Admission
from gateway.engine.drain import Drain
from gateway.engine.observers import TurnFigures
from gateway.engine.routing import Router, Target
from gateway.engine.run import Engine, EngineLimits
from gateway.kernel.clock import Clock, SystemClock
from gateway.kernel.errors import UpstreamUnavailable
from gateway.kernel.ids import new_turn_id
from gateway.replay.antigravity import AntigravityReplay
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.store.leases_memory import MemoryLeases
from gateway.turn.frame import Burst
from gateway.turn.losses import Loss
from gateway.turn.ports import Call, Capabilities
from gateway.turn.request import RawRequest, Turn
from gateway.upstreams.antigravity.executor import AntigravityExecutor
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.cooldowns import Cooldowns
from gateway.upstreams.http import UpstreamHttp
from gateway.upstreams.pool import HttpUpstream, accounts_of, credentials_of
from tests.fakes.antigravity_server import MODELS, AntigravityServer
from tests.support.edge import FakeDeps, serving

KEY = "good-key"


def config_for(*servers: AntigravityServer | str, **fields: Any) -> UpstreamConfig:
    """One upstream; several servers are its addresses."""
    urls = [server if isinstance(server, str) else server.url for server in servers]
    enveloped = any(isinstance(server, AntigravityServer) and server.envelope for server in servers)
    project = {"project": "project-1"} if enveloped else {}
    return UpstreamConfig.model_validate(
        {
            "name": "gem",
            "kind": "antigravity",
            "base_url": urls,
            "credentials": [{"id": "main", "api_key": KEY, **project}],
            "models": list(MODELS),
            "envelope": "code_assist" if enveloped else "plain",
            "timeouts": {"connect_s": 1, "first_byte_s": 5, "idle_s": 5},
        }
        | fields
    )


class NoLingma:
    """Nobody is logged in."""

    name = "lingma"
    capabilities = Capabilities()

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        return ()

    async def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        raise UpstreamUnavailable("nobody is logged in")
        yield []

    def conclude(self, turn: Turn) -> None:
        pass

    def models(self) -> Sequence[Any]:
        return ()


class Recorder:
    def __init__(self) -> None:
        self.figures: list[TurnFigures] = []

    def record(self, turn: Turn, figures: TurnFigures) -> None:
        self.figures.append(figures)


class Bench:
    """An executor and what it stands on."""

    def __init__(
        self,
        config: UpstreamConfig,
        http: UpstreamHttp,
        *,
        kv: KVClient | None = None,
        strict: bool = False,
        replay: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.clock: Clock = SystemClock()
        self.kv: KVClient = MemoryKV(self.clock) if kv is None else kv
        required = RequiredKV(Availability(self.kv))
        self.cooldowns = Cooldowns(required, Keys(), self.clock, accounts_of([config]))
        self.config = config
        self.executor = AntigravityExecutor(
            config,
            http,
            credentials_of(config, environ or {}),
            self.cooldowns,
            AntigravityReplay(required, strict=strict, packs=True) if replay else None,
            self.clock,
        )

    def rests_s(self, model: str = MODELS[0], *, credential: str = "main", soft: bool = True) -> float:
        """With the soft ones or without."""
        kinds = (False, True) if soft else (False,)
        return max(
            self.cooldowns.left(self.config.name, credential, model, soft=kind).for_s for kind in kinds
        )


@contextlib.asynccontextmanager
async def bench(config: UpstreamConfig, **options: Any) -> AsyncIterator[Bench]:
    async with UpstreamHttp().running() as http:
        yield Bench(config, http, **options)


class Gateway(msgspec.Struct):
    url: str
    bench: Bench
    recorder: Recorder


@contextlib.asynccontextmanager
async def gateway(
    config: UpstreamConfig,
    *,
    routes: Mapping[str, Sequence[Target]] | None = None,
    limits: EngineLimits | None = None,
    **options: Any,
) -> AsyncIterator[Gateway]:
    """On a real server. What it counts and logs is the engine's, as in a deployment."""
    async with bench(config, **options) as one:
        lingma, recorder = NoLingma(), Recorder()
        admission = Admission(MemoryLeases(one.clock), Keys(), max_in_flight=0, queue_max=8)
        engine = Engine(
            router=Router(
                lingma,
                lingma,
                aliases={},
                default_model="org_auto",
                fallback="strict",
                own_names=frozenset(),
                upstreams=[HttpUpstream(config, one.executor, one.cooldowns)],
                routes=routes,
            ),
            admission=admission,
            drain=Drain(listen_s=0, deadline_s=1),
            recorder=recorder,
            clock=one.clock,
            limits=limits or EngineLimits(),
        )
        deps: Any = FakeDeps()
        deps.engine, deps.clock = engine, one.clock
        async with admission.running(), serving(build_app(deps)) as url:
            yield Gateway(url, one, recorder)


def call_of(turn: Turn, clock: Clock, model: str = MODELS[0], **fields: Any) -> Call:
    asked: dict[str, Any] = {
        "turn": turn,
        "model": model,
        "account": "main",
        "attempt": 1,
        "deadline_ms": clock.now_ms() + 60_000,
        "queue_until": 0.0,
    }
    return Call(**asked | fields)


def gemini_turn(body: dict[str, Any], **fields: Any) -> Turn:
    """A turn of Gemini's own client, whose items nobody looks at."""
    told: dict[str, Any] = {
        "id": new_turn_id(SystemClock().now_ms()),
        "tenant": "t1",
        "created_at_ms": SystemClock().now_ms(),
        "model": "asked",
        "items": (),
        "raw": RawRequest(dialect="gemini", body=body),
        "stream": True,
    }
    return Turn(**told | fields)
