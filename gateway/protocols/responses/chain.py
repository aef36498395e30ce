"""The conversation that a WebSocket goes on with: what a `previous_response_id` stands for. Pure.

One line is remembered: the newest response with everything before it. Each response on the line is a prefix
of it, so that all of them together cost what the newest does, and a client may go back to any of them. What
it goes on with replaces what came after. Items are those that client and answers said, in their order, each
once; an answer that failed is not on the line.

Not stored anywhere: the line ends with its connection, for clients send the whole conversation on a new one.
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


class Chain:
    def __init__(self, max_bytes: int) -> None:
        """A line that grows beyond that is forgotten: no request could hold it either."""
        self._max_bytes = max_bytes
        self._line: list[Json] = []
        self._ends: dict[str, Past] = {}

    @property
    def size(self) -> int:
        """Bytes of what is remembered."""
        return max((end.size for end in self._ends.values()), default=0)

    def past(self, response_id: str) -> Past | None:
        """None for a response that is not on the line."""
        return self._ends.get(response_id)

    def items(self, past: Past) -> list[Json]:
        return self._line[: past.length]

    def remember(self, response_id: str, past: Past, said: Sequence[Json], size: int, model: str) -> None:
        """That response went on from `past`; `said` is what it was asked and has answered."""
        size += past.size
        if size > self._max_bytes:
            self._line, self._ends = [], {}
            return
        self._line[past.length :] = said
        ends = [(name, end) for name, end in self._ends.items() if end.length <= past.length]
        self._ends = dict(ends[1 - MAX_RESPONSES :])
        self._ends[response_id] = Past(len(self._line), size, model)
