"""Which key-value store a process uses, and what a failure of it means: the HOME rules.

A process is local (nothing shared is configured), or shared. Once shared, the local store is never read or
written again, however long the shared one is down. A required call raises; a best-effort call logs and
returns what "nothing there" looks like. Containers pick a wrapper for a user of the store, callers do not.
"""

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from gateway.kernel.errors import CasUnsupported, StoreError, StoreUnavailable
from gateway.kernel.json import Json, JsonError, dumps, loads
from gateway.store.kv import PLAIN, KVClient, KVSetOptions, KVTtl, Value

log = logging.getLogger(__name__)

T = TypeVar("T")

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
    """A KVClient whose failures are the caller's failures, with JSON on top."""

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

    async def get_json(self, key: bytes) -> tuple[bool, Json]:
        """Whether it was found, and the value. What is no JSON is an error, not a miss."""
        data = await self.kv_get(key)
        if data is None:
            return False, None
        try:
            return True, loads(data)
        except JsonError:
            raise StoreError("home kv: the value is no JSON") from None

    async def set_bytes(self, key: bytes, value: Value, ttl_s: float) -> None:
        """No end when ttl_s is 0 or less."""
        if not await self.kv_set(key, value, KVSetOptions(ex=max(0.0, ttl_s))):
            raise StoreUnavailable(UNAVAILABLE)

    async def set_json(self, key: bytes, value: Json, ttl_s: float) -> None:
        await self.set_bytes(key, dumps(value), ttl_s)


class BestEffortKV:
    """A KVClient that never fails because of the store: it logs, and answers as if nothing were there."""

    def __init__(self, required: RequiredKV) -> None:
        self._required = required

    async def kv_get(self, key: bytes) -> bytes | None:
        return await _or_else(None, "get", key, self._required.kv_get(key))

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        return await _or_else(False, "set", key, self._required.kv_set(key, value, options))

    async def kv_setnx(self, key: bytes, value: Value, ttl_s: float) -> bool:
        return await _or_else(False, "setnx", key, self._required.kv_setnx(key, value, ttl_s))

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        return await _or_else(False, "cas", key, self._required.kv_cas(key, expected, value, ttl_s))

    async def kv_del(self, *keys: bytes) -> int:
        return await _or_else(0, "del", _first(keys), self._required.kv_del(*keys))

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        return await _or_else(False, "expire", key, self._required.kv_expire(key, ttl_s))

    async def kv_ttl(self, key: bytes) -> KVTtl:
        return await _or_else(KVTtl(0.0, False), "ttl", key, self._required.kv_ttl(key))

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        return await _or_else(0, "incrby", key, self._required.kv_incrby(key, delta))

    async def kv_mget(self, *keys: bytes) -> list[bytes | None]:
        nothing: list[bytes | None] = [None] * len(keys)
        return await _or_else(nothing, "mget", _first(keys), self._required.kv_mget(*keys))

    async def kv_mset(self, values: Mapping[bytes, Value]) -> None:
        await _or_else(None, "mset", _first(tuple(values)), self._required.kv_mset(values))

    async def get_json(self, key: bytes) -> tuple[bool, Json]:
        return await _or_else((False, None), "get", key, self._required.get_json(key))

    async def set_bytes(self, key: bytes, value: Value, ttl_s: float) -> bool:
        return await _or_else(False, "set", key, _done(self._required.set_bytes(key, value, ttl_s)))

    async def set_json(self, key: bytes, value: Json, ttl_s: float) -> bool:
        return await _or_else(False, "set", key, _done(self._required.set_json(key, value, ttl_s)))


async def _or_else(default: T, operation: str, key: bytes, work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except StoreError as error:
        level = logging.DEBUG if isinstance(error, CasUnsupported) else logging.ERROR
        fields = {"operation": operation, "key": log_prefix(key), "error": type(error).__name__}
        log.log(level, "kv.best_effort_failed", extra=fields)
        return default


async def _done(work: Coroutine[Any, Any, None]) -> bool:
    await work
    return True


def _first(keys: tuple[bytes, ...]) -> bytes:
    return keys[0] if keys else b""


def log_prefix(key: bytes) -> str:
    """What may be logged of a key: its first two parts, which name an area and no user."""
    text = key.decode(errors="replace").strip()
    if not text:
        return "unknown"
    return ":".join(text.split(":")[:2]) + ":*"
