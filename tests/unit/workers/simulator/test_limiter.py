"""Slots of the simulated account."""

import asyncio

import pytest

from workers.simulator.limiter import Limiter, LimitReached


class Runner:
    """Holds a slot until told to let go."""

    def __init__(self, limiter: Limiter, limit: int) -> None:
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(limiter, limit))

    async def _run(self, limiter: Limiter, limit: int) -> None:
        async with limiter.slot(limit, wait=True):
            self.inside.set()
            await self.leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_are_given_in_order_of_arrival() -> None:
    limiter = Limiter()
    runners = [Runner(limiter, 1) for _ in range(3)]
    await settle()
    assert [runner.inside.is_set() for runner in runners] == [True, False, False]
    runners[0].leave.set()
    await settle()
    assert [runner.inside.is_set() for runner in runners] == [True, True, False]
    runners[1].leave.set()
    runners[2].leave.set()
    await asyncio.gather(*(runner.task for runner in runners))
    async with limiter.slot(1, wait=False):
        pass


async def test_one_who_gives_up_waiting_loses_no_slot() -> None:
    limiter = Limiter()
    first, second, third = (Runner(limiter, 1) for _ in range(3))
    await settle()
    second.task.cancel()
    await settle()
    first.leave.set()
    third.leave.set()
    await asyncio.gather(first.task, third.task)
    async with limiter.slot(1, wait=False):
        pass


async def test_one_cancelled_just_as_it_is_served_hands_on() -> None:
    limiter = Limiter()
    held = limiter.slot(1, wait=True)
    await held.__aenter__()
    second, third = Runner(limiter, 1), Runner(limiter, 1)
    await settle()
    # Leaving does not yield: the second is served but has not noticed when it is cancelled.
    await held.__aexit__(None, None, None)
    second.task.cancel()
    third.leave.set()
    await third.task
    assert not second.inside.is_set()
    async with limiter.slot(1, wait=False):
        pass


async def test_a_full_account_may_refuse() -> None:
    limiter = Limiter()
    async with limiter.slot(1, wait=False):
        with pytest.raises(LimitReached):
            async with limiter.slot(1, wait=False):
                pass
        async with limiter.slot(0, wait=False):
            pass
    async with limiter.slot(1, wait=False):
        pass
