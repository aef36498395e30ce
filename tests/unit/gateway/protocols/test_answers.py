import pytest

from gateway.kernel.errors import ErrorKind
from gateway.protocols.answers import cancelled_error, early_failure, failure_of, retry_after, retry_headers
from gateway.turn.events import (
    CancelReason,
    ErrorInfo,
    Heartbeat,
    ItemStarted,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
    UsageReported,
)
from gateway.turn.fold import TurnResult
from gateway.turn.frame import Frame
from gateway.turn.usage import Usage

ERROR = ErrorInfo(kind=ErrorKind.WORKER_LOST, message="gone")
STARTED = TurnStarted(model="m", created_at=1)
SILENT: list[TurnEvent] = [STARTED, Heartbeat(), UsageReported(Usage(input_tokens=1))]


@pytest.mark.parametrize(
    ("reason", "kind", "retryable"),
    [
        ("deadline", ErrorKind.UPSTREAM_TIMEOUT, True),
        ("drain", ErrorKind.UPSTREAM_UNAVAILABLE, True),
        ("admin", ErrorKind.CANCELLED, False),
        ("client_gone", ErrorKind.CANCELLED, False),
    ],
)
def test_every_cancellation_has_an_error(reason: CancelReason, kind: ErrorKind, retryable: bool) -> None:
    error = cancelled_error(reason)
    assert (error.kind, error.retryable) == (kind, retryable)


def test_a_failure_before_content_is_early() -> None:
    frames = [Frame((event,)) for event in [*SILENT, TurnFailed(ERROR)]]
    assert early_failure(frames) == ERROR
    assert early_failure([Frame((STARTED, TurnCancelled("drain")))]) == cancelled_error("drain")


def test_content_before_the_failure_makes_it_a_late_one() -> None:
    assert early_failure([Frame((STARTED, ItemStarted(0, "message", "m"), TurnFailed(ERROR)))]) is None
    assert early_failure([Frame((STARTED, TurnCompleted("stop")))]) is None
    assert early_failure([Frame(tuple(SILENT))]) is None
    assert early_failure([]) is None


def test_a_folded_turn_fails_by_error_by_cancellation_or_by_having_no_end() -> None:
    assert failure_of(TurnResult(error=ERROR)) == ERROR
    assert failure_of(TurnResult(cancelled="deadline")) == cancelled_error("deadline")
    assert failure_of(TurnResult(finish="length")) is None
    unfinished = failure_of(TurnResult())
    assert unfinished is not None
    assert unfinished.kind is ErrorKind.INTERNAL


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(None, None), (0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (30.0, b"30"), (float("inf"), None)],
)
def test_retry_after_is_in_whole_seconds_and_at_least_one(
    seconds: float | None, header: bytes | None
) -> None:
    info = ErrorInfo(kind=ErrorKind.RATE_LIMITED, message="slow down", retry_after_s=seconds)
    assert retry_after(info) == (((b"retry-after", header),) if header else ())


def test_what_is_not_worth_repeating_is_told_to_sdks_that_would() -> None:
    wrong_key = ErrorInfo(kind=ErrorKind.UNAUTHENTICATED, message="no")
    assert retry_headers(wrong_key) == ((b"x-should-retry", b"false"),)
    full = ErrorInfo(kind=ErrorKind.OVERLOADED, message="full", retryable=True, retry_after_s=1.2)
    assert retry_headers(full) == ((b"retry-after", b"2"),)
