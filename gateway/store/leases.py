"""Leases as a port: rights that expire. Slots of instances, in-flight limits and accounts are held by them.

A key has holders, each with its own end, so a crash leaks nothing: what is not renewed ends. Time is the
store's own, not the replicas' (their clocks differ). leases_redis.py and leases_memory.py implement the port
and pass one contract suite. Every method raises StoreUnavailable when the store does not answer.
"""

from collections.abc import Sequence
from typing import Protocol


class Leases(Protocol):
    async def acquire(self, key: bytes, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Take a lease unless `limit` others are live; a limit of 0 or less is none. Atomic.

        A holder that has one already keeps it, with ttl_s to live from now on, whatever the limit.
        """
        ...

    async def renew(self, key: bytes, holder: str, *, ttl_s: float) -> bool:
        """Live ttl_s from now on; False, and nothing is taken, when the lease had ended or never was."""
        ...

    async def renew_many(self, items: Sequence[tuple[bytes, str]], *, ttl_s: float) -> list[bool]:
        """renew() for (key, holder) pairs, in one pipeline."""
        ...

    async def release(self, key: bytes, holder: str) -> bool:
        """False when there was nothing to release; safe to repeat."""
        ...

    async def holders(self, key: bytes) -> list[str]:
        """Who holds a live lease, sorted by name."""
        ...

    async def count(self, key: bytes) -> int:
        """Leases that are live."""
        ...

    async def counts(self, keys: Sequence[bytes]) -> list[int]:
        """count() of each key, in one pipeline."""
        ...
