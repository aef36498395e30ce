"""A first-come, first-served waiting room for capacity that somebody else may free.

Whoever is at the head tries again when a release is announced here and, because releases on other replicas
are not announced, every RETRY_S with jitter. Bounded: beyond `max_waiting` one is turned away at once.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.kernel.errors import Overloaded

T = TypeVar("T")

RETRY_S = 0.1


class WaitingRoom:
    def __init__(self, *, max_waiting: int, retry_s: float = RETRY_S) -> None:
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._waiting: deque[asyncio.Event] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def wait_for(self, attempt: Callable[[], Awaitable[T | None]], *, until: float) -> T | None:
        """Call `attempt` until it gives something or the loop time `until` has passed (then None).

        The first try is made at once unless others wait already. Raises Overloaded when the room is full.
        """
        if not self._waiting and (got := await attempt()) is not None:
            return got
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("too many requests are waiting for capacity", retry_after_s=1.0)
        turn = asyncio.Event()
        self._waiting.append(turn)
        try:
            return await self._queue(turn, attempt, until)
        finally:
            self._waiting.remove(turn)
            self.announce()

    async def _queue(
        self, turn: asyncio.Event, attempt: Callable[[], Awaitable[T | None]], until: float
    ) -> T | None:
        loop = asyncio.get_running_loop()
        while True:
            if self._waiting[0] is turn and (got := await attempt()) is not None:
                return got
            left = until - loop.time()
            if left <= 0:
                return None
            pause = min(left, self._retry_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
            try:
                async with asyncio.timeout(pause if self._waiting[0] is turn else left):
                    await turn.wait()
            except TimeoutError:
                pass
            turn.clear()

    def announce(self) -> None:
        """Capacity may have been freed: let the head try."""
        if self._waiting:
            self._waiting[0].set()
