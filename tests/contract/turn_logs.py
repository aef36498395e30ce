"""Turn logs for their contract tests, and what is done with them there."""

from gateway.kernel.clock import FakeClock, SystemClock
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.kv_memory import MemoryKV
from gateway.store.sealing import SealRing
from gateway.store.streams import Streams
from gateway.store.streams_memory import MemoryStreams
from gateway.store.turnlog import Fence, TurnLog, TurnRecord, TurnState, Write
from gateway.store.turnlog_memory import MemoryTurnLog
from tests.contract.stores import Ttl

TURN = "01jz0000000000000000000001"
OTHER = "01jz0000000000000000000002"
ONE = Fence(1, "worker-0", 1_790_000_000_123)
TWO = Fence(2, "worker-1", 1_790_000_000_456)
ANY_BYTE = bytes(range(256)) + b"\r\n$-1\r\n"

RECORD = TurnRecord(
    turn_id=TURN,
    tenant="acme",
    attempt=1,
    worker=ONE.worker,
    epoch=ONE.epoch,
    instance="inst-0",
    replica="r1",
    created_at_ms=1_790_000_000_000,
    deadline_ms=1_790_000_600_000,
    resumable=True,
    meta=ANY_BYTE,
)


class Backend:
    def __init__(self, turns: TurnLog, streams: Streams, kv: KVClient, keys: Keys, ttl_s: Ttl) -> None:
        self.turns = turns
        self.streams = streams
        self.kv = kv
        self.keys = keys
        self.ttl_s = ttl_s
        """Seconds that a key has left, None without an end or without the key."""

    async def entries(self, turn_id: str = TURN) -> list[bytes]:
        return [payload for _, payload in await self.streams.range(self.keys.frames(turn_id))]


RING = SealRing([("a", b"a" * 32)])


def memory_backend(clock: SystemClock | FakeClock) -> Backend:
    keys = Keys()
    streams, kv = MemoryStreams(clock), MemoryKV(clock)
    turns = MemoryTurnLog(streams, kv, keys, clock)

    async def ttl_s(key: bytes) -> float | None:
        return turns.ttl_s(TURN) if key == keys.turn(TURN) else streams.ttl_s(key)

    return Backend(turns, streams, kv, keys, ttl_s)


async def create(
    turns: TurnLog, record: TurnRecord = RECORD, *, ttl_s: float = 600, lease_ms: int = 6000
) -> bool:
    return await turns.create(record, ttl_s=ttl_s, lease_ms=lease_ms)


async def running(turns: TurnLog, fence: Fence = ONE) -> None:
    assert await create(turns)
    assert await turns.accept(TURN, fence, b"accepted") is Write.OK


async def finish(
    turns: TurnLog,
    state: TurnState = TurnState.COMPLETED,
    *,
    fence: Fence | None = ONE,
    entry: bytes | None = b"finished",
) -> Write:
    return await turns.finish(TURN, state, fence=fence, entry=entry)


async def state_of(turns: TurnLog) -> TurnState:
    record = await turns.get(TURN)
    assert record is not None
    return record.state
