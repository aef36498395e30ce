"""The conversation that a WebSocket goes on with: what a `previous_response_id` stands for. Pure.

One line is remembered: the newest response with everything before it. Each response on the line is a prefix
of it, so that all of them together cost what the newest does, and a client may go back to any of them. What
it goes on with replaces what came after. Items are those that client and answers said, in their order, each
once; an answer that failed is not on the line.

Not stored anywhere: the line ends with its connection, for clients send the whole conversation on a new one.
So a line may be forgotten at any time, and all lines of a replica together are kept within a bound.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.kernel.json import Json

MAX_RESPONSES = 1024
"""To which a client may go back; the oldest are forgotten."""


class Past(NamedTuple):
    """What was said up to the end of a response."""

    length: int = 0
    size: int = 0
    """Bytes."""
    model: str = ""


NOTHING = Past()


class Memory:
    """What all connections of a replica remember together. When that is too much, the lines that were used
    longest ago are forgotten.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[Chain, int] = {}
        """By use, the last one last."""
        self.bytes = 0

    def used(self, chain: "Chain") -> None:
        self.let_go(chain)
        self._sizes[chain] = chain.size
        self.bytes += chain.size
        while self.bytes > self._max_bytes:
            next(iter(self._sizes)).forget()

    def let_go(self, chain: "Chain") -> None:
        self.bytes -= self._sizes.pop(chain, 0)


class Chain:
    def __init__(self, max_bytes: int, memory: Memory) -> None:
        """A line that grows beyond that is forgotten: no request could hold it either."""
        self._max_bytes = max_bytes
        self._memory = memory
        self._line: list[Json] = []
        self._ends: dict[str, Past] = {}

        self.size = 0
        """Bytes of what is remembered."""

    def past(self, response_id: str) -> Past | None:
        """None for a response that is not on the line."""
        return self._ends.get(response_id)

    def items(self, past: Past) -> list[Json]:
        return self._line[: past.length]

    def remember(self, response_id: str, past: Past, said: Sequence[Json], size: int, model: str) -> None:
        """That response went on from `past`; `said` is what it was asked and has answered."""
        size += past.size
        if size > self._max_bytes or past.length > len(self._line):  # or forgotten meanwhile
            self.forget()
            return
        self._line[past.length :] = said
        ends = [(name, end) for name, end in self._ends.items() if end.length <= past.length]
        self._ends = dict(ends[1 - MAX_RESPONSES :])
        self._ends[response_id] = Past(len(self._line), size, model)
        self.size = max(end.size for end in self._ends.values())
        self._memory.used(self)

    def forget(self) -> None:
        """All of it."""
        self._line, self._ends, self.size = [], {}, 0
        self._memory.let_go(self)
