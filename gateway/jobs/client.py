"""The gateway half of the job protocol: hand an attempt to a worker, read what it says, end it.

A JobTurn is one turn as this replica serves it. It owns the turn's record, its feed and its lease, over all
attempts. Safety comes from the turn record alone: an attempt is created or assigned there before the worker
hears of it, and what a fenced attempt still says is dropped.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

import msgspec

from gateway.jobs.codec import encode
from gateway.jobs.directory import Directory, Placement
from gateway.jobs.hub import Feed, Hub
from gateway.jobs.messages import (
    BLOB_THRESHOLD_BYTES,
    COMMANDS_MAX,
    Accepted,
    Cancel,
    Envelope,
    Finished,
    FrameBatch,
    Outcome,
    Reply,
    Submit,
)
from gateway.kernel.aio import Tasks, background, supervise
from gateway.kernel.clock import Clock
from gateway.kernel.errors import (
    GatewayError,
    Internal,
    StoreDataLoss,
    StoreError,
    StoreUnavailable,
    WorkerLost,
)
from gateway.kernel.ids import ReplicaId
from gateway.store.keys import Keys
from gateway.store.kv import KVClient, KVSetOptions
from gateway.store.streams import Streams
from gateway.store.turnlog import Fence, TurnLog, TurnRecord, TurnState
from gateway.turn.request import Turn

log = logging.getLogger(__name__)

LEASE_RENEW_S = 2.0
LEASE_MS = 6000
SILENCE_ACCEPTED_S = 6.0
SILENCE_QUEUED_S = 30.0
RECORD_GRACE_S = 3.0
"""A missing record counts only after this: longer than a beat, for records may expire during an outage."""
OUTAGE_LIMIT_S = 15.0
"""How long a stream waits for a store that is down before it ends with an error."""
GRACE_S = 5.0
GRACE_RESUMABLE_S = 30.0
CANCEL_WAIT_S = 1.0
"""How long a cancelled attempt may take to say so before the gateway ends it."""
SETTLE_S = 2.0
SETTLE_RETRY_S = 30.0
COMMANDS_TTL_S = 3600.0


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long what an ended turn said is kept, in seconds."""

    plain_s: float = 60.0
    resumable_s: float = 900.0
    """Of a turn that asked to be resumable."""


class JobClient:
    """Everything a replica says to workers. `running()` keeps its background loops."""

    def __init__(
        self,
        *,
        streams: Streams,
        turns: TurnLog,
        kv: KVClient,
        keys: Keys,
        hub: Hub,
        directory: Directory,
        clock: Clock,
        replica_id: ReplicaId,
        retention: Retention | None = None,
    ) -> None:
        self.retention = retention or Retention()
        self.streams = streams
        self.turns = turns
        self.kv = kv
        self.keys = keys
        self.hub = hub
        self.directory = directory
        self.clock = clock
        self.replica_id = replica_id
        self._open: dict[str, JobTurn] = {}
        self._tasks = Tasks()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background(
            supervise("jobs.leases", self._renew_leases), supervise("jobs.directory", self.directory.run)
        ):
            try:
                yield
            finally:
                await self._tasks.aclose(within_s=SETTLE_S)

    @property
    def open_turns(self) -> int:
        return len(self._open)

    def turn(self, turn: Turn) -> "JobTurn":
        """The turn as this replica serves it: one object for all its attempts."""
        job = self._open.get(turn.id)
        if job is None:
            job = self._open[turn.id] = JobTurn(self, turn)
        return job

    def conclude(self, turn_id: str) -> None:
        """The turn is over for its client. What may still run is seen to its end in the background."""
        job = self._open.pop(turn_id, None)
        if job is None:
            return
        if job.running:
            self._tasks.spawn(self._settle(job), name=f"settle-{turn_id}")
        else:
            job.close()

    async def _settle(self, job: "JobTurn") -> None:
        try:
            await job.settle()
        except GatewayError as error:
            log.warning("jobs.settle_failed", extra={"turn_id": job.turn_id, "kind": str(error.kind)})
        finally:
            job.close()

    async def _renew_leases(self) -> None:
        """One pipeline for all turns; a worker cancels a turn whose lease is gone for its grace."""
        while True:
            await asyncio.sleep(LEASE_RENEW_S)
            if self._open:
                try:
                    await self.turns.renew_leases(list(self._open), lease_ms=LEASE_MS)
                except StoreError as error:
                    log.debug("jobs.lease_renewal_failed", extra={"error": str(error)})


