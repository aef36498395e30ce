"""Which key-value store a process uses, and what a failure of it means: the HOME rules.

A process is local (nothing shared is configured), or shared. Once shared, the local store is never read or
written again, however long the shared one is down. Every call may raise: what a failure costs is for its
caller to say, who knows what a default would mean.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.kernel.errors import StoreUnavailable
from gateway.store.kv import PLAIN, KVClient, KVSetOptions, KVTtl, Value

UNAVAILABLE = "home kv store unavailable"


class Current(NamedTuple):
    client: KVClient | None
    """The shared store, when it is to be used."""
    home_mode: bool
    """Whether a shared store is configured, up or down."""
    error: StoreUnavailable | None


class Availability:
    """local: used only while nothing shared is configured. enabled, connected: of the shared store."""

    def __init__(
        self,
        local: KVClient,
        shared: KVClient | None = None,
        *,
        enabled: Callable[[], bool] = lambda: True,
        connected: Callable[[], bool] = lambda: True,
    ) -> None:
        self._local = local
        self._shared = shared
        self._enabled = enabled
        self._connected = connected

    def current(self) -> Current:
        if self._shared is None:
            return Current(None, False, None)
        if not self._enabled():
            return Current(None, True, StoreUnavailable(f"{UNAVAILABLE}: home client disabled"))
        if not self._connected():
            return Current(None, True, StoreUnavailable(f"{UNAVAILABLE}: home not connected"))
        return Current(self._shared, True, None)

    def pick(self) -> KVClient:
        """The store to use now. Raises StoreUnavailable."""
        client, home_mode, error = self.current()
        if error is not None:
            raise error
        return client if home_mode and client is not None else self._local


class RequiredKV:
    """A KVClient whose failures are the caller's failures."""

    def __init__(self, availability: Availability) -> None:
        self._availability = availability

    async def kv_get(self, key: bytes) -> bytes | None:
        return await self._availability.pick().kv_get(key)

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        return await self._availability.pick().kv_set(key, value, options)

    async def kv_setnx(self, key: bytes, value: Value, ttl_s: float) -> bool:
        return await self._availability.pick().kv_setnx(key, value, ttl_s)

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        return await self._availability.pick().kv_cas(key, expected, value, ttl_s)

    async def kv_del(self, *keys: bytes) -> int:
        return await self._availability.pick().kv_del(*keys)

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        return await self._availability.pick().kv_expire(key, ttl_s)

    async def kv_ttl(self, key: bytes) -> KVTtl:
        return await self._availability.pick().kv_ttl(key)

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        return await self._availability.pick().kv_incrby(key, delta)

    async def kv_mget(self, *keys: bytes) -> list[bytes | None]:
        return await self._availability.pick().kv_mget(*keys)

    async def kv_mset(self, values: Mapping[bytes, Value]) -> None:
        await self._availability.pick().kv_mset(values)


def log_prefix(key: bytes) -> str:
    """What may be logged of a key: its first two parts, which name an area and no user."""
    text = key.decode(errors="replace").strip()
    if not text:
        return "unknown"
    return ":".join(text.split(":")[:2]) + ":*"
