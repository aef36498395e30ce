"""Questions to workers, answered by a stand-in that reads its command stream as a worker does."""

import pytest

from gateway.admin import commands
from gateway.admin.commands import WorkerDesk
from gateway.jobs.codec import decode_command, encode_record
from gateway.jobs.directory import Directory
from gateway.jobs.messages import Admin, InstanceRecord, WorkerRecord
from gateway.kernel.aio import background
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import (
    GatewayError,
    InstanceAmbiguous,
    InstanceNotFound,
    Internal,
    InvalidRequest,
    Overloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.kernel.json import Json, dumps
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.leases_memory import MemoryLeases
from gateway.store.streams_memory import MemoryStreams


class Fleet:
    """Workers by record, and what they answer."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kv = MemoryKV(self.clock)
        self.leases = MemoryLeases(self.clock)
        self.streams = MemoryStreams(self.clock)
        self.keys = Keys()
        self.directory = Directory(self.kv, self.leases, self.keys, self.clock)
        self.desk = WorkerDesk(self.streams, self.kv, self.keys, self.directory, self.clock)
        self.questions: list[tuple[str, Admin]] = []

    async def add(self, worker: str, *instances: str, ready: bool = True) -> None:
        record = WorkerRecord(
            worker=worker,
            epoch=7,
            software="test",
            beat_at_ms=self.clock.now_ms(),
            instances=[
                InstanceRecord(name=name, index=index, ready=ready, state="ready", capacity=4)
                for index, name in enumerate(instances)
            ],
        )
        await self.kv.kv_set(self.keys.worker(worker), encode_record(record))
        await self.leases.acquire(self.keys.workers, worker, limit=0, ttl_s=60)
        await self.directory.refresh()

    async def answer_as(self, worker: str, reply: Json) -> None:
        """Take the next command of a worker and write the reply to where it asks for it."""
        key = self.keys.commands(worker)
        await self.streams.ensure_group(key, b"owner")
        ((_, payload),) = await self.streams.read_group(
            key, b"owner", b"test", pending=False, block_ms=5000, count=1
        )
        _, command = decode_command(payload)
        assert isinstance(command, Admin)
        self.questions.append((worker, command))
        await self.kv.kv_set(command.reply_key, dumps(reply))


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(commands, "ANSWER_S", 5.0)
    return Fleet()


async def test_a_question_is_answered_by_the_instance_asked_for(fleet: Fleet) -> None:
    await fleet.add("w-0", "inst-0")
    await fleet.add("w-1", "inst-0")
    async with background(fleet.answer_as("w-1", {"ok": True, "result": {"chat": []}})):
        assert await fleet.desk.raw_models("w-1/inst-0") == {"chat": []}
    ((_, question),) = fleet.questions
    assert question.action == "models_raw"
    assert question.instance == "inst-0"
    assert await fleet.kv.kv_get(question.reply_key) is None


async def test_without_a_name_a_ready_instance_is_asked(fleet: Fleet) -> None:
    await fleet.add("w-0", "inst-0", ready=False)
    await fleet.add("w-1", "inst-0")
    async with background(fleet.answer_as("w-1", {"ok": True, "result": None})):
        assert await fleet.desk.raw_models(None) is None


async def test_a_bare_name_will_do_when_only_one_worker_has_it(fleet: Fleet) -> None:
    await fleet.add("w-0", "inst-0")
    await fleet.add("w-1", "inst-0", "inst-1")
    async with background(fleet.answer_as("w-1", {"ok": True, "result": 1})):
        assert await fleet.desk.raw_models("inst-1") == 1


async def test_a_bare_name_of_several_is_refused_with_the_candidates(fleet: Fleet) -> None:
    await fleet.add("w-0", "inst-0")
    await fleet.add("w-1", "inst-0")
    with pytest.raises(InstanceAmbiguous, match="w-0/inst-0, w-1/inst-0"):
        await fleet.desk.raw_models("inst-0")


async def test_a_name_that_nobody_has_is_refused(fleet: Fleet) -> None:
    await fleet.add("w-0", "inst-0")
    with pytest.raises(InstanceNotFound, match="inst-9"):
        await fleet.desk.raw_models("inst-9")


async def test_no_worker_is_unavailable(fleet: Fleet) -> None:
    with pytest.raises(UpstreamUnavailable):
        await fleet.desk.raw_models(None)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("invalid_request", InvalidRequest),
        ("overloaded", Overloaded),
        ("upstream_timeout", UpstreamTimeout),
        ("upstream_unavailable", UpstreamUnavailable),
        ("something_new", Internal),
    ],
)
async def test_what_the_worker_refuses_with_is_raised(
    fleet: Fleet, kind: str, error: type[GatewayError]
) -> None:
    await fleet.add("w-0", "inst-0")
    reply: Json = {"ok": False, "error": {"kind": kind, "message": "not now"}}
    async with background(fleet.answer_as("w-0", reply)):
        with pytest.raises(error, match="not now"):
            await fleet.desk.raw_models(None)


async def test_an_answer_that_makes_no_sense_is_a_defect(fleet: Fleet) -> None:
    await fleet.add("w-0", "inst-0")
    async with background(fleet.answer_as("w-0", ["?"])):
        with pytest.raises(Internal):
            await fleet.desk.raw_models(None)


async def test_silence_ends_as_a_timeout(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ANSWER_S", 0.1)
    await fleet.add("w-0", "inst-0")
    with pytest.raises(UpstreamTimeout):
        await fleet.desk.raw_models(None)
