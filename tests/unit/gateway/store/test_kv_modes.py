from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import InvalidKVArgument, StoreUnavailable
from gateway.store.kv import KVClient, KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV, log_prefix


def memory() -> MemoryKV:
    return MemoryKV(FakeClock())


class Untouchable:
    """A local store that nobody may use."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the local store was used: {name}")


UNTOUCHABLE: KVClient = Untouchable()  # type: ignore[assignment]

CALLS: dict[str, Callable[[KVClient], Awaitable[Any]]] = {
    "get": lambda kv: kv.kv_get(b"cpa:area:k"),
    "set": lambda kv: kv.kv_set(b"cpa:area:k", b"v"),
    "setnx": lambda kv: kv.kv_setnx(b"cpa:area:k", b"v", 1),
    "cas": lambda kv: kv.kv_cas(b"cpa:area:k", None, b"v", 1),
    "del": lambda kv: kv.kv_del(b"cpa:area:k"),
    "expire": lambda kv: kv.kv_expire(b"cpa:area:k", 1),
    "ttl": lambda kv: kv.kv_ttl(b"cpa:area:k"),
    "incrby": lambda kv: kv.kv_incrby(b"cpa:area:k", 1),
    "mget": lambda kv: kv.kv_mget(b"cpa:area:k", b"l"),
    "mset": lambda kv: kv.kv_mset({b"cpa:area:k": b"v"}),
}


# ---- the three states


def test_without_a_shared_store_the_local_one_is_used() -> None:
    local = memory()
    availability = Availability(local)
    assert availability.current() == (None, False, None)
    assert availability.pick() is local


def test_a_healthy_shared_store_is_used() -> None:
    shared = memory()
    availability = Availability(UNTOUCHABLE, shared)
    assert availability.current() == (shared, True, None)
    assert availability.pick() is shared


@pytest.mark.parametrize(
    ("enabled", "connected", "message"),
    [
        (False, True, "home kv store unavailable: home client disabled"),
        (False, False, "home kv store unavailable: home client disabled"),
        (True, False, "home kv store unavailable: home not connected"),
    ],
)
def test_a_shared_store_that_is_off_or_down_says_which(enabled: bool, connected: bool, message: str) -> None:
    availability = Availability(UNTOUCHABLE, memory(), enabled=lambda: enabled, connected=lambda: connected)
    client, home_mode, error = availability.current()
    assert (client, home_mode, str(error)) == (None, True, message)
    with pytest.raises(StoreUnavailable, match=message):
        availability.pick()


@pytest.mark.parametrize("name", CALLS)
async def test_kv_11_a_lost_shared_store_is_unavailable_and_the_local_one_is_not_touched(name: str) -> None:
    """Given Home registered but its heartbeat lost, expect of every helper home_mode=True and
    `home kv store unavailable: home not connected`; the local cache is neither read nor written.
    """
    healthy = True
    local, shared = memory(), memory()
    await local.kv_set(b"cpa:area:k", b"local")
    await shared.kv_set(b"cpa:area:k", b"0")
    availability = Availability(local, shared, connected=lambda: healthy)
    required = RequiredKV(availability)
    call = CALLS[name]
    await call(required)
    healthy = False
    assert availability.current().home_mode
    with pytest.raises(StoreUnavailable) as failure:
        await call(required)
    assert str(failure.value) == "home kv store unavailable: home not connected"
    assert await local.kv_get(b"cpa:area:k") == b"local"
    assert len(local) == 1


async def test_a_shared_store_that_comes_back_is_used_again() -> None:
    healthy = False
    shared = memory()
    required = RequiredKV(Availability(UNTOUCHABLE, shared, connected=lambda: healthy))
    with pytest.raises(StoreUnavailable):
        await required.kv_set(b"k", b"v")
    healthy = True
    await required.kv_set(b"k", b"v")
    assert await shared.kv_get(b"k") == b"v"


async def test_kv_12_a_ttl_of_nothing_is_no_end() -> None:
    """Given a required write with ttl 0, expect `SET k v` without EX. Without a condition none is refused."""
    required = RequiredKV(Availability(UNTOUCHABLE, memory()))
    assert await required.kv_set(b"k", b"v", KVSetOptions(ex=0))
    assert await required.kv_ttl(b"k") == (0, True)
    assert await required.kv_set(b"k", b"v", KVSetOptions(ex=60))
    assert await required.kv_ttl(b"k") == (60, True)


async def test_a_mistake_of_the_caller_is_told() -> None:
    with pytest.raises(InvalidKVArgument):
        await RequiredKV(Availability(memory())).kv_get(b"")


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        (b"cpa:codex:reasoning-replay:aa:bb", "cpa:codex:*"),
        (b"solo", "solo:*"),
        (b"", "unknown"),
        (b"  ", "unknown"),
        (b"a:b", "a:b:*"),
        (b"\xff\xfe:x:y", "\ufffd\ufffd:x:*"),
    ],
)
def test_kv_13_only_the_area_of_a_key_is_logged(key: bytes, prefix: str) -> None:
    """Given `cpa:codex:reasoning-replay:aa:bb`, expect `cpa:codex:*`; `solo` is `solo:*`, empty `unknown`."""
    assert log_prefix(key) == prefix
