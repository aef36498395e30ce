from collections.abc import Sequence

import pytest

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.replay.turns import marker_of
from gateway.upstreams.codex.replay_inject import inject
from gateway.upstreams.codex.replay_items import assistant_fingerprint, prefix_fingerprints
from gateway.upstreams.codex.replay_store import AnswerReader, answered_turn
from tests.support.replay import SIG_A, SIG_B, A, C, O, R, U

REQUEST = prefix_fingerprints([U("a")])[-1]


def done(item: Json, index: Json = None) -> JsonObject:
    event: JsonObject = {"type": "response.output_item.done", "item": item}
    return event if index is None else {**event, "output_index": index}


def end(kind: str = "response.completed", output: Json = None, **more: Json) -> JsonObject:
    return {"type": kind, "response": {"id": "resp_1", "output": output, **more}}


def output(*events: JsonObject) -> Json:
    reader = AnswerReader()
    for event in events:
        reader.feed(event)
    return None if reader.response is None else reader.response["output"]


# -- reading answers


def test_rp_54_an_empty_output_is_made_of_the_items_that_were_done() -> None:
    """Given `output_item.done` of index 1 (call) and 0 (reasoning), then `response.completed` with
    `output:[]`, expect reasoning, call.
    """
    found = output(done(C("c"), 1), done(R(), 0), end(output=[]))
    assert found == [R(), C("c")]
    assert isinstance(found, list)
    turn = answered_turn(REQUEST, found)
    assert turn is not None
    assert turn.items == (dumps(R()), dumps(C("c")))


def test_items_without_an_index_come_last_in_order_of_arrival() -> None:
    events = [done(C("x")), done(C("b"), 2.0), done(C("y")), done(C("a"), 0), done(C("z"), True)]
    assert output(*events, end()) == [C("a"), C("b"), C("x"), C("y"), C("z")]


def test_items_that_were_only_added_are_not_done() -> None:
    added: JsonObject = {"type": "response.output_item.added", "item": R(), "output_index": 0}
    assert output(added, end()) == []
    assert output(done("no item", 0), end()) == []


def test_an_output_gets_only_the_ids_it_lacks() -> None:
    events = [
        done({**R(SIG_A), "id": "rs_1"}, 0),
        done({**C("c"), "id": "fc_1"}, 1),
        done({**A("x"), "id": "m"}, 2),
    ]
    given: list[Json] = [R(SIG_B), {**C("c"), "id": "own"}, C("d"), "strange"]
    assert output(*events, end(output=given)) == [
        {**R(SIG_B), "id": "rs_1"},
        {**C("c"), "id": "own"},
        C("d"),
        "strange",
    ]


def test_the_response_is_kept_with_its_output_repaired() -> None:
    reader = AnswerReader()
    event = end(output=[], usage={"input_tokens": 1})
    reader.feed(done(A("x"), 0))
    reader.feed(event)
    assert reader.response == {"id": "resp_1", "output": [A("x")], "usage": {"input_tokens": 1}}
    assert event["response"] == {"id": "resp_1", "output": [], "usage": {"input_tokens": 1}}


def test_done_completes_on_a_websocket() -> None:
    assert output(done(R(), 0), end("response.done")) == [R()]


@pytest.mark.parametrize(
    "last",
    [
        [end("response.incomplete", [R()])],
        [end("response.failed", [R()])],
        [{"type": "error", "message": "no"}],
        [],
        [{"type": "response.completed"}],
    ],
)
def test_rp_55_an_answer_that_was_not_completed_is_none(last: Sequence[JsonObject]) -> None:
    """Given the items of 54 and `response.incomplete`, or a stream that is cut, expect nothing to store."""
    assert output(done(R(), 0), *last) is None


def test_nothing_is_read_after_the_end() -> None:
    assert output(done(R(), 0), end("response.incomplete"), end(output=[R()])) is None
    assert output(end(output=[R()]), done(C("c"), 0), end(output=[])) == [R()]


# -- what is stored


def test_a_turn_knows_what_it_answered_said_and_called() -> None:
    custom: JsonObject = {"type": "custom_tool_call", "call_id": " d ", "name": "n", "input": None}
    turn = answered_turn(REQUEST, [{**R(), "id": "rs_1"}, A("first"), C("c"), A("last"), custom])
    assert turn is not None
    assert turn.marker is not None
    assert turn.marker.request_fingerprint == REQUEST
    assert turn.marker.assistant_fingerprint == assistant_fingerprint(A("last"))
    assert turn.marker.call_ids == ("c", "d")
    assert turn.items[:2] == (dumps(R()), dumps(C("c")))
    assert len(turn.items) == 3
    assert marker_of(turn.encode()[0]) == turn.marker


@pytest.mark.parametrize(
    "nothing", [[], [A("x")], [{"type": "reasoning", "encrypted_content": None}], [O("c")]]
)
def test_rp_56_an_answer_without_replayable_items_is_not_stored(nothing: list[Json]) -> None:
    """Given a completed output with only a message, expect no turn, so that the entry stays as it was."""
    assert answered_turn(REQUEST, nothing) is None


def test_rp_52_the_same_answer_to_the_same_input_is_the_same_turn() -> None:
    """Given the same completed turn twice, expect one id; anything that differs gives another."""

    def turn_id(request: str, *items: JsonObject) -> str:
        turn = answered_turn(request, items)
        assert turn is not None
        assert turn.marker is not None
        return turn.marker.id

    same = turn_id(REQUEST, R(), A("x"), C("c"))
    assert same == turn_id(REQUEST, R(), A("x"), C("c"))
    others = {
        turn_id("", R(), A("x"), C("c")),
        turn_id(REQUEST, R(SIG_B), A("x"), C("c")),
        turn_id(REQUEST, R(), A("y"), C("c")),
        turn_id(REQUEST, R(), A("x"), C("d")),
        turn_id(REQUEST, R(), A("x")),
        turn_id(REQUEST, {**R(), "id": "rs_2"}, A("x"), C("c")),
    }
    assert len(others - {same}) == 6


def test_what_is_stored_of_an_answer_is_injected_into_the_next_request() -> None:
    """The whole way: request, answer, and the request after it by a client that keeps no reasoning."""
    first: JsonObject = {"input": [U("a")]}
    answer: list[Json] = [{**R(), "id": "rs_1"}, A("I look."), C("c")]
    turn = answered_turn(inject(first, []).request_fingerprint, answer)
    assert turn is not None
    second: JsonObject = {"input": [U("a"), A("I look."), C("c"), O("c"), U("b")]}
    found = inject(second, turn.encode())
    assert found.body == {"input": [U("a"), R(), A("I look."), C("c"), O("c"), U("b")]}
