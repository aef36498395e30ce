"""A key-value store whose values are sealed, around any other one.

A value is bound to its key: copied to another key it does not open. What does not open counts as absent and
is overwritten like something absent, so that switching sealing on, or dropping an old key, heals by itself.
Decimal numbers stay as they are, because INCRBY needs them; they count things and say nothing.
Called by the composition roots, where a key ring is configured.
"""

import logging
import re
from collections.abc import Mapping

from gateway.store.kv import PLAIN, KVClient, KVSetOptions, KVTtl, Value, check_options, checked_key
from gateway.store.kv_modes import log_prefix
from gateway.store.sealing import SealRing, Unsealable

log = logging.getLogger(__name__)

_NUMBER = re.compile(rb"-?\d{1,20}")
_TOLD_MAX = 20
_TRIES = 8
"""Of a write that finds something unreadable, while others write too."""


class SealedKV:
    """See KVClient."""

    def __init__(self, inner: KVClient, ring: SealRing) -> None:
        self._inner = inner
        self._ring = ring
        self._told: set[bytes] = set()

    async def kv_get(self, key: bytes) -> bytes | None:
        key = checked_key(key)
        return self._opened(key, await self._inner.kv_get(key))

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        key = checked_key(key)
        check_options(options)
        sealed = self._sealed(key, value)
        if not (options.nx or options.xx):
            return await self._inner.kv_set(key, sealed, options)
        for _ in range(_TRIES):
            if options.xx and await self.kv_get(key) is None:
                return False
            if await self._inner.kv_set(key, sealed, options):
                return True
            if options.xx:
                return False
            current = await self._inner.kv_get(key)
            if current is None:
                continue
            if self._opened(key, current) is not None:
                return False
            if await self._inner.kv_cas(key, current, sealed, options.ex or options.px):
                return True
        return False

    async def kv_setnx(self, key: bytes, value: Value, ttl_s: float) -> bool:
        return await self.kv_set(key, value, KVSetOptions(ex=max(0.0, ttl_s), nx=True))

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        """A value sealed twice has different bytes, so what is there is read, compared, then expected."""
        key = checked_key(key)
        current = await self._inner.kv_get(key)
        if self._opened(key, current) != expected:
            return False
        return await self._inner.kv_cas(key, current, self._sealed(key, value), ttl_s)

    async def kv_del(self, *keys: bytes) -> int:
        return await self._inner.kv_del(*keys)

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        return await self._inner.kv_expire(key, ttl_s)

    async def kv_ttl(self, key: bytes) -> KVTtl:
        return await self._inner.kv_ttl(key)

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        return await self._inner.kv_incrby(key, delta)

    async def kv_mget(self, *keys: bytes) -> list[bytes | None]:
        names = [checked_key(key) for key in keys]
        values = await self._inner.kv_mget(*names)
        return [self._opened(key, value) for key, value in zip(names, values, strict=True)]

    async def kv_mset(self, values: Mapping[bytes, Value]) -> None:
        await self._inner.kv_mset(
            {checked_key(key): self._sealed(checked_key(key), value) for key, value in values.items()}
        )

    def _sealed(self, key: bytes, value: Value) -> bytes:
        plain = bytes(value)
        return plain if _NUMBER.fullmatch(plain) else self._ring.seal(plain, _place(key))

    def _opened(self, key: bytes, value: bytes | None) -> bytes | None:
        if value is None or _NUMBER.fullmatch(value):
            return value
        try:
            return self._ring.open(value, _place(key))
        except Unsealable as error:
            self._tell(key, str(error))
            return None

    def _tell(self, key: bytes, why: str) -> None:
        """Once for each key: a ring that differs between processes would otherwise fill the log."""
        if len(self._told) < _TOLD_MAX and key not in self._told:
            self._told.add(key)
            remedy = "give all replicas and workers the same STATE_KEYS"
            log.warning("kv.unreadable", extra={"key": log_prefix(key), "why": why, "remedy": remedy})


def _place(key: bytes) -> bytes:
    return b"kv\0" + key
