"""The lane by itself, and through the encoder: an upstream's own bytes, and what is added to them."""

from typing import Any

import pytest

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps, loads
from gateway.protocols.responses.encode import ResponsesEncoder
from gateway.protocols.responses.lane import RawLane, whole_response
from gateway.turn.events import (
    ErrorInfo,
    Heartbeat,
    ItemDone,
    ItemStarted,
    TextDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
)
from gateway.turn.frame import Frame
from gateway.turn.items import Message, TextPart
from gateway.wire.sse import SseSplitter
from tests.support.responses import STARTED, codex, parsed

DONE = b"data: [DONE]\n\n"
ITEM = {"type": "message", "id": "msg_1", "content": [], "status": "completed", "role": "assistant"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
RESPONSE: dict[str, Any] = {
    "id": "resp_up",
    "status": "in_progress",
    "model": "gpt-2026",
    "output": [],
    "odd": 1.0,
}


def event(kind: str, number: int | None, **fields: Any) -> bytes:
    told = {"type": kind, **({} if number is None else {"sequence_number": number}), **fields}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps(told))


CREATED = event("response.created", 0, response=RESPONSE)
PROGRESS = event("response.in_progress", 1, response=RESPONSE)
ADDED = event("response.output_item.added", 2, output_index=0, item=ITEM)
DELTA = event(
    "response.output_text.delta", 3, output_index=0, delta='"response":"response.output_item.done"', odd=2.50
)
ITEM_DONE = event("response.output_item.done", 4, output_index=0, item=ITEM)


def ended(number: int = 5, *, kind: str = "completed", **fields: Any) -> bytes:
    return event(f"response.{kind}", number, response={**RESPONSE, "status": kind, **fields})


def lane(*, is_codex: bool = False) -> RawLane:
    return RawLane(parsed(), codex=is_codex)


def named(raw: bytes) -> bytes:
    return raw.replace(b'"gpt-2026"', b'"asked"')


def data_of(raw: bytes) -> Any:
    (found,) = SseSplitter().feed(raw)
    return loads(found.data or b"")


# -- one event after the other ----------------------------------------------------------------------------


def test_events_pass_byte_for_byte_but_for_the_models_name() -> None:
    subject = lane()
    for raw in (CREATED, PROGRESS, ADDED, DELTA, ITEM_DONE, ended(output=[ITEM])):
        assert subject.passed(raw) == named(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b": comment\n\n",
        b'data: {"type":"x","kind":"response"}\n\n',
        b'data: "response"\n\n',
        b'data: {"type":"response.hologram","response":7}\n\n',
        b'data: {"type":"response.created","response":\n\n',
        b'data: {"type":"response.created","response":{"id":"r"}}\n\n',
    ],
)
def test_what_is_odd_passes_as_it_is(raw: bytes) -> None:
    assert lane().passed(raw) == raw


def test_other_members_of_that_name_stay() -> None:
    raw = event(
        "response.created", 0, response={"tools": [{"model": "gpt-image"}], "metadata": {"model": "x"}}
    )
    assert lane().passed(raw) == raw


def test_an_empty_output_is_filled_with_the_items_in_their_order() -> None:
    subject = lane()
    subject.passed(event("response.output_item.done", 3, output_index=1, item=CALL))
    subject.passed(event("response.output_item.done", 4, output_index=0, item=ITEM))
    subject.passed(event("response.output_item.done", 5, item={"type": "odd"}))
    filled = ended(6, output=[]).replace(
        b'"output":[]', b'"output":%b' % dumps([ITEM, CALL, {"type": "odd"}])
    )
    assert subject.passed(ended(6, output=[])) == named(filled)
    assert subject.passed(ended(6, output=[CALL])) == named(ended(6, output=[CALL])), "it says so itself"
    assert lane().passed(ended(output=[])) == named(ended(output=[])), "nothing was done"


