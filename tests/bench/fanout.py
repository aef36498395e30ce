"""Unbatched fan-out in its barest form, the yardstick of the section `sparse`: two halves, as processes.

`writer` adds an entry to each of its streams at a steady pace, one XADD each over redis-py's pool; `reader`
reads all of them with one XREAD over redis-py. No HTTP, no parsing, no fences, no order, no repair: what is
left is what any gateway of this shape pays in Python, asyncio and the kernel.
"""

import asyncio
import json
import sys
import time

from redis.asyncio import Redis

from tests.bench.measure import say

BLOCK_MS = 2000
FIELD = b"m"


async def write(url: str, *, streams: int, events: int, gap_s: float, size: int) -> None:
    client = Redis.from_url(url, protocol=2, max_connections=2 * streams)
    payload = b"x" * size

    async def one(number: int) -> None:
        key = f"bench-{number}"
        await asyncio.sleep(gap_s * number / streams)
        due = time.perf_counter()
        for _ in range(events):
            await client.xadd(key, {FIELD: payload}, maxlen=1000, approximate=True)
            due = max(due + gap_s, time.perf_counter())
            await asyncio.sleep(due - time.perf_counter())

    await asyncio.gather(*map(one, range(streams)))
    await client.aclose()


async def read(url: str, *, streams: int, events: int) -> None:
    client = Redis.from_url(url, protocol=2, socket_timeout=10)
    cursors: dict[bytes, bytes] = {f"bench-{number}".encode(): b"0" for number in range(streams)}
    left = streams * events
    while left > 0:
        for key, entries in await client.xread(cursors, count=32, block=BLOCK_MS) or ():  # type: ignore[arg-type]
            left -= len(entries)
            cursors[key] = entries[-1][0]
    await client.aclose()


async def main(role: str) -> None:
    command = json.loads(sys.stdin.readline())
    say(ready=True)
    await (write if role == "writer" else read)(**command)
    say(done=True)
    sys.stdin.readline()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
