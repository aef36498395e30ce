"""Who is alive and who may take a turn: worker records, and the choice of an instance with a reserved slot.

Records are read by one loop (REFRESH_S) and on demand. Placement is the gateway's alone: the wanted instance
(a session's), else the affinity choice by rendezvous hashing, else the least loaded, of equal ones any
worker's. A reserved slot expires by itself unless the worker takes it over.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.jobs.codec import decode_record
from gateway.jobs.messages import InstanceRecord, WorkerRecord
from gateway.kernel.aio import shielded
from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreError, StoreUnavailable
from gateway.kernel.spread import score
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.leases import Leases
from gateway.store.writable import WriteWatch

log = logging.getLogger(__name__)

REFRESH_S = 1.0
RESERVE_S = 10.0
"""How long a reserved slot waits for the worker to take it over."""
RELEASE_S = 1.0


class Placement(msgspec.Struct, frozen=True):
    """An instance with a slot reserved for one attempt."""

    worker: str
    epoch: int
    instance: str
    """Its name inside the worker, such as `inst-0`."""
    slots_key: bytes
    holder: str

    @property
    def full_name(self) -> str:
        return f"{self.worker}/{self.instance}"


class Candidate(msgspec.Struct, frozen=True):
    worker: WorkerRecord
    instance: InstanceRecord
    slots_key: bytes

    @property
    def full_name(self) -> str:
        return f"{self.worker.worker}/{self.instance.name}"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn wants of the instance that takes it."""

    model: str = ""
    """Instances that do not list the model are passed over, unless they list none at all."""
    affinity: str = ""
    """Equal texts go to the same healthy instance."""
    excluded: frozenset[str] = frozenset()
    """Full names of instances that have declined or failed this turn."""


