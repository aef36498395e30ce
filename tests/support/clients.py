"""Small clients for tests: streams read event by event, and waiting without blocking the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from openai import AsyncOpenAI

T = TypeVar("T")


async def until(condition: Callable[[], T | Awaitable[T]], what: str, within_s: float = 20.0) -> T:
    """The first true value of the condition, asked again and again; fails naming what was waited for."""
    deadline = time.monotonic() + within_s
    while True:
        value: Any = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value  # type: ignore[no-any-return]
        assert time.monotonic() < deadline, f"waited {within_s} s in vain for {what}"
        await asyncio.sleep(0.02)


def openai_client(url: str, key: str = "any", **options: Any) -> AsyncOpenAI:
    """The official SDK without retries of its own: a test wants to see every answer."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60, **options)


class Stream:
    """One streamed completion, read in the background: its text so far, and how it ended."""

    def __init__(self, client: AsyncOpenAI, prompt: str, **options: Any) -> None:
        self._client = client
        self._prompt = prompt
        self._options = options
        self.text = ""
        self.finish: str | None = None
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> "Stream":
        self.task = asyncio.get_running_loop().create_task(self._read())
        return self

    async def _read(self) -> None:
        try:
            stream = await self._client.chat.completions.create(
                model="org_auto",
                messages=[{"role": "user", "content": self._prompt}],
                stream=True,
                **self._options,
            )
            async for chunk in stream:
                for choice in chunk.choices:
                    self.text += choice.delta.content or ""
                    self.finish = choice.finish_reason or self.finish
        except Exception as error:  # the test looks at it
            self.error = error

    async def done(self, within_s: float = 60.0) -> "Stream":
        assert self.task is not None
        await asyncio.wait_for(self.task, within_s)
        return self

    @property
    def ended_legally(self) -> bool:
        """A finish reason, or an error that the protocol told; never both, never neither."""
        return (self.finish is None) != (self.error is None)
