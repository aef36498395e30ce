import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreError, StoreUnavailable
from gateway.kernel.json import loads
from gateway.store.connect import connect
from gateway.store.deadletter import DeadLetters, digest_of
from gateway.store.keys import Keys
from gateway.store.streams_memory import MemoryStreams
from gateway.store.streams_redis import RedisStreams
from tests.support.redis_server import RedisServer

BODY = b"a prompt that must not be kept"


async def test_a_letter_says_why_which_and_when_but_not_what() -> None:
    clock, keys = FakeClock(), Keys()
    streams = MemoryStreams(clock)
    letters = DeadLetters(streams, keys, clock)
    await letters.put("undecodable", {"worker": "worker-0", "turn_id": "t1"}, digest_of(BODY))
    [(_, payload)] = await streams.range(keys.dead)
    assert loads(payload) == {
        "reason": "undecodable",
        "ids": {"worker": "worker-0", "turn_id": "t1"},
        "digest": digest_of(BODY),
        "at_ms": clock.now_ms(),
    }
    assert BODY not in payload


def test_a_digest_tells_bodies_apart_and_is_short() -> None:
    assert digest_of(BODY) == digest_of(BODY) != digest_of(BODY + b".")
    assert digest_of(b"") == "e3b0c44298fc"


async def test_letters_are_counted_and_bounded() -> None:
    clock = FakeClock()
    letters = DeadLetters(MemoryStreams(clock), Keys(), clock, max_len=10)
    assert await letters.count() == 0
    for i in range(1000):
        await letters.put("stale", {"turn_id": str(i)}, "")
    assert 10 <= await letters.count() <= 110


async def test_a_store_that_is_down_does_not_stop_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    class Down(MemoryStreams):
        async def append(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
            raise StoreUnavailable("down")

    clock = FakeClock()
    letters = DeadLetters(Down(clock), Keys(), clock)
    await letters.put("stale", {"name": "a field that log records have too"}, digest_of(BODY))
    assert [record.message for record in caplog.records] == [
        "store.dead_letter",
        "store.dead_letter_not_kept",
    ]
    assert BODY.decode() not in caplog.text


async def test_a_dead_key_that_holds_something_else_is_said_once_and_counted(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.store.deadletter")
    keys = Keys()
    redis_server.command("SET", keys.dead, "x")
    async with connect(redis_url) as redis:
        letters = DeadLetters(RedisStreams(redis), keys, FakeClock())
        for i in range(3):
            await letters.put("stale", {"turn_id": str(i)}, "")
        assert letters.not_kept == 3
        with pytest.raises(StoreError):
            await letters.count()
        redis_server.command("DEL", keys.dead)
        await letters.put("stale", {"turn_id": "4"}, "")
        assert (letters.not_kept, await letters.count()) == (0, 1)
    said = [record.message for record in caplog.records if record.message != "store.dead_letter"]
    assert said == ["store.dead_letter_not_kept", "store.dead_letters_kept_again"]
