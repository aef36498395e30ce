"""Ports between the two sides of the gateway and the engine in the middle."""

from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from gateway.kernel.errors import GatewayError
from gateway.turn.events import CancelReason
from gateway.turn.frame import Burst, Frame
from gateway.turn.items import Dialect
from gateway.turn.losses import Loss
from gateway.turn.request import Turn


class Decoder(Protocol):
    """Upstream bytes to frames. Pure: same input, same output, on any replica."""

    def feed(self, raw: bytes, seq: int) -> Frame:
        """One complete upstream message; the frame may hold no events at all."""
        ...

    def eof(self) -> Frame | None:
        """The upstream ended. None when it had already ended as it should."""
        ...


class Encoder(Protocol):
    """Frames to the bytes of one client protocol's stream. Pure; owns every id it emits."""

    content_type: bytes
    """Of the answer that the bytes make up."""

    def encode(self, burst: Sequence[Frame]) -> bytes:
        """All bytes for these frames; `b""` when they mean nothing to this client."""
        ...

    def keepalive(self) -> bytes:
        """What to send while the upstream is silent; never numbered."""
        ...


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    images: bool = False
    tools: Literal["native", "text", "none"] = "none"
    reasoning: Literal["signed", "plain", "none"] = "none"
    sampling: bool = False
    """Honours temperature and the like."""
    structured_output: bool = False
    compaction: bool = False
    """Compacts conversations itself, in the dialect `responses`."""
    speaks: Dialect | None = None
    """Requests of this dialect go out as their clients wrote them: what reading one lost is not lost."""


Replayed: TypeAlias = Literal["injected", "missed", "kept", "forgotten", "dropped", "late"]
"""Put back; nothing was there to put back; the answer was remembered; a refusal made it be forgotten; the
store, or a newer entry there, had neither; neither was done in time."""
Told: TypeAlias = str | int | bool
Trace: TypeAlias = tuple[str, str]
"""traceparent and tracestate; empty without tracing."""


class Stage(Protocol):
    """A part of an attempt in its trace: for a `with` block that ends it and records what it raises."""

    @property
    def trace(self) -> Trace:
        """Of this part; empty where nobody traces it."""
        ...

    def __enter__(self) -> "Stage": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...

    def tell(self, **attributes: Told) -> None:
        """Attributes, whose dots are written as two underscores."""
        ...


class Untraced:
    """The stage of an attempt that nobody traces."""

    trace: Trace = ("", "")

    def __enter__(self) -> "Untraced":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        pass

    def tell(self, **attributes: Told) -> None:
        pass


UNTRACED: Final = Untraced()


class Call(msgspec.Struct, kw_only=True):
    """One attempt, as the engine orders it."""

    turn: Turn
    model: str
    """The upstream's own name for the model."""
    account: str = ""
    """The credential to use, by its configured id; empty where the executor has no choice."""
    attempt: int
    """Counted from 1 over all candidates."""
    deadline_ms: int
    """Unix milliseconds at which the turn must have ended."""
    queue_until: float
    """Loop time until which the attempt may wait for capacity."""
    cancel_reason: CancelReason = "client_gone"
    """Why the attempt is being cut short, should it be."""
    trace: Trace = ("", "")
    """Of the attempt's span."""
    stage: Callable[[str], Stage] = lambda name: UNTRACED
    """Begins a part of this attempt in its trace."""
    replayed: list[Replayed] = []
    """What became of remembered reasoning in this attempt; the executor notes it."""
    fresh: bool = False
    """Start without state kept upstream or injected from replay: set after a context was lost."""


Again: TypeAlias = Literal["no", "fresh", "retry", "next"]


class AttemptFailed(Exception):
    """An attempt ended before it sent content; the engine may start another.

    `again` says how: `no` (tell the client), `fresh` (same candidate without reused state),
    `retry` (same candidate), `next` (another candidate, if there is one).
    """

    def __init__(self, error: GatewayError, *, again: Again = "no", or_again: bool = False) -> None:
        """`or_again`: with `next`, when there is no other candidate, the same ones may be tried once more."""
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.or_again = or_again


class Executor(Protocol):
    """Runs attempts on one upstream."""

    name: str
    capabilities: Capabilities

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        """What this upstream's model will not honour of the turn; known before anything is sent. For turns of
        the dialect that it speaks this is all there is to tell, what their reading lost included.
        """
        ...

    def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        """Frames of one attempt, in bursts, ending with a terminal event.

        Raises AttemptFailed only while no content was yielded; afterwards failures are TurnFailed events.
        Closing the iterator stops the upstream work and frees the slot.
        """
        ...

    def conclude(self, turn: Turn) -> None:
        """The turn is over, whatever became of its attempts: let go of what they left behind."""
        ...
