import pytest

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.replay.turns import marker_of
from gateway.upstreams.codex.replay_inject import inject
from gateway.upstreams.codex.replay_items import assistant_fingerprint, prefix_fingerprints
from gateway.upstreams.codex.replay_store import answered_turn
from tests.support.replay import SIG_B, A, C, O, R, U

REQUEST = prefix_fingerprints([U("a")])[-1]


def test_rp_54_items_are_stored_in_the_order_of_the_output() -> None:
    """RP-54. Given an output of reasoning and a call, expect both stored, in that order."""
    turn = answered_turn(REQUEST, [R(), C("c")])
    assert turn is not None
    assert turn.items == (dumps(R()), dumps(C("c")))


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
