"""A worker as a whole: pool of instances, consumer, heartbeat, health endpoint, and their order.

Start: health, instances, then, once the store answers, the epoch, the accounts, the record and the commands.
Stop: decline what is new, let turns end, cancel the rest with a reason so that clients get a legal end, stop
the instances, take the record away and give the accounts back. Assembled by assemble.py.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from opentelemetry import trace

from gateway.jobs.messages import LOGIN_REMEDY, Admin, InstanceRecord
from gateway.kernel.aio import Tasks, background, shielded, supervise
from gateway.kernel.clock import Clock, SystemClock
from gateway.kernel.errors import GatewayError, StoreUnavailable
from gateway.kernel.json import Json, JsonObject
from gateway.store.backends import Stores
from workers.accounts.leases import AccountLeases
from workers.admin import Action, AdminDesk
from workers.consumer import Consumer
from workers.health import HealthServer, HealthView
from workers.heartbeat import Heartbeat
from workers.ports import WAITING, LeasedAccount, ManagedPool
from workers.publisher import Publisher
from workers.recovery import clear_up, next_epoch
from workers.runner import Run, Runner
from workers.settings import WorkerSettings
from workers.stats import WorkerStats
from workers.watch import Limits

log = logging.getLogger(__name__)

FIRST_START_HOLD_S = 5.0
"""How long commands wait for instances at start: what an earlier incarnation left should find them ready."""
CATCH_UP_S = 2.0
CANCEL_WAIT_S = 3.0
LEAVE_S = 2.0
RETRY_MIN_S = 0.25
RETRY_MAX_S = 2.0
PREPARE_MIN_S = 5.0
PREPARE_MAX_S = 300.0
POLL_S = 0.05


class _Parts:
    """What exists once the epoch is known."""

    def __init__(
        self, runner: Runner, heartbeat: Heartbeat, consumer: Consumer, accounts: AccountLeases | None
    ) -> None:
        self.runner = runner
        self.heartbeat = heartbeat
        self.consumer = consumer
        self.accounts = accounts


class Worker:
    """`async with worker.running():` for as long as it shall work; leaving the block drains it."""

    def __init__(
        self,
        settings: WorkerSettings,
        stores: Stores,
        pool: ManagedPool,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        actions: dict[str, Action] | None = None,
        tracer: trace.Tracer | None = None,
        clock: Clock | None = None,
        health: bool = True,
    ) -> None:
        """`prepare` is done before the instances start; `actions` answer operators' questions."""
        self.settings = settings
        self.stats = WorkerStats()
        self.draining = False
        self.health_port = 0
        self.leaving = asyncio.Event()
        """The worker wants to end by itself: another process has taken its name."""
        self._stores = stores
        self._pool = pool
        self._prepare = prepare
        self._actions = {**(actions or {}), "undrain": self._undrain}
        self._tracer = tracer or trace.NoOpTracer()
        self._clock = clock or SystemClock()
        self._health = health
        self._tasks = Tasks()
        self._parts: _Parts | None = None
        self._started = asyncio.Event()
        self._hurry = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Worker"]:
        """Raises OSError when the address of the health endpoint is taken."""
        async with contextlib.AsyncExitStack() as stack:
            if self._health:
                server = HealthServer(self._view(), host=self.settings.host, port=self.settings.port)
                self.health_port = await stack.enter_async_context(server.serving())
            stack.push_async_callback(self._leave)
            stack.push_async_callback(self._tasks.aclose)
            await stack.enter_async_context(background(supervise("worker.serve", self._serve)))
            try:
                yield self
            finally:
                limit_s = self.settings.drain_deadline_s + CANCEL_WAIT_S + 1.0
                await shielded(self.drain(), within_s=limit_s)

    async def started(self, within_s: float = 60.0) -> bool:
        """Wait until commands are read and the record says what the instances can take; False in vain."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._started.wait()
        return self._started.is_set()

    def begin_drain(self) -> None:
        """Decline what is new from now on. Idempotent."""
        self._set_draining(True)

    async def drain(self) -> None:
        """Let running turns end, cancel those that go on beyond the deadline, wait until they have."""
        self.begin_drain()
        if self._parts is None:
            return
        runner = self._parts.runner
        log.info("worker.draining", extra={"in_flight": len(runner.runs)})
        await self._see_out(runner, lambda: list(runner.runs.values()), self.settings.drain_deadline_s)
        log.info("worker.drained", extra={"in_flight": len(runner.runs)})

    def hurry(self) -> None:
        """Cut the drain short: running turns are cancelled now."""
        self._hurry.set()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set()

    async def _see_out(self, runner: Runner, runs: Callable[[], list[Run]], within_s: float) -> None:
        """Let them end, cancel those that go on for longer, wait until they have."""

        async def gone(within_s: float, unless: asyncio.Event | None = None) -> None:
            loop = asyncio.get_running_loop()
            until = loop.time() + within_s
            while runs() and loop.time() < until and not (unless is not None and unless.is_set()):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await runner.idle.wait()

        await gone(within_s, self._hurry)
        for run in runs():
            run.stop("drain")
        await gone(CANCEL_WAIT_S)

    async def _retire(self, account: LeasedAccount, *, lost: bool) -> None:
        """Nothing uses the account any more when this returns. One given away lets all its turns end."""
        assert self._parts is not None
        runner = self._parts.runner
        names = account.names
        await self._see_out(
            runner,
            lambda: [run for run in runner.runs.values() if run.instance.name in names],
            self.settings.drain_deadline_s if lost else self.settings.lingma_stream_timeout_s,
        )
        await account.stop()

    async def _leave(self) -> None:
        if self._parts is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._parts.heartbeat.remove()
                if self._parts.accounts is not None:
                    await self._parts.accounts.leave()
        except (TimeoutError, StoreUnavailable):
            log.info("worker.record_left_to_expire")

    # -- work ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """The instances, and for as long as they are kept up the work. Until cancelled."""
        await self._make_ready()
        async with self._pool.running():
            await self._work()

    async def _make_ready(self) -> None:
        """Prepare what the instances need. Nothing works without it: it is tried until it does."""
        pause = PREPARE_MIN_S
        while self._prepare is not None:
            try:
                await self._prepare()
            except GatewayError as error:
                log.error("worker.not_prepared", extra={"problem": error.message, "again_in_s": pause})
                await asyncio.sleep(pause)
                pause = min(pause * 2, PREPARE_MAX_S)
            else:
                return

    async def _work(self) -> None:
        """Everything that needs the store. Until cancelled."""
        epoch = await self._take_over()
        parts = self._parts = self._assemble(epoch)
        parts.consumer.draining = self.draining
        log.info("worker.started", extra={"worker": self.settings.worker_id, "epoch": epoch})
        async with contextlib.AsyncExitStack() as stack:
            if parts.accounts is not None:
                await stack.enter_async_context(background(self._supervised("accounts", parts.accounts.run)))
            await self._pool.wait_started(FIRST_START_HOLD_S)
            await self._run_turns(parts)

    async def _run_turns(self, parts: _Parts) -> None:
        heartbeat = parts.heartbeat
        async with background(
            self._supervised("consumer", parts.consumer.run),
            self._supervised("heartbeat.slots", heartbeat.keep_slots),
            self._supervised("heartbeat.readers", heartbeat.watch_readers),
        ):
            # The record last: once gateways see another incarnation they give up what it has not accepted,
            # and after a quick restart there is no need to.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_S):
                    await parts.consumer.caught_up.wait()
            async with background(self._supervised("heartbeat.beat", heartbeat.beat)):
                await self._pool.wait_started(self.settings.lingma_startup_timeout_s)
                await heartbeat.written()
                self._started.set()
                await asyncio.Event().wait()

    async def _take_over(self) -> int:
        """The epoch of this incarnation; what the one before left running is ended. Waits for the store."""
        indexes = [one.index for one in self._pool.snapshot()]
        pause, told = RETRY_MIN_S, False
        while True:
            try:
                epoch = await next_epoch(self._stores, self.settings.worker_id, self._clock)
                await clear_up(self._stores, self.settings.worker_id, epoch, indexes)
            except StoreUnavailable as error:
                if not told:
                    told = True
                    log.warning("worker.waits_for_store", extra={"why": error.message})
            else:
                return epoch
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)

    def _assemble(self, epoch: int) -> _Parts:
        stores, settings = self._stores, self.settings
        runner = Runner(
            worker=settings.worker_id,
            publisher=Publisher(
                stores.turns, epoch=epoch, clock=self._clock, stats=self.stats, tasks=self._tasks
            ),
            leases=stores.leases,
            kv=stores.kv,
            keys=stores.keys,
            clock=self._clock,
            limits=Limits(
                first_event_s=settings.lingma_first_event_timeout_s,
                idle_s=settings.lingma_idle_timeout_s,
                total_s=settings.lingma_stream_timeout_s,
            ),
            stats=self.stats,
            tracer=self._tracer,
        )
        heartbeat = Heartbeat(
            runner=runner,
            pool=self._pool,
            streams=stores.streams,
            turns=stores.turns,
            draining=lambda: self.draining,
            on_replaced=self._replaced,
        )
        consumer = Consumer(
            runner=runner,
            pool=self._pool,
            streams=stores.streams,
            dead_letters=stores.dead,
            admin=AdminDesk(stores.kv, self._actions),
            tasks=self._tasks,
            on_drain=self.begin_drain,
        )
        return _Parts(runner, heartbeat, consumer, self._account_leases(epoch))

    def _account_leases(self, epoch: int) -> AccountLeases | None:
        if not self._pool.leased:
            return None
        return AccountLeases(
            self._stores,
            self._pool.leased,
            worker=self.settings.worker_id,
            epoch=epoch,
            clock=self._clock,
            tasks=self._tasks,
            retire=self._retire,
            draining=lambda: self.draining,
        )

    async def _supervised(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        def count() -> None:
            self.stats.loop_restarts[name] += 1

        await supervise(name, body, on_restart=count)

    def _replaced(self) -> None:
        """A younger process has our name: it gets the commands, and our turns are fenced one by one."""
        self.begin_drain()
        self.leaving.set()

    def _set_draining(self, draining: bool) -> None:
        if draining is self.draining:
            return
        self.draining = draining
        if self._parts is not None:
            self._parts.consumer.draining = draining
            self._parts.heartbeat.announce()

    async def _undrain(self, command: Admin) -> Json:
        self._set_draining(False)
        return {"draining": False}

    # -- what it says of itself ---------------------------------------------------------------------------

    def _view(self) -> HealthView:
        return HealthView(ready=self._ready, document=self._document, metrics=self._metrics)

    def _ready(self) -> bool:
        parts = self._parts
        if parts is None or not parts.heartbeat.store_ok or self.draining:
            return False
        instances = self._pool.snapshot()
        return any(one.ready for one in instances) or _stands_by(instances)

    def _document(self) -> JsonObject:
        parts = self._parts
        instances = parts.heartbeat.instances() if parts is not None else self._pool.snapshot()
        ours = [one for one in instances if one.state != WAITING]
        return {
            "ok": any(one.ready for one in ours) or _stands_by(instances),
            "worker": self.settings.worker_id,
            "epoch": parts.runner.publisher.epoch if parts is not None else 0,
            "draining": self.draining,
            "store_ok": parts is not None and parts.heartbeat.store_ok,
            "in_flight": len(parts.runner.runs) if parts is not None else 0,
            "pool_size": len(ours),
            "pool_ready": sum(one.ready for one in ours),
            "instances": [_shown(one) for one in instances],
        }

    def _metrics(self) -> str:
        parts = self._parts
        instances = parts.heartbeat.instances() if parts is not None else self._pool.snapshot()
        in_flight = len(parts.runner.runs) if parts is not None else 0
        return self.stats.prometheus(in_flight=in_flight, draining=self.draining, instances=instances)


def _stands_by(instances: Sequence[InstanceRecord]) -> bool:
    """Every account is in use elsewhere: nothing is wrong and there is nothing to do."""
    return bool(instances) and all(one.held_by for one in instances)


def _shown(instance: InstanceRecord) -> JsonObject:
    shown: JsonObject = {
        "name": instance.name,
        "idx": instance.index,
        "state": instance.state,
        "ready": instance.ready,
        "login": instance.login,
        "in_flight": instance.in_flight,
        "capacity": instance.capacity,
        "restarts": instance.restarts,
        "pid": instance.pid,
    }
    if instance.held_by:
        shown["held_by"] = instance.held_by
    if instance.login == "login_required":
        shown["remedy"] = LOGIN_REMEDY
    return shown
