import logging

import pytest

from gateway.engine.observers import Observers, TurnFigures
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import ErrorKind
from gateway.kernel.ids import TurnId
from gateway.turn.events import (
    ErrorInfo,
    ItemStarted,
    TextDelta,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    UsageReported,
)
from gateway.turn.items import Message, TextPart
from gateway.turn.request import RawRequest, Turn
from gateway.turn.usage import Usage

TURN = Turn(
    id=TurnId("t"),
    tenant="-",
    created_at_ms=0,
    model="m",
    items=(Message(role="user", parts=(TextPart("a secret prompt"),)),),
    raw=RawRequest("chat", {}),
)


class Recorder:
    def __init__(self) -> None:
        self.seen: list[TurnFigures] = []

    def record(self, turn: Turn, figures: TurnFigures) -> None:
        self.seen.append(figures)


def observed() -> tuple[Observers, Recorder, FakeClock]:
    clock, recorder = FakeClock(), Recorder()
    return Observers(TURN, recorder, clock), recorder, clock


def test_time_to_first_token_is_that_of_the_first_content() -> None:
    observers, _, clock = observed()
    clock.advance(0.1)
    observers.see((TurnStarted(model="m", created_at=1),))
    clock.advance(0.2)
    observers.see((ItemStarted(0, "message", "i"), TextDelta(0, "a")))
    clock.advance(1)
    observers.see((TextDelta(0, "b"), TurnCompleted("stop", Usage(output_tokens=2))))
    observers.close()
    figures = observers.figures
    assert (figures.ttft_ms, figures.duration_ms, figures.outcome) == (300, 1300, "completed")
    assert figures.usage == Usage(output_tokens=2)


def test_usage_reports_are_merged() -> None:
    observers, _, _ = observed()
    observers.see((UsageReported(Usage(input_tokens=4)), TurnCompleted("stop", Usage(output_tokens=2))))
    assert observers.figures.usage == Usage(input_tokens=4, output_tokens=2)


def test_each_end_has_its_outcome() -> None:
    error = ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="x")
    for event, outcome, kind in (
        (TurnFailed(error), "failed", "upstream_eof"),
        (TurnCancelled("drain"), "cancelled", "drain"),
    ):
        observers, _, _ = observed()
        observers.see((event,))
        assert (observers.figures.outcome, observers.figures.error_kind) == (outcome, kind)


def test_a_turn_is_recorded_once_and_logged_without_its_prompt(caplog: pytest.LogCaptureFixture) -> None:
    observers, recorder, _ = observed()
    with caplog.at_level(logging.INFO):
        observers.close()
        observers.close()
    assert [f.outcome for f in recorder.seen] == ["cancelled"]
    assert [r.message for r in caplog.records] == ["turn.finished"]
    assert "secret" not in str(caplog.records[0].__dict__)