def test_cv_19_a_cut_answer_is_completed_for_codex() -> None:
    """CV-19. Given `response.incomplete` with `max_output_tokens`: Codex is told that it completed."""
    raw = ended(kind="incomplete", incomplete_details={"reason": "max_output_tokens"}, output=[ITEM])
    assert lane().passed(raw) == named(raw)
    told = lane(is_codex=True).passed(raw)
    assert told.startswith(b"event: response.completed\n")
    found = data_of(told)
    assert (found["type"], found["sequence_number"]) == ("response.completed", 5)
    assert found["response"] == {
        **RESPONSE,
        "model": "asked",
        "status": "completed",
        "incomplete_details": None,
        "output": [ITEM],
    }


def test_a_stream_that_the_gateway_has_begun_is_not_begun_twice() -> None:
    subject = lane()
    ours = {**RESPONSE, "id": "resp_ours", "model": "asked", "ours": 1}
    subject.begun_by_gateway(ours)
    assert subject.passed(CREATED) == subject.passed(PROGRESS) == b""
    assert subject.passed(ADDED) == ADDED
    end = data_of(subject.passed(ended(output=[ITEM], usage={"total_tokens": 3}, theirs=2)))
    assert end["response"] == {**ours, "status": "completed", "output": [ITEM]}, (
        "what the client knows, ended"
    )
    assert subject.response() == {}, "the client knows another beginning"


def test_events_without_a_number_are_counted() -> None:
    subject = lane()
    for raw in (b'data: {"type":"x"}\n\n', b"data: nonsense\n\n", b": comment\n\n"):
        subject.passed(raw)
    assert subject.last_number == 2


def test_what_the_client_has_is_not_sent_again() -> None:
    subject = lane()
    assert subject.passed(CREATED, starting_after=0) == b""
    assert subject.passed(PROGRESS, starting_after=0) == named(PROGRESS)
    unnumbered = b'data: {"type":"x"}\n\n'
    subject = lane()
    assert subject.passed(unnumbered, starting_after=0) == b""
    assert subject.passed(unnumbered, starting_after=0) == unnumbered


def test_the_response_and_its_items_are_known_for_an_end_that_never_came() -> None:
    subject = lane()
    assert not subject.begun
    for raw in (CREATED, ADDED, ITEM_DONE):
        subject.passed(raw)
    assert subject.begun
    assert subject.last_number == 4
    assert subject.response() == {**RESPONSE, "model": "asked"}
    assert subject.output() == [ITEM]


def test_a_whole_response_has_the_same_edits() -> None:
    raw = dumps({**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}})
    assert whole_response(raw, parsed(), codex=False) == named(raw)
    told = loads(whole_response(raw, parsed(), codex=True))
    assert told == {**RESPONSE, "model": "asked", "status": "completed", "incomplete_details": None}
    said = dumps({**RESPONSE, "status": "completed", "odd": "incomplete"})
    assert whole_response(said, parsed(), codex=True) == named(said)
    assert whole_response(b"[]", parsed(), codex=True) == b"[]"


def test_a_key_for_cached_prompts_comes_back_as_the_client_chose_it() -> None:
    turn = parsed(prompt_cache_key="mine")
    told = dumps({**RESPONSE, "prompt_cache_key": "another", "status": "completed"})
    assert loads(whole_response(told, turn, codex=False))["prompt_cache_key"] == "mine"
    passed = RawLane(turn, codex=False).passed(ended(prompt_cache_key="another"))
    assert data_of(passed)["response"]["prompt_cache_key"] == "mine"
    unasked = RawLane(parsed(), codex=False).passed(ended(prompt_cache_key="another"))
    assert data_of(unasked)["response"]["prompt_cache_key"] == "another"


# -- through the encoder ----------------------------------------------------------------------------------


def frame(raw: bytes, *events: TurnEvent) -> Frame:
    return Frame(events or (Heartbeat(),), raw, "responses", 1)


