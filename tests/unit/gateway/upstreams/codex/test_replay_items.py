import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.replay.turns import Marker
from gateway.upstreams.codex.replay_items import (
    assistant_fingerprint,
    call_id_of,
    comparable_ids,
    from_store,
    is_message,
    normalised,
    prefix_fingerprints,
    stored,
    type_of,
    visible_id,
)
from tests.support.replay import SIG_A, A, C, O, R, U

# -- shapes


def test_rp_19_reasoning_keeps_nothing_but_its_blob() -> None:
    """Given `{"type":"reasoning","id":"rs_1","summary":[…],"encrypted_content":SIG_A}`, expect
    `{"type":"reasoning","summary":[],"content":null,"encrypted_content":SIG_A}`.
    """
    summary: list[Json] = [{"type": "summary_text", "text": "x"}]
    item: JsonObject = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": SIG_A}
    kept = b'{"type":"reasoning","summary":[],"content":null,"encrypted_content":"%s"}' % SIG_A.encode()
    assert stored(item) == kept
    assert stored({**item, "type": " reasoning\n", "status": "completed"}) == kept


@pytest.mark.parametrize("blob", [f" {SIG_A}", f"{SIG_A}\n", None, 7, "", "gAAAA", [SIG_A]])
def test_rp_21_reasoning_without_a_valid_blob_is_dropped(blob: Json) -> None:
    """Given `encrypted_content` with a space before it, null, a number or empty, expect it rejected."""
    assert normalised({"type": "reasoning", "encrypted_content": blob}) is None
    assert normalised({"type": "reasoning"}) is None


def test_rp_24_function_calls() -> None:
    """Given `arguments` as an object, expect it rejected; `""` accepted; `call_id:" c1 "` stored as `c1`."""
    call: JsonObject = {
        "type": "function_call",
        "call_id": " c1 ",
        "name": "n",
        "arguments": "",
        "id": "fc_1",
    }
    assert stored(call) == b'{"type":"function_call","call_id":"c1","name":"n","arguments":""}'
    assert normalised({**call, "arguments": {}}) is None
    for missing in ("call_id", "name", "arguments"):
        assert normalised({**call, missing: None}) is None
    assert normalised({**call, "name": " "}) is None


def test_rp_25_custom_tool_calls() -> None:
    """Given `{"call_id":"c","name":"n","input":{"a":1},"status":"in_progress","extra":1}`, expect
    `{"type":"custom_tool_call","status":"in_progress","call_id":"c","name":"n","input":{"a":1}}`; without
    `input`, rejected.
    """
    call: JsonObject = {
        "type": "custom_tool_call",
        "call_id": "c",
        "name": "n",
        "input": {"a": 1},
        "status": "in_progress",
        "extra": 1,
    }
    assert stored(call) == (
        b'{"type":"custom_tool_call","status":"in_progress","call_id":"c","name":"n","input":{"a":1}}'
    )
    del call["input"]
    assert normalised(call) is None
    contents: list[Json] = [None, "text", [1]]
    for content in contents:
        assert normalised({**call, "status": " ", "input": content}) == {
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "c",
            "name": "n",
            "input": content,
        }


@pytest.mark.parametrize(
    "item",
    [None, "reasoning", [], {}, A("x"), U("x"), O("c"), {"type": "compaction", "encrypted_content": SIG_A}],
)
def test_other_items_are_not_kept(item: Json) -> None:
    assert normalised(item) is None
    assert stored(item) is None


@pytest.mark.parametrize("item", [R(), C("c"), {**C("c"), "type": "custom_tool_call", "input": [1.5]}])
def test_what_is_stored_is_read_as_it_is(item: JsonObject) -> None:
    kept = stored(item)
    assert kept is not None
    found = from_store(kept)
    assert found is not None
    assert dumps(found) == kept


@pytest.mark.parametrize("item", [b"", b"\xff", b"[]", dumps(A("x")), Marker(id="t").encode()])
def test_nothing_else_comes_out_of_the_store(item: bytes) -> None:
    assert from_store(item) is None


# -- ids


def test_rp_43_the_id_that_messages_clients_see() -> None:
    """Given `"call_" + "x" * 70`, expect `call_` and 42 x, `_0d387374764b96e0`: 64 characters."""
    call_id = "call_" + "x" * 70
    assert visible_id(call_id) == "call_" + "x" * 42 + "_0d387374764b96e0"
    assert len(visible_id(call_id)) == 64
    assert comparable_ids(call_id) == (call_id, visible_id(call_id))


