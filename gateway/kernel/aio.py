"""Tasks with owners, waits with deadlines, loops that survive. The only module that creates tasks itself."""

import asyncio
import contextlib
import logging
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


async def shielded(work: Coroutine[Any, Any, T], *, within_s: float) -> T | None:
    """Run cleanup to its end although the caller is being cancelled; give up after within_s.

    Returns None when the time ran out. A cancellation that arrives meanwhile is raised after the cleanup.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    deadline = asyncio.get_running_loop().time() + within_s
    while not task.done():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            task.cancel()
            break
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=1.0)
    if cancelled is not None:
        _log_unseen(task)
        raise cancelled
    if task.cancelled() or not task.done():
        return None
    return task.result()


async def within(work: Awaitable[T], seconds: float) -> T:
    """The work's result, in the caller's own task. Raises TimeoutError.

    As `asyncio.timeout`, but no timer is armed for work that is done without waiting for anything.
    """
    steps = work.__await__()
    try:
        waited_for = steps.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _rest_of(steps, waited_for)


@types.coroutine
def _rest_of(steps: Generator[Any, Any, T], waited_for: Any) -> Generator[Any, Any, T]:
    """Go on with what waits for something already."""
    try:
        while True:
            try:
                given = yield waited_for
            except BaseException as error:
                waited_for = steps.throw(error)
            else:
                waited_for = steps.send(given)
    except StopIteration as done:
        result: T = done.value
        return result


def _log_unseen(task: "asyncio.Task[Any]") -> None:
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        log.warning("aio.cleanup_failed", exc_info=error)


@contextlib.asynccontextmanager
async def background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Own background loops for the length of a block; they are cancelled and awaited when it ends.

    Unlike a TaskGroup the block is not cancelled when a loop ends: loops are expected to be supervised.
    """
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("aio.background_failed", exc_info=result)


async def supervise(
    name: str,
    body: Callable[[], Awaitable[None]],
    *,
    backoff_s: float = 0.1,
    max_backoff_s: float = 5.0,
    on_restart: Callable[[], None] | None = None,
) -> None:
    """Run a background loop for ever: restart it with growing pauses when it raises. Cancellation ends it."""
    pause = backoff_s
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await body()
            pause = backoff_s
        except Exception:
            log.exception("aio.loop_restarted", extra={"loop": name})
            if on_restart is not None:
                on_restart()
        if loop.time() - started > max_backoff_s:
            pause = backoff_s
        await asyncio.sleep(pause)
        pause = min(pause * 2, max_backoff_s)


class Tasks:
    """Tasks owned by one object: spawned while it lives, cancelled and awaited by `aclose()`.

    For work that starts and ends at its own times (one task a turn); loops belong to `background`.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> "asyncio.Task[Any]":
        if self._closed:
            work.close()
            raise RuntimeError("the owner of these tasks is closed")
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("aio.task_failed", exc_info=error, extra={"task": task.get_name()})

    def __len__(self) -> int:
        return len(self._tasks)

    async def aclose(self, *, within_s: float = 5.0) -> None:
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)
