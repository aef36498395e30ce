"""How many asks the simulated account serves at once. The limit may differ from ask to ask: it is a knob."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class LimitReached(RuntimeError):
    """All slots are taken and the knob says not to wait."""


class Limiter:
    def __init__(self) -> None:
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def slot(self, limit: int, *, wait: bool) -> AsyncIterator[None]:
        """Hold one of limit slots (0: no limit), in order of arrival. Raises LimitReached unless wait."""
        if limit and self._running >= limit:
            if not wait:
                raise LimitReached
            await self._queue()
        else:
            self._running += 1
        try:
            yield
        finally:
            self._hand_over()

    async def _queue(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._hand_over()
            raise

    def _hand_over(self) -> None:
        """Give this slot to the next who still waits, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
