"""The session cache as a port: keys of conversations and the upstream sessions that hold them.

A bounded cache: an entry ends by age (counted from its creation), by claim or invalidation, or as the least
recently used when there are too many. Not the policy: who may use a session, and when one is written, is
decided by sessions/policy.py. store_memory.py and store_redis.py pass one contract suite. The names and the
counting are those of lingma-openai-gateway.

A store outage: the methods raise StoreUnavailable, because a session may have one owner only and nobody can
say who while the store is silent. Callers catch it and go on without a session; it never fails a turn.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from gateway.kernel.clock import Clock
from gateway.kernel.json import JsonObject
from gateway.sessions import key as session_key

GRACE_S: Final = 60.0
"""How long an entry that is too old waits to be asked for (and counted) before it is dropped unasked."""


class SessionEntry(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    instance_name: str = ""
    """The instance whose process holds the session."""
    worker: str = ""
    """The worker of that instance; empty where instance_name says it all."""
    created_at: float
    """Unix seconds, as is last_used_at."""
    last_used_at: float
    hit_count: int = 0


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    max_entries: Callable[[], int]
    """In the whole cluster, 0 or less for none. Asked at every use: it may follow the number of instances."""
    ttl_s: float
    """0 or less: entries do not end by age."""


class SessionCache(Protocol):
    """While it is not `enabled` nothing is found, stored or counted."""

    @property
    def enabled(self) -> bool: ...

    def build_key(
        self, tenant: str, user_hash: str, tool_fingerprint: str, branch_hash: str | None = None
    ) -> str:
        """See key.build_key()."""
        ...

    async def claim(self, key: str) -> SessionEntry | None:
        """Take the entry out. Of any number of callers, on any replicas, one gets it.

        The only way to an entry for a turn: two turns in one session would each meet the other's history.
        Counts a hit or a miss, as get() does.
        """
        ...

    async def get(self, key: str) -> SessionEntry | None:
        """Look at the entry and leave it; that is a use.

        One that is too old is dropped and counts twice, as expired and as a miss.
        """
        ...

    async def put(self, key: str, session_id: str, instance_name: str = "", *, worker: str = "") -> None:
        """Store a session; does nothing with an empty session id.

        An entry under this key keeps its age and, when instance_name is empty, its instance and worker.
        """
        ...

    async def invalidate(self, key: str) -> bool:
        """Drop the entry; False when there was none."""
        ...

    async def stats(self) -> JsonObject:
        """enabled, size, max, ttl_sec, hit_total, miss_total, hit_rate, evict_total, expire_total,
        invalidate_total: sums of the whole cluster.
        """
        ...

    async def prometheus_lines(self) -> list[str]:
        """The figures in the text format, each with its type."""
        ...


class Totals(msgspec.Struct):
    hit: int = 0
    miss: int = 0
    evict: int = 0
    expire: int = 0
    invalidate: int = 0


class BaseSessionCache(ABC):
    """What the implementations share: the limits and the form of the figures."""

    build_key = staticmethod(session_key.build_key)

    def __init__(self, limits: SessionLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._ttl_ms = max(0, round(limits.ttl_s * 1000))

    @property
    def enabled(self) -> bool:
        return self._limits.enabled and self._max > 0

    @property
    def _max(self) -> int:
        return max(0, self._limits.max_entries())

    def _too_old(self, created_at_ms: int, now_ms: int) -> bool:
        return 0 < self._ttl_ms < now_ms - created_at_ms

    def _forgotten_ms(self, now_ms: int) -> float:
        """Entries last used before this time are dropped unasked."""
        return now_ms - self._ttl_ms - GRACE_S * 1000 if self._ttl_ms else float("-inf")

    @abstractmethod
    async def _figures(self) -> tuple[int, Totals]:
        """Size and totals."""

    async def stats(self) -> JsonObject:
        size, totals = await self._figures()
        ttl_s = self._limits.ttl_s
        asked = totals.hit + totals.miss
        return {
            "enabled": self.enabled,
            "size": size,
            "max": self._max,
            "ttl_sec": int(ttl_s) if ttl_s == int(ttl_s) else ttl_s,
            "hit_total": totals.hit,
            "miss_total": totals.miss,
            "hit_rate": round(totals.hit / asked, 4) if asked else 0.0,
            "evict_total": totals.evict,
            "expire_total": totals.expire,
            "invalidate_total": totals.invalidate,
        }

    async def prometheus_lines(self) -> list[str]:
        size, totals = await self._figures()
        lines = ["# TYPE gateway_session_cache_size gauge", f"gateway_session_cache_size {size}"]
        for name, value in msgspec.structs.asdict(totals).items():
            metric = f"gateway_session_cache_{name}_total"
            lines += [f"# TYPE {metric} counter", f"{metric} {value}"]
        return lines
