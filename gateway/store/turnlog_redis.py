"""The turn log on Redis: a hash, a stream, a lease and a body a turn, in one slot; each operation one script.

Everything has an end from its first write on, so nothing stays when everybody dies.

CPU of a 300-byte append, a hundred issued in one turn of the event loop: 7 us in the server (a bare XADD
2, an empty script 2.5), 12 us here, 4 of them for the tasks of the measurement. Alone: 36 and 62, most of it
system calls. Renewing a lease: 3 and 8.

Fields of the hash: those of TurnRecord but the turn id, the retention in ms, and `ttl_ms`, the time to live
it began with.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.store.calls import Arg, gather
from gateway.store.connect import Redis
from gateway.store.keys import Keys
from gateway.store.scripts import Script
from gateway.store.turnlog import MAX_ENTRIES, Fence, TurnRecord, TurnState, Write

_CREATE = Script("turn_create")
_ASSIGN = Script("turn_assign")
_ACCEPT = Script("turn_accept")
_DECLINE = Script("turn_decline")
_APPEND = Script("turn_append")
_FINISH = Script("turn_finish")
_LEASE = Script("turn_lease")

_WRITES = {1: Write.OK, 0: Write.FENCED, -1: Write.GONE}
_KEEP_KEYS = 4096


class _TurnKeys(NamedTuple):
    record: bytes
    frames: bytes


class RedisTurnLog:
    def __init__(self, redis: Redis, keys: Keys, *, max_entries: int = MAX_ENTRIES) -> None:
        self._redis = redis
        self._keys = keys
        self._max_entries = max_entries
        self._turn_keys: dict[str, _TurnKeys] = {}

    async def create(self, record: TurnRecord, *, ttl_s: float, lease_ms: int) -> bool:
        created: int = await self._redis.run(
            _CREATE,
            [self._keys.turn(record.turn_id), self._keys.lease(record.turn_id)],
            [_ms(ttl_s), lease_ms, *_fields(record)],
        )
        return created == 1

    async def get(self, turn_id: str) -> TurnRecord | None:
        key = self._keys.turn(turn_id)
        found: list[bytes] = await self._redis.call(key, b"HGETALL", key)
        return _record(turn_id, dict(zip(found[::2], found[1::2], strict=True))) if found else None

    async def exists(self, turn_ids: Sequence[str]) -> list[bool]:
        return await self._exist([self._keys.turn(turn_id) for turn_id in turn_ids])

    async def assign(self, turn_id: str, *, expected_attempt: int, fence: Fence, instance: str) -> bool:
        keys = self._write_keys(turn_id)
        assigned: int = await self._redis.run(_ASSIGN, keys, [expected_attempt, *fence, instance])
        return assigned == 1

    async def accept(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        return await self._write(_ACCEPT, turn_id, (*fence, entry, self._max_entries))

    async def decline(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        return await self._write(_DECLINE, turn_id, (*fence, entry, self._max_entries))

    async def append(self, turn_id: str, fence: Fence, entry: bytes, *, last_seq: int) -> Write:
        return await self._write(_APPEND, turn_id, (*fence, entry, self._max_entries, last_seq))

    async def finish(
        self, turn_id: str, state: TurnState, *, fence: Fence | None, entry: bytes | None
    ) -> Write:
        keys = [*self._write_keys(turn_id), self._keys.lease(turn_id), self._keys.blob(turn_id)]
        held: Sequence[Arg] = ("", "", "") if fence is None else fence
        last: Sequence[Arg] = () if entry is None else (entry,)
        args = [state.value, self._max_entries, *held, *last]
        self._turn_keys.pop(turn_id, None)
        return _WRITES[await self._redis.run(_FINISH, keys, args, spare=2)]

    async def renew_leases(self, turn_ids: Sequence[str], *, lease_ms: int) -> list[bool]:
        replies = await gather(
            self._redis.run(_LEASE, [self._keys.turn(turn_id), self._keys.lease(turn_id)], [lease_ms])
            for turn_id in turn_ids
        )
        return [reply == 1 for reply in replies]

    async def live_leases(self, turn_ids: Sequence[str]) -> list[bool]:
        return await self._exist([self._keys.lease(turn_id) for turn_id in turn_ids])

    async def _exist(self, keys: Sequence[bytes]) -> list[bool]:
        replies = await gather(self._redis.call(key, b"EXISTS", key) for key in keys)
        return [reply == 1 for reply in replies]

    async def _write(self, script: Script, turn_id: str, args: Sequence[Arg]) -> Write:
        return _WRITES[await self._redis.run(script, self._write_keys(turn_id), args)]

    def _write_keys(self, turn_id: str) -> _TurnKeys:
        """Kept while the turn is written to: formatting them costs as much as packing the command."""
        keys = self._turn_keys.get(turn_id)
        if keys is None:
            if len(self._turn_keys) >= _KEEP_KEYS:
                self._turn_keys.clear()
            keys = _TurnKeys(self._keys.turn(turn_id), self._keys.frames(turn_id))
            self._turn_keys[turn_id] = keys
        return keys


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _fields(record: TurnRecord) -> list[Arg]:
    return [
        *("tenant", record.tenant, "state", record.state.value, "attempt", record.attempt),
        *("worker", record.worker, "epoch", record.epoch, "instance", record.instance),
        *("replica", record.replica, "created_at_ms", record.created_at_ms),
        *("deadline_ms", record.deadline_ms, "last_seq", record.last_seq),
        *("resumable", int(record.resumable), "retention_ms", _ms(record.retention_s), "meta", record.meta),
    ]


def _record(turn_id: str, fields: dict[bytes, bytes]) -> TurnRecord:
    return TurnRecord(
        turn_id=turn_id,
        tenant=fields[b"tenant"].decode(),
        state=TurnState(fields[b"state"].decode()),
        attempt=int(fields[b"attempt"]),
        worker=fields[b"worker"].decode(),
        epoch=int(fields[b"epoch"]),
        instance=fields[b"instance"].decode(),
        replica=fields[b"replica"].decode(),
        created_at_ms=int(fields[b"created_at_ms"]),
        deadline_ms=int(fields[b"deadline_ms"]),
        last_seq=int(fields[b"last_seq"]),
        resumable=fields[b"resumable"] == b"1",
        retention_s=int(fields[b"retention_ms"]) / 1000,
        meta=fields[b"meta"],
    )
