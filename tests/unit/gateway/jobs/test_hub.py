import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from gateway.jobs import hub as hub_module
from gateway.jobs.codec import encode
from gateway.jobs.hub import PARK_AT_BYTES, Feed, Hub
from gateway.jobs.messages import Envelope, FrameBatch, Heartbeat, Reply
from gateway.jobs.stats import HubCollector
from gateway.kernel.clock import FakeClock, SystemClock
from gateway.kernel.errors import StoreDataLoss, StoreUnavailable
from gateway.store.connect import connect
from gateway.store.keys import Keys
from gateway.store.streams import StreamReader
from gateway.store.streams_memory import MemoryStreams
from gateway.store.streams_redis import RedisStreams
from gateway.store.writable import WriteWatch
from tests.support.redis_server import RedisServer

KEYS = Keys()


class KnownTurns:
    """The one question that the hub asks of the turn log."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    async def exists(self, turn_ids: list[str]) -> list[bool]:
        return [turn_id not in self.lost for turn_id in turn_ids]


class FlakyStreams(MemoryStreams):
    """A store that can be away, and counts its readers."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.away = False
        self.hanging: asyncio.Event | None = None
        self.readers = 0

    def reader(self, bucket_key: bytes) -> StreamReader:
        self.readers += 1
        inner = super().reader(bucket_key)
        outer = self

        class Reader:
            async def read(self, cursors, *, block_ms, count):  # type: ignore[no-untyped-def]
                if outer.away:
                    raise StoreUnavailable("away")
                found = await inner.read(cursors, block_ms=block_ms, count=count)
                if outer.hanging is not None:
                    await outer.hanging.wait()
                    outer.hanging = None
                if outer.away:
                    raise StoreUnavailable("away")
                return found

            async def aclose(self) -> None:
                await inner.aclose()

        return Reader()


class Bench:
    def __init__(self) -> None:
        self.streams = FlakyStreams()
        self.turns = KnownTurns()
        self.clock = FakeClock()
        self.hub = Hub(self.streams, self.turns, KEYS, "r1", self.clock)  # type: ignore[arg-type]

    async def say(self, turn_id: str, reply: Reply, *, sent_ms_ago: int = 0) -> None:
        envelope = Envelope(turn_id=turn_id, attempt=1, epoch=1, sent_at_ms=self.clock.now_ms() - sent_ms_ago)
        await self.streams.append(KEYS.frames(turn_id), encode(envelope, reply))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.hub.running():
        yield bench


def seqs(messages: list[tuple[Envelope, Reply]]) -> list[int]:
    return [reply.seq_first for _, reply in messages if isinstance(reply, FrameBatch)]


async def read(feed: Feed, count: int) -> list[int]:
    got: list[int] = []
    async with asyncio.timeout(5):
        while len(got) < count:
            got += seqs(await feed.next(within_s=1))
    return got


async def test_a_feed_reads_its_turn_from_the_beginning(bench: Bench) -> None:
    await bench.say("t", FrameBatch(seq_first=1, frames=[b"a"]))
    feed = bench.hub.subscribe("t")
    await bench.say("t", FrameBatch(seq_first=2, frames=[b"b"]))
    assert await read(feed, 2) == [1, 2]


async def test_many_turns_share_one_reader(bench: Bench) -> None:
    feeds = [bench.hub.subscribe(f"t{n}") for n in range(50)]
    for n in range(50):
        await bench.say(f"t{n}", FrameBatch(seq_first=n, frames=[b""]))
    assert [await read(feed, 1) for feed in feeds] == [[n] for n in range(50)]
    assert bench.streams.readers == 1


async def test_a_new_turn_wakes_a_blocked_read(bench: Bench) -> None:
    bench.hub.subscribe("idle")
    await asyncio.sleep(0)
    await bench.say("t", FrameBatch(seq_first=1, frames=[b"a"]))
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await read(bench.hub.subscribe("t"), 1) == [1]
    assert loop.time() - started < 1.0, "it waited for the end of the blocking read"