MESSAGE = Message(role="assistant", parts=(TextPart("x"),))
BEGUN = [
    frame(CREATED, STARTED, Heartbeat()),
    frame(PROGRESS),
    frame(ADDED, ItemStarted(0, "message", "msg_1")),
    frame(DELTA, TextDelta(0, "x")),
]
SAID = [*BEGUN, frame(ITEM_DONE, ItemDone(0, MESSAGE))]
COMPLETED = frame(ended(output=[]), TurnCompleted("stop"))
FAILED = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut off", retryable=True))


def test_a_whole_stream_passes_and_ends_with_done() -> None:
    encoder = ResponsesEncoder(parsed())
    told = b"".join(encoder.encode([one]) for one in [*SAID, Frame((), b": x\n\n", "responses"), COMPLETED])
    filled = ended(output=[]).replace(b'"output":[]', b'"output":%b' % dumps([ITEM]))
    assert told == named(CREATED + PROGRESS + ADDED + DELTA + ITEM_DONE + b": x\n\n" + filled) + DONE


@pytest.mark.parametrize("end", [FAILED, TurnCancelled("drain")])
def test_an_end_that_never_came_goes_on_behind_the_last_event(end: TurnEvent) -> None:
    encoder = ResponsesEncoder(parsed())
    encoder.encode(SAID)
    told = encoder.encode([Frame((ItemStarted(1, "message", "m"), ItemDone(1, MESSAGE))), Frame((end,))])
    assert told.endswith(DONE)
    found = data_of(told.removesuffix(DONE))
    assert (found["type"], found["sequence_number"]) == ("response.failed", 5)
    response = found["response"]
    assert (response["id"], response["model"], response["odd"]) == ("resp_up", "asked", 1.0)
    assert response["output"] == [ITEM]
    assert response["error"]["message"]


def test_a_failure_of_the_upstreams_is_told_in_our_words() -> None:
    """Its own speak of the operator's account."""
    raw = event("response.failed", 4, response={"error": {"message": "org-secret is out of credit"}})
    encoder = ResponsesEncoder(parsed())
    encoder.encode(BEGUN)
    told = encoder.encode([frame(raw, ItemDone(0, MESSAGE), FAILED)])
    assert b"org-secret" not in told
    assert data_of(told.removesuffix(DONE))["response"]["error"]["message"] == "cut off"


def test_a_filtered_answer_fails_for_codex() -> None:
    raw = ended(kind="incomplete", incomplete_details={"reason": "content_filter"}, output=[])
    for turn, kind in ((parsed(), "response.incomplete"), (codex(), "response.failed")):
        encoder = ResponsesEncoder(turn)
        encoder.encode(SAID)
        told = encoder.encode([frame(raw, TurnCompleted("content_filter"))])
        assert data_of(told.removesuffix(DONE))["type"] == kind


def test_keepalives_before_between_and_behind() -> None:
    encoder = ResponsesEncoder(parsed())
    first = SseSplitter().feed(encoder.keepalive())
    assert [one.event for one in first] == ["response.created", "response.in_progress", "keepalive"]
    told = encoder.encode(BEGUN)
    assert told == ADDED + DELTA
    assert data_of(encoder.keepalive()) == {"type": "keepalive", "sequence_number": 3}
    last = data_of(encoder.encode([SAID[-1], COMPLETED]).removeprefix(ITEM_DONE).removesuffix(DONE))
    begun: Any = loads(first[0].data or b"")
    assert last["response"]["id"] == begun["response"]["id"]


def test_a_stream_goes_on_where_its_client_left_it() -> None:
    encoder = ResponsesEncoder(parsed(), starting_after=2)
    assert encoder.encode(BEGUN) == DELTA
    told = encoder.encode([Frame((FAILED,))])
    assert data_of(told.removesuffix(DONE))["sequence_number"] == 4


def test_an_answer_that_was_not_streamed_is_made_a_stream() -> None:
    events = (STARTED, ItemStarted(0, "message", "m"), ItemDone(0, MESSAGE), TurnCompleted("stop"))
    told = ResponsesEncoder(parsed()).encode([Frame(events, b'{"output":[]}', "responses", 1, whole=True)])
    assert told.startswith(b"event: response.created\n")
