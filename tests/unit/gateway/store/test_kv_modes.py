import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import CasUnsupported, InvalidKVArgument, StoreError, StoreUnavailable
from gateway.store.kv import KVClient, KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, BestEffortKV, RequiredKV, log_prefix


def memory() -> MemoryKV:
    return MemoryKV(FakeClock())


class Untouchable:
    """A local store that nobody may use."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the local store was used: {name}")


UNTOUCHABLE: KVClient = Untouchable()  # type: ignore[assignment]

CALLS: dict[str, tuple[Callable[[Any], Awaitable[Any]], Any]] = {
    "get": (lambda kv: kv.kv_get(b"cpa:area:k"), None),
    "set": (lambda kv: kv.kv_set(b"cpa:area:k", b"v"), False),
    "setnx": (lambda kv: kv.kv_setnx(b"cpa:area:k", b"v", 1), False),
    "cas": (lambda kv: kv.kv_cas(b"cpa:area:k", None, b"v", 1), False),
    "del": (lambda kv: kv.kv_del(b"cpa:area:k"), 0),
    "expire": (lambda kv: kv.kv_expire(b"cpa:area:k", 1), False),
    "ttl": (lambda kv: kv.kv_ttl(b"cpa:area:k"), (0, False)),
    "incrby": (lambda kv: kv.kv_incrby(b"cpa:area:k", 1), 0),
    "mget": (lambda kv: kv.kv_mget(b"cpa:area:k", b"l"), [None, None]),
    "mset": (lambda kv: kv.kv_mset({b"cpa:area:k": b"v"}), None),
    "get_json": (lambda kv: kv.get_json(b"cpa:area:k"), (False, None)),
    "set_bytes": (lambda kv: kv.set_bytes(b"cpa:area:k", b"v", 1), False),
    "set_json": (lambda kv: kv.set_json(b"cpa:area:k", [1], 1), False),
}
"""Call -> what best effort answers when the store is down."""


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
    call, nothing = CALLS[name]
    await call(required)
    healthy = False
    assert availability.current().home_mode
    with pytest.raises(StoreUnavailable) as failure:
        await call(required)
    assert str(failure.value) == "home kv store unavailable: home not connected"
    assert await call(BestEffortKV(required)) == nothing
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


# ---- required


class Recorder(MemoryKV):
    """Notes the options of each set; refuses on demand."""

    def __init__(self, *, refuse: bool = False) -> None:
        super().__init__(FakeClock())
        self.options: list[KVSetOptions] = []
        self.refuse = refuse

    async def kv_set(self, key: bytes, value: Any, options: KVSetOptions = KVSetOptions()) -> bool:  # noqa: B008
        self.options.append(options)
        return not self.refuse and await super().kv_set(key, value, options)


async def test_kv_12_setting_json_without_a_ttl_has_no_end_and_a_refusal_is_unavailable() -> None:
    """Given set_json_required with ttl 0, expect `SET k v` without EX; a refused write is
    `home kv store unavailable`.
    """
    store = Recorder()
    required = RequiredKV(Availability(UNTOUCHABLE, store))
    await required.set_json(b"k", {"a": "é", "b": [1, None]}, 0)
    await required.set_json(b"k", {"a": "é", "b": [1, None]}, -1)
    await required.set_bytes(b"l", b"raw", 60)
    assert store.options == [KVSetOptions(), KVSetOptions(), KVSetOptions(ex=60)]
    assert await store.kv_get(b"k") == '{"a":"é","b":[1,null]}'.encode()
    assert await required.get_json(b"k") == (True, {"a": "é", "b": [1, None]})
    assert await required.get_json(b"absent") == (False, None)
    store.refuse = True
    with pytest.raises(StoreUnavailable) as failure:
        await required.set_json(b"k", 1, 0)
    assert str(failure.value) == "home kv store unavailable"


async def test_a_value_that_is_no_json_is_an_error_and_no_miss() -> None:
    store = memory()
    await store.kv_set(b"k", b"{broken")
    required = RequiredKV(Availability(store))
    with pytest.raises(StoreError, match="no JSON") as failure:
        await required.get_json(b"k")
    assert "broken" not in str(failure.value)
    assert await BestEffortKV(required).get_json(b"k") == (False, None)


# ---- best effort


async def test_best_effort_gives_what_required_gives_while_all_is_well() -> None:
    kv = BestEffortKV(RequiredKV(Availability(memory())))
    assert await kv.set_json(b"k", [1], 60) is True
    assert await kv.get_json(b"k") == (True, [1])
    assert await kv.kv_setnx(b"k", b"x", 0) is False
    assert await kv.kv_cas(b"k", b"[1]", b"[1,2]", 60) is True
    assert await kv.kv_get(b"k") == b"[1,2]"
    assert await kv.kv_ttl(b"k") == (60, True)
    assert await kv.kv_expire(b"k", 5) is True
    await kv.kv_mset({b"m": b"1"})
    assert await kv.kv_incrby(b"m", 2) == 3
    assert await kv.kv_mget(b"m", b"n") == [b"3", None]
    assert await kv.kv_del(b"m", b"k") == 2
    assert await kv.set_bytes(b"k", b"v", 0) is True
    assert await kv.kv_set(b"k", b"v") is True


async def test_best_effort_logs_an_error_with_the_area_of_the_key_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    kv = BestEffortKV(RequiredKV(Availability(UNTOUCHABLE, memory(), connected=lambda: False)))
    await kv.set_bytes(b"cpa:codex:reasoning-replay:secret-model:secret-session", b"secret-value", 0)
    [record] = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "kv.best_effort_failed")
    assert vars(record)["key"] == "cpa:codex:*"
    assert "secret" not in str(vars(record))


async def test_a_server_without_compare_and_swap_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    class WithoutCas(MemoryKV):
        async def kv_cas(self, key: bytes, expected: bytes | None, value: Any, ttl_s: float) -> bool:
            raise CasUnsupported("home compare-and-swap is unsupported")

    caplog.set_level(logging.DEBUG)
    kv = BestEffortKV(RequiredKV(Availability(WithoutCas(FakeClock()))))
    assert await kv.kv_cas(b"k", None, b"v", 0) is False
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


async def test_a_mistake_of_the_caller_is_not_swallowed() -> None:
    kv = BestEffortKV(RequiredKV(Availability(memory())))
    with pytest.raises(InvalidKVArgument):
        await kv.kv_get(b"")


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
