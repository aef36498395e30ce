"""The key-value port on Redis, or on a HOME server's own RESP commands.

Reads are sent again once when the connection fails them; nothing else is, because a write whose reply was
lost may have been done. Compare-and-swap is a Lua script; a HOME server has no Lua but a CAS command.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from gateway.kernel.errors import CasUnsupported, StoreError, StoreRefused, StoreUnavailable
from gateway.store.calls import Arg, Reply
from gateway.store.kv import (
    PLAIN,
    Dialect,
    KVSetOptions,
    KVTtl,
    Value,
    check_options,
    checked_key,
    checked_ttl,
    whole_ms,
    whole_seconds,
)
from gateway.store.scripts import Script

log = logging.getLogger(__name__)

_CAS = Script("cas")


class Commands(Protocol):
    """What is needed of connect.Redis."""

    @property
    def one_slot(self) -> bool:
        """Whether one command may name any keys together."""
        ...

    @property
    def on_connect(self) -> list[Callable[[], None]]: ...

    def call(self, key: bytes, *args: Arg) -> Awaitable[Reply]: ...

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Arg]) -> Awaitable[Reply]: ...


class RedisKV:
    def __init__(self, redis: Commands, *, dialect: Dialect = "redis") -> None:
        self._redis = redis
        self._dialect = dialect
        self._cas_command = False
        self._cas_unsupported = False
        self._forget_latches()
        redis.on_connect.append(self._forget_latches)

    async def kv_get(self, key: bytes) -> bytes | None:
        key = checked_key(key)
        value: bytes | None = await self._read(key, "GET", key)
        return value

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        key = checked_key(key)
        check_options(options)
        args: list[Arg] = ["SET", key, bytes(value)]
        if options.ex:
            args += ["EX", whole_seconds(options.ex)]
        if options.px:
            args += ["PX", whole_ms(options.px)]
        if options.nx:
            args.append("NX")
        if options.xx:
            args.append("XX")
        return await self._write(key, *args) is not None

    async def kv_setnx(self, key: bytes, value: Value, ttl_s: float) -> bool:
        return await self.kv_set(key, value, KVSetOptions(ex=max(0.0, ttl_s), nx=True))

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        key = checked_key(key)
        if self._cas_unsupported:
            raise CasUnsupported("home compare-and-swap is unsupported")
        flag = b"0" if expected is None else b"1"
        args: list[Arg] = [flag, expected or b"", bytes(value)]
        ttl_ms = whole_ms(max(0.0, ttl_s))
        if self._cas_command:
            try:
                return _swapped(await self._redis.call(key, "CAS", key, *args, *_px(ttl_ms)))
            except StoreRefused as error:
                if not _unknown(error):
                    raise
                self._cas_command = False
        try:
            return _swapped(await self._redis.run(_CAS, [key], [*args, ttl_ms]))
        except StoreRefused as error:
            if not _unknown(error):
                raise
        self._cas_unsupported = True
        log.warning("kv.cas_unsupported")
        raise CasUnsupported("home compare-and-swap is unsupported")

    async def kv_del(self, *keys: bytes) -> int:
        keys = tuple(map(checked_key, keys))
        if not keys:
            return 0
        if self._redis.one_slot:
            count: int = await self._write(keys[0], "DEL", *keys)
            return count
        return sum(await asyncio.gather(*(self._write(key, "DEL", key) for key in keys)))

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        key, seconds = checked_key(key), checked_ttl(ttl_s)
        return bool(await self._write(key, "EXPIRE", key, seconds))

    async def kv_ttl(self, key: bytes) -> KVTtl:
        key = checked_key(key)
        seconds: int = await self._read(key, "TTL", key)
        return KVTtl(float(max(0, seconds)), seconds != -2)

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        key = checked_key(key)
        number: int = await self._write(key, "INCRBY", key, delta)
        return number

    async def kv_mget(self, *keys: bytes) -> list[bytes | None]:
        keys = tuple(map(checked_key, keys))
        if not keys:
            return []
        if not self._redis.one_slot:
            return await asyncio.gather(*map(self._get_text, keys))
        values: list[bytes | None] = await self._read(keys[0], "MGET", *keys)
        if not all(isinstance(value, bytes | None) for value in values):
            raise StoreError("the store answered MGET with something that is no string")
        return values

    async def kv_mset(self, values: Mapping[bytes, Value]) -> None:
        pairs = sorted((checked_key(key), bytes(value)) for key, value in values.items())
        if not pairs:
            return
        if self._redis.one_slot:
            await self._write(pairs[0][0], "MSET", *itertools.chain.from_iterable(pairs))
        else:
            await asyncio.gather(*(self._write(key, "SET", key, value) for key, value in pairs))

    async def _get_text(self, key: bytes) -> bytes | None:
        """What MGET says: nothing for a key that holds something else."""
        try:
            value: bytes | None = await self._read(key, "GET", key)
        except StoreRefused as error:
            if error.word != "WRONGTYPE":
                raise
            return None
        return value

    async def _read(self, key: bytes, *args: Arg) -> Reply:
        try:
            return await self._write(key, *args)
        except StoreUnavailable:
            return await self._write(key, *args)

    async def _write(self, key: bytes, *args: Arg) -> Reply:
        return await self._redis.call(key, *args)

    def _forget_latches(self) -> None:
        """Another server may be behind a new connection."""
        self._cas_command = self._dialect == "home"
        self._cas_unsupported = False


def _px(ttl_ms: int) -> Sequence[Arg]:
    return ("PX", ttl_ms) if ttl_ms else ()


def _swapped(reply: Reply) -> bool:
    return bool(reply == 1)


def _unknown(error: StoreRefused) -> bool:
    text = str(error.__cause__).lower()
    return "unknown command" in text or "unsupported command" in text
