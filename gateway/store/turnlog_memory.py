"""The turn log of one process, for `lingma-gateway up` and for tests.

Entries go to the same MemoryStreams that the hub reads, bodies are in the same KV. A turn is dropped by the
first call after its end. No operation gives way to another task between its check and its write.
"""

from collections.abc import Sequence

import msgspec

from gateway.kernel.clock import Clock
from gateway.store.expiry import Expiries
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.streams_memory import MemoryStreams
from gateway.store.turnlog import MAX_ENTRIES, NOBODY, Fence, TurnRecord, TurnState, Write


class _Turn:
    def __init__(self, record: TurnRecord, frames: bytes, ttl_s: float, lease_end: float) -> None:
        self.record = record
        self.frames = frames
        self.ttl_s = ttl_s
        self.lease_end = lease_end
        """In monotonic seconds."""
        self.last_seq = record.last_seq

    def set(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)

    def held_by(self, fence: Fence, state: TurnState) -> bool:
        record = self.record
        return record.state is state and (record.attempt, record.worker, record.epoch) == fence


class MemoryTurnLog:
    def __init__(
        self,
        streams: MemoryStreams,
        kv: KVClient,
        keys: Keys,
        clock: Clock,
        *,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._streams = streams
        self._kv = kv
        self._keys = keys
        self._clock = clock
        self._max_entries = max_entries
        self._expiries = Expiries(clock)
        self._turns: dict[bytes, _Turn] = {}
        """By the key that the record has on Redis."""

    def __len__(self) -> int:
        """Turns kept."""
        self._drop_expired()
        return len(self._turns)

    def ttl_s(self, turn_id: str) -> float | None:
        """Seconds until the turn is dropped; None when it is gone."""
        self._drop_expired()
        return self._expiries.left_s(self._keys.turn(turn_id))

    async def create(self, record: TurnRecord, *, ttl_s: float, lease_ms: int) -> bool:
        if self._find(record.turn_id) is not None:
            return False
        key = self._keys.turn(record.turn_id)
        lease_end = self._clock.monotonic() + lease_ms / 1000
        self._turns[key] = _Turn(record, self._keys.frames(record.turn_id), ttl_s, lease_end)
        self._expiries.set(key, ttl_s)
        return True

    async def get(self, turn_id: str) -> TurnRecord | None:
        turn = self._find(turn_id)
        return None if turn is None else msgspec.structs.replace(turn.record, last_seq=turn.last_seq)

    async def exists(self, turn_ids: Sequence[str]) -> list[bool]:
        return [self._find(turn_id) is not None for turn_id in turn_ids]

    async def assign(self, turn_id: str, *, expected_attempt: int, fence: Fence, instance: str) -> bool:
        turn = self._find(turn_id)
        if turn is None or turn.record.attempt != expected_attempt:
            return False
        was = turn.record.state
        if was is TurnState.COMPLETED:
            return False
        turn.set(state=TurnState.QUEUED, instance=instance, **fence._asdict())
        turn.last_seq = 0
        if was.ended:
            self._live(turn, turn.ttl_s)
        return True

    async def accept(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        turn = self._find(turn_id)
        if turn is None:
            return Write.GONE
        if not turn.held_by(fence, TurnState.QUEUED):
            return Write.FENCED
        turn.set(state=TurnState.RUNNING)
        self._add(turn, entry)
        return Write.OK

    async def decline(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        turn = self._find(turn_id)
        if turn is None:
            return Write.GONE
        if not turn.held_by(fence, TurnState.QUEUED):
            return Write.FENCED
        turn.set(worker=NOBODY[0], epoch=NOBODY[1])
        self._add(turn, entry)
        return Write.OK

    async def append(self, turn_id: str, fence: Fence, entry: bytes, *, last_seq: int) -> Write:
        turn = self._find(turn_id)
        if turn is None:
            return Write.GONE
        if not turn.held_by(fence, TurnState.RUNNING):
            return Write.FENCED
        if turn.frames not in self._streams:
            return Write.GONE
        self._streams.add(turn.frames, entry, max_len=self._max_entries)
        turn.last_seq = last_seq
        return Write.OK

    async def finish(
        self, turn_id: str, state: TurnState, *, fence: Fence | None, entry: bytes | None
    ) -> Write:
        turn = self._find(turn_id)
        if turn is None:
            return Write.GONE
        if turn.record.state.ended or (fence is not None and turn.record.fence != fence):
            return Write.FENCED
        turn.set(state=state)
        turn.lease_end = 0.0
        if entry is not None:
            self._streams.add(turn.frames, entry, max_len=self._max_entries)
        self._live(turn, turn.record.retention_s)
        await self._kv.kv_del(self._keys.blob(turn_id))
        return Write.OK

    async def renew_leases(self, turn_ids: Sequence[str], *, lease_ms: int) -> list[bool]:
        renewed = []
        end = self._clock.monotonic() + lease_ms / 1000
        for turn_id in turn_ids:
            turn = self._find(turn_id)
            renewed.append(turn is not None and not turn.record.state.ended)
            if turn is not None and renewed[-1]:
                turn.lease_end = end
        return renewed

    async def live_leases(self, turn_ids: Sequence[str]) -> list[bool]:
        now = self._clock.monotonic()
        return [(turn := self._find(turn_id)) is not None and turn.lease_end > now for turn_id in turn_ids]

    def _find(self, turn_id: str) -> _Turn | None:
        self._drop_expired()
        return self._turns.get(self._keys.turn(turn_id))

    def _add(self, turn: _Turn, entry: bytes) -> None:
        """An entry before which there may be none: the stream ends when the record does."""
        self._streams.add(turn.frames, entry, max_len=self._max_entries)
        left = self._expiries.left_s(self._keys.turn(turn.record.turn_id))
        self._streams.expire_now(turn.frames, turn.ttl_s if left is None else left)

    def _live(self, turn: _Turn, ttl_s: float) -> None:
        self._expiries.set(self._keys.turn(turn.record.turn_id), ttl_s)
        self._streams.expire_now(turn.frames, ttl_s)

    def _drop_expired(self) -> None:
        for key in self._expiries.due():
            self._turns.pop(key, None)
