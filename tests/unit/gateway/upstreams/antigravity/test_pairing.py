import pytest

from gateway.kernel.json import Json, JsonObject
from gateway.upstreams.antigravity.pairing import pairing_fault, with_responses_in_place
from tests.support.signature_chains import Unchanged, contents, fc, fr, model, request, text, user

CALLS = model(fc("a", name="f"), fc("b", name="g"))


def placed(*history: Json) -> list[JsonObject]:
    payload = request(*history)
    with Unchanged(payload):
        done = with_responses_in_place(payload)
    assert with_responses_in_place(done) is done
    return contents(done)


def test_rp_80_responses_get_the_model_s_role_and_the_order_of_their_calls() -> None:
    """Given a functionResponse with the role user, expect the role model; given two responses in swapped
    order, expect them in the order of the calls.
    """
    swapped = user(fr("b", name="g"), fr("a", name="f"))
    assert placed(user("go"), CALLS, swapped)[2] == model(fr("a", name="f"), fr("b", name="g"))


def test_the_role_of_responses_can_be_another() -> None:
    payload = request(user("go"), CALLS, {"role": "function", "parts": [fr("a", name="f")]})
    done = with_responses_in_place(payload, role="user")
    assert contents(done)[2] == user(fr("a", name="f"))


def test_a_content_that_holds_anything_else_keeps_its_role() -> None:
    mixed = user(fr("b", name="g"), text("so"), fr("a", name="f"))
    assert placed(CALLS, mixed)[1] == user(fr("a", name="f"), text("so"), fr("b", name="g"))


@pytest.mark.parametrize("name", ["", "unknown", " "])
def test_a_name_that_a_response_lost_is_that_of_its_call(name: str) -> None:
    assert placed(CALLS, user(fr("a", name=name)))[1] == model(fr("a", name="f"))
    assert placed(CALLS, user(fr("x", name=name)))[1] == model(fr("x", name=name))


def test_a_name_is_not_made_of_a_call_that_has_none_or_comes_later() -> None:
    assert placed(model(fc("a", name="unknown")), user(fr("a", name="")))[1] == model(fr("a", name=""))
    assert placed(user(fr("a", name="")), CALLS)[0] == model(fr("a", name=""))


def test_responses_without_ids_get_those_of_their_calls() -> None:
    """Google's SDK for Python sends none when it calls functions by itself."""
    both = model(fr("a", name="f"), fr("b", name="g"))
    assert placed(CALLS, user(fr("", name="f"), fr("", name="g")))[1] == both
    assert placed(CALLS, user(fr("", name="g"), fr("", name="f")))[1] == both
    assert placed(CALLS, user(fr("", name="g"), fr("a", name="f")))[1] == both
    assert placed(CALLS, user(fr("", name="unknown"), fr("", name="g")))[1] == both
    twice = model(fc("a", name="f"), fc("b", name="f"))
    assert placed(twice, user(fr("", name="f"), fr("", name="f")))[1] == model(
        fr("a", name="f"), fr("b", name="f")
    )
    other = user(fr("", name="f"), fr("", name="h"))
    assert placed(CALLS, other)[1] == model(fr("a", name="f"), fr("", name="h"))
    bare = model(fc("", name="f"))
    assert placed(bare, user(fr("", name="f")))[1] == model(fr("", name="f"))


def test_another_name_is_not_touched() -> None:
    assert placed(CALLS, user(fr("a", name="h")))[1] == model(fr("a", name="h"))


@pytest.mark.parametrize(
    "responses",
    [
        [fr("b"), fr("x")],
        [fr(""), fr("")],
        [fr("b"), fr("b")],
        [fr("b")],
        [fr("b"), fr("a"), fr("c")],
    ],
)
def test_where_ids_do_not_say_which_the_order_stays(responses: list[JsonObject]) -> None:
    assert placed(CALLS, model(*responses))[1] == model(*responses)


def test_calls_with_one_id_are_not_ordered_by_it() -> None:
    twice = model(fc("a"), fc("b"), fc("b"))
    assert placed(twice, model(fr("b"), fr("a")))[1] == model(fr("b"), fr("a"))


def test_contents_without_responses_are_left_alone() -> None:
    history: list[Json] = [user(), user("a"), {"role": "user"}, {"role": "user", "parts": []}]
    assert placed(*history) == history


def test_what_a_user_says_in_between_does_not_part_calls_from_responses() -> None:
    history = placed(CALLS, user("wait"), user(fr("b", name="g"), fr("a", name="f")))
    assert history[2] == model(fr("a", name="f"), fr("b", name="g"))


# -- faults


@pytest.mark.parametrize(
    "history",
    [
        [],
        [user("a"), model("b")],
        [user("a"), model(fc("x"))],
        [user("a"), model(fc("x")), user("never mind")],
        [user("a"), model(fc("x")), model(fr("x")), model("b")],
        [user("a"), model(fc("x")), user("wait"), user(fr("x"))],
        [user("a"), model("b", fc("x"), fc("y")), model(fr("x"), fr("y"), "so")],
        [user("a"), model(fc("")), user(fr(""))],
        [user("a"), model(fc("")), user(fr("anything"))],
        [None, {"parts": None}, user("a")],
    ],
)
def test_histories_that_can_be_sent(history: list[Json]) -> None:
    assert pairing_fault(request(*history)) is None


@pytest.mark.parametrize(
    ("history", "fault"),
    [
        ([user(fr("x"))], "request.contents[0]: a functionResponse without a functionCall before it"),
        (
            [model(fc("x")), model(fr("x")), model(fr("x"))],
            "request.contents[2]: a functionResponse without a functionCall before it",
        ),
        (
            [model(fc("x"), fc("y")), model(fr("x"))],
            "request.contents[1]: 1 functionResponse for 2 functionCall",
        ),
        (
            [model(fc("x")), model("b")],
            "request.contents[1]: 1 functionCall without their functionResponse before it",
        ),
        (
            [model(fc("x")), user("wait"), model(fc("y"))],
            "request.contents[2]: 1 functionCall without their functionResponse before it",
        ),
        ([model(fc("x"), fr("x"))], "request.contents[0]: calls and responses in one content"),
        (
            [model(fc("x")), model(fr("y"))],
            "request.contents[1].parts[0]: a functionResponse whose id is not that of "
            "request.contents[0].parts[0]",
        ),
        (
            [model(fc("x")), model(fr(""))],
            "request.contents[1].parts[0]: a functionResponse whose id is not that of "
            "request.contents[0].parts[0]",
        ),
        (
            [model("a", fc("x")), model(fr("x", name="g"))],
            "request.contents[1].parts[0]: a functionResponse whose name is not that of "
            "request.contents[0].parts[1]",
        ),
        ([model(fc("x", name=" "))], "request.contents[0].parts[0]: a functionCall without a name"),
    ],
)
def test_histories_that_cannot_be_sent(history: list[Json], fault: str) -> None:
    assert pairing_fault(request(*history)) == fault
    assert pairing_fault({"contents": history}) == fault.replace("request.contents", "contents")
