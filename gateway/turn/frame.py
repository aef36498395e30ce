"""The stream element: one upstream message as received, and what it means. Messages that came together and
only go on with each other may be one element, for what is done once for each costs more than to read them.
"""

from typing import TypeAlias

import msgspec

from gateway.turn.events import NOT_CONTENT, TERMINAL, TurnEvent
from gateway.turn.items import Dialect


class Frame(msgspec.Struct, frozen=True, gc=False):
    events: tuple[TurnEvent, ...]
    raw: bytes | None = None
    """None for frames that exist only here: repair, failure, cancellation, heartbeat."""
    dialect: Dialect | None = None
    seq: int = 0
    """Number of the upstream message within its attempt, from 1, gapless; 0 for frames made here."""
    whole: bool = False
    """`raw` is the body of a whole answer that was not streamed."""
    raws: tuple[bytes, ...] = ()
    """Of several messages, which are one delta; then there is no `raw`, and `seq` is that of the last."""

    @property
    def size(self) -> int:
        """Bytes of what was received."""
        return len(self.raw) if self.raw is not None else sum(map(len, self.raws))

    @property
    def has_content(self) -> bool:
        """Whether a client would see an answer, or its end, in this frame."""
        return any(not isinstance(event, NOT_CONTENT) for event in self.events)

    @property
    def is_terminal(self) -> bool:
        return bool(self.events) and type(self.events[-1]) in TERMINAL


Burst: TypeAlias = list[Frame]
"""Frames that were waiting together: encoded and sent in one write."""


def terminal_of(burst: Burst) -> Frame | None:
    """The first that ends the turn."""
    for frame in burst:
        if frame.is_terminal:
            return frame
    return None
