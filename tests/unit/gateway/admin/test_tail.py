from collections.abc import AsyncIterator

import pytest

from gateway.admin.tail import tail
from gateway.jobs.codec import encode
from gateway.jobs.messages import Accepted, Declined, Envelope, Finished, FrameBatch, Heartbeat, Reply
from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import InvalidRequest
from gateway.store.backends import Stores, open_memory
from gateway.store.turnlog import Fence, TurnRecord, TurnState

FENCE = Fence(1, "w", 1)


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_memory(SystemClock()) as stores:
        yield stores


def entry(reply: Reply) -> bytes:
    return encode(Envelope(turn_id="t", attempt=1, epoch=1, sent_at_ms=7), reply)


async def finished_turn(stores: Stores) -> None:
    record = TurnRecord(
        turn_id="t", tenant="a", attempt=1, worker="w", epoch=1, created_at_ms=0, deadline_ms=0
    )
    await stores.turns.create(record, ttl_s=60, lease_ms=0)
    await stores.turns.accept("t", FENCE, entry(Accepted(worker="w", instance="inst-0")))
    for reply in (Heartbeat(), Declined(reason="no"), FrameBatch(seq_first=1, frames=[b'{"a":1}', b"xy"])):
        await stores.turns.append("t", FENCE, entry(reply), last_seq=2)
    await stores.turns.append("t", FENCE, b"garbage", last_seq=2)
    last = Finished(outcome="failed", last_seq=2, error_kind="upstream_eof", error="gone")
    await stores.turns.finish("t", TurnState.FAILED, fence=FENCE, entry=entry(last))


async def test_a_turn_is_told_without_what_was_said(stores: Stores) -> None:
    await finished_turn(stores)
    lines = [line async for line in tail(stores, "t")]
    assert lines == [
        "turn t tenant=a state=failed attempt=1",
        "7 attempt=1 accepted by w/inst-0",
        "7 attempt=1 heartbeat",
        "7 attempt=1 declined: no",
        "7 attempt=1 frames 1..2 9 bytes",
        "? undecodable",
        "7 attempt=1 finished failed last_seq=2 upstream_eof: gone",
        "ended failed",
    ]


async def test_bodies_are_shown_when_asked_for(stores: Stores) -> None:
    await finished_turn(stores)
    lines = [line async for line in tail(stores, "t", bodies=True)]
    assert '7 attempt=1 frame 1 {"a":1}' in lines
    assert "7 attempt=1 frame 2 xy" in lines


async def test_an_unknown_turn_is_said_to_be_unknown(stores: Stores) -> None:
    with pytest.raises(InvalidRequest, match="expired"):
        await anext(aiter(tail(stores, "nobody")))
