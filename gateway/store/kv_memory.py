"""Key-value state of one process, for `lingma-gateway up` and for tests: bounded, and gone with it."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreError
from gateway.store.kv import (
    PLAIN,
    KVSetOptions,
    KVTtl,
    Value,
    check_options,
    checked_key,
    checked_ttl,
    whole_ms,
    whole_seconds,
)

MAX_ENTRIES = 10_240
MAX_BYTES = 256 * 1024 * 1024
"""Of keys and values."""
EVICT_AT_ONCE = 128
PURGE_EVERY_S = 60.0


class _Entry(NamedTuple):
    value: bytes
    end: float | None
    """Monotonic seconds. At that very moment the entry is still valid, as on Redis."""


class MemoryKV:
    def __init__(
        self,
        clock: Clock,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        evict_at_once: int = EVICT_AT_ONCE,
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._evict_at_once = evict_at_once
        self._entries: dict[bytes, _Entry] = {}
        """Oldest first; writing an entry or giving it another end makes it the newest."""
        self._purge_at = 0.0

    def __len__(self) -> int:
        """Entries kept, some of which may have ended."""
        return len(self._entries)

    async def kv_get(self, key: bytes) -> bytes | None:
        entry = self._live(checked_key(key))
        return None if entry is None else entry.value

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        key = checked_key(key)
        check_options(options)
        present = self._live(key) is not None
        if (options.nx and present) or (options.xx and not present):
            return False
        ttl_s = whole_seconds(options.ex) if options.ex else whole_ms(options.px) / 1000
        self._write(key, bytes(value), ttl_s)
        return True

    async def kv_setnx(self, key: bytes, value: Value, ttl_s: float) -> bool:
        return await self.kv_set(key, value, KVSetOptions(ex=max(0.0, ttl_s), nx=True))

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        key = checked_key(key)
        entry = self._live(key)
        if (None if entry is None else entry.value) != expected:
            return False
        self._write(key, bytes(value), whole_ms(max(0.0, ttl_s)) / 1000)
        return True

    async def kv_del(self, *keys: bytes) -> int:
        found = 0
        for key in map(checked_key, keys):
            if self._live(key) is not None:
                self._drop(key)
                found += 1
        return found

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        key, seconds = checked_key(key), checked_ttl(ttl_s)
        entry = self._live(key)
        if entry is None:
            return False
        self._write(key, entry.value, seconds)
        return True

    async def kv_ttl(self, key: bytes) -> KVTtl:
        entry = self._live(checked_key(key))
        if entry is None or entry.end is None:
            return KVTtl(0.0, entry is not None)
        left_ms = (entry.end - self._clock.monotonic()) * 1000
        return KVTtl(float((round(left_ms) + 500) // 1000), True)  # as Redis rounds it

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        key = checked_key(key)
        entry = self._live(key)
        number = _number(entry.value if entry else b"0") + delta
        if not -(2**63) <= number < 2**63:
            raise StoreError("the number would overflow")
        self._put(key, _Entry(b"%d" % number, entry.end if entry else None))
        return number

    async def kv_mget(self, *keys: bytes) -> list[bytes | None]:
        entries = [self._live(checked_key(key)) for key in keys]
        return [None if entry is None else entry.value for entry in entries]

    async def kv_mset(self, values: Mapping[bytes, Value]) -> None:
        for key, value in [(checked_key(key), bytes(value)) for key, value in values.items()]:
            self._write(key, value, 0.0)

    def _live(self, key: bytes) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.end is not None and entry.end < self._clock.monotonic():
            self._drop(key)
            return None
        return entry

    def _write(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """No end when ttl_s is 0."""
        self._put(key, _Entry(value, self._clock.monotonic() + ttl_s if ttl_s else None))

    def _put(self, key: bytes, entry: _Entry) -> None:
        if key in self._entries:
            self._drop(key)
        self._entries[key] = entry
        self._bytes += len(key) + len(entry.value)
        now = self._clock.monotonic()
        if now >= self._purge_at or self._is_full():
            self._purge(now)
        if len(self._entries) > self._max_entries:
            for old in list(self._entries)[: self._evict_at_once]:
                self._drop(old)
        while self._is_full() and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    def _is_full(self) -> bool:
        return len(self._entries) > self._max_entries or self._bytes > self._max_bytes

    def _drop(self, key: bytes) -> None:
        self._bytes -= len(key) + len(self._entries.pop(key).value)

    def _purge(self, now: float) -> None:
        self._purge_at = now + PURGE_EVERY_S
        for key in [k for k, e in self._entries.items() if e.end is not None and e.end < now]:
            self._drop(key)


def _number(text: bytes) -> int:
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or (digits.startswith(b"0") and text != b"0"):
        raise StoreError("the value is not a number")
    return int(text)