async def test_the_wake_stream_ends_with_its_replica(bench: Bench) -> None:
    bench.hub.subscribe("idle")
    await bench.say("idle", Heartbeat())
    expiries: list[float] = []
    keep = bench.streams.expire

    async def expire(key: bytes, ttl_s: float) -> None:
        expiries.append(ttl_s)
        await keep(key, ttl_s)

    bench.streams.expire = expire  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        number = 0
        while not expiries:
            number += 1
            bench.hub.subscribe(f"t{number}")
            await asyncio.sleep(0.001)
    assert expiries == [3600.0]


async def test_a_slow_client_is_parked_and_loses_nothing(bench: Bench) -> None:
    slow, quick = bench.hub.subscribe("slow"), bench.hub.subscribe("quick")
    large = b"x" * (PARK_AT_BYTES // 2)
    for n in range(8):
        await bench.say("slow", FrameBatch(seq_first=n, frames=[large]))
    async with asyncio.timeout(5):
        while not slow.parked:
            await asyncio.sleep(0.001)
    await bench.say("quick", FrameBatch(seq_first=7, frames=[b""]))
    assert await read(quick, 1) == [7]
    assert await read(slow, 8) == list(range(8))
    assert not slow.parked


async def test_silence_is_an_empty_answer(bench: Bench) -> None:
    assert await bench.hub.subscribe("t").next(within_s=0.01) == []


async def test_every_wait_has_its_own_length(bench: Bench) -> None:
    feed = bench.hub.subscribe("t")
    loop = asyncio.get_running_loop()
    await bench.say("t", FrameBatch(seq_first=1, frames=[b"a"]))
    assert await read(feed, 1) == [1], "a wait of a second, cut short"
    for within_s in (0.05, 0.1):
        began = loop.time()
        assert await feed.next(within_s=within_s) == []
        assert within_s - 0.005 <= loop.time() - began < 0.9
    await bench.say("t", FrameBatch(seq_first=2, frames=[b"b"]))
    assert await feed.next(within_s=0.1) != []
    began = loop.time()
    assert await feed.next(within_s=0.2) == [], "the wait before would have ended earlier"
    assert loop.time() - began >= 0.195


async def test_a_closed_feed_leaves_no_timer(bench: Bench) -> None:
    feed = bench.hub.subscribe("t")
    await bench.say("t", FrameBatch(seq_first=1, frames=[b"a"]))
    await read(feed, 1)
    assert feed._timer is not None
    timer = feed._timer
    feed.close()
    assert timer.cancelled()


async def test_an_undecodable_entry_is_left_out(bench: Bench) -> None:
    await bench.streams.append(KEYS.frames("t"), b"garbage")
    await bench.say("t", FrameBatch(seq_first=1, frames=[b"a"]))
    assert await read(bench.hub.subscribe("t"), 1) == [1]


async def test_an_outage_is_survived_without_loss(bench: Bench) -> None:
    feed = bench.hub.subscribe("t")
    await bench.say("t", FrameBatch(seq_first=1, frames=[b"a"]))
    assert await read(feed, 1) == [1]
    bench.streams.away = True
    await bench.say("t", FrameBatch(seq_first=2, frames=[b"b"]))
    async with asyncio.timeout(5):
        while bench.hub.down_since is None:
            await asyncio.sleep(0.001)
    bench.streams.away = False
    assert await read(feed, 1) == [2]
    async with asyncio.timeout(5):
        while bench.hub.down_since is not None:
            await asyncio.sleep(0.001)


async def test_a_store_that_hangs_is_away_and_its_silence_does_not_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "OVERDUE_S", 0.05)
    feed = bench.hub.subscribe("t")
    bench.streams.hanging = asyncio.Event()
    await bench.say("t", Heartbeat())
    async with asyncio.timeout(5):
        while bench.hub.down_since is None:
            await asyncio.sleep(0.001)
    before = feed.last_at
    bench.streams.hanging.set()
    async with asyncio.timeout(5):
        while bench.hub.down_since is not None or feed.last_at == before:
            await asyncio.sleep(0.001)


