import asyncio

import pytest

from gateway.kernel.aio import Tasks, background, shielded, supervise, within


async def test_shielded_cleanup_ends_although_the_caller_is_cancelled() -> None:
    started, done = asyncio.Event(), asyncio.Event()

    async def cleanup() -> None:
        started.set()
        await asyncio.sleep(0.01)
        done.set()

    async def caller() -> None:
        await shielded(cleanup(), within_s=5)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(caller())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert done.is_set()


async def test_shielded_gives_up_after_its_time() -> None:
    assert await shielded(asyncio.Event().wait(), within_s=0.01) is None


async def test_shielded_returns_and_raises_what_the_work_does() -> None:
    async def answer() -> int:
        return 3

    async def fails() -> int:
        raise ValueError("no")

    assert await shielded(answer(), within_s=1) == 3
    with pytest.raises(ValueError, match="no"):
        await shielded(fails(), within_s=1)


async def test_work_that_waits_for_nothing_arms_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer() -> int:
        return 3

    monkeypatch.setattr(asyncio, "timeout", None)
    assert await within(answer(), 5) == 3


async def test_work_that_waits_has_its_time_and_goes_on_in_its_callers_task() -> None:
    async def answer() -> tuple[int, asyncio.Task[object] | None]:
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        return 3, asyncio.current_task()

    assert await within(answer(), 5) == (3, asyncio.current_task())
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, 4)
    assert await within(done, 5) == 4


async def test_work_that_takes_too_long_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError):
        await within(waits(), 0.01)
    assert cancelled.is_set()


async def test_work_may_survive_what_it_is_thrown_and_its_errors_are_the_callers() -> None:
    async def fails(when: int) -> None:
        for _ in range(when):
            await asyncio.sleep(0)
        raise ValueError("no")

    for when in (0, 1, 2):
        with pytest.raises(ValueError, match="no"):
            await within(fails(when), 5)

    async def survives() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return 5
        return 0

    task = asyncio.get_running_loop().create_task(within(survives(), 5))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 5


async def test_background_loops_end_with_their_block() -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def loop() -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(loop()):
        await running.wait()
    assert ended.is_set()


async def test_a_supervised_loop_is_started_again() -> None:
    runs = 0
    third = asyncio.Event()

    async def body() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await asyncio.Event().wait()
        raise RuntimeError("boom")

    restarts: list[int] = []
    async with background(supervise("x", body, backoff_s=0.001, on_restart=lambda: restarts.append(1))):
        async with asyncio.timeout(5):
            await third.wait()
    assert len(restarts) == 2


async def test_tasks_are_cancelled_and_awaited_with_their_owner() -> None:
    tasks = Tasks()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.spawn(work())
    await asyncio.sleep(0)
    await tasks.aclose()
    assert ended.is_set()
    assert len(tasks) == 0
    coroutine = work()
    with pytest.raises(RuntimeError):
        tasks.spawn(coroutine)
