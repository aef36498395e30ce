"""The composition root of a replica: the only place that names concrete classes.

`open_deps` opens everything in order and closes it in reverse: telemetry, stores, the hub and the job client,
engine, the ASGI app. `up`, `serve` and tests enter the same function with other settings and stores.
"""

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version

import msgspec
from starlette.types import ASGIApp

from gateway.access.keys import ApiKey, KeyRing, read_key_file
from gateway.access.tiers import Tiers
from gateway.admin.cluster import ClusterStats
from gateway.admin.commands import WorkerDesk
from gateway.admin.routes import AdminPorts
from gateway.app import build_app
from gateway.catalog import Catalog, LingmaModels
from gateway.container_upstreams import conversation_of, open_upstreams, routes_of
from gateway.engine.admission import Admission
from gateway.engine.drain import Drain
from gateway.engine.routing import Router
from gateway.engine.run import Engine, EngineLimits
from gateway.environ import seal_ring
from gateway.jobs.client import JobClient, Retention
from gateway.jobs.directory import Directory
from gateway.jobs.hub import Hub
from gateway.jobs.messages import InstanceRecord
from gateway.jobs.stats import HubCollector
from gateway.kernel.aio import background, supervise
from gateway.kernel.clock import Clock, SystemClock
from gateway.kernel.errors import StoreError
from gateway.kernel.ids import ReplicaId
from gateway.protocols.http import EdgeLimits
from gateway.protocols.responses.encode import OnEof
from gateway.protocols.websocket import Sockets
from gateway.sessions.policy import SessionPolicy
from gateway.sessions.store import SessionCache, SessionLimits
from gateway.sessions.store_memory import MemorySessionCache
from gateway.sessions.store_redis import RedisSessionCache
from gateway.settings import GatewaySettings
from gateway.store.backends import Stores, check_store, open_stores
from gateway.store.outage import Outage
from gateway.store.stats import StoreCollector
from gateway.store.writable import WriteWatch
from gateway.telemetry.metrics import TurnStatistics
from gateway.telemetry.setup import Tracing, start_tracing
from gateway.telemetry.sockets import SocketCounts
from gateway.telemetry.traced_app import traced_app
from gateway.upstreams.lingma.executor import LingmaExecutor, LingmaOptions
from gateway.upstreams.lingma.request import AGENT_MODELS, ToolPolicy

log = logging.getLogger(__name__)

SESSIONS_PER_INSTANCE = 256


class Replica(msgspec.Struct, frozen=True):
    """A running replica, for those who serve it."""

    asgi: ASGIApp
    drain: Drain
    directory: Directory
    stores: Stores


class AppDeps(msgspec.Struct, frozen=True, kw_only=True):
    """What the application is made of; see app.Deps."""

    engine: Engine
    tiers: Tiers
    catalog: Catalog
    clock: Clock
    limits: EdgeLimits
    responses_on_eof: OnEof
    sockets: Sockets
    admin: AdminPorts
    drain: Drain
    tracing: Tracing

    def draining(self) -> bool:
        return self.drain.state != "serving"

    def instrument(self, app: ASGIApp) -> ASGIApp:
        return traced_app(app, self.tracing)


