import pytest

from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import SENTINEL
from gateway.upstreams.antigravity.sanitise import sanitised, with_first_calls_signed
from tests.support.signature_chains import G1, Unchanged, fc, fr, gemini_signature, model, request, text, user

GOOD = gemini_signature("a")
OTHER = gemini_signature("b")


@pytest.mark.parametrize(
    ("sent", "clean"),
    [
        ([fc("x", signature=GOOD)], [fc("x", signature=GOOD)]),
        ([fc("x")], [fc("x", signature=SENTINEL)]),
        ([fc("x", signature=G1)], [fc("x", signature=SENTINEL)]),
        (
            [fc("x", signature="context_engineering_is_the_way_to_go")],
            [fc("x", signature=SENTINEL)],
        ),
        ([fc("x"), fc("y")], [fc("x", signature=SENTINEL), fc("y")]),
        (
            [fc("x", signature=G1), fc("y", signature=G1), fc("z", signature=OTHER)],
            [fc("x", signature=SENTINEL), fc("y"), fc("z", signature=OTHER)],
        ),
        ([fc("x", signature=GOOD), fc("y", signature=SENTINEL)], [fc("x", signature=GOOD), fc("y")]),
        ([text("a", GOOD)], [text("a", GOOD)]),
        ([text("a", G1)], [text("a")]),
        ([text("a", SENTINEL), fc("x")], [text("a"), fc("x", signature=SENTINEL)]),
        ([{"text": "a", "thought_signature": GOOD}], [text("a", GOOD)]),
        (
            [{**fc("x"), "extra_content": {"google": {"thought_signature": f" {GOOD} "}}}],
            [fc("x", signature=GOOD)],
        ),
        ([fr("x") | {"thoughtSignature": GOOD}], [fr("x")]),
        ([{"inlineData": {}, "thoughtSignature": GOOD}], [{"inlineData": {}, "thoughtSignature": GOOD}]),
        ([{"toolCall": {}, "thoughtSignature": G1}], [{"toolCall": {}, "thoughtSignature": G1}]),
        ([None, "x"], [None, "x"]),
    ],
)
def test_what_a_model_s_content_may_carry(sent: list[Json], clean: list[Json]) -> None:
    payload = request(user("go"), model(*sent))
    payload["request"]["contents"][1] = {"role": "model", "parts": sent}  # type: ignore[index,call-overload]
    with Unchanged(payload):
        done = sanitised(payload)
    assert done == request(user("go"), {"role": "model", "parts": clean})
    assert sanitised(done) is done


def test_what_users_send_is_left_alone_but_for_responses() -> None:
    payload = request(user(text("a", G1), fc("x")), user(fr("x") | {"thought_signature": GOOD}))
    assert sanitised(payload) == request(user(text("a", G1), fc("x")), user(fr("x")))


def test_a_history_that_is_clean_is_the_same_object() -> None:
    payload = request(user("go"), model(fc("x", signature=GOOD)), user(fr("x")), {"role": "model"}, None)
    assert sanitised(payload) is payload
    assert sanitised({}) == {}


def test_the_first_call_of_each_content_gets_the_sentinel_when_it_carries_nothing() -> None:
    payload = request(
        user(fc("u")),
        model("a", fc("x"), fc("y")),
        model(fc("z", signature=G1), fc("z2")),
        model(fc("s", signature=SENTINEL)),
        model("b"),
    )
    with Unchanged(payload):
        done = with_first_calls_signed(payload)
    assert done == request(
        user(fc("u")),
        model("a", fc("x", signature=SENTINEL), fc("y")),
        model(fc("z", signature=G1), fc("z2")),
        model(fc("s", signature=SENTINEL)),
        model("b"),
    )
    assert with_first_calls_signed(done) is done


def test_without_an_envelope_it_is_all_the_same() -> None:
    plain: JsonObject = {"contents": [model(fc("x"))]}
    assert sanitised(plain) == {"contents": [model(fc("x", signature=SENTINEL))]}