def test_an_id_that_clients_take_as_it_is_has_one_form() -> None:
    assert comparable_ids("call_7-B") == ("call_7-B",)
    assert comparable_ids("x" * 64) == ("x" * 64,)
    assert comparable_ids("call.a/b:1") == ("call.a/b:1", "call_a_b_1")
    assert visible_id("é\U0001f600") == "__"


@settings(deadline=None)
@given(st.text(max_size=100))
def test_a_visible_id_is_its_own_visible_id(call_id: str) -> None:
    visible = visible_id(call_id)
    assert len(visible) <= 64
    assert visible_id(visible) == visible


# -- recognising


def test_messages_by_role_with_and_without_a_type() -> None:
    assert is_message(U("x"), "user")
    assert is_message({"role": "Assistant"}, "user", "assistant")
    assert not is_message(U("x"), "assistant")
    others: list[Json] = [C("c"), "x", None, {"type": "reasoning", "role": "user"}]
    for item in others:
        assert not is_message(item, "user")
    assert (type_of({"type": " a "}), type_of(None), call_id_of({"call_id": " c "})) == ("a", "", " c ")


def assistant(content: Json, **more: Json) -> JsonObject:
    return {"type": "message", "role": "assistant", "content": content, **more}


def test_rp_45_fingerprints_of_what_a_model_says() -> None:
    """Given text parts `Hello ` + `world`, expect 64ec88ca…7f3c; `A` + refusal `no`, b1b865d6…547b; an image
    part, none.
    """
    hello: list[Json] = [{"type": "output_text", "text": "Hello "}, {"type": "input_text", "text": "world"}]
    expected = "64ec88ca00b268e5ba1a35678a1b5316d212f4f366b2477232534a8aeca37f3c"
    assert assistant_fingerprint(assistant(hello)) == expected
    assert assistant_fingerprint({"role": "ASSISTANT", "content": "Hello world"}) == expected
    refused: list[Json] = [{"type": "output_text", "text": "A"}, {"type": "refusal", "refusal": "no"}]
    assert assistant_fingerprint(assistant(refused)) == (
        "b1b865d6511e6f03a3bc9cbaab3538b4bc3cfac0c33ca6c50a64bf9d046d547b"
    )
    assert assistant_fingerprint(assistant([*hello, {"type": "input_image"}])) == ""


@pytest.mark.parametrize(
    "item",
    [
        None,
        U("x"),
        C("c"),
        assistant(None),
        assistant(""),
        assistant([]),
        assistant([{"type": "output_text"}]),
        assistant(["text"]),
        assistant({"type": "output_text", "text": "x"}),
        {**A("x"), "type": "reasoning"},
    ],
)
def test_what_has_no_fingerprint(item: Json) -> None:
    assert assistant_fingerprint(item) == ""


# -- prefixes


def test_rp_44_fingerprints_of_prefixes() -> None:
    """Given no items, expect e3b0c442…b855; one user message `a`, 733dcc5b…a73f."""
    assert prefix_fingerprints([]) == [hashlib.sha256().hexdigest()]
    assert (
        prefix_fingerprints([U("a")])[1] == "733dcc5bd3ab76912c64acef4276dbeb3394abc79e899f9630b3ce9b0949a73f"
    )


@settings(deadline=None)
@given(st.lists(st.sampled_from([U("a"), U("b"), A("a"), R(), C("c"), O("c")]), max_size=8))
def test_every_prefix_has_the_fingerprint_it_has_alone(items: list[Json]) -> None:
    prints = prefix_fingerprints(items)
    assert len(prints) == len(items) + 1 == len(set(prints))
    for index in range(len(items) + 1):
        assert prefix_fingerprints(items[:index])[-1] == prints[index]


def test_fingerprints_depend_on_members_as_they_are_sent() -> None:
    """They are hashed as serialised: a parsed body gives what its bytes gave."""
    text = b'{"type":"message","role":"user","content":"\xc3\xa9 <b> \\u2028"}'
    assert prefix_fingerprints([loads(text)]) == prefix_fingerprints([loads(dumps(loads(text)))])
    assert prefix_fingerprints([{"a": 1, "b": 2}]) != prefix_fingerprints([{"b": 2, "a": 1}])
