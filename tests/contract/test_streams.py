"""The contract of Streams, on every implementation."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.kernel.clock import SystemClock
from gateway.store.sealed_streams import SealedStreams
from gateway.store.sealing import SealRing
from gateway.store.streams import START, Entry, Streams
from gateway.store.streams_memory import TRIM_SLACK, MemoryStreams
from tests.contract.stores import Ttl, eventually, redis_store

KEY = b"t:{b00}:one"
OTHER = b"t:{b00}:two"
ANY_BYTE = bytes(range(256)) + b"\r\n$-1\r\n"


class Backend:
    def __init__(self, streams: Streams, ttl_s: Ttl) -> None:
        self.streams = streams
        self.ttl_s = ttl_s
        """Seconds that a stream has left, None without an end or without a stream."""


RING = SealRing([("a", b"a" * 32)])


@pytest.fixture(params=["memory", "redis", "cluster", "sealed redis"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "memory":
        memory = MemoryStreams(SystemClock())

        async def ttl_s(key: bytes) -> float | None:
            return memory.ttl_s(key)

        yield Backend(memory, ttl_s)
        return
    sealed, kind = request.param.startswith("sealed"), request.param.removeprefix("sealed ")
    async with redis_store(request, kind) as store:
        yield Backend(SealedStreams(store.streams, RING) if sealed else store.streams, store.ttl_s)


@pytest.fixture
def streams(backend: Backend) -> Streams:
    return backend.streams


def payloads(entries: list[Entry]) -> list[bytes]:
    return [payload for _, payload in entries]


# -- appending and ranges ---------------------------------------------------------------------------------


async def test_entries_come_back_in_order_and_byte_for_byte(streams: Streams) -> None:
    sent = [b"%d" % i for i in range(20)] + [b"", ANY_BYTE]
    ids = [await streams.append(KEY, payload) for payload in sent]
    entries = await streams.range(KEY)
    assert entries == list(zip(ids, sent, strict=True))
    assert await streams.length(KEY) == len(sent)


async def test_a_range_starts_behind_a_position_and_is_bounded(streams: Streams) -> None:
    ids = [await streams.append(KEY, b"%d" % i) for i in range(10)]
    assert payloads(await streams.range(KEY, after=ids[3], count=2)) == [b"4", b"5"]
    assert payloads(await streams.range(KEY, after=ids[8])) == [b"9"]
    assert await streams.range(KEY, after=ids[9]) == []


async def test_an_absent_stream_is_empty(streams: Streams) -> None:
    assert await streams.range(KEY) == []
    assert await streams.length(KEY) == 0


async def test_concurrent_appends_all_arrive(streams: Streams) -> None:
    ids = await asyncio.gather(*(streams.append(KEY, b"%d" % i) for i in range(200)))
    assert len(set(ids)) == 200
    entries = await streams.range(KEY)
    assert sorted(payloads(entries), key=int) == [b"%d" % i for i in range(200)]
    assert [entry_id for entry_id, _ in entries] == list(ids), "ids grow in the order in which they were sent"


async def test_a_bounded_stream_keeps_the_newest(streams: Streams) -> None:
    for i in range(1000):
        streams.post(KEY, b"%d" % i, max_len=300)
    await streams.append(KEY, b"1000", max_len=300)
    kept = payloads(await streams.range(KEY, count=2000))
    assert 300 <= len(kept) <= 300 + TRIM_SLACK
    assert kept == [b"%d" % i for i in range(1001 - len(kept), 1001)]


async def test_a_post_arrives_though_nobody_waits(streams: Streams) -> None:
    streams.post(KEY, b"wake")
    assert payloads(await read_soon(streams, {KEY: START})) == [b"wake"]


async def test_deleted_streams_are_gone(streams: Streams) -> None:
    await streams.append(KEY, b"a")
    await streams.append(OTHER, b"b")
    await streams.delete(KEY, OTHER)
    assert await streams.length(KEY) == await streams.length(OTHER) == 0
    await streams.append(KEY, b"c")
    assert payloads(await streams.range(KEY)) == [b"c"]
    await streams.delete()


async def test_a_stream_ends_when_told_unless_put_off(backend: Backend) -> None:
    streams = backend.streams
    await streams.append(KEY, b"a")
    await streams.append(OTHER, b"b")
    assert await backend.ttl_s(KEY) is None
    await streams.expire(KEY, 0.05)
    await streams.expire(OTHER, 0.05)
    await streams.expire(OTHER, 60)
    await streams.append(OTHER, b"c")
    await eventually(lambda: gone(streams, KEY))
    left = await backend.ttl_s(OTHER)
    assert left is not None
    assert 50 < left <= 60, "an append does not change the end"


async def test_an_absent_stream_is_not_made_by_setting_its_end(backend: Backend) -> None:
    await backend.streams.expire(KEY, 60)
    await backend.streams.append(KEY, b"a")
    assert await backend.ttl_s(KEY) is None


async def gone(streams: Streams, key: bytes) -> bool:
    return await streams.length(key) == 0


# -- blocking reads ---------------------------------------------------------------------------------------


async def read_soon(streams: Streams, cursors: dict[bytes, bytes]) -> list[Entry]:
    reader = streams.reader(KEY)
    try:
        found = await reader.read(cursors, block_ms=2000, count=100)
        return [entry for _, entries in found for entry in entries]
    finally:
        await reader.aclose()


async def test_one_read_gives_what_is_new_on_each_stream(streams: Streams) -> None:
    ids = [await streams.append(KEY, b"%d" % i) for i in range(5)]
    await streams.append(OTHER, b"x")
    quiet = b"t:{b00}:quiet"
    seen = await streams.append(quiet, b"seen")
    reader = streams.reader(KEY)
    found = await reader.read({KEY: ids[1], quiet: seen, OTHER: START}, block_ms=0, count=2)
    assert {key: payloads(entries) for key, entries in found} == {KEY: [b"2", b"3"], OTHER: [b"x"]}
    await reader.aclose()


async def test_cursors_may_change_from_read_to_read(streams: Streams) -> None:
    """The same keys with other positions, other keys, another order: a reader may remember what it packed."""
    reader = streams.reader(KEY)
    ids = [await streams.append(KEY, b"%d" % i) for i in range(3)]
    await streams.append(OTHER, b"x")
    cursors = {KEY: START}
    expected = [({KEY: [b"0"]}, START), ({KEY: [b"1"]}, ids[0]), ({KEY: [b"2"]}, ids[1])]
    for wanted, cursor in expected:
        cursors[KEY] = cursor
        found = await reader.read(cursors, block_ms=0, count=1)
        assert {key: payloads(entries) for key, entries in found} == wanted
    for keys in ((OTHER, KEY), (KEY, OTHER), (OTHER,)):
        found = await reader.read(dict.fromkeys(keys, START), block_ms=0, count=1)
        assert {key: payloads(entries) for key, entries in found} == {
            key: [b"x"] if key == OTHER else [b"0"] for key in keys
        }
    await reader.aclose()


async def test_a_read_that_does_not_wait_gives_nothing_at_once(streams: Streams) -> None:
    reader = streams.reader(KEY)
    async with asyncio.timeout(1):
        assert await reader.read({KEY: START, OTHER: START}, block_ms=0, count=10) == []
    await reader.aclose()


async def test_a_blocked_read_gives_up_after_its_time(streams: Streams) -> None:
    reader = streams.reader(KEY)
    begun = time.monotonic()
    assert await reader.read({KEY: START}, block_ms=120, count=10) == []
    assert 0.1 < time.monotonic() - begun < 1.0
    await reader.aclose()


async def test_an_append_wakes_a_blocked_read_within_100_ms(streams: Streams) -> None:
    reader = streams.reader(KEY)
    cursors = {b"t:{b00}:%d" % i: START for i in range(50)} | {OTHER: START}
    await reader.read(cursors, block_ms=1, count=1)
    waits = []
    async with asyncio.TaskGroup() as tasks:
        for i in range(5):
            read = tasks.create_task(reader.read(cursors, block_ms=5000, count=10))
            await settled()
            begun = time.monotonic()
            await streams.append(OTHER, b"%d" % i)
            found = await read
            waits.append(time.monotonic() - begun)
            assert [(key, payloads(entries)) for key, entries in found] == [(OTHER, [b"%d" % i])]
            cursors[OTHER] = found[0][1][-1][0]
    assert min(waits) < 0.1, waits
    await reader.aclose()


async def test_an_append_on_another_stream_does_not_end_a_read(streams: Streams) -> None:
    reader = streams.reader(KEY)
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(reader.read({KEY: START}, block_ms=5000, count=10))
        await settled()
        await streams.append(OTHER, b"not this")
        await settled()
        assert not read.done()
        await streams.append(KEY, b"this")
        assert payloads((await read)[0][1]) == [b"this"]
    await reader.aclose()


async def test_changing_the_mapping_during_a_read_changes_nothing(streams: Streams) -> None:
    reader = streams.reader(KEY)
    cursors = {KEY: START}
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(reader.read(cursors, block_ms=5000, count=10))
        await settled()
        del cursors[KEY]
        cursors[OTHER] = START
        await streams.append(OTHER, b"b")
        await streams.append(KEY, b"a")
        assert [key for key, _ in await read] == [KEY]
    await reader.aclose()


async def test_two_readers_both_see_an_entry(streams: Streams) -> None:
    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(read_soon(streams, {KEY: START})) for _ in range(2)]
        await settled()
        await streams.append(KEY, b"for both")
    assert [payloads(read.result()) for read in reads] == [[b"for both"]] * 2


async def test_a_cancelled_read_loses_nothing(streams: Streams) -> None:
    reader = streams.reader(KEY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read({KEY: START}, block_ms=200, count=10)
    await streams.append(KEY, b"kept")
    found = await reader.read({KEY: START}, block_ms=2000, count=10)
    assert payloads(found[0][1]) == [b"kept"]
    await reader.aclose()


async def settled() -> None:
    """Let a task that was just started reach its wait; what is asserted later does not depend on it."""
    for _ in range(3):
        await asyncio.sleep(0.01)


# -- groups -----------------------------------------------------------------------------------------------


async def take(
    streams: Streams, *, pending: bool = False, block_ms: int = 0, count: int = 100
) -> list[Entry]:
    return await streams.read_group(KEY, b"owner", b"w", pending=pending, block_ms=block_ms, count=count)


async def test_a_group_begins_at_the_beginning_and_gives_each_entry_once(streams: Streams) -> None:
    await streams.append(KEY, b"before the group")
    await streams.ensure_group(KEY, b"owner")
    await streams.ensure_group(KEY, b"owner")
    await streams.append(KEY, b"after")
    assert payloads(await take(streams, count=1)) == [b"before the group"]
    await streams.ensure_group(KEY, b"owner")
    assert payloads(await take(streams)) == [b"after"]
    assert await take(streams) == []


async def test_unsettled_entries_are_read_again_after_a_crash(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    for i in range(3):
        await streams.append(KEY, b"%d" % i)
    first, *_ = taken = await take(streams)
    await streams.settle(KEY, b"owner", first[0])
    assert await take(streams, pending=True) == taken[1:]
    assert await take(streams, pending=True) == taken[1:], "as often as wanted"
    assert await take(streams) == [], "they are not given as new again"


async def test_pending_entries_belong_to_their_consumer(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    await streams.append(KEY, b"a")
    await take(streams)
    other = await streams.read_group(KEY, b"owner", b"somebody else", pending=True, block_ms=0, count=10)
    assert other == []


async def test_a_pending_read_never_waits(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    async with asyncio.timeout(1):
        assert await take(streams, pending=True, block_ms=5000) == []


async def test_settled_entries_are_deleted(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    for i in range(3):
        await streams.append(KEY, b"%d" % i)
    ids = [entry_id for entry_id, _ in await take(streams)]
    await streams.settle(KEY, b"owner", *ids[:2])
    await streams.settle(KEY, b"owner", *ids[:2], b"1-1")
    await streams.settle(KEY, b"owner")
    assert await streams.length(KEY) == 1
    assert payloads(await take(streams, pending=True)) == [b"2"]


async def test_a_pending_entry_that_was_trimmed_is_let_go(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    await streams.append(KEY, b"old")
    await take(streams)
    for _ in range(400):
        streams.post(KEY, b"new", max_len=10)
    await streams.append(KEY, b"new", max_len=10)
    assert await take(streams, pending=True) == []
    await take(streams, count=1000)
    assert b"old" not in payloads(await take(streams, pending=True, count=1000))


async def test_a_group_read_is_woken_within_100_ms(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    await take(streams, block_ms=1)
    waits = []
    async with asyncio.TaskGroup() as tasks:
        for i in range(5):
            read = tasks.create_task(take(streams, block_ms=5000))
            await settled()
            begun = time.monotonic()
            await streams.append(KEY, b"%d" % i)
            assert payloads(await read) == [b"%d" % i]
            waits.append(time.monotonic() - begun)
    assert min(waits) < 0.1, waits


async def test_a_group_that_is_gone_is_made_again(streams: Streams) -> None:
    """The store comes back empty: the next command must not be lost."""
    await streams.ensure_group(KEY, b"owner")
    await streams.delete(KEY)
    assert await take(streams) == []
    await streams.delete(KEY)
    assert await take(streams, pending=True) == []
    await streams.append(KEY, b"first since")
    assert payloads(await take(streams)) == [b"first since"]


async def test_a_group_deleted_under_a_blocked_read_is_made_again(streams: Streams) -> None:
    await streams.ensure_group(KEY, b"owner")
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(take(streams, block_ms=300))
        await settled()
        await streams.delete(KEY)
        await streams.append(KEY, b"first since")
        got = await read
    if not got:
        got = await take(streams, block_ms=300)
    assert payloads(got) == [b"first since"]
