"""What goes over the wire, to a recording stand-in for Redis. Behaviour is in tests/contract/test_kv.py."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.kernel.errors import CasUnsupported, InvalidKVArgument, StoreError, StoreUnavailable
from gateway.store.calls import Arg
from gateway.store.kv import KVSetOptions
from gateway.store.kv_redis import RedisKV
from gateway.store.refusals import refusal
from gateway.store.scripts import Script


def _text(arg: Arg) -> str:
    return arg.decode() if isinstance(arg, bytes) else str(arg)


class Recorder:
    """replies: one for each command, in order; an exception is raised, and the last one stays."""

    def __init__(self, *replies: Any, one_slot: bool = True) -> None:
        self.replies = list(replies)
        self.sent: list[str] = []
        self.one_slot = one_slot
        self.on_connect: list[Callable[[], None]] = []

    def call(self, key: bytes, *args: Arg) -> Awaitable[Any]:
        self.sent.append(" ".join(_text(arg) or '""' for arg in args))
        return self._reply()

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Arg]) -> Awaitable[Any]:
        self.sent.append(" ".join([f"<{script.name}>", *(_text(arg) or '""' for arg in (*keys, *args))]))
        return self._reply()

    async def _reply(self) -> Any:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def reconnect(self) -> None:
        for hook in self.on_connect:
            hook()


UNKNOWN_CAS = refusal(
    ResponseError("unknown command 'CAS', with args beginning with: 'k' '0' ", status_code="ERR")
)
UNKNOWN_EVAL = refusal(ResponseError("ERR unknown command 'eval'"))


@pytest.mark.parametrize(
    ("options", "wire"),
    [
        (KVSetOptions(), "SET k v"),
        (KVSetOptions(ex=1.2), "SET k v EX 2"),
        (KVSetOptions(px=0.0005), "SET k v PX 1"),
        (KVSetOptions(ex=3600, nx=True), "SET k v EX 3600 NX"),
        (KVSetOptions(px=1.5, xx=True), "SET k v PX 1500 XX"),
    ],
)
async def test_kv_4_set_is_written_in_a_fixed_order_with_ends_rounded_up(
    options: KVSetOptions, wire: str
) -> None:
    """Given EX=1.2s, expect `SET k v EX 2`; PX=0.5ms, `SET k v PX 1`; EX=1h and NX, `SET k v EX 3600 NX`."""
    redis = Recorder(b"OK")
    assert await RedisKV(redis).kv_set(b"k", b"v", options)
    assert redis.sent == [wire]


async def test_kv_5_an_empty_key_sends_nothing() -> None:
    """Given the key `  `, expect `home kv: key is empty` and no command."""
    redis = Recorder(b"OK")
    kv = RedisKV(redis)
    for call in (
        kv.kv_set(b"  ", b"v"),
        kv.kv_get(b""),
        kv.kv_setnx(b" ", b"v", 1),
        kv.kv_cas(b"\t", None, b"v", 1),
        kv.kv_del(b"k", b" "),
        kv.kv_expire(b"", 1),
        kv.kv_ttl(b""),
        kv.kv_incrby(b"", 1),
        kv.kv_mget(b"k", b""),
        kv.kv_mset({b"": b"v"}),
    ):
        with pytest.raises(InvalidKVArgument, match="home kv: key is empty"):
            await call
    assert redis.sent == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (KVSetOptions(ex=1, px=1), "home kv: EX and PX are mutually exclusive"),
        (KVSetOptions(nx=True, xx=True), "home kv: NX and XX are mutually exclusive"),
        (KVSetOptions(ex=-1), "home kv: ttl must not be negative"),
    ],
)
async def test_kv_6_conflicting_options_send_nothing(options: KVSetOptions, message: str) -> None:
    """Given EX and PX, NX and XX, or EX=-1s, expect the argument error and no command."""
    redis = Recorder(b"OK")
    with pytest.raises(InvalidKVArgument) as refused:
        await RedisKV(redis).kv_set(b"k", b"v", options)
    assert str(refused.value) == message
    assert redis.sent == []


async def test_kv_7_a_refused_set_is_not_written_and_no_error() -> None:
    """Given nil for SET … NX, expect written == False and no error; kv_setnx on a present key is False."""
    redis = Recorder(None)
    kv = RedisKV(redis)
    assert await kv.kv_set(b"k", b"v", KVSetOptions(nx=True)) is False
    assert await kv.kv_setnx(b"k", b"v", 0) is False
    assert await kv.kv_setnx(b"k", b"v", 1.5) is False
    assert redis.sent == ["SET k v NX", "SET k v NX", "SET k v EX 2 NX"]


async def test_kv_8_compare_and_swap_of_an_absent_key_without_an_end() -> None:
    """Given kv_cas("k", b"", False, b"new", 0), expect `CAS k 0 "" new` without PX; reply 0 is False."""
    redis = Recorder(0, 1, 1)
    kv = RedisKV(redis, dialect="home")
    assert await kv.kv_cas(b"k", None, b"new", 0) is False
    assert await kv.kv_cas(b"k", b"", b"new", 1.5) is True
    assert await kv.kv_cas(b"k", b"old", b"new", 0.0001) is True
    assert redis.sent == ['CAS k 0 "" new', 'CAS k 1 "" new PX 1500', "CAS k 1 old new PX 1"]


async def test_kv_9_a_server_without_compare_and_swap_is_asked_once_in_a_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given `ERR unknown command 'CAS'`, expect the unsupported error; a second call gives the same error
    without traffic; after a reconnect CAS is sent again. (Before it gives up it tries the script, once.)
    """
    redis = Recorder(UNKNOWN_CAS, UNKNOWN_EVAL, 1)
    kv = RedisKV(redis, dialect="home")
    with pytest.raises(CasUnsupported, match="home compare-and-swap is unsupported"):
        await kv.kv_cas(b"k", None, b"v", 0)
    assert redis.sent == ['CAS k 0 "" v', '<cas> k 0 "" v 0']
    with pytest.raises(CasUnsupported, match="home compare-and-swap is unsupported"):
        await kv.kv_cas(b"k", None, b"v", 0)
    assert len(redis.sent) == 2
    redis.reconnect()
    assert await kv.kv_cas(b"k", None, b"v", 0)
    assert redis.sent[2:] == ['CAS k 0 "" v']
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_kv_10_conventions_of_ttl_mget_and_del() -> None:
    """Given TTL -2, -1, 42, expect (0, False), (0, True), (42, True); MGET ["a", nil] is [b"a", None]; DEL of
    no keys is 0 without traffic.
    """
    redis = Recorder(-2, -1, 42, [b"a", None])
    kv = RedisKV(redis)
    assert [await kv.kv_ttl(b"k") for _ in range(3)] == [(0, False), (0, True), (42, True)]
    assert await kv.kv_mget(b"a", b"b") == [b"a", None]
    assert redis.sent == ["TTL k", "TTL k", "TTL k", "MGET a b"]
    redis.sent.clear()
    assert await kv.kv_del() == 0
    assert await kv.kv_mget() == []
    await kv.kv_mset({})
    assert redis.sent == []


