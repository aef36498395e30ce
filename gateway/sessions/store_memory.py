"""Sessions of one process, for `lingma-gateway up` and for tests."""

from collections import OrderedDict

import msgspec

from gateway.kernel.clock import Clock
from gateway.sessions.store import BaseSessionCache, SessionEntry, SessionLimits, Totals


class _Kept(msgspec.Struct):
    session_id: str
    instance_name: str
    worker: str
    created_at_ms: int
    last_used_at_ms: int
    hit_count: int = 0

    def entry(self) -> SessionEntry:
        return SessionEntry(
            session_id=self.session_id,
            instance_name=self.instance_name,
            worker=self.worker,
            created_at=self.created_at_ms / 1000,
            last_used_at=self.last_used_at_ms / 1000,
            hit_count=self.hit_count,
        )


class MemorySessionCache(BaseSessionCache):
    """No method gives up control half-way, so each is atomic."""

    def __init__(self, limits: SessionLimits, clock: Clock) -> None:
        super().__init__(limits, clock)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        """The least recently used first."""
        self._totals = Totals()

    async def claim(self, key: str) -> SessionEntry | None:
        entry = self._use(key)
        self._kept.pop(key, None)
        return entry

    async def get(self, key: str) -> SessionEntry | None:
        return self._use(key)

    async def put(self, key: str, session_id: str, instance_name: str = "", *, worker: str = "") -> None:
        if not session_id or not self.enabled:
            return
        now = self._clock.now_ms()
        kept = self._kept.get(key)
        if kept is None or self._too_old(kept.created_at_ms, now):
            kept = self._kept[key] = _Kept(session_id, instance_name, worker, now, now)
        kept.session_id = session_id
        kept.last_used_at_ms = now
        if instance_name:
            kept.instance_name, kept.worker = instance_name, worker
        self._kept.move_to_end(key)
        self._make_room(now)

    async def invalidate(self, key: str) -> bool:
        if not self.enabled or self._kept.pop(key, None) is None:
            return False
        self._totals.invalidate += 1
        return True

    async def _figures(self) -> tuple[int, Totals]:
        forgotten_ms = self._forgotten_ms(self._clock.now_ms())
        return sum(kept.last_used_at_ms >= forgotten_ms for kept in self._kept.values()), self._totals

    def _use(self, key: str) -> SessionEntry | None:
        if not self.enabled:
            return None
        kept = self._kept.get(key)
        now = self._clock.now_ms()
        if kept is None:
            self._totals.miss += 1
            return None
        if self._too_old(kept.created_at_ms, now):
            del self._kept[key]
            self._totals.expire += 1
            self._totals.miss += 1
            return None
        kept.hit_count += 1
        kept.last_used_at_ms = now
        self._kept.move_to_end(key)
        self._totals.hit += 1
        return kept.entry()

    def _make_room(self, now_ms: int) -> None:
        forgotten_ms = self._forgotten_ms(now_ms)
        while next(iter(self._kept.values())).last_used_at_ms < forgotten_ms:
            self._kept.popitem(last=False)
            self._totals.expire += 1
        while len(self._kept) > self._max:
            self._kept.popitem(last=False)
            self._totals.evict += 1
