"""What one replica tells the others about itself, and the sums over all of them. Best effort.

Counters are added to the store in the background, what changed since the last time only; a replica that dies
loses the last SYNC_S of its counts. Gauges are a record that ends with the replica, summed over those alive.
Not for Prometheus, which scrapes every replica and sums for itself.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from gateway.kernel.errors import StoreError
from gateway.kernel.json import JsonError, dumps, loads
from gateway.store.keys import Keys
from gateway.store.kv import KVClient, KVSetOptions
from gateway.store.leases import Leases

log = logging.getLogger(__name__)

SYNC_S = 0.5
RECORD_S = 10


class ClusterStats:
    def __init__(
        self,
        kv: KVClient,
        leases: Leases,
        keys: Keys,
        *,
        replica_id: str,
        counters: Callable[[], Mapping[str, int]],
        gauges: Callable[[], Mapping[str, int]],
    ) -> None:
        """`counters` only ever rise; both always give the same names."""
        self._kv = kv
        self._leases = leases
        self._keys = keys
        self._replica_id = replica_id
        self._counters = counters
        self._gauges = gauges
        self._told: dict[str, int] = {}

    async def run(self) -> None:
        """The loop that keeps the store up to date."""
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await self.sync()
            except StoreError:
                log.debug("cluster.store_unavailable")

    async def sync(self) -> None:
        """Tell the store what changed. Raises StoreError; what could not be told is told the next time."""
        for name, value in self._counters().items():
            fresh = value - self._told.get(name, 0)
            if fresh > 0:
                self._told[name] = value  # before the wait: the loop and a reader may sync at the same time
                try:
                    await self._kv.kv_incrby(self._keys.stat(name), fresh)
                except StoreError:
                    self._told[name] -= fresh
                    raise
        await self._kv.kv_set(
            self._keys.replica(self._replica_id), dumps(dict(self._gauges())), KVSetOptions(ex=RECORD_S)
        )
        await self._leases.acquire(self._keys.replicas, self._replica_id, limit=0, ttl_s=RECORD_S)

    async def leave(self) -> None:
        """Tell the last counts and take this replica's gauges back."""
        try:
            await self.sync()
            await self._kv.kv_del(self._keys.replica(self._replica_id))
            await self._leases.release(self._keys.replicas, self._replica_id)
        except StoreError:
            log.debug("cluster.store_unavailable")

    async def sums(self) -> Mapping[str, int] | None:
        """Sums over all replicas, this one up to this moment; None when the store does not answer."""
        try:
            await self.sync()
            names = list(self._counters())
            totals = await self._kv.kv_mget(*(self._keys.stat(name) for name in names))
            sums = {name: _number(total) for name, total in zip(names, totals, strict=True)}
            return sums | await self._gauge_sums()
        except StoreError:
            return None

    async def _gauge_sums(self) -> dict[str, int]:
        replicas = await self._leases.holders(self._keys.replicas)
        records = await self._kv.kv_mget(*(self._keys.replica(name) for name in replicas)) if replicas else []
        sums = dict.fromkeys(self._gauges(), 0)
        for gauges in _decoded(records):
            for name in sums:
                value = gauges.get(name)
                sums[name] += value if isinstance(value, int) else 0
        return sums


def _number(total: bytes | None) -> int:
    """What is no number counts nothing."""
    try:
        return int(total or 0)
    except ValueError:
        return 0


def _decoded(records: Sequence[bytes | None]) -> list[dict[str, object]]:
    """Records of replicas of another version may look otherwise; what cannot be read counts nothing."""
    found: list[dict[str, object]] = []
    for record in records:
        try:
            value = loads(record) if record is not None else None
        except JsonError:
            continue
        if isinstance(value, dict):
            found.append(dict(value))
    return found
