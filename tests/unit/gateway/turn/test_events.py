"""What counts as content, and how an error becomes part of an event."""

from typing import get_args

import msgspec
import pytest

from gateway.kernel.errors import ErrorKind, QueueTimeout
from gateway.turn.events import (
    TERMINAL,
    Heartbeat,
    ItemStarted,
    OpaqueEvent,
    TextDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnStarted,
    UsageReported,
    error_info,
    is_content,
)
from gateway.turn.usage import Usage


@pytest.mark.parametrize(
    "event", [TurnStarted(model="m", created_at=1), Heartbeat(), UsageReported(Usage(input_tokens=1))]
)
def test_start_signs_of_life_and_usage_are_no_content(event: TurnEvent) -> None:
    assert not is_content(event)


@pytest.mark.parametrize(
    "event",
    [
        ItemStarted(0, "message", "i"),
        TextDelta(0, "a"),
        OpaqueEvent("lingma", "x", {}),
        TurnCompleted("stop"),
        TurnCancelled("drain"),
    ],
)
def test_everything_else_is_content(event: TurnEvent) -> None:
    assert is_content(event)


def test_there_are_fifteen_events_of_which_three_end_a_turn() -> None:
    assert len(get_args(TurnEvent)) == 15
    assert set(TERMINAL) < set(get_args(TurnEvent))
    assert len(TERMINAL) == 3


def test_events_survive_the_wire() -> None:
    event = TextDelta(2, "灵", part=1)
    data = msgspec.msgpack.encode(event)
    assert msgspec.msgpack.decode(data, type=TurnEvent) == event  # type: ignore[arg-type]


def test_an_error_keeps_what_a_client_may_know() -> None:
    info = error_info(QueueTimeout("no slot became free", retry_after_s=2, code="busy", param="model"))
    assert info.kind is ErrorKind.QUEUE_TIMEOUT
    assert info.message == "no slot became free"
    assert info.retryable is True
    assert (info.retry_after_s, info.code, info.param) == (2, "busy", "model")
