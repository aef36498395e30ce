"""Says that this worker lives, keeps the slots of its turns, and notices turns that nobody reads any more.

Three loops, each one pipeline for everything it looks after: the record that gateways place turns by, the
leases of the slots in use, the leases of the gateways that serve our turns. During an outage of the store
they go on asking; what expired meanwhile is written again at once. Started by supervisor.py.
"""

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable

import msgspec

from gateway.jobs.codec import decode_record, encode_record
from gateway.jobs.messages import InstanceRecord, WorkerRecord
from gateway.kernel.errors import StoreUnavailable
from gateway.store.kv import KVSetOptions
from gateway.store.streams import Streams
from gateway.store.turnlog import TurnLog
from workers.ports import WAITING, Pool
from workers.runner import Runner

log = logging.getLogger(__name__)

BEAT_S = 2.0
RECORD_TTL_S = 10
COMMANDS_TTL_S = 3600.0
SLOT_RENEW_S = 2.0
SLOT_TTL_S = 10.0
READERS_S = 1.0
LOOK_S = 0.25
RETRY_MIN_S = 0.25
RETRY_MAX_S = 1.0
"""Between two beats while the store is away, or refuses them."""
SOFTWARE = importlib.metadata.version("lingma-gateway")


class Heartbeat:
    def __init__(
        self,
        *,
        runner: Runner,
        pool: Pool,
        streams: Streams,
        turns: TurnLog,
        draining: Callable[[], bool],
        on_replaced: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._pool = pool
        self._streams = streams
        self._turns = turns
        self._draining = draining
        self._on_replaced = on_replaced
        self._changed = asyncio.Event()
        self._current = asyncio.Event()
        self.store_ok = False
        """Whether the last beat was written."""
        self._told: bool | None = None
        """What was last logged of it."""

    def announce(self) -> None:
        """The record has changed: write it now instead of at the next beat."""
        self._current.clear()
        self._changed.set()

    async def written(self) -> None:
        """Wait until the record says what is so now."""
        self.announce()
        await self._current.wait()

    def record(self) -> WorkerRecord:
        runner = self._runner
        return WorkerRecord(
            worker=runner.worker,
            epoch=runner.publisher.epoch,
            software=SOFTWARE,
            draining=self._draining(),
            beat_at_ms=runner.clock.now_ms(),
            instances=[one for one in self.instances() if one.state != WAITING],
        )

    def instances(self) -> list[InstanceRecord]:
        """All of them. Those whose account is elsewhere are no news to gateways: they have it from there."""
        in_flight = self._runner.in_flight
        return [msgspec.structs.replace(one, in_flight=in_flight(one.name)) for one in self._pool.snapshot()]

    # -- the worker's record ------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Write the record every BEAT_S, at once after a change and after an outage."""
        retry_s = RETRY_MIN_S
        while True:
            self._changed.clear()
            try:
                await self._write()
            except StoreUnavailable as error:
                self._note_store(False, error.message)
                await self._pause(retry_s)
                retry_s = min(retry_s * 2, RETRY_MAX_S)
            else:
                retry_s = RETRY_MIN_S
                self._note_store(True)
                if not self._changed.is_set():
                    self._current.set()
                await self._pause(BEAT_S)

    async def _pause(self, within_s: float) -> None:
        """Until a change. Instances come and go on their own: they are looked at every LOOK_S."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        shown = self._readiness()
        while (left := until - loop.time()) > 0 and self._readiness() == shown:
            try:
                async with asyncio.timeout(min(left, LOOK_S)):
                    await self._changed.wait()
                    return
            except TimeoutError:
                continue

    def _readiness(self) -> list[tuple[bool, str, bool]]:
        return [(one.ready, one.login, one.state == WAITING) for one in self._pool.snapshot()]

    def _note_store(self, ok: bool, why: str = "") -> None:
        self.store_ok = ok
        if ok is not self._told:
            self._told = ok
            log.log(logging.INFO if ok else logging.WARNING, "heartbeat.store", extra={"ok": ok, "why": why})

    async def _write(self) -> None:
        runner = self._runner
        key = runner.keys.worker(runner.worker)
        found = await runner.kv.kv_get(key)
        other = decode_record(found) if found is not None else None
        if other is not None and other.epoch > runner.publisher.epoch:
            # Two processes with one name would share the command stream; the younger one stays.
            log.error(
                "heartbeat.replaced",
                extra={
                    "worker": runner.worker,
                    "by_epoch": other.epoch,
                    "remedy": "give every worker a WORKER_ID of its own",
                },
            )
            self._on_replaced()
            return
        await runner.kv.kv_set(key, encode_record(self.record()), KVSetOptions(ex=RECORD_TTL_S))
        await runner.leases.acquire(runner.keys.workers, runner.worker, limit=0, ttl_s=RECORD_TTL_S)
        await self._streams.expire(runner.keys.commands(runner.worker), COMMANDS_TTL_S)

    async def remove(self) -> None:
        """Leave the index and take the record away, unless it is another incarnation's.

        Raises StoreUnavailable.
        """
        runner = self._runner
        key = runner.keys.worker(runner.worker)
        found = await runner.kv.kv_get(key)
        record = decode_record(found) if found is not None else None
        if record is None or record.epoch == runner.publisher.epoch:
            await runner.kv.kv_del(key)
            await runner.leases.release(runner.keys.workers, runner.worker)

    # -- slots and readers --------------------------------------------------------------------------------

    async def keep_slots(self) -> None:
        """Renew the slots of all running turns. One that expired in an outage is taken again, whatever the
        limit: the turn does run.
        """
        while True:
            await asyncio.sleep(SLOT_RENEW_S)
            runs = self._runner.accepted()
            if not runs:
                continue
            leases = self._runner.leases
            try:
                kept = await leases.renew_many([run.slot for run in runs], ttl_s=SLOT_TTL_S)
                for run, ok in zip(runs, kept, strict=True):
                    if not ok and run.holds_slot:
                        await leases.acquire(*run.slot, limit=0, ttl_s=SLOT_TTL_S)
            except StoreUnavailable:
                log.debug("heartbeat.slots_not_renewed")

    async def watch_readers(self) -> None:
        """Cancel turns that no gateway has read for longer than their grace."""
        while True:
            await asyncio.sleep(READERS_S)
            runs = self._runner.accepted()
            if not runs:
                continue
            try:
                read = await self._turns.live_leases([run.turn_id for run in runs])
            except StoreUnavailable:
                # Gateways could not renew either: count anew afterwards.
                for run in runs:
                    run.unread_since = None
                continue
            now = asyncio.get_running_loop().time()
            for run, alive in zip(runs, read, strict=True):
                if alive:
                    run.unread_since = None
                elif run.unread_since is None:
                    run.unread_since = now
                elif now - run.unread_since >= run.lease_grace_s:
                    run.stop("client_gone")