class Directory:
    def __init__(
        self, kv: KVClient, leases: Leases, keys: Keys, clock: Clock, watch: WriteWatch | None = None
    ) -> None:
        self._kv = kv
        self._leases = leases
        self._keys = keys
        self._clock = clock
        self._watch = watch
        self._workers: list[WorkerRecord] = []
        self._unreadable: set[str] = set()
        """Workers whose record nobody here can read; each is told once."""
        self._reserving: Counter[bytes] = Counter()
        """Reservations of this replica that the store has not answered yet, by slots."""
        self.on_change: list[Callable[[], None]] = []
        """Called after a refresh that found other instances ready than the one before."""

    async def run(self) -> None:
        """The refreshing loop; an outage keeps what was known last."""
        while True:
            try:
                await self.refresh()
            except StoreError as error:
                log.debug("directory.store_unavailable", extra={"error": str(error)})
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Read all records. Raises StoreError: of a store that takes no writes, too, for what is missing
        there says nothing. Then what was known last stays.
        """
        if self._watch is not None and self._watch.refusal is not None:
            raise StoreUnavailable(self._watch.refusal)
        names = await self._leases.holders(self._keys.workers)
        values = await self._kv.kv_mget(*(self._keys.worker(name) for name in names)) if names else []
        records = [
            self._read(name, value) for name, value in zip(names, values, strict=True) if value is not None
        ]
        before = self._ready_names()
        self._workers = sorted((r for r in records if r is not None), key=lambda r: r.worker)
        if self._ready_names() != before:
            for callback in self.on_change:
                callback()

    def _read(self, name: str, value: bytes) -> WorkerRecord | None:
        """None for a record of another version, or one that is sealed where no ring is configured."""
        record = decode_record(value)
        if record is None and name not in self._unreadable:
            self._unreadable.add(name)
            remedy = "run the same version everywhere, and give all processes the same STATE_KEYS"
            log.warning("directory.record_unreadable", extra={"worker": name, "remedy": remedy})
        elif record is not None:
            self._unreadable.discard(name)
        return record

    def _ready_names(self) -> list[str]:
        return [candidate.full_name for candidate in self.candidates()]

    @property
    def workers(self) -> Sequence[WorkerRecord]:
        return self._workers

    def remedy(self) -> str:
        """Why no instance could take a turn, and what an operator can do about it."""
        if not self._workers:
            return "No Lingma worker is running; start one with `lingma-gateway work`"
        if all(worker.draining for worker in self._workers):
            return "Every Lingma worker is draining"
        if any(i.login == "login_required" for worker in self._workers for i in worker.instances):
            return "No Lingma instance is logged in; provide LINGMA_SESSION_BUNDLE or log in on the worker"
        return "No Lingma instance is ready; see /healthz for the state of each"

    def worker(self, name: str) -> WorkerRecord | None:
        return next((record for record in self._workers if record.worker == name), None)

    def candidates(self) -> list[Candidate]:
        """Instances that may be given work, in a stable order."""
        return [
            Candidate(record, instance, self._keys.slots(record.worker, instance.index))
            for record in self._workers
            if not record.draining
            for instance in record.instances
            if instance.ready
        ]

    def find(self, full_name: str) -> Candidate | None:
        """The ready instance of that name: `worker/inst-0`, or `inst-0` when only one worker has it."""
        found = [c for c in self.candidates() if full_name in (c.full_name, c.instance.name)]
        return found[0] if len(found) == 1 else next((c for c in found if c.full_name == full_name), None)

    async def reserve(self, candidate: Candidate, holder: str) -> Placement | None:
        """Take one slot of that instance, or None when it is full. Raises StoreUnavailable."""
        try:
            taken = await self._leases.acquire(
                candidate.slots_key, holder, limit=candidate.instance.capacity, ttl_s=RESERVE_S
            )
        except asyncio.CancelledError:
            # The answer was under way: nobody else would free what it may have taken.
            await shielded(self._leases.release(candidate.slots_key, holder), within_s=RELEASE_S)
            raise
        if not taken:
            return None
        return Placement(
            worker=candidate.worker.worker,
            epoch=candidate.worker.epoch,
            instance=candidate.instance.name,
            slots_key=candidate.slots_key,
            holder=holder,
        )

    async def release(self, placement: Placement) -> None:
        await self._leases.release(placement.slots_key, placement.holder)

    async def place(self, wish: Wish, holder: str) -> Placement | None:
        """Reserve a slot on the best instance; None when every suitable one is full or there is none."""
        suitable = self.suitable(wish)
        if not suitable:
            return None
        if wish.affinity:
            choice = max(suitable, key=lambda c: score(wish.affinity, c.full_name))
            if (placement := await self.reserve(choice, holder)) is not None:
                return placement
            suitable = [c for c in suitable if c is not choice]
        loads = await self._loads(suitable)
        while suitable:
            # Counted before the reservation is answered, or turns that come together would all go to one.
            # Of equals another worker's turn by turn, and on a worker the first.
            choice = min(
                suitable,
                key=lambda c: (
                    loads[c.slots_key] + self._reserving[c.slots_key],
                    -score(holder, c.worker.worker),
                ),
            )
            self._reserving[choice.slots_key] += 1
            try:
                placement = await self.reserve(choice, holder)
            finally:
                self._reserving[choice.slots_key] -= 1
            if placement is not None:
                return placement
            suitable = [c for c in suitable if c is not choice]
        return None

    async def _loads(self, candidates: Sequence[Candidate]) -> Mapping[bytes, int]:
        keys = [c.slots_key for c in candidates]
        counts = await self._leases.counts(keys) if len(keys) > 1 else [0] * len(keys)
        return dict(zip(keys, counts, strict=True))

    def suitable(self, wish: Wish) -> list[Candidate]:
        """Ready instances that can serve the wish; the excluded ones only when there is no other."""
        able = [c for c in self.candidates() if _offers(c.instance, wish.model)]
        preferred = [c for c in able if c.full_name not in wish.excluded]
        return preferred or able


def _offers(instance: InstanceRecord, model: str) -> bool:
    return not model or not instance.models or any(m.key == model for m in instance.models)