@contextlib.asynccontextmanager
async def open_deps(
    settings: GatewaySettings, *, stores: Stores | None = None, bare_names: bool = False
) -> AsyncIterator[Replica]:
    """A whole replica, ready to serve. `stores` are those of an embedded worker; else they are opened here.

    bare_names: instances are shown as `inst-0` instead of `worker/inst-0`.
    """
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        tracing = start_tracing(
            os.environ,
            service="lingma-gateway",
            instance=settings.server.replica_id,
            version=version("lingma-gateway"),
        )
        stack.callback(tracing.close)
        if tracing.content:
            log.warning("tracing.content_recorded")
        if stores is None:
            url = settings.store.url
            stores = await stack.enter_async_context(
                open_stores(
                    url, clock, dialect=settings.store.kv_dialect, ring=seal_ring(settings.store.keys)
                )
            )
        configured = settings.upstreams.config()
        await check_store(stores, replay=bool(configured.upstreams))
        replica = ReplicaId(settings.server.replica_id)
        watch = WriteWatch(stores.redis, stores.keys, replica)
        await watch.look()
        await stack.enter_async_context(background(supervise("store.watch", watch.run)))
        hub = Hub(stores.streams, stores.turns, stores.keys, replica, clock, watch)
        directory = Directory(stores.kv, stores.leases, stores.keys, clock, watch)
        jobs = JobClient(
            streams=stores.streams,
            turns=stores.turns,
            kv=stores.kv,
            keys=stores.keys,
            hub=hub,
            directory=directory,
            clock=clock,
            replica_id=replica,
            retention=Retention(
                plain_s=settings.turns.retention_s, resumable_s=settings.turns.retention_resumable_s
            ),
        )
        await stack.enter_async_context(hub.running())
        with contextlib.suppress(StoreError):
            await directory.refresh()
        await stack.enter_async_context(jobs.running())
        statistics = TurnStatistics()
        statistics.metrics.registry.register(HubCollector(hub))
        admission = _admission(settings, stores)
        await stack.enter_async_context(admission.running())
        outage = Outage(stores.redis, wait_s=settings.store.wait_s)
        statistics.metrics.registry.register(StoreCollector(outage, watch))
        drain = Drain(listen_s=settings.server.drain_listen_s, deadline_s=settings.server.drain_deadline_s)
        cache = _session_cache(settings, stores, directory, clock)
        executor = _lingma(settings, jobs, directory, cache, clock, outage)
        models = LingmaModels(directory)
        upstreams = await stack.enter_async_context(
            open_upstreams(configured, settings.replay, stores, clock, os.environ)
        )
        routes = routes_of(configured.routes)
        engine = Engine(
            router=Router(
                executor,
                models,
                aliases=settings.models.aliases,
                default_model=settings.models.default_model,
                fallback=settings.models.fallback,
                own_names=AGENT_MODELS,
                upstreams=upstreams,
                routes=routes,
                affinity=conversation_of,
            ),
            admission=admission,
            drain=drain,
            recorder=statistics,
            clock=clock,
            tracer=tracing.tracer,
            trace_content=tracing.content,
            ride_out=outage.ride_out,
            limits=EngineLimits(
                turn_timeout_s=settings.turns.timeout_s, queue_timeout_s=settings.admission.queue_timeout_s
            ),
        )
        guard = Guard(admission, executor)
        cluster = ClusterStats(
            stores.kv,
            stores.leases,
            stores.keys,
            replica_id=replica,
            counters=lambda: {**statistics.chat.counters(), **guard.counters()},
            gauges=guard.gauges,
        )
        await stack.enter_async_context(background(supervise("cluster.stats", cluster.run)))
        stack.push_async_callback(cluster.leave)
        tiers = _tiers(settings)
        deps = AppDeps(
            engine=engine,
            tiers=tiers,
            catalog=Catalog(
                models,
                upstreams,
                routes,
                default=settings.models.default_model,
                aliases=settings.models.aliases,
            ),
            clock=clock,
            limits=_edge_limits(settings),
            responses_on_eof=settings.responses.on_upstream_eof,
            sockets=_sockets(settings, drain, statistics),
            admin=AdminPorts(
                replica_id=replica,
                tiers=tiers,
                pool=PoolView(directory, bare_names=bare_names),
                admission=guard,
                chat=statistics.chat,
                cluster=cluster,
                sessions=cache,
                readiness=Readiness(drain, outage, watch),
                models=WorkerDesk(stores.streams, stores.kv, stores.keys, directory, clock),
                instruments=statistics.metrics.render,
                upstreams=lambda: {one.name: one.is_awake() for one in upstreams},
            ),
            drain=drain,
            tracing=tracing,
        )
        yield Replica(build_app(deps), drain, directory, stores)


def _admission(settings: GatewaySettings, stores: Stores) -> Admission:
    return Admission(
        stores.leases,
        stores.keys,
        max_in_flight=settings.admission.max_in_flight,
        queue_max=settings.admission.queue_max,
    )


def _session_cache(
    settings: GatewaySettings, stores: Stores, directory: Directory, clock: Clock
) -> SessionCache:
    wanted = settings.sessions.cache_max_entries

    def maximum() -> int:
        if wanted is not None:
            return wanted
        # Ready or not: an instance that reconnects still holds its sessions.
        return SESSIONS_PER_INSTANCE * max(1, sum(len(w.instances) for w in directory.workers))

    limits = SessionLimits(
        enabled=settings.sessions.reuse_enabled, max_entries=maximum, ttl_s=settings.sessions.cache_ttl_s
    )
    if stores.redis is None:
        return MemorySessionCache(limits, clock)
    return RedisSessionCache(stores.redis, stores.keys, limits, clock)


