"""Caches of sessions for their contract tests."""

from collections.abc import Callable

from gateway.kernel.clock import Clock
from gateway.kernel.json import JsonObject
from gateway.sessions.store import SessionCache, SessionLimits

Open = Callable[[SessionLimits, Clock], SessionCache]


def limits(most: int = 256, ttl_s: float = 1800, *, enabled: bool = True) -> SessionLimits:
    return SessionLimits(enabled=enabled, max_entries=lambda: most, ttl_s=ttl_s)


async def totals(cache: SessionCache) -> JsonObject:
    """The figures that are not zero."""
    stats = await cache.stats()
    return {name: value for name, value in stats.items() if name not in _CONFIGURED and value}


_CONFIGURED = ("enabled", "max", "ttl_sec", "hit_rate")


async def settled(caches: list[SessionCache]) -> None:
    """Figures are sent behind an operation; a replica's own next answer comes after them."""
    for cache in caches:
        await cache.stats()
