"""What a new incarnation clears up after the one before: turns it was running, slots they held, the epoch.

Nobody works on those turns any more. Saying so at once spares their clients the wait for a silence limit, and
their slots the wait for a lease to run out. What was only queued is left to consumer.py. Called by
supervisor.py before the first record is written: no gateway has placed anything on this incarnation yet.
"""

import logging

from gateway.jobs.codec import decode_record, encode
from gateway.jobs.messages import Envelope, Finished
from gateway.kernel.clock import Clock
from gateway.kernel.errors import ErrorKind
from gateway.store.backends import Stores
from gateway.store.turnlog import TurnRecord, TurnState

log = logging.getLogger(__name__)


async def next_epoch(stores: Stores, worker: str, clock: Clock) -> int:
    """Unix milliseconds, and more than any record of this worker says. Raises StoreUnavailable."""
    value = await stores.kv.kv_get(stores.keys.worker(worker))
    before = decode_record(value) if value is not None else None
    if before is None:
        return clock.now_ms()
    log.info("worker.taken_over", extra={"worker": worker, "before": before.epoch})
    return max(clock.now_ms(), before.epoch + 1)


async def clear_up(stores: Stores, worker: str, epoch: int, indexes: list[int]) -> int:
    """End the turns of earlier incarnations as lost; the number of them. Raises StoreUnavailable."""
    lost = 0
    for index in indexes:
        key = stores.keys.slots(worker, index)
        for holder in await stores.leases.holders(key):
            record = await stores.turns.get(holder.rpartition(".")[0])
            if record is not None and record.state is TurnState.QUEUED:
                continue
            if record is not None and _is_abandoned(record, worker, epoch):
                await _lose(stores, record, epoch)
                lost += 1
            await stores.leases.release(key, holder)
    return lost


def _is_abandoned(record: TurnRecord, worker: str, epoch: int) -> bool:
    return record.state is TurnState.RUNNING and record.worker == worker and record.epoch < epoch


async def _lose(stores: Stores, record: TurnRecord, epoch: int) -> None:
    envelope = Envelope(turn_id=record.turn_id, attempt=record.attempt, epoch=epoch, tenant=record.tenant)
    finished = Finished(
        outcome="lost",
        last_seq=record.last_seq,
        error_kind=ErrorKind.WORKER_LOST,
        error="the worker was restarted",
    )
    await stores.turns.finish(
        record.turn_id,
        TurnState.LOST,
        fence=record.fence,
        entry=encode(envelope, finished),
    )
    log.info("turn.lost", extra={"turn_id": record.turn_id, "attempt": record.attempt})
