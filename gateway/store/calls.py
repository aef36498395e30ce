"""Commands on their way to a server, and what comes back for them. Made by link.py, waited for everywhere."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from gateway.kernel.errors import StoreUnavailable

Arg: TypeAlias = bytes | str | int | float
Reply: TypeAlias = Any
"""bytes, int, None, or a list of replies; the caller knows which. Errors are exceptions on the future."""
ReplyFuture: TypeAlias = "asyncio.Future[Reply]"


class Call:
    __slots__ = ("asking", "deadline", "fallback", "future", "packed", "size")

    def __init__(
        self,
        packed: bytes,
        future: ReplyFuture,
        deadline: float,
        fallback: Sequence[Arg] | None,
        asking: bool,
    ) -> None:
        self.packed = packed
        self.size = len(packed)
        self.future = future
        self.deadline = deadline
        self.fallback = fallback
        """The command to send instead when the server does not know the script."""
        self.asking = asking

    def fail(self, why: str) -> None:
        if not self.future.done():
            self.future.set_exception(StoreUnavailable(why))


def seen(future: ReplyFuture) -> None:
    """A callback for a reply that nobody looks at."""
    if not future.cancelled():
        future.exception()


async def gather(futures: Iterable[ReplyFuture]) -> list[Reply]:
    """The replies of commands issued together. Waits for all of them, then raises the first error."""
    replies = await asyncio.gather(*futures, return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return replies
