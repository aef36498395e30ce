"""The judge of Responses streams: it must see what is wrong with one."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.kernel.json import dumps
from gateway.protocols.responses.encode import ResponsesEncoder
from gateway.turn.events import TurnCompleted
from gateway.turn.items import ToolCall
from gateway.wire.sse import SseSplitter, write_event
from tests.support.responses import STARTED, called, frames, parsed, said, thought, whole
from tests.support.responses_schema import read_stream, validate_response, validate_stream

Events = list[dict[str, Any]]

CALL = ToolCall(call_id="c1", name="find", arguments='{"q":1}')
GOOD = ResponsesEncoder(parsed()).encode(
    frames([STARTED, *thought("h"), *said("A", "B", index=1), *called(CALL, index=2), TurnCompleted("stop")])
)


def written(events: Events, *, number: bool = True, end: bytes = write_event(b"[DONE]")) -> bytes:
    if number:
        events = [{**event, "sequence_number": at} for at, event in enumerate(events)]
    return b"".join(write_event(dumps(event), event=event["type"]) for event in events) + end


def place(events: Events, type_: str) -> int:
    return next(at for at, event in enumerate(events) if event["type"] == f"response.{type_}")


def without(type_: str) -> Callable[[Events], None]:
    def change(events: Events) -> None:
        del events[place(events, type_)]

    return change


def with_(type_: str, **fields: Any) -> Callable[[Events], None]:
    def change(events: Events) -> None:
        events[place(events, type_)].update(fields)

    return change


def in_response(**fields: Any) -> Callable[[Events], None]:
    def change(events: Events) -> None:
        events[-1]["response"] = {**events[-1]["response"], **fields}

    return change


def test_a_good_stream_is_good() -> None:
    found = validate_stream(GOOD)
    assert written(found.events) == GOOD
    assert (found.text, found.done, len(found.items)) == ("AB", True, 3)


@pytest.mark.parametrize(
    "change",
    [
        without("created"),
        without("in_progress"),
        without("output_item.added"),
        without("output_item.done"),
        without("content_part.added"),
        without("content_part.done"),
        without("output_text.delta"),
        without("reasoning_summary_part.added"),
        without("reasoning_summary_part.done"),
        without("reasoning_summary_text.delta"),
        without("function_call_arguments.delta"),
        without("completed"),
        with_("output_text.delta", delta=""),
        with_("output_text.delta", delta=5),
        with_("output_text.delta", item_id="other"),
        with_("output_text.delta", output_index=0),
        with_("output_text.done", text="other"),
        with_("function_call_arguments.done", arguments="{}"),
        with_("content_part.added", content_index=1),
        with_("output_item.added", output_index=1),
        with_("completed", type="response.incomplete"),
        with_("created", type="response.new"),
        in_response(output=[]),
        in_response(status="failed"),
        in_response(model="other"),
        in_response(error={"code": 5, "message": "m"}),
        in_response(tools=[{"type": "function", "name": "f"}]),
        in_response(usage={"input_tokens": 1}),
    ],
)
def test_a_broken_stream_is_seen(change: Callable[[Events], None]) -> None:
    events = read_stream(GOOD).events
    change(events)
    with pytest.raises((AssertionError, ValidationError)):
        validate_stream(written(events))


@pytest.mark.parametrize(
    "raw",
    [
        written(read_stream(GOOD).events, end=b""),
        GOOD + write_event(b"{}", event="late"),
        GOOD[:-1],
        written(read_stream(GOOD).events[::-1], number=False),
        GOOD.replace(b"event: response.created", b"event: response.x"),
        GOOD.replace(b'"sequence_number":3,', b'"sequence_number":4,'),
        b": comment\n\n" + GOOD,
        b'event: keepalive\ndata: {"type":"keepalive"}\n\n' + GOOD,
    ],
)
def test_a_stream_with_other_framing_is_seen(raw: bytes) -> None:
    with pytest.raises((AssertionError, KeyError)):
        validate_stream(raw)


def test_a_keep_alive_has_the_number_before_it() -> None:
    first, *rest = (event.raw for event in SseSplitter().feed(GOOD))
    alive = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":%d}\n\n'
    assert validate_stream(first + alive % 0 + b"".join(rest)).keepalives == 1
    with pytest.raises(AssertionError):
        validate_stream(first + alive % 1 + b"".join(rest))


@pytest.mark.parametrize("member", ["metadata", "incomplete_details", "store", "usage", "text"])
def test_a_response_without_a_member_is_seen(member: str) -> None:
    response = whole(parsed(), *said("A"), TurnCompleted("stop"))
    validate_response(response)
    del response[member]
    with pytest.raises(AssertionError):
        validate_response(response)
