"""Leases of one process, for `lingma-gateway up` and for tests."""

from collections.abc import Sequence

from gateway.kernel.clock import Clock
from gateway.store.expiry import Expiries


class MemoryLeases:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expiries = Expiries(clock)
        self._members: dict[bytes, dict[str, float]] = {}
        """Key -> holder -> end in monotonic seconds."""

    def __len__(self) -> int:
        """Keys kept."""
        self._drop_expired()
        return len(self._members)

    async def acquire(self, key: bytes, holder: str, *, limit: int, ttl_s: float) -> bool:
        members = self._live(key)
        if holder not in members and 0 < limit <= len(members):
            return False
        self._take(key, members, holder, ttl_s)
        return True

    async def renew(self, key: bytes, holder: str, *, ttl_s: float) -> bool:
        members = self._live(key)
        if holder not in members:
            return False
        self._take(key, members, holder, ttl_s)
        return True

    async def renew_many(self, items: Sequence[tuple[bytes, str]], *, ttl_s: float) -> list[bool]:
        return [await self.renew(key, holder, ttl_s=ttl_s) for key, holder in items]

    async def release(self, key: bytes, holder: str) -> bool:
        members = self._live(key)
        released = members.pop(holder, None) is not None
        if not members:
            self._members.pop(key, None)
            self._expiries.clear(key)
        return released

    async def holders(self, key: bytes) -> list[str]:
        return sorted(self._live(key))

    async def count(self, key: bytes) -> int:
        return len(self._live(key))

    async def counts(self, keys: Sequence[bytes]) -> list[int]:
        return [len(self._live(key)) for key in keys]

    def _live(self, key: bytes) -> dict[str, float]:
        """The members whose end has not come; the others are dropped. An unknown key stays unknown."""
        self._drop_expired()
        members = self._members.get(key)
        if members is None:
            return {}
        now = self._clock.monotonic()
        for holder in [holder for holder, end in members.items() if end <= now]:
            del members[holder]
        return members

    def _take(self, key: bytes, members: dict[str, float], holder: str, ttl_s: float) -> None:
        self._members[key] = members
        members[holder] = self._clock.monotonic() + ttl_s
        if (left := self._expiries.left_s(key)) is None or left < ttl_s:
            self._expiries.set(key, ttl_s)

    def _drop_expired(self) -> None:
        for key in self._expiries.due():
            self._members.pop(key, None)
