"""Section `hub`: what it costs a replica to read the frames of all its turns with one blocking read.

Measured is this process: XREAD, replies, decode, feeds and the wake-up of one consumer a turn, on a real
Redis. An entry holds one frame, so an event is an entry. Busy: entries come as fast as they can be written.
Sparse: every few milliseconds 5 % of the streams get one.
"""

import asyncio
import time

from gateway.jobs.codec import encode
from gateway.jobs.hub import Feed, Hub
from gateway.jobs.messages import Envelope, FrameBatch
from gateway.kernel.aio import background
from gateway.kernel.clock import SystemClock
from gateway.store.backends import Stores, open_stores
from tests.bench.measure import Child, NotMeasured, pin, pinned
from tests.bench.report import Samples, repeated, table
from tests.bench.servers import raw_messages
from tests.support.redis_server import RedisServer

STREAMS = (1, 50, 300)
BUSY_EVENTS = 20_000
SPARSE_ROUNDS = 300
SPARSE_GAP_S = 0.004
LIMIT_S = 60.0


def run() -> None:
    rows = []
    with RedisServer() as redis, Child("writer", core=0) as writer, pinned(1):
        pin(redis.command("INFO", "server")["process_id"], 0)
        for streams in STREAMS:
            busy = repeated(lambda samples, n=streams: _measure(samples, redis, writer, n, busy=True))
            sparse = repeated(lambda samples, n=streams: _measure(samples, redis, writer, n, busy=False))
            rows.append((str(streams), busy.text("us"), sparse.text("us"), str(max(1, streams // 20))))
    table(
        "hub: CPU of the replica for one event, us",
        ("streams", "busy", "sparse", "streams with data at a time when sparse"),
        rows,
    )


def _measure(samples: Samples, redis: RedisServer, writer: Child, streams: int, *, busy: bool) -> None:
    redis.command("FLUSHALL")
    at_once = streams if busy else max(1, streams // 20)
    rounds = BUSY_EVENTS // streams if busy else SPARSE_ROUNDS
    used_ns = asyncio.run(
        _read(redis.url, writer, streams, rounds=rounds, at_once=at_once, gap_s=0.0 if busy else SPARSE_GAP_S)
    )
    samples.add("us", used_ns / (rounds * at_once) / 1000)


async def _read(url: str, writer: Child, streams: int, *, rounds: int, at_once: int, gap_s: float) -> int:
    async with open_stores(url, SystemClock()) as stores:
        hub = Hub(stores.streams, stores.turns, stores.keys, "bench", SystemClock())
        async with hub.running():
            return await _consume(hub, stores, url, writer, streams, rounds, at_once, gap_s)


async def _consume(
    hub: Hub, stores: Stores, url: str, writer: Child, streams: int, rounds: int, at_once: int, gap_s: float
) -> int:
    turns = [f"turn-{number}" for number in range(streams)]
    feeds = [hub.subscribe(turn) for turn in turns]
    left = rounds * at_once
    done = asyncio.Event()

    async def consume(feed: Feed) -> None:
        nonlocal left
        while True:
            found = await feed.next(within_s=LIMIT_S)
            left -= len(found)
            if left <= 0:
                done.set()

    async with background(*map(consume, feeds)):
        await asyncio.sleep(0.05)
        envelope = Envelope(turn_id=turns[0], attempt=1, epoch=1)
        payload = encode(envelope, FrameBatch(seq_first=1, frames=raw_messages()[:1]))
        before = time.process_time_ns()
        writer.tell(
            url=url,
            keys=[stores.keys.frames(turn).decode() for turn in turns],
            rounds=rounds,
            at_once=at_once,
            gap_s=gap_s,
            payload=payload.hex(),
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                await done.wait()
        except TimeoutError:
            raise NotMeasured(f"{left} entries did not arrive") from None
        used_ns = time.process_time_ns() - before
    writer.hear()
    return used_ns
