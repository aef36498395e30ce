"""What the shared HTTP edge and a protocol package say to each other. Pure.

A protocol package implements ClientProtocol once; protocols/endpoint.py does the rest.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, assert_never

from gateway.kernel.errors import ErrorKind
from gateway.turn.events import CancelReason, ErrorInfo, Finish, TurnCancelled, TurnFailed, is_content
from gateway.turn.fold import TurnResult
from gateway.turn.frame import Frame
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn

Headers = tuple[tuple[bytes, bytes], ...]


class Answer(NamedTuple):
    """A whole HTTP answer; the edge adds length and the headers that all answers carry."""

    status: int
    body: bytes
    headers: Headers = ()
    content_type: bytes = b"application/json"


class ClientProtocol(Protocol):
    """One client protocol, as the HTTP edge sees it."""

    def encoder(self, turn: Turn, losses: list[Loss]) -> Encoder:
        """For one stream. What the encoder has to leave out is appended to `losses`."""
        ...

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        """Body of the answer to a turn that ended well and was not streamed."""
        ...

    def passed_on(self, turn: Turn, raw: bytes, finish: Finish) -> bytes | None:
        """The same, of the whole answer that an upstream of the same dialect gave; None where it cannot be
        passed on.
        """
        return None

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        """The protocol's own envelope; `status` overrules the table, for errors that are HTTP's alone."""
        ...


def cancelled_error(reason: CancelReason) -> ErrorInfo:
    """How a cancelled turn is told to a client whose protocol only knows errors."""
    match reason:
        case "deadline":
            return ErrorInfo(
                kind=ErrorKind.UPSTREAM_TIMEOUT, message="The turn reached its time limit", retryable=True
            )
        case "drain":
            return ErrorInfo(
                kind=ErrorKind.UPSTREAM_UNAVAILABLE,
                message="The gateway is shutting down; please try again",
                retryable=True,
                retry_after_s=1.0,
            )
        case "admin":
            return ErrorInfo(kind=ErrorKind.CANCELLED, message="The turn was cancelled by an operator")
        case "client_gone":
            return ErrorInfo(kind=ErrorKind.CANCELLED, message="The client closed the connection")
        case _:
            assert_never(reason)


def early_failure(frames: Sequence[Frame]) -> ErrorInfo | None:
    """The failure that came before any content: it can still have its real HTTP status."""
    for frame in frames:
        for event in frame.events:
            if isinstance(event, TurnFailed):
                return event.error
            if isinstance(event, TurnCancelled):
                return cancelled_error(event.reason)
            if is_content(event):
                return None
    return None


def failure_of(result: TurnResult) -> ErrorInfo | None:
    """Why a folded turn has no answer. A stream without its terminal event is a failure too."""
    if result.error is not None:
        return result.error
    if result.cancelled is not None:
        return cancelled_error(result.cancelled)
    if result.finish is None:
        return ErrorInfo(kind=ErrorKind.INTERNAL, message="The turn ended without a result", retryable=True)
    return None


def retry_headers(error: ErrorInfo) -> Headers:
    """Whether and when to come again, for SDKs of OpenAI and Anthropic and what is built on them.

    Without `x-should-retry: false` Claude Code repeats a request with a wrong key for minutes.
    """
    wait = retry_after(error)
    return wait if error.retryable or wait else ((b"x-should-retry", b"false"),)


def retry_after(error: ErrorInfo) -> Headers:
    """The Retry-After header in whole seconds, when a time is known."""
    if error.retry_after_s is None or not math.isfinite(error.retry_after_s):
        return ()
    return ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)
