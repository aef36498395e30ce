"""A worker without a Lingma, for tests of the gateway half: it takes commands and says what a script says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.jobs.client import JobClient
from gateway.jobs.codec import decode_command, encode, encode_record
from gateway.jobs.directory import Directory
from gateway.jobs.hub import Hub
from gateway.jobs.messages import (
    Accepted,
    Cancel,
    Declined,
    Envelope,
    Finished,
    FrameBatch,
    InstanceRecord,
    Reply,
    Submit,
    WorkerRecord,
    slot_holder,
)
from gateway.kernel.aio import background
from gateway.kernel.clock import SystemClock
from gateway.kernel.ids import ReplicaId
from gateway.kernel.json import Json, loads
from gateway.store.backends import Stores
from gateway.store.kv import KVSetOptions
from gateway.store.turnlog import Fence, TurnState, Write
from tests.playbook import push

Script = Callable[["Job"], Awaitable[None]]


class Job:
    """One submitted attempt, in the hands of the script."""

    def __init__(self, worker: "ScriptedWorker", envelope: Envelope, submit: Submit) -> None:
        self.worker = worker
        self.envelope = envelope
        self.submit = submit
        self.cancelled = asyncio.Event()
        self.cancel_reason = ""
        self.fence = Fence(envelope.attempt, worker.name, envelope.epoch)
        self._seq = 0

    @property
    def ask(self) -> dict[str, Json]:
        params = loads(self.submit.params)
        assert isinstance(params, dict)
        return params

    def _entry(self, reply: Reply) -> bytes:
        return encode(self.envelope, reply)

    async def accept(self) -> Write:
        return await self.worker.stores.turns.accept(
            self.envelope.turn_id,
            self.fence,
            self._entry(Accepted(worker=self.worker.name, instance=self.submit.instance)),
        )

    async def decline(self) -> None:
        await self.worker.stores.turns.decline(
            self.envelope.turn_id, self.fence, self._entry(Declined(reason="not ready"))
        )

    async def send(self, *frames: bytes) -> Write:
        batch = FrameBatch(seq_first=self._seq + 1, frames=list(frames))
        self._seq += len(frames)
        return await self.worker.stores.turns.append(
            self.envelope.turn_id, self.fence, self._entry(batch), last_seq=self._seq
        )

    async def say(self, *texts: str, session: str | None = None) -> Write:
        session_id = session or self.submit.session_id
        return await self.send(*(push("chat/answer", sessionId=session_id, text=text) for text in texts))

    async def chat_finish(self, full: str = "", status: int = 200, session: str | None = None) -> None:
        session_id = session or self.submit.session_id
        await self.send(
            push("chat/finish", sessionId=session_id, statusCode=status, reason="r", fullAnswer=full)
        )
        await self.finish()

    async def finish(self, outcome: str = "completed", **fields: object) -> Write:
        finished = Finished(outcome=outcome, last_seq=self._seq, **fields)  # type: ignore[arg-type]
        written = await self.worker.stores.turns.finish(
            self.envelope.turn_id,
            TurnState(outcome),
            fence=self.fence,
            entry=self._entry(finished),
        )
        await self.release()
        return written

    async def release(self) -> None:
        holder = slot_holder(self.envelope.turn_id, self.envelope.attempt)
        await self.worker.stores.leases.release(self.worker.stores.keys.slots(self.worker.name, 0), holder)


async def answers(job: Job) -> None:
    """The plain script: says `ab` and finishes well."""
    assert await job.accept() is Write.OK
    await job.say("a", "b")
    await job.chat_finish("ab")


class ScriptedWorker:
    """Plays one script for each Submit, in order, then `default_script` for ever."""

    def __init__(self, stores: Stores, name: str = "w", *scripts: Script, capacity: int = 4) -> None:
        self.stores = stores
        self.name = name
        self.capacity = capacity
        self.epoch = 1
        self.scripts = list(scripts)
        self.default_script: Script = answers
        self.jobs: list[Job] = []
        self.ready = True
        self.login = "logged_in"

    async def beat(self) -> None:
        record = WorkerRecord(
            worker=self.name,
            epoch=self.epoch,
            software="x",
            beat_at_ms=0,
            instances=[
                InstanceRecord(
                    name="inst-0",
                    index=0,
                    ready=self.ready,
                    state="ready",
                    login=self.login,
                    capacity=self.capacity,
                )
            ],
        )
        keys = self.stores.keys
        await self.stores.kv.kv_set(keys.worker(self.name), encode_record(record), KVSetOptions(ex=10))
        await self.stores.leases.acquire(keys.workers, self.name, limit=0, ttl_s=10)

    async def vanish(self) -> None:
        keys = self.stores.keys
        await self.stores.kv.kv_del(keys.worker(self.name))
        await self.stores.leases.release(keys.workers, self.name)

    async def run(self) -> None:
        key = self.stores.keys.commands(self.name)
        await self.stores.streams.ensure_group(key, b"owner")
        async with asyncio.TaskGroup() as group:
            while True:
                entries = await self.stores.streams.read_group(
                    key, b"owner", b"owner", pending=False, block_ms=1000, count=10
                )
                for entry_id, payload in entries:
                    await self.stores.streams.settle(key, b"owner", entry_id)
                    self._take(payload, group)

    def _take(self, payload: bytes, group: asyncio.TaskGroup) -> None:
        envelope, command = decode_command(payload)
        match command:
            case Submit():
                job = Job(self, envelope, command)
                self.jobs.append(job)
                script = self.scripts.pop(0) if self.scripts else self.default_script
                group.create_task(script(job))  # type: ignore[arg-type]
            case Cancel():
                for job in self.jobs:
                    if (job.envelope.turn_id, job.envelope.attempt) == (envelope.turn_id, envelope.attempt):
                        job.cancel_reason = command.reason
                        job.cancelled.set()
            case _:
                raise AssertionError(f"nobody here understands {command!r}")


class GatewaySide:
    """The gateway half of the job protocol over some stores."""

    def __init__(self, stores: Stores, replica: str = "r1") -> None:
        clock = SystemClock()
        self.stores = stores
        self.hub = Hub(stores.streams, stores.turns, stores.keys, replica, SystemClock())
        self.directory = Directory(stores.kv, stores.leases, stores.keys, clock)
        self.jobs = JobClient(
            streams=stores.streams,
            turns=stores.turns,
            kv=stores.kv,
            keys=stores.keys,
            hub=self.hub,
            directory=self.directory,
            clock=clock,
            replica_id=ReplicaId(replica),
        )

    @contextlib.asynccontextmanager
    async def running(self, *workers: ScriptedWorker) -> AsyncIterator["GatewaySide"]:
        for worker in workers:
            await worker.beat()
        async with (
            background(*(worker.run() for worker in workers)),
            self.hub.running(),
            self.jobs.running(),
        ):
            await self.directory.refresh()
            yield self

    async def slots_used(self, *workers: ScriptedWorker) -> int:
        return sum(await self.stores.leases.counts([self.stores.keys.slots(w.name, 0) for w in workers]))