async def test_an_outage_does_not_outlast_the_turns_that_met_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns on other nodes, and later ones here, would take it for as old as its first failure."""
    monkeypatch.setattr(hub_module, "OVERDUE_S", 0.0)
    feed = bench.hub.subscribe("t")
    bench.streams.away = True
    await bench.say("t", Heartbeat())
    async with asyncio.timeout(5):
        while bench.hub.down_since is None:
            await asyncio.sleep(0.001)
        feed.close()
        while bench.hub.down_since is not None:
            await asyncio.sleep(0.001)
        since = asyncio.get_running_loop().time()
        bench.hub.subscribe("later")
        while (down_since := bench.hub.down_since) is None:
            await asyncio.sleep(0.001)
    assert down_since >= since


async def test_a_turn_that_the_store_forgot_fails_after_an_outage(bench: Bench) -> None:
    lost, kept = bench.hub.subscribe("lost"), bench.hub.subscribe("kept")
    bench.turns.lost.add("lost")
    bench.streams.away = True
    await bench.say("lost", Heartbeat())
    async with asyncio.timeout(5):
        while bench.hub.down_since is None:
            await asyncio.sleep(0.001)
    bench.streams.away = False
    with pytest.raises(StoreDataLoss):
        async with asyncio.timeout(5):
            while True:
                await lost.next(within_s=1)
    assert await kept.next(within_s=0.01) == []


async def test_a_closed_feed_is_not_read_any_more(bench: Bench) -> None:
    feed = bench.hub.subscribe("t")
    assert bench.hub.turns == 1
    feed.close()
    assert bench.hub.turns == 0


# ---- what it counts


def figures(hub: Hub) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(HubCollector(hub))
    return {
        sample.name.removeprefix("gateway_hub_") + sample.labels.get("le", ""): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


async def test_a_read_is_counted_with_its_entries_and_the_age_of_one(bench: Bench) -> None:
    await bench.say("a", FrameBatch(seq_first=1, frames=[b"x"]), sent_ms_ago=30)
    await bench.say("a", FrameBatch(seq_first=2, frames=[b"y"]))
    feed = bench.hub.subscribe("a")
    assert await read(feed, 2) == [1, 2]
    told = figures(bench.hub)
    assert (told["streams"], told["reads_total"], told["entries_total"]) == (1, 1, 2)
    assert (told["lag_seconds_count"], told["lag_seconds_sum"]) == (1, 0.03)
    assert (told["lag_seconds_bucket0.025"], told["lag_seconds_bucket0.05"]) == (0, 1)


async def test_a_worker_whose_clock_is_ahead_has_not_waited(bench: Bench) -> None:
    await bench.say("a", FrameBatch(seq_first=1, frames=[b"x"]), sent_ms_ago=-500)
    assert await read(bench.hub.subscribe("a"), 1) == [1]
    assert figures(bench.hub)["lag_seconds_sum"] == 0


async def test_a_slow_client_is_counted_as_parked_and_its_slowness_is_no_lag(bench: Bench) -> None:
    feed = bench.hub.subscribe("a")
    await bench.say("a", FrameBatch(seq_first=1, frames=[b"x" * PARK_AT_BYTES]))
    async with asyncio.timeout(5):
        while not bench.hub.parked:
            await asyncio.sleep(0)
    assert figures(bench.hub)["parked"] == 1
    bench.clock.advance(60)
    assert await read(feed, 1) == [1]
    told = figures(bench.hub)
    assert (told["parked"], told["lag_seconds_count"], told["lag_seconds_sum"]) == (0, 1, 0)


async def test_an_outage_shows_while_it_lasts_and_is_counted_when_it_is_over(bench: Bench) -> None:
    bench.hub.subscribe("t")
    bench.streams.away = True
    await bench.say("t", Heartbeat())
    async with asyncio.timeout(5):
        while bench.hub.down_since is None:
            await asyncio.sleep(0.001)
    assert (figures(bench.hub)["down"], figures(bench.hub)["recoveries_total"]) == (1, 0)
    bench.streams.away = False
    async with asyncio.timeout(5):
        while bench.hub.down_since is not None:
            await asyncio.sleep(0.001)
    assert (figures(bench.hub)["down"], figures(bench.hub)["recoveries_total"]) == (0, 1)


# ---- on Redis: keys that hold something else, or are gone

WAKE = KEYS.wakes("r1")[0]


@contextlib.asynccontextmanager
async def redis_hub(url: str) -> AsyncIterator[tuple[Hub, RedisStreams]]:
    async with connect(url) as redis:
        await redis.wait_connected(5)
        streams = RedisStreams(redis)
        hub = Hub(streams, KnownTurns(), KEYS, "r1", SystemClock())  # type: ignore[arg-type]
        async with hub.running():
            yield hub, streams


async def say(streams: RedisStreams, turn_id: str, seq: int) -> None:
    batch = FrameBatch(seq_first=seq, frames=[b"x"])
    await streams.append(KEYS.frames(turn_id), encode(Envelope(turn_id=turn_id, attempt=1, epoch=1), batch))


async def test_a_key_that_holds_no_stream_fails_its_own_feed_only(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_hub(redis_url) as (hub, streams):
        bad, good = hub.subscribe("bad"), hub.subscribe("good")
        await say(streams, "bad", 1)
        await say(streams, "good", 1)
        assert (await read(bad, 1), await read(good, 1)) == ([1], [1])
        redis_server.command("DEL", KEYS.frames("bad"))
        redis_server.command("SET", KEYS.frames("bad"), "x")
        await say(streams, "good", 2)
        with pytest.raises(StoreDataLoss):
            async with asyncio.timeout(5):
                while True:
                    await bad.next(within_s=1)
        await say(streams, "good", 3)
        assert await read(good, 2) == [2, 3], "in order, and nothing twice"
        assert hub.down_since is None
        bad.close()
    assert "loop_restarted" not in caplog.text


async def test_a_wake_key_that_holds_no_stream_is_deleted(
    redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.command("SET", WAKE, "x")
    async with redis_hub(redis_url) as (hub, streams):
        feed = hub.subscribe("t")
        await say(streams, "t", 1)
        assert await read(feed, 1) == [1]
        assert redis_server.command("TYPE", WAKE) != b"string"
        assert hub.down_since is None
    assert "loop_restarted" not in caplog.text


async def woken(hub: Hub, server: RedisServer, name: str) -> list[Feed]:
    """Feeds, as many as it takes for the wake stream to be there."""
    feeds: list[Feed] = []
    async with asyncio.timeout(10):
        while not server.command("EXISTS", WAKE):
            feeds.append(hub.subscribe(f"{name}{len(feeds)}"))
            await asyncio.sleep(0.01)
    return feeds


async def ends(server: RedisServer) -> None:
    async with asyncio.timeout(10):
        while server.command("PTTL", WAKE) <= 0:
            await asyncio.sleep(0.01)


async def test_a_wake_stream_that_comes_back_is_given_its_end_again(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with redis_hub(redis_url) as (hub, _):
        feeds = await woken(hub, redis_server, "before")
        await ends(redis_server)
        redis_server.command("FLUSHALL")
        feeds += await woken(hub, redis_server, "flushed")
        for feed in feeds:
            feed.close()
        await ends(redis_server)


async def test_after_an_empty_restart_the_wake_stream_has_an_end() -> None:
    with RedisServer() as server:
        async with redis_hub(server.url) as (hub, _):
            await woken(hub, server, "before")
            await ends(server)
            server.restart()
            async with asyncio.timeout(10):
                while hub.down_since is None:
                    await asyncio.sleep(0.001)
                while hub.down_since is not None:
                    await asyncio.sleep(0.001)
            await woken(hub, server, "after")
            await ends(server)


def test_a_node_that_is_away_is_away_for_its_own_turns_alone() -> None:
    keys = Keys(buckets=4)
    hub = Hub(FlakyStreams(), KnownTurns(), keys, "r1", FakeClock())  # type: ignore[arg-type]
    turns = {keys.bucket_of(turn_id): turn_id for turn_id in (f"turn-{n}" for n in range(100))}
    hub._buckets[2]._down_since = 5.0
    assert hub.down_since == 5.0
    assert [hub.down_since_for(turns[bucket]) for bucket in range(4)] == [None, None, 5.0, None]


def test_a_store_that_takes_no_writes_is_as_good_as_away() -> None:
    watch = WriteWatch(None, KEYS, "r1")
    hub = Hub(FlakyStreams(), KnownTurns(), KEYS, "r1", FakeClock(), watch)  # type: ignore[arg-type]
    assert (hub.down_since, hub.heard_from) == (None, float("-inf"))
    watch.since = 12.0
    assert hub.down_since == 12.0
    hub._buckets[0]._down_since = 10.0
    assert hub.down_since == 10.0
    watch.recovered_at = 20.0
    assert hub.heard_from == 20.0
