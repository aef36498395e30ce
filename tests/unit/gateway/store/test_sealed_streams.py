"""What sealing adds to streams and the turn log; that they stay what they are, the contract suites prove."""

import msgspec

from gateway.kernel.clock import FakeClock
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.sealed_streams import SealedStreams, SealedTurnLog
from gateway.store.sealing import SealRing
from gateway.store.streams_memory import MemoryStreams
from gateway.store.turnlog import TurnRecord
from gateway.store.turnlog_memory import MemoryTurnLog

RING = SealRing([("a", b"a" * 32)])
RECORD = TurnRecord(
    turn_id="t1",
    tenant="acme",
    attempt=1,
    worker="w",
    epoch=1,
    instance="inst-0",
    created_at_ms=0,
    deadline_ms=1,
    meta=b"the prompt",
)


async def test_the_store_never_sees_an_entry() -> None:
    inner = MemoryStreams(FakeClock())
    sealed = SealedStreams(inner, RING)
    await sealed.append(b"s", b"the prompt")
    sealed.post(b"s", b"the prompt")
    assert [payload for _, payload in await sealed.range(b"s")] == [b"the prompt"] * 2
    assert not any(b"prompt" in payload for _, payload in await inner.range(b"s"))


async def test_an_entry_copied_to_another_stream_does_not_open_and_a_plain_one_is_read() -> None:
    inner = MemoryStreams(FakeClock())
    sealed = SealedStreams(inner, RING)
    await sealed.append(b"mine", b"the prompt")
    ((_, raw),) = await inner.range(b"mine")
    await inner.append(b"yours", raw)
    await inner.append(b"yours", b"plain")
    assert [payload for _, payload in await sealed.range(b"yours")] == [raw, b"plain"]


async def test_what_a_turns_record_keeps_is_sealed() -> None:
    clock = FakeClock()
    keys, kv, streams = Keys(), MemoryKV(clock), MemoryStreams(clock)
    inner = MemoryTurnLog(streams, kv, keys, clock)
    sealed = SealedTurnLog(inner, RING, keys)
    await sealed.create(RECORD, ttl_s=60, lease_ms=1000)
    kept = await inner.get("t1")
    assert kept is not None
    assert b"prompt" not in kept.meta
    assert await sealed.get("t1") == msgspec.structs.replace(RECORD, meta=b"the prompt")
    assert await sealed.get("t2") is None
