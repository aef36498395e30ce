"""Every client protocol over the same replicas and workers: one conversation, one end for every death."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest

from tests.e2e.conftest import Fleet
from tests.support.clients import until
from tests.support.dialects import SPOKEN, DialectStream, Said, Spoken, ask

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SLOW = Said("user", "count slowly from 1 to 150")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def clients(fleet: Fleet, stack: AsyncExitStack) -> list[httpx2.AsyncClient]:
    return [
        await stack.enter_async_context(httpx2.AsyncClient(base_url=replica.url, timeout=60))
        for replica in fleet.replicas
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on_in_every_other_protocol(
    fleet: Fleet, stack: AsyncExitStack, stream: bool
) -> None:
    """Begun over Chat, each next turn speaks another protocol to another replica: one Lingma session."""
    fleet.start()
    replicas = await clients(fleet, stack)
    said = [Said("system", "Be brief")]
    for number, spoken in enumerate([*SPOKEN, *reversed(SPOKEN)], start=1):
        said.append(Said("user", f"report {number}"))
        answer = await ask(replicas[number % 2], spoken, said, stream=stream)
        assert f"turns={number} isReply={str(number > 1).lower()}" in answer, spoken.name
        said.append(Said("assistant", answer))
    asks = [ask["params"] for ask in fleet.asks()]
    assert len({ask["sessionId"] for ask in asks}) == 1  # type: ignore[index]
    assert [ask["isReply"] for ask in asks] == [False] + [True] * (2 * len(SPOKEN) - 1)  # type: ignore[index]


async def test_a_lingma_killed_in_mid_stream_ends_every_protocol_with_its_error(
    fleet: Fleet, stack: AsyncExitStack
) -> None:
    fleet.start(replicas=1, workers=1)
    (client,) = await clients(fleet, stack)
    streams = [DialectStream(client, spoken, [SLOW]) for spoken in SPOKEN]
    await until(lambda: all("3" in stream.text for stream in streams), "every stream to talk")
    child = next(c for c in fleet.workers[0].children() if "workers.simulator" in " ".join(c.cmdline()))
    child.kill()
    for stream in streams:
        await stream.done(10)
        assert (stream.status, stream.end) == (200, "error"), stream.spoken.name
    await until(lambda: fleet.slots_used() == 0, "every slot to be free")


async def test_a_drained_replica_ends_every_protocol_legally(fleet: Fleet, stack: AsyncExitStack) -> None:
    fleet.start(replicas=1, workers=1, DRAIN_LISTEN_S="0.2", DRAIN_DEADLINE_S="0.5")
    (client,) = await clients(fleet, stack)
    streams = [DialectStream(client, spoken, [SLOW]) for spoken in SPOKEN]
    await until(lambda: all("3" in stream.text for stream in streams), "every stream to talk")
    fleet.replicas[0].send(signal.SIGTERM)
    for stream in streams:
        await stream.done(20)
        assert (stream.status, stream.end) == (200, "error"), stream.spoken.name
    await until(lambda: fleet.slots_used() == 0, "every slot to be free")


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: spoken.name)
async def test_a_client_that_leaves_frees_its_slot(
    fleet: Fleet, stack: AsyncExitStack, spoken: Spoken
) -> None:
    fleet.start(replicas=1, workers=1)
    (client,) = await clients(fleet, stack)
    stream = DialectStream(client, spoken, [SLOW])
    await until(lambda: "3" in stream.text, "the stream to talk")
    stream.task.cancel()
    await until(lambda: fleet.slots_used() == 0, "the slot to be free", 3)
