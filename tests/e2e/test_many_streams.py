"""Three hundred slow streams through one replica: all of them answered, on a handful of Redis connections."""

import asyncio

import pytest

from tests.e2e.conftest import Fleet
from tests.support.clients import Stream, openai_client, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STREAMS = 300


async def test_300_streams_share_a_handful_of_connections(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=1, LINGMA_INSTANCE_COUNT="2", LINGMA_INSTANCE_MAX_IN_FLIGHT="200")
    before = fleet.redis.client_count()
    async with openai_client(fleet.replicas[0].url) as client:
        streams = [Stream(client, "wait 8 seconds").start() for _ in range(STREAMS)]
        await until(lambda: len(fleet.asks()) == STREAMS, "every ask to reach a Lingma", 60)
        during = fleet.redis.client_count()
        for stream in streams:
            await stream.done(60)
    assert [stream.error for stream in streams if stream.error] == []
    assert all("waited 8 seconds" in stream.text for stream in streams)
    assert during <= before + 2, f"{during} connections with {STREAMS} streams, {before} without"
    assert before <= 12
    await until(lambda: fleet.slots_used() == 0, "every slot to be free", 10)
    await asyncio.sleep(0)
