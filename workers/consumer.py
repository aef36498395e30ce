"""Reads this worker's command stream and acts on each command; hands attempts to runner.py.

A command is deleted once it must not be read again: a Submit when its turn is accepted, declined or somebody
else's, everything else at once. What a crash leaves behind is read first by the next incarnation. A command
that cannot be read is a dead letter, and nothing that comes in ends the process.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, assert_never

from gateway.jobs.codec import DecodeProblem, decode_command
from gateway.jobs.messages import Admin, Cancel, Drain, Envelope, Submit, ToolReply
from gateway.kernel.aio import Tasks
from gateway.kernel.errors import StoreError, StoreRefused, StoreUnavailable
from gateway.store.deadletter import DeadLetters, digest_of
from gateway.store.streams import Entry, Streams
from workers.admin import AdminDesk
from workers.ports import Pool
from workers.runner import Run, Runner

log = logging.getLogger(__name__)

GROUP = b"owner"
CONSUMER = b"owner"
BLOCK_MS = 2000
READ_COUNT = 128
PENDING_COUNT = 1000
RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0
CANCELS_KEPT = 4096
CANCEL_LIFE_S = 300.0


class EarlyCancels:
    """Cancels of attempts that have not come (yet). Bounded by number and age: the oldest go."""

    def __init__(self) -> None:
        self._cancels: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()

    def add(self, turn_id: str, attempt: int, reason: str, now: float) -> None:
        self._cancels[turn_id, attempt] = (reason, now)
        while self._cancels and (
            len(self._cancels) > CANCELS_KEPT or now - next(iter(self._cancels.values()))[1] > CANCEL_LIFE_S
        ):
            self._cancels.popitem(last=False)

    def take(self, turn_id: str, attempt: int) -> str | None:
        """The reason, when that attempt was cancelled before it came."""
        found = self._cancels.pop((turn_id, attempt), None)
        return found[0] if found else None

    def __len__(self) -> int:
        return len(self._cancels)


class Consumer:
    """Runs until cancelled. `draining` may be set at any time: from then on attempts are declined."""

    def __init__(
        self,
        *,
        runner: Runner,
        pool: Pool,
        streams: Streams,
        dead_letters: DeadLetters,
        admin: AdminDesk,
        tasks: Tasks,
        on_drain: Callable[[], None],
    ) -> None:
        self.draining = False
        self.cancels = EarlyCancels()
        self._runner = runner
        self._pool = pool
        self._streams = streams
        self._dead_letters = dead_letters
        self._admin = admin
        self._tasks = tasks
        self._on_drain = on_drain
        self._key = runner.keys.commands(runner.worker)
        self._in_hand: set[bytes] = set()
        """Entries read and not yet settled: not to be taken up again by a look at what is pending."""
        self._settled: list[bytes] = []
        self._settling = False
        self._look_back = False
        """An entry was given up unsettled."""
        self.caught_up = asyncio.Event()
        """What an earlier incarnation left has been taken up."""

    # -- reading ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read for ever. While the store is away, ask for it with growing pauses; told once."""
        pause = RETRY_MIN_S
        away = False
        while True:
            try:
                await self._streams.ensure_group(self._key, GROUP)
                await self._handle_pending()
                self.caught_up.set()
                pause = RETRY_MIN_S
                if away:
                    away = False
                    log.info("consumer.store_back")
                while True:
                    await self._handle_all(await self._read(pending=False))
                    if self._look_back:
                        await self._handle_pending()
            except StoreError as error:
                if not away:
                    away = True
                    log.warning("consumer.store_unavailable", extra={"error": error.message})
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)

    async def _handle_pending(self) -> None:
        """What was read before, by an earlier incarnation or before an outage, and is in nobody's hand."""
        self._look_back = False
        while left := [e for e in await self._read(pending=True) if e[0] not in self._in_hand]:
            log.info("consumer.pending", extra={"entries": len(left)})
            await self._handle_all(left)

    async def _read(self, *, pending: bool) -> list[Entry]:
        return await self._streams.read_group(
            self._key,
            GROUP,
            CONSUMER,
            pending=pending,
            block_ms=0 if pending else BLOCK_MS,
            count=PENDING_COUNT if pending else READ_COUNT,
        )

    async def _handle_all(self, entries: list[Entry]) -> None:
        for entry_id, payload in entries:
            self._in_hand.add(entry_id)
            try:
                await self._handle(entry_id, payload)
            except Exception:
                # One bad command must not stop the others, nor be read again and again.
                log.exception("consumer.command_failed", extra={"entry": _text(entry_id)})
                await self._bury(entry_id, payload, "failed", "")

    async def _handle(self, entry_id: bytes, payload: bytes) -> None:
        try:
            envelope, command = decode_command(payload)
        except DecodeProblem as problem:
            await self._bury(entry_id, payload, problem.reason, problem.turn_id)
            return
        if isinstance(command, Submit):
            self._submit(entry_id, envelope, command)
            return
        self._settle(entry_id)
        match command:
            case Cancel():
                self._cancel(envelope, command)
            case ToolReply():
                self._tool_reply(envelope, command)
            case Admin():
                self._tasks.spawn(self._answer(command), name="admin")
            case Drain():
                if envelope.epoch in (0, self._runner.publisher.epoch):
                    self._on_drain()
            case _:
                assert_never(command)

    async def _bury(self, entry_id: bytes, payload: bytes, reason: str, turn_id: str) -> None:
        self._runner.stats.dead_letters[reason] += 1
        ids = {"worker": self._runner.worker, "entry": _text(entry_id), "turn": turn_id}
        await self._dead_letters.put(reason, ids, digest_of(payload))
        self._settle(entry_id)

    # -- commands -----------------------------------------------------------------------------------------

    def _submit(self, entry_id: bytes, envelope: Envelope, submit: Submit) -> None:
        runner = self._runner
        if (envelope.turn_id, envelope.attempt) in runner.runs:
            self._settle(entry_id)
            return
        instance = self._pool.get(submit.instance)
        work: Coroutine[Any, Any, None]
        if (reason := self.cancels.take(envelope.turn_id, envelope.attempt)) is not None:
            work = runner.cancel_unbegun(envelope, reason)
        elif self.draining:
            work = runner.decline(envelope, "draining")
        elif instance is None:
            work = runner.decline(envelope, "unknown_instance")
        elif not instance.ready:
            work = runner.decline(envelope, "not_ready")
        elif runner.in_flight(instance.name) >= instance.capacity:
            work = runner.decline(envelope, "full")
        else:
            run = runner.open(envelope, submit, instance)
            work = self._execute(run, partial(self._settle, entry_id))
        self._tasks.spawn(self._see_through(entry_id, work), name=f"turn.{envelope.turn_id}")

    async def _see_through(self, entry_id: bytes, work: Coroutine[Any, Any, None]) -> None:
        """Settle a Submit once its work is done, unless the store was away: then it is read again."""
        try:
            await work
        except StoreUnavailable:
            self._in_hand.discard(entry_id)
            self._look_back = True
        except StoreRefused as error:
            # Its keys hold something else: it would be refused each time it is read.
            log.warning("consumer.command_refused", extra={"entry": _text(entry_id), "error": str(error)})
            self._settle(entry_id)
        else:
            self._settle(entry_id)

    async def _execute(self, run: Run, settled: Callable[[], None]) -> None:
        try:
            await run.run(settled)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("turn.run_failed", extra={"turn_id": run.turn_id, "attempt": run.attempt})
            await run.fail()

    def _cancel(self, envelope: Envelope, cancel: Cancel) -> None:
        run = self._runner.runs.get((envelope.turn_id, envelope.attempt))
        if run is not None:
            run.stop(cancel.reason)
            return
        now = asyncio.get_running_loop().time()
        self.cancels.add(envelope.turn_id, envelope.attempt, cancel.reason, now)

    def _tool_reply(self, envelope: Envelope, reply: ToolReply) -> None:
        run = self._runner.runs.get((envelope.turn_id, envelope.attempt))
        if run is not None:
            self._tasks.spawn(run.answer_tool(reply), name="turn.tool_reply")

    async def _answer(self, command: Admin) -> None:
        try:
            await self._admin.answer(command)
        except Exception:
            log.exception("admin.failed", extra={"action": command.action})
            await self._admin.failed(command)

    # -- settling -----------------------------------------------------------------------------------------

    def _settle(self, entry_id: bytes) -> None:
        """Have the entry deleted, together with others that are settled meanwhile. Idempotent."""
        if entry_id not in self._in_hand or entry_id in self._settled:
            return
        self._settled.append(entry_id)
        if not self._settling:
            self._settling = True
            self._tasks.spawn(self._settle_all(), name="consumer.settle")

    async def _settle_all(self) -> None:
        pause = RETRY_MIN_S
        while self._settled:
            ids = list(self._settled)
            try:
                await self._streams.settle(self._key, GROUP, *ids)
            except StoreError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX_S)
                continue
            del self._settled[: len(ids)]
            self._in_hand.difference_update(ids)
        self._settling = False


def _text(entry_id: bytes) -> str:
    return entry_id.decode(errors="replace")
