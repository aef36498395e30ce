import asyncio

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