class JobTurn:
    """One turn on this replica: its record, its feed, and the attempt that is running."""

    def __init__(self, client: JobClient, turn: Turn) -> None:
        self._client = client
        self._turn = turn
        self._feed: Feed | None = None
        self._placement: Placement | None = None
        self._unsent: Placement | None = None
        """A slot that is reserved for an attempt which no worker has heard of yet."""
        self._attempt = 0
        self._created = False
        self._epoch = 0
        """The incarnation that has the attempt: the one it was placed on, then the one that accepted it."""
        self._accepted = False
        self._finished = False
        self._stopped = False
        self._next_seq = 1
        self.trace = ("", "")
        """traceparent and tracestate of the attempt that is running."""
        self.lost = False
        """The worker is gone: nobody will say that the attempt is over."""

    @property
    def turn_id(self) -> str:
        return self._turn.id

    @property
    def attempts(self) -> int:
        """Number of the last attempt handed out, 0 before the first."""
        return self._attempt

    @property
    def retention_s(self) -> float:
        retention = self._client.retention
        return retention.resumable_s if self._turn.resumable else retention.plain_s

    # -- starting an attempt ------------------------------------------------------------------------------

    async def submit(self, placement: Placement, attempt: int, submit: Submit) -> None:
        """Fence every earlier attempt, then hand this one to the worker.

        Raises StoreUnavailable, StoreDataLoss. After an error nothing will run: the attempt is fenced or the
        slot was never taken over.
        """
        client = self._client
        self._unsent = placement
        fence = Fence(attempt, placement.worker, placement.epoch)
        submit.lease_grace_s = GRACE_RESUMABLE_S if self._turn.resumable else GRACE_S
        await self._claim_record(fence, placement, submit.deadline_ms)
        # Only now: until the record is ours, the end of the attempt before may delete the turn's body.
        params = submit.params
        if len(params) > BLOB_THRESHOLD_BYTES:
            await client.kv.kv_set(
                client.keys.blob(self._turn.id), params, KVSetOptions(ex=self._life_s(submit.deadline_ms))
            )
            submit.params, submit.in_blob = b"", True
        if self._feed is None:
            self._feed = client.hub.subscribe(self._turn.id)
        self._feed.last_at = asyncio.get_running_loop().time()
        self._placement, self._attempt, self._epoch = placement, attempt, placement.epoch
        self._accepted = self._finished = self._stopped = self.lost = False
        self._next_seq = 1
        self._unsent = None
        await client.streams.append(
            client.keys.commands(placement.worker), encode(self._envelope(), submit), max_len=COMMANDS_MAX
        )

    async def _claim_record(self, fence: Fence, placement: Placement, deadline_ms: int) -> None:
        turns = self._client.turns
        if self._created:
            if not await turns.assign(
                self._turn.id, expected_attempt=self._attempt, fence=fence, instance=placement.instance
            ):
                raise StoreDataLoss("the turn was ended by somebody else")
            return
        record = TurnRecord(
            turn_id=self._turn.id,
            tenant=self._turn.tenant,
            state=TurnState.QUEUED,
            attempt=fence.attempt,
            worker=fence.worker,
            epoch=fence.epoch,
            instance=placement.instance,
            replica=self._client.replica_id,
            created_at_ms=self._turn.created_at_ms,
            deadline_ms=deadline_ms,
            last_seq=0,
            resumable=self._turn.resumable,
            retention_s=self.retention_s,
        )
        self._created = True
        await turns.create(record, ttl_s=self._life_s(deadline_ms), lease_ms=LEASE_MS)

    def _life_s(self, deadline_ms: int) -> float:
        """Until the deadline, then for as long as an ended turn is kept."""
        return max(0.0, (deadline_ms - self._client.clock.now_ms()) / 1000) + self.retention_s

    def _envelope(self) -> Envelope:
        placement = self._placement
        return Envelope(
            turn_id=self._turn.id,
            attempt=self._attempt,
            epoch=placement.epoch if placement else 0,
            tenant=self._turn.tenant,
            traceparent=self.trace[0],
            tracestate=self.trace[1],
            sent_at_ms=self._client.clock.now_ms(),
            request_id=self._turn.request_id,
        )

    # -- reading ------------------------------------------------------------------------------------------

    async def next(self, *, until: float) -> list[Reply]:
        """Replies of the running attempt, at least one. Repeats are dropped.

        `until` is the loop time after which nobody wants an answer. Raises WorkerLost when the worker is gone
        or silent, StoreUnavailable when the store stays away, StoreDataLoss when it lost frames, and
        TimeoutError.
        """
        feed = self._feed
        if feed is None:
            raise Internal("no attempt was submitted")
        loop = asyncio.get_running_loop()
        while True:
            messages = await feed.next(within_s=max(0.0, min(1.0, until - loop.time())))
            if messages:
                replies = self._current(messages)
                if replies:
                    return replies
                continue
            now = loop.time()
            if now >= until:
                raise TimeoutError
            self._judge_silence(now)

    def _judge_silence(self, now: float) -> None:
        assert self._feed is not None
        hub = self._client.hub
        down_since = hub.down_since_for(self._feed.turn_id)
        if down_since is not None and now - down_since > OUTAGE_LIMIT_S:
            raise StoreUnavailable("the store has been unreachable for too long")
        if hub.down_since is not None:
            return  # what is known of workers may be on another node, and old
        assert self._placement is not None
        silent_s = now - max(self._feed.last_at, hub.heard_from)
        if silent_s > (SILENCE_ACCEPTED_S if self._accepted else SILENCE_QUEUED_S):
            raise WorkerLost("the worker that ran this turn has gone silent")
        record = self._client.directory.worker(self._placement.worker)
        if silent_s > RECORD_GRACE_S and (record is None or record.epoch != self._epoch):
            raise WorkerLost("the worker that ran this turn is gone")

    def _current(self, messages: Sequence[tuple[Envelope, Reply]]) -> list[Reply]:
        """Only what the running attempt says, each frame once, without a gap."""
        replies: list[Reply] = []
        for envelope, reply in messages:
            if envelope.attempt != self._attempt or self._finished:
                continue
            if isinstance(reply, FrameBatch):
                fresh = self._fresh(reply)
                if fresh is not None:
                    replies.append(fresh)
                continue
            if isinstance(reply, Accepted):
                self._accepted, self._epoch = True, envelope.epoch
            elif isinstance(reply, Finished):
                self._finished = True
            replies.append(reply)
        return replies

    def _fresh(self, batch: FrameBatch) -> FrameBatch | None:
        skip = self._next_seq - batch.seq_first
        if skip < 0:
            raise StoreDataLoss("the store lost part of this turn")
        if skip >= len(batch.frames):
            return None
        self._next_seq = batch.seq_first + len(batch.frames)
        if skip == 0:
            return batch
        return FrameBatch(seq_first=batch.seq_first + skip, frames=batch.frames[skip:])

    # -- ending -------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """An attempt was handed to a worker that has not said that it is over, or is about to be."""
        return self._unsent is not None or (self._placement is not None and not self._finished)

    async def stop(self, reason: str) -> None:
        """Tell the worker to stop the running attempt. Idempotent, safe before Accepted, never raises."""
        placement = self._placement
        if placement is None or self._finished or self._stopped:
            return
        self._stopped = True
        try:
            await self._client.streams.append(
                self._client.keys.commands(placement.worker),
                encode(self._envelope(), Cancel(reason=reason)),
                max_len=COMMANDS_MAX,
            )
        except GatewayError as error:
            log.warning("jobs.cancel_failed", extra={"turn_id": self.turn_id, "kind": str(error.kind)})

    async def settle(self) -> None:
        """See to it that the attempt is over: wait for the worker to say so, else end the turn from here.

        Afterwards the worker's appends are refused and it stops that chat; the slot is free.
        Raises StoreUnavailable.
        """
        if self._unsent is None:
            if not self.lost:
                await self._wait_finished(CANCEL_WAIT_S)
            if self._finished:
                return
        client = self._client
        if self.lost and self._placement is not None:
            # Its owner may be gone for good; a command sent to it after its stream had ended made a new one.
            await client.streams.expire(client.keys.commands(self._placement.worker), COMMANDS_TTL_S)
        state = TurnState.LOST if self.lost else TurnState.CANCELLED
        outcome: Outcome = "lost" if self.lost else "cancelled"
        await client.turns.finish(
            self.turn_id,
            state,
            fence=None,
            entry=encode(self._envelope(), Finished(outcome=outcome, reason="client_gone")),
        )
        self._finished = True
        for placement in (self._placement, self._unsent):
            if placement is not None:
                await client.directory.release(placement)

    async def _wait_finished(self, within_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while not self._finished and self._feed is not None and (left := until - loop.time()) > 0:
            self._current(await self._feed.next(within_s=left))

    def close(self) -> None:
        """Stop reading; the lease runs out by itself."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None
