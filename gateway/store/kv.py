"""The key-value port, in the shape of the HOME KV mode, and its argument rules.

Bytes in, bytes out; durations are seconds. kv_memory.py and kv_redis.py implement it and pass one contract
suite; kv_modes.py says what callers do when it fails. Leases and streams are ports of their own.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from gateway.kernel.errors import InvalidKVArgument
from gateway.store.keys import trim

Value: TypeAlias = bytes | bytearray | memoryview
"""Copied before the call returns to its caller: changing it later changes nothing."""
Dialect: TypeAlias = Literal["redis", "home"]
"""Which compare-and-swap to try first: a Lua script, or the CAS command of HOME."""


class KVSetOptions(msgspec.Struct, frozen=True):
    ex: float = 0.0
    """Seconds to live, rounded up to whole seconds; 0 for none."""
    px: float = 0.0
    """Seconds to live, rounded up to whole milliseconds; 0 for none."""
    nx: bool = False
    """Only when the key is absent."""
    xx: bool = False
    """Only when the key is present."""


PLAIN = KVSetOptions()


class KVTtl(NamedTuple):
    ttl_s: float
    """0 for a key that has no end or is absent."""
    exists: bool


class KVClient(Protocol):
    """What replicas and workers share.

    Every method raises InvalidKVArgument before asking the store, StoreUnavailable when it does not answer,
    and StoreError when it refuses (the key holds something else).
    """

    async def kv_get(self, key: bytes) -> bytes | None:
        """None when absent; b"" is a value."""
        ...

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        """False only for an nx or xx that was not met. Takes away the end a key had."""
        ...

    async def kv_setnx(self, key: bytes, value: Value, ttl_s: float) -> bool:
        """kv_set() with nx; no end when ttl_s is 0 or less."""
        ...

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        """Write if the key holds `expected` (None: is absent). Without an end when ttl_s is 0 or less.

        Raises CasUnsupported where the server cannot. Never sent twice: who loses the reply reads again.
        """
        ...

    async def kv_del(self, *keys: bytes) -> int:
        """How many there were."""
        ...

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        """Give the key another end, in whole seconds, rounded up. False when it is absent."""
        ...

    async def kv_ttl(self, key: bytes) -> KVTtl: ...

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        """Add to a decimal number; an absent key counts as 0. The end of a key stays."""
        ...

    async def kv_mget(self, *keys: bytes) -> list[bytes | None]: ...

    async def kv_mset(self, values: Mapping[bytes, Value]) -> None:
        """Without ends. Atomic, except on a Cluster."""
        ...


def checked_key(key: bytes) -> bytes:
    """The key as it is used: without white space at its ends, and not empty."""
    if not key or not (0x20 < key[0] < 0x7F and 0x20 < key[-1] < 0x7F):
        key = trim(key.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        if not key:
            raise InvalidKVArgument("home kv: key is empty")
    return key


def check_options(options: KVSetOptions) -> None:
    if options.ex > 0 and options.px > 0:
        raise InvalidKVArgument("home kv: EX and PX are mutually exclusive")
    if options.ex < 0 or options.px < 0:
        raise InvalidKVArgument("home kv: ttl must not be negative")
    if options.nx and options.xx:
        raise InvalidKVArgument("home kv: NX and XX are mutually exclusive")


def checked_ttl(ttl_s: float) -> int:
    """Whole seconds for EXPIRE, to which 0 would be a deletion."""
    if ttl_s <= 0:
        raise InvalidKVArgument("home kv: ttl must be positive")
    return whole_seconds(ttl_s)


def whole_seconds(duration_s: float) -> int:
    """Rounded up."""
    return math.ceil(round(duration_s, 9))


def whole_ms(duration_s: float) -> int:
    """Rounded up. The inner rounding takes away what 1.1 * 1000 adds."""
    return math.ceil(round(duration_s * 1000, 6))
