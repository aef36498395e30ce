import asyncio

import pytest

from gateway.engine.drain import Drain


class Run:
    def __init__(self, drain: Drain) -> None:
        self.drain = drain
        self.reason = ""
        drain.enter(self)

    def cancel(self, reason: str) -> None:
        self.reason = reason
        self.drain.leave(self)


async def test_an_idle_replica_closes_at_once() -> None:
    drain = Drain(listen_s=0, deadline_s=60)
    await drain.drain()
    assert drain.state == "closed"


async def test_running_turns_may_end_by_themselves() -> None:
    drain = Drain(listen_s=0, deadline_s=60)
    run = Run(drain)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(drain.drain())
        while drain.state != "closed":
            await asyncio.sleep(0)
        assert not task.done()
        drain.leave(run)
    assert run.reason == ""


async def test_what_outlives_the_deadline_is_cancelled() -> None:
    drain = Drain(listen_s=0, deadline_s=0.01)
    run = Run(drain)
    await drain.drain()
    assert run.reason == "drain"
    assert drain.in_flight == 0


async def test_it_still_serves_while_load_balancers_look_away() -> None:
    drain = Drain(listen_s=0.05, deadline_s=0)
    async with asyncio.TaskGroup() as group:
        group.create_task(drain.drain())
        while drain.state == "serving":
            await asyncio.sleep(0)
        assert drain.state == "leaving"
    assert drain.state == "closed"


async def test_a_hurry_cuts_every_wait_short() -> None:
    drain = Drain(listen_s=60, deadline_s=60)
    run = Run(drain)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(drain.drain())
        while drain.state == "serving":
            await asyncio.sleep(0)
        drain.hurry()
    assert run.reason == "drain"


class Visitor:
    """A connection that stays open; it leaves when it is told to, unless it is busy."""

    def __init__(self, drain: Drain, *, busy: bool = False) -> None:
        self.drain = drain
        self.busy = busy
        self.told = 0
        drain.join(self)

    def leave_soon(self) -> None:
        self.told += 1
        if not self.busy:
            self.drain.part(self)


async def test_guests_leave_when_the_drain_begins() -> None:
    drain = Drain(listen_s=60, deadline_s=60)
    visitor = Visitor(drain)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(drain.drain())
        while not visitor.told:
            await asyncio.sleep(0)
        assert drain.state == "leaving"
        late = Visitor(drain)
        assert late.told == 0, "it is still served"
        drain.hurry()
        await task
        assert (late.told, visitor.told) == (1, 1)
    assert Visitor(drain).told == 1, "nothing is served any more"


async def test_a_guest_that_is_busy_is_waited_for() -> None:
    drain = Drain(listen_s=0, deadline_s=60)
    visitor = Visitor(drain, busy=True)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(drain.drain())
        while visitor.told < 2:
            await asyncio.sleep(0)
        assert not task.done()
        drain.part(visitor)


async def test_a_guest_that_does_not_leave_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.drain.PART_S", 0.01)
    drain = Drain(listen_s=0, deadline_s=60)
    visitor = Visitor(drain, busy=True)
    await drain.drain()
    assert visitor.told == 2
