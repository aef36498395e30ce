"""Section `publish`: what it costs a worker to write frames into the logs of its turns, on a real Redis.

Measured is this process: numbering, encoding, the fenced append and its confirmation. `put` returns when the
store has confirmed, so one turn alone pays a whole round trip for each frame.
"""

import asyncio
import time
from collections.abc import Sequence

from gateway.jobs.messages import Accepted, Envelope
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import SystemClock
from gateway.store.backends import Stores, open_stores
from gateway.store.turnlog import Fence, TurnRecord, Write
from tests.bench.measure import NotMeasured, pin, pinned
from tests.bench.report import Samples, repeated, table
from tests.bench.servers import raw_messages
from tests.support.redis_server import RedisServer
from workers.publisher import Outbox, Publisher
from workers.stats import WorkerStats

WORKER = "bench"
SHAPES = (
    ("one turn, a frame at a time", 1, 1, 3000),
    ("50 turns, a frame each at a time", 50, 1, 20_000),
    ("50 turns, 16 frames each at a time", 50, 16, 80_000),
    ("300 turns, a frame each at a time", 300, 1, 30_000),
)
"""Name, turns, frames that wait together in a turn, frames in all."""


def run() -> None:
    rows = []
    with RedisServer() as redis, pinned(1):
        pin(redis.command("INFO", "server")["process_id"], 0)
        for name, turns, at_once, frames in SHAPES:
            samples = repeated(
                lambda found, t=turns, a=at_once, f=frames: _measure(
                    found, redis, turns=t, at_once=a, frames=f
                )
            )
            rows.append((name, samples.text("us")))
    table("publish: CPU of the worker for one frame, us", ("", "publisher and turn log"), rows)


def _measure(samples: Samples, redis: RedisServer, *, turns: int, at_once: int, frames: int) -> None:
    redis.command("FLUSHALL")
    used_ns = asyncio.run(
        _publish(redis.url, turns=turns, at_once=at_once, rounds=frames // turns // at_once)
    )
    samples.add("us", used_ns / frames / 1000)


async def _publish(url: str, *, turns: int, at_once: int, rounds: int) -> int:
    frames = raw_messages()[:at_once]
    tasks = Tasks()
    async with open_stores(url, SystemClock()) as stores:
        publisher = Publisher(stores.turns, epoch=1, clock=SystemClock(), stats=WorkerStats(), tasks=tasks)
        outboxes = [await _accepted(stores, publisher, f"turn-{number}") for number in range(turns)]
        before = time.process_time_ns()
        await asyncio.gather(*(_pour(outbox, frames, rounds) for outbox in outboxes))
        used_ns = time.process_time_ns() - before
        if any(outbox.seq != at_once * rounds for outbox in outboxes):
            raise NotMeasured("frames are missing")
    await tasks.aclose()
    return used_ns


async def _pour(outbox: Outbox, frames: Sequence[bytes], rounds: int) -> None:
    for _ in range(rounds):
        await outbox.put(list(frames))


async def _accepted(stores: Stores, publisher: Publisher, turn_id: str) -> Outbox:
    fence = Fence(1, WORKER, 1)
    record = TurnRecord(
        turn_id=turn_id, tenant="-", attempt=1, worker=WORKER, epoch=1, created_at_ms=0, deadline_ms=0
    )
    await stores.turns.create(record, ttl_s=600, lease_ms=0)
    outbox = publisher.open(Envelope(turn_id=turn_id, attempt=1, epoch=1), fence)
    if await outbox.accept(Accepted(worker=WORKER, instance="inst-0")) is not Write.OK:
        raise NotMeasured("the turn was not accepted")
    return outbox
