"""Commands in, deeds out: what is run, declined, ignored, remembered and set aside."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.jobs.codec import encode
from gateway.jobs.messages import Accepted, Admin, Declined, Finished, FrameBatch
from gateway.kernel import json
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import StoreRefused
from gateway.kernel.json import JsonObject
from gateway.store.backends import Stores, open_memory
from gateway.store.turnlog import TurnState
from tests.fakes.worker import WORKER, FakeInstance, FakePool, Gateway, Switch, delta, eventually, finish
from workers import consumer as module
from workers.admin import AdminDesk
from workers.consumer import CONSUMER, GROUP, Consumer, EarlyCancels
from workers.publisher import Publisher
from workers.runner import Runner
from workers.stats import WorkerStats
from workers.watch import Limits

EPOCH = 1_790_000_000_000


class Bench:
    """One incarnation of a worker."""

    def __init__(self, stores: Stores, tasks: Tasks, epoch: int = EPOCH) -> None:
        clock = SystemClock()
        self.stores = stores
        self.tasks = tasks
        self.gateway = Gateway(stores, clock, epoch=epoch)
        self.instance = FakeInstance()
        self.pool = FakePool(self.instance)
        self.streams: Any = Switch(stores.streams, "read_group", "ensure_group", "settle")
        self.turns: Any = Switch(stores.turns, "accept", "decline", "finish")
        self.stats = WorkerStats()
        self.runner = Runner(
            worker=WORKER,
            publisher=Publisher(self.turns, epoch=epoch, clock=clock, stats=self.stats, tasks=tasks),
            leases=stores.leases,
            kv=stores.kv,
            keys=stores.keys,
            clock=clock,
            limits=Limits(),
            stats=self.stats,
        )
        self.drains = 0
        self.consumer = Consumer(
            runner=self.runner,
            pool=self.pool,
            streams=self.streams,
            dead_letters=stores.dead,
            admin=AdminDesk(stores.kv, {"echo": self._echo, "break": self._break}),
            tasks=tasks,
            on_drain=self._drain,
        )

    async def _echo(self, command: Admin) -> JsonObject:
        return {"instance": command.instance, **command.args}

    async def _break(self, command: Admin) -> JsonObject:
        raise ZeroDivisionError(command.action)

    def _drain(self) -> None:
        self.drains += 1

    @property
    def client(self) -> Any:
        return self.instance.client

    def run(self) -> "Bench":
        self.tasks.spawn(self.consumer.run())
        return self

    async def commands(self) -> int:
        return await self.stores.streams.length(self.stores.keys.commands(WORKER))

    async def settled(self) -> None:
        while await self.commands():
            calls = self.streams.calls
            await eventually(lambda calls=calls: self.streams.calls > calls)

    async def read_without_settling(self) -> None:
        """As an incarnation does that dies before it has done anything."""
        key = self.stores.keys.commands(WORKER)
        await self.stores.streams.ensure_group(key, GROUP)
        await self.stores.streams.read_group(key, GROUP, CONSUMER, pending=False, block_ms=0, count=100)


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_memory(SystemClock()) as opened:
        yield opened


@pytest.fixture
async def bench(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "BLOCK_MS", 20)
    monkeypatch.setattr(module, "RETRY_MIN_S", 0.005)
    tasks = Tasks()
    yield Bench(stores, tasks)
    await tasks.aclose()


# -- attempts ---------------------------------------------------------------------------------------------


async def test_a_submit_runs_and_its_command_is_deleted_at_accept(bench: Bench) -> None:
    bench.run()
    await bench.gateway.submit("t")
    await bench.gateway.until("t", Accepted)
    await bench.settled()
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(delta("a"), finish())
    assert (await bench.gateway.finished("t")).outcome == "completed"


async def test_many_turns_run_side_by_side(bench: Bench) -> None:
    bench.instance.capacity = 50
    for n in range(50):
        await bench.gateway.submit(f"t{n}", upstream_request_id=f"req-{n}")
    bench.run()
    await eventually(lambda: len(bench.client.answers) == 50)
    for answer in reversed(bench.client.answers):
        answer.say(finish())
    for n in range(50):
        assert (await bench.gateway.finished(f"t{n}")).outcome == "completed"
    await bench.settled()


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("unknown_instance", {"instance": "inst-7"}),
        ("not_ready", {}),
        ("full", {}),
        ("draining", {}),
    ],
)
async def test_an_attempt_that_cannot_run_is_declined(
    bench: Bench, reason: str, fields: dict[str, Any]
) -> None:
    bench.instance.ready = reason != "not_ready"
    bench.instance.capacity = 0 if reason == "full" else 4
    bench.consumer.draining = reason == "draining"
    bench.run()
    await bench.gateway.submit("t", **fields)
    assert await bench.gateway.until("t", Declined) == Declined(reason=reason)
    await bench.settled()
    assert bench.client.asks == []
    assert bench.stats.declined == {reason: 1}
    assert await bench.gateway.state("t") is TurnState.QUEUED


async def test_a_repeated_submit_of_a_running_turn_is_ignored(bench: Bench) -> None:
    bench.run()
    await bench.gateway.submit("t")
    await eventually(lambda: bench.client.answers)
    await bench.gateway.send(bench.gateway.submit_of(), "t")
    await bench.settled()
    bench.client.answers[0].say(finish())
    await bench.gateway.finished("t")
    assert len(bench.client.asks) == 1


async def test_a_repeated_submit_of_an_ended_turn_is_ignored(bench: Bench) -> None:
    bench.run()
    await bench.gateway.submit("t")
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(finish())
    await bench.gateway.finished("t")
    await bench.gateway.send(bench.gateway.submit_of(), "t")
    await bench.settled()
    assert len(bench.client.asks) == 1


async def test_a_submit_of_a_turn_that_nobody_knows_is_forgotten(bench: Bench) -> None:
    bench.run()
    await bench.gateway.send(bench.gateway.submit_of(), "unknown")
    await bench.settled()
    assert bench.client.asks == []


# -- cancels ----------------------------------------------------------------------------------------------


async def test_a_cancel_ends_the_running_attempt(bench: Bench) -> None:
    bench.run()
    await bench.gateway.submit("t")
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(delta("a"))
    await bench.gateway.until("t", FrameBatch)
    await bench.gateway.cancel("t", "client_gone")
    finished = await bench.gateway.finished("t", within_s=1)
    assert (finished.outcome, finished.reason) == ("cancelled", "client_gone")
    assert bench.client.stops == [("req-1", "s-1")]


async def test_a_cancel_that_comes_first_keeps_the_attempt_from_running(bench: Bench) -> None:
    bench.run()
    await bench.gateway.cancel("t", "client_gone")
    await bench.settled()
    await bench.gateway.submit("t")
    finished = await bench.gateway.finished("t")
    assert (finished.outcome, finished.reason) == ("cancelled", "client_gone")
    await bench.settled()
    assert bench.client.asks == []
    assert len(bench.consumer.cancels) == 0


async def test_a_cancel_of_an_earlier_attempt_does_not_touch_the_next(bench: Bench) -> None:
    bench.run()
    await bench.gateway.cancel("t", attempt=1)
    await bench.gateway.submit("t", attempt=2)
    await eventually(lambda: bench.client.answers)
    await bench.gateway.cancel("t", attempt=1)
    await bench.settled()
    bench.client.answers[0].say(finish())
    assert (await bench.gateway.finished("t")).outcome == "completed"


def test_early_cancels_are_bounded_by_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCELS_KEPT", 2)
    cancels = EarlyCancels()
    for n in range(3):
        cancels.add(f"t{n}", 1, "gone", now=float(n))
    assert cancels.take("t0", 1) is None
    assert cancels.take("t2", 2) is None
    assert cancels.take("t2", 1) == "gone"
    cancels.add("t9", 1, "gone", now=module.CANCEL_LIFE_S + 2)
    assert len(cancels) == 1


# -- what cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["undecodable", "unknown_version", "unknown_message"])
async def test_a_command_that_cannot_be_read_is_set_aside(bench: Bench, reason: str) -> None:
    envelope = bench.gateway.envelope("t")
    payload = {
        "undecodable": b"\x00garbage",
        "unknown_version": encode(bench.gateway.envelope("t"), bench.gateway.submit_of()),
        "unknown_message": encode(envelope, Accepted(worker="w", instance="i")),
    }[reason]
    if reason == "unknown_version":
        envelope.v = 99
        payload = encode(envelope, bench.gateway.submit_of())
    bench.run()
    await bench.gateway.send_raw(payload)
    await bench.gateway.submit("after")
    await bench.gateway.until("after", Accepted)
    await bench.settled()
    [(_, letter)] = await bench.stores.streams.range(bench.stores.keys.dead)
    kept = json.loads(letter)
    assert isinstance(kept, dict)
    assert kept["reason"] == reason
    assert bench.stats.dead_letters == {reason: 1}


async def test_a_command_that_breaks_us_is_set_aside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(bench.pool, "get", broken)
    bench.run()
    await bench.gateway.submit("t")
    await bench.settled()
    assert bench.stats.dead_letters == {"failed": 1}


async def test_a_run_that_breaks_still_ends_its_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.client.ask_error = RuntimeError("a defect")
    bench.run()
    await bench.gateway.submit("t")
    finished = await bench.gateway.finished("t")
    assert (finished.outcome, finished.error_kind) == ("failed", "internal")
    assert bench.runner.in_flight("inst-0") == 0
    assert await bench.gateway.slots() == []


# -- restarts and outages ---------------------------------------------------------------------------------


async def test_commands_read_by_a_dead_incarnation_are_taken_up(bench: Bench, stores: Stores) -> None:
    await bench.gateway.submit("t")
    await bench.read_without_settling()
    tasks = Tasks()
    again = Bench(stores, tasks, epoch=EPOCH + 5).run()
    await eventually(lambda: again.client.answers)
    again.client.answers[0].say(finish())
    assert (await bench.gateway.finished("t")).outcome == "completed"
    await again.settled()
    await tasks.aclose()


async def test_a_turn_that_a_dead_incarnation_ran_is_lost(bench: Bench, stores: Stores) -> None:
    await bench.gateway.submit("t")
    await bench.read_without_settling()
    await stores.turns.accept("t", await bench.gateway.fence("t"), b"")
    tasks = Tasks()
    again = Bench(stores, tasks, epoch=EPOCH + 5).run()
    await again.settled()
    assert await bench.gateway.state("t") is TurnState.LOST
    assert again.client.asks == []
    await tasks.aclose()


async def test_commands_survive_an_outage_which_is_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workers.consumer")
    bench.run()
    await bench.gateway.submit("a")
    await bench.gateway.until("a", Accepted)
    bench.streams.mode = "off"
    calls = bench.streams.calls
    await eventually(lambda: bench.streams.calls > calls + 2)
    await bench.gateway.submit("b", upstream_request_id="req-2")
    bench.streams.mode = "on"
    await bench.gateway.until("b", Accepted)
    await bench.settled()
    assert len(bench.client.asks) == 2
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("consumer.store")]
    assert told == ["consumer.store_unavailable", "consumer.store_back"]


async def test_a_read_whose_reply_was_lost_is_repeated(bench: Bench) -> None:
    await bench.gateway.submit("t")
    bench.streams.mode = "deaf"
    bench.run()
    await eventually(lambda: bench.streams.calls > 3)
    bench.streams.mode = "on"
    await bench.gateway.until("t", Accepted)
    await bench.settled()


async def test_a_decline_that_the_store_missed_is_said_again(bench: Bench) -> None:
    bench.consumer.draining = True
    bench.turns.mode = "off"
    bench.run()
    await bench.gateway.submit("t")
    await eventually(lambda: bench.turns.calls)
    bench.turns.mode = "on"
    await bench.gateway.until("t", Declined)
    await bench.settled()


async def test_an_accept_that_stays_unknown_is_looked_at_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runner.ACCEPT_LIMIT_S", 0.0)
    bench.turns.mode = "off"
    bench.run()
    await bench.gateway.submit("t")
    await eventually(lambda: bench.turns.calls >= 2)
    bench.turns.mode = "on"
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(finish())
    assert (await bench.gateway.finished("t")).outcome == "completed"
    assert len(bench.client.asks) == 1


# -- the rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "drains"), [(EPOCH, 1), (0, 1), (EPOCH - 1, 0)])
async def test_a_drain_is_for_the_incarnation_it_names(bench: Bench, epoch: int, drains: int) -> None:
    bench.run()
    await bench.gateway.drain(epoch=epoch)
    await bench.settled()
    assert bench.drains == drains


async def test_questions_are_answered_at_their_key(bench: Bench) -> None:
    bench.run()
    await bench.gateway.ask_admin("echo", b"lg:reply:1", n=3)
    await bench.gateway.ask_admin("break", b"lg:reply:2")
    await bench.gateway.ask_admin("fly", b"lg:reply:3")
    await bench.settled()
    found: dict[bytes, Any] = {}

    async def replies() -> bool:
        for n in (b"1", b"2", b"3"):
            if (value := await bench.stores.kv.kv_get(b"lg:reply:" + n)) is not None:
                found[n] = json.loads(value)
        return len(found) == 3

    while not await replies():
        await bench.settled()
    assert found[b"1"] == {"ok": True, "result": {"instance": "inst-0", "n": 3}}
    assert found[b"2"]["error"]["kind"] == "internal"
    assert found[b"3"]["error"]["kind"] == "invalid_request"


async def test_a_clients_tool_answer_reaches_its_run(bench: Bench) -> None:
    bench.run()
    await bench.gateway.submit("t", tool_roundtrip="stop")
    await eventually(lambda: bench.client.answers)
    await bench.gateway.tool_reply("t", tool_call_id="c-1", name="find", approve=False)
    await bench.gateway.tool_reply("other", tool_call_id="c-2", name="find", approve=False)
    await eventually(lambda: bench.client.approvals)
    assert bench.client.approvals == [("req-1", "s-0", "c-1", False)]


async def test_no_turn_is_left_behind(bench: Bench) -> None:
    bench.run()
    await bench.gateway.submit("t")
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(finish())
    await bench.gateway.finished("t")
    await eventually(lambda: not bench.runner.runs)
    assert [type(reply) for reply in await bench.gateway.replies("t")] == [Accepted, FrameBatch, Finished]


# -- keys that hold something else ------------------------------------------------------------------------


async def test_letters_that_the_store_refuses_do_not_stop_the_reader(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = bench.stores.streams.append

    async def picky(key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
        if key == bench.stores.keys.dead:
            raise StoreRefused("WRONGTYPE")
        return await append(key, payload, max_len=max_len)

    monkeypatch.setattr(bench.stores.streams, "append", picky)
    reader = bench.tasks.spawn(bench.consumer.run())
    for _ in range(3):
        await append(bench.stores.keys.commands(WORKER), b"garbage")
    await bench.gateway.submit("t")
    await bench.gateway.until("t", Accepted)
    await bench.settled()
    assert not reader.done()


async def test_a_turn_whose_record_is_no_record_is_dropped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise StoreRefused("WRONGTYPE")

    monkeypatch.setattr(Runner, "decline", refused)
    bench.consumer.draining = True
    bench.run()
    await bench.gateway.submit("t")
    await bench.settled()


async def test_settling_goes_on_when_the_store_accepts_it_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, refusals = bench.stores.streams.settle, 0

    async def stubborn(*args: bytes) -> None:
        nonlocal refusals
        if refusals < 3:
            refusals += 1
            raise StoreRefused("WRONGTYPE")
        await settle(*args)

    monkeypatch.setattr(bench.stores.streams, "settle", stubborn)
    bench.run()
    await bench.gateway.submit("t")
    await bench.settled()
    assert refusals == 3