async def test_mset_sends_its_keys_in_order() -> None:
    redis = Recorder(b"OK")
    await RedisKV(redis).kv_mset({b"b": b"2", b"a": b"1", b"c": b"3"})
    assert redis.sent == ["MSET a 1 b 2 c 3"]


async def test_without_home_the_script_is_used_from_the_start() -> None:
    redis = Recorder(1)
    assert await RedisKV(redis).kv_cas(b"k", b"old", b"new", 2)
    assert redis.sent == ["<cas> k 1 old new 2000"]


async def test_a_redis_spoken_to_as_home_settles_on_the_script() -> None:
    redis = Recorder(UNKNOWN_CAS, 1, 1)
    kv = RedisKV(redis, dialect="home")
    assert await kv.kv_cas(b"k", None, b"v", 0)
    assert await kv.kv_cas(b"k", None, b"v", 0)
    assert [line.split()[0] for line in redis.sent] == ["CAS", "<cas>", "<cas>"]


async def test_another_error_of_compare_and_swap_does_not_latch() -> None:
    redis = Recorder(refusal(ResponseError("WRONGTYPE Operation against a key", status_code=None)), 1)
    kv = RedisKV(redis)
    with pytest.raises(StoreError, match="WRONGTYPE") as refused:
        await kv.kv_cas(b"k", None, b"v", 0)
    assert not isinstance(refused.value, CasUnsupported)
    assert await kv.kv_cas(b"k", None, b"v", 0)


async def test_reads_are_sent_again_once() -> None:
    for read in (lambda kv: kv.kv_get(b"k"), lambda kv: kv.kv_ttl(b"k"), lambda kv: kv.kv_mget(b"k")):
        redis = Recorder(StoreUnavailable("lost"))
        with pytest.raises(StoreUnavailable):
            await read(RedisKV(redis))
        assert len(redis.sent) == 2
    redis = Recorder(StoreUnavailable("lost"), b"v")
    assert await RedisKV(redis).kv_get(b"k") == b"v"


async def test_writes_are_never_sent_again() -> None:
    for write in (
        lambda kv: kv.kv_set(b"k", b"v"),
        lambda kv: kv.kv_setnx(b"k", b"v", 1),
        lambda kv: kv.kv_cas(b"k", None, b"v", 1),
        lambda kv: kv.kv_incrby(b"k", 1),
        lambda kv: kv.kv_del(b"k"),
        lambda kv: kv.kv_mset({b"k": b"v"}),
        lambda kv: kv.kv_expire(b"k", 1),
    ):
        redis = Recorder(StoreUnavailable("lost"))
        with pytest.raises(StoreUnavailable):
            await write(RedisKV(redis))
        assert len(redis.sent) == 1


async def test_a_refusal_says_why_but_not_what_was_sent() -> None:
    redis = Recorder(refusal(ResponseError("value is not an integer: secret", status_code="ERR")))
    with pytest.raises(StoreError, match="ERR") as refused:
        await RedisKV(redis).kv_incrby(b"k", 1)
    assert "secret" not in str(refused.value)


async def test_on_a_cluster_each_key_is_a_command_of_its_own() -> None:
    redis = Recorder(1, 1, one_slot=False)
    kv = RedisKV(redis)
    assert await kv.kv_del(b"a", b"b") == 2
    await kv.kv_mset({b"b": b"2", b"a": b"1"})
    redis.replies = [b"1", None]
    assert await kv.kv_mget(b"a", b"b") == [b"1", None]
    assert redis.sent == ["DEL a", "DEL b", "SET a 1", "SET b 2", "GET a", "GET b"]


async def test_mget_of_something_else_is_an_error() -> None:
    with pytest.raises(StoreError, match="MGET"):
        await RedisKV(Recorder([b"a", 1])).kv_mget(b"a", b"b")