def _lingma(
    settings: GatewaySettings,
    jobs: JobClient,
    directory: Directory,
    cache: SessionCache,
    clock: Clock,
    outage: Outage,
) -> LingmaExecutor:
    return LingmaExecutor(
        jobs,
        directory,
        SessionPolicy(cache),
        clock,
        LingmaOptions(
            default_ask_mode=settings.lingma.default_ask_mode,
            sticky_wait_s=settings.sessions.sticky_wait_s,
            ride_out=outage.ride_out,
            queue_max=settings.admission.queue_max,
            tools=ToolPolicy(
                forward=settings.tools.effective_mode in ("auto", "forward"),
                allowlist=settings.tools.allowlist,
            ),
        ),
    )


def _tiers(settings: GatewaySettings) -> Tiers:
    access = settings.access
    keys = [ApiKey.of(key.get_secret_value()) for key in access.api_keys]
    if access.key_file is not None:
        keys.extend(read_key_file(access.key_file))
    return Tiers(
        KeyRing(keys),
        admin_token=access.admin_token.get_secret_value() if access.admin_token else None,
        metrics_token=access.metrics_token.get_secret_value() if access.metrics_token else None,
        metrics_public=access.metrics_public,
    )


def _sockets(settings: GatewaySettings, drain: Drain, statistics: TurnStatistics) -> Sockets:
    counts = SocketCounts()
    statistics.metrics.registry.register(counts)
    return Sockets(
        lobby=drain,
        counts=counts,
        enabled=settings.responses.websocket_enabled,
        max_age_s=settings.responses.websocket_max_age_s,
        max_remembered_bytes=settings.responses.websocket_memory_bytes,
    )


def _edge_limits(settings: GatewaySettings) -> EdgeLimits:
    server = settings.server
    return EdgeLimits(
        max_body_bytes=server.max_body_bytes,
        first_byte_hold_s=server.first_byte_hold_s,
        keepalive_s=server.keepalive_s,
        send_deadline_s=server.send_deadline_s,
    )


class PoolView:
    """Instances of all workers by the names that clients may use."""

    def __init__(self, directory: Directory, *, bare_names: bool) -> None:
        self._directory = directory
        self._bare_names = bare_names

    def instances(self) -> Sequence[InstanceRecord]:
        return [
            instance
            if self._bare_names
            else msgspec.structs.replace(instance, name=f"{worker.worker}/{instance.name}")
            for worker in self._directory.workers
            for instance in worker.instances
        ]


class Guard:
    """Admission and the wait for a slot, told as one: to an operator both are the queue."""

    def __init__(self, admission: Admission, executor: LingmaExecutor) -> None:
        self._admission = admission
        self._executor = executor
        self.max_in_flight = admission.max_in_flight

    def counts(self) -> "GuardCounts":
        counts = self._admission.counts()
        return GuardCounts(
            in_flight=counts.in_flight - self._executor.queued,
            queued=counts.queued + self._executor.queued,
            accepted_total=counts.accepted_total,
            rejected_total=counts.rejected_total,
        )

    def counters(self) -> Mapping[str, int]:
        counts = self.counts()
        return {"accepted_total": counts.accepted_total, "rejected_total": counts.rejected_total}

    def gauges(self) -> Mapping[str, int]:
        counts = self.counts()
        return {"in_flight": counts.in_flight, "queued": counts.queued}


class GuardCounts(msgspec.Struct):
    in_flight: int
    queued: int
    accepted_total: int
    rejected_total: int


class Readiness:
    """Ready while not draining and while the store takes writes, or has just gone."""

    def __init__(self, drain: Drain, outage: Outage, watch: WriteWatch) -> None:
        self._drain = drain
        self._outage = outage
        self._watch = watch

    async def why_not_ready(self) -> str | None:
        if self._drain.state != "serving":
            return "draining"
        if self._outage.told:
            return "store_unavailable"
        if self._watch.refusal is not None:
            return "store_refuses_writes"
        return None
