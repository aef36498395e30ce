"""Writes what one attempt has to say into its turn's log: numbered, in order, fenced, batched by load.

Not a queue with a task of its own: while the store answers, `put()` writes at once, and what arrives then
waits in the caller's inbox. So an idle turn waits for nothing and a busy one writes up to 64 frames an entry.
Only when the store fails does the outbox keep frames itself, up to BACKLOG_BYTES, and tries again behind the
caller's back. Entries of several turns leave in one pipeline because the store's link gathers the commands of
one loop turn.

A write whose reply was lost is repeated, so an entry may be in the log twice. That is harmless: frames carry
their number and readers drop what they have had.
"""

import asyncio
import logging
from collections.abc import Callable

from gateway.jobs.codec import MAX_BATCH_FRAMES, encode, split_batches
from gateway.jobs.messages import Accepted, Declined, Envelope, Finished, Heartbeat, Reply
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.turnlog import Fence, TurnLog, TurnState, Write
from workers.stats import WorkerStats

log = logging.getLogger(__name__)

BACKLOG_BYTES = 4 * 1024 * 1024
"""What one turn may keep in memory while the store is away; beyond it the chat is stopped."""
RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0


class Refused(Exception):
    """The turn belongs to somebody else now (FENCED), or the store no longer has it (GONE). Stop the chat."""

    def __init__(self, write: Write) -> None:
        super().__init__(write.value)
        self.write = write


class BacklogFull(Exception):
    """The store has been away for longer than the backlog lasts."""


class Publisher:
    """Opens outboxes; one per worker. Owns the retries that outlive a call."""

    def __init__(self, turns: TurnLog, *, epoch: int, clock: Clock, stats: WorkerStats, tasks: Tasks) -> None:
        self.turns = turns
        self.epoch = epoch
        self.clock = clock
        self.stats = stats
        self.tasks = tasks

    def open(
        self, command: Envelope, fence: Fence, on_refused: Callable[[Write], None] = lambda _: None
    ) -> "Outbox":
        """`on_refused` is called when a write behind the caller's back is refused."""
        envelope = Envelope(
            turn_id=command.turn_id,
            attempt=command.attempt,
            epoch=self.epoch,
            tenant=command.tenant,
            request_id=command.request_id,
        )
        return Outbox(self, envelope, fence, on_refused)


class Outbox:
    """The entries of one attempt. One caller; calls do not overlap."""

    __slots__ = (
        "_catching_up",
        "_envelope",
        "_fence",
        "_on_refused",
        "_publisher",
        "_size",
        "_unwritten",
        "_written",
    )

    def __init__(
        self, publisher: Publisher, envelope: Envelope, fence: Fence, on_refused: Callable[[Write], None]
    ) -> None:
        self._publisher = publisher
        self._envelope = envelope
        self._fence = fence
        self._on_refused = on_refused
        self._written = 0
        """Number of the last frame that the store has confirmed."""
        self._unwritten: list[bytes] = []
        self._size = 0
        self._catching_up: asyncio.Task[None] | None = None

    @property
    def seq(self) -> int:
        """Number of the last frame taken."""
        return self._written + len(self._unwritten)

    def _encoded(self, reply: Reply) -> bytes:
        self._envelope.sent_at_ms = self._publisher.clock.now_ms()
        return encode(self._envelope, reply)

    async def accept(self, reply: Accepted) -> Write:
        """Take the attempt. Raises StoreUnavailable; then it may be taken or not."""
        return await self._publisher.turns.accept(self._envelope.turn_id, self._fence, self._encoded(reply))

    async def decline(self, reply: Declined) -> Write:
        """Raises StoreUnavailable."""
        return await self._publisher.turns.decline(self._envelope.turn_id, self._fence, self._encoded(reply))

    async def put(self, frames: list[bytes]) -> None:
        """Take frames and write them, with all that wait; on an outage keep them and return.

        Safe to interrupt: what is not confirmed stays and is written again by the next call. Raises Refused,
        BacklogFull.
        """
        self._unwritten += frames
        self._size += sum(map(len, frames))
        if self._catching_up is None:
            try:
                await self._flush()
            except StoreUnavailable:
                self._catching_up = self._publisher.tasks.spawn(self._catch_up(), name="publisher.catch_up")
        elif self._size > BACKLOG_BYTES:
            raise BacklogFull

    async def heartbeat(self) -> None:
        """Say that the upstream is silent and we are not; left out while the store is away.

        Raises Refused.
        """
        if self._catching_up is not None or self._unwritten:
            return
        try:
            await self._append(Heartbeat(), self._written)
        except StoreUnavailable:
            return
        self._publisher.stats.heartbeats += 1

    async def finish(self, state: TurnState, reply: Finished, *, within_s: float) -> Write | None:
        """Write what waits and then the last entry, trying again for within_s.

        None when the store stayed away.
        """
        await self._stop_catching_up()
        until = asyncio.get_running_loop().time() + within_s
        pause = RETRY_MIN_S
        while True:
            try:
                await self._flush()
                reply.last_seq = self._written
                return await self._publisher.turns.finish(
                    self._envelope.turn_id, state, fence=self._fence, entry=self._encoded(reply)
                )
            except Refused as refused:
                return refused.write
            except StoreUnavailable:
                if asyncio.get_running_loop().time() + pause > until:
                    return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)

    async def aclose(self) -> None:
        """Give up what is still unwritten."""
        await self._stop_catching_up()
        self._unwritten.clear()

    async def _flush(self) -> None:
        while self._unwritten:
            batch = split_batches(self._written + 1, self._unwritten[:MAX_BATCH_FRAMES])[0]
            count = len(batch.frames)
            await self._append(batch, self._written + count)
            self._written += count
            del self._unwritten[:count]
            size = sum(map(len, batch.frames))
            self._size -= size
            stats = self._publisher.stats
            stats.batches += 1
            stats.frames += count
            stats.frame_bytes += size

    async def _append(self, reply: Reply, last_seq: int) -> None:
        try:
            write = await self._publisher.turns.append(
                self._envelope.turn_id, self._fence, self._encoded(reply), last_seq=last_seq
            )
        except StoreUnavailable:
            self._publisher.stats.store_failures += 1
            raise
        if write is not Write.OK:
            raise Refused(write)

    async def _catch_up(self) -> None:
        """Try again until everything is written; meanwhile `put` only adds."""
        pause = RETRY_MIN_S
        log.warning("publisher.store_unavailable", extra={"turn_id": self._envelope.turn_id})
        while True:
            await asyncio.sleep(pause)
            try:
                await self._flush()
            except StoreUnavailable:
                pause = min(pause * 2, RETRY_MAX_S)
            except Refused as refused:
                self._on_refused(refused.write)
                return
            else:
                self._catching_up = None
                log.info(
                    "publisher.caught_up", extra={"turn_id": self._envelope.turn_id, "seq": self._written}
                )
                return

    async def _stop_catching_up(self) -> None:
        task, self._catching_up = self._catching_up, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
