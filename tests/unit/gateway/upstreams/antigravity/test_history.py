import hashlib

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.upstreams.antigravity.history import (
    Contexts,
    canonical,
    carried_signature,
    claude_call_id,
    contents_of,
    contents_path,
    degraded_call_id,
    id_of,
    is_reserved_id,
    is_signed_with,
    name_of,
    parts_of,
    request_of,
    role_of,
    segment_of,
    signature_of,
    text_hash,
    with_contents,
    with_degraded_id,
    with_signature,
    without_signature,
)
from tests.support.signature_chains import G1, Unchanged, fc, fr, model, request, text, thought, user

RESERVED = "cpa_gemini_58f89fa9e855b0cf6850556964383735"

# -- payloads


def test_a_request_is_found_with_and_without_its_envelope() -> None:
    inner: JsonObject = {"contents": [user("a")]}
    for payload, path in ((inner, "contents"), ({"model": "m", "request": inner}, "request.contents")):
        assert request_of(payload) is inner
        assert contents_of(payload) == [user("a")]
        assert contents_path(payload) == path
        with Unchanged(payload):
            changed = with_contents(payload, [user("b")])
        assert contents_of(changed) == [user("b")]
        assert changed.get("model") == payload.get("model")
        assert with_contents(payload, contents_of(payload)) is payload
    assert with_contents({"request": {"a": 1}}, [user("b")]) == {"request": {"a": 1, "contents": [user("b")]}}


@pytest.mark.parametrize(
    "payload", [{}, {"request": None}, {"contents": None}, {"request": {"contents": {}}}, {"request": []}]
)
def test_without_contents_there_are_none(payload: JsonObject) -> None:
    assert contents_of(payload) == []


@pytest.mark.parametrize("content", [None, 1, "x", [], {}, {"parts": None}, {"parts": {}}, {"role": ["x"]}])
def test_what_is_no_content_has_no_parts_and_no_role(content: Json) -> None:
    assert parts_of(content) == []
    assert role_of(content) == ""


def test_words_are_compared_without_white_space() -> None:
    assert role_of({"role": " Model "}) == "model"
    assert (id_of({"id": " x "}), name_of({"name": "\tf"})) == ("x", "f")
    assert (id_of({"id": 7}), id_of({"id": None}), id_of({}), id_of({"id": {}})) == ("7", "", "", "")


# -- signatures on parts


@pytest.mark.parametrize(
    ("part", "rest"),
    [
        (text("a", G1), text("a")),
        ({"text": "a", "thought_signature": f" {G1} "}, text("a")),
        ({"text": "a", "extra_content": {"google": {"thought_signature": G1}}}, text("a")),
        (
            {"text": "a", "extra_content": {"google": {"thought_signature": G1, "x": 1}, "y": 2}},
            {"text": "a", "extra_content": {"y": 2, "google": {"x": 1}}},
        ),
        ({"thoughtSignature": " ", "thought_signature": G1}, {}),
    ],
)
def test_a_signature_is_found_and_taken_away_under_each_of_its_names(
    part: JsonObject, rest: JsonObject
) -> None:
    with Unchanged(part):
        assert carried_signature(part) == signature_of(part) == G1
        assert without_signature(part) == rest
        signed = with_signature(part, G1)
    assert signed == {**rest, "thoughtSignature": G1}
    assert is_signed_with(signed, G1)


def test_a_part_without_a_signature_is_left_as_it_is() -> None:
    for part in (text("a"), {"extra_content": {"google": {"x": 1}}}, {"extra_content": "x"}):
        assert without_signature(part) is part
        assert not is_signed_with(part, G1)


def test_a_part_that_also_has_an_alias_is_not_signed_as_it_should_be() -> None:
    assert not is_signed_with({"thoughtSignature": G1, "thought_signature": G1}, G1)
    assert not is_signed_with({"thoughtSignature": f"{G1} "}, G1)
    openai: JsonObject = {"extra_content": {"google": {"thought_signature": "x"}}}
    assert not is_signed_with({**openai, "thoughtSignature": G1}, G1)


def test_a_sentinel_is_carried_but_is_no_signature() -> None:
    part = text("a", "skip_thought_signature_validator")
    assert carried_signature(part) == "skip_thought_signature_validator"
    assert signature_of(part) == ""
    assert signature_of("x") == ""


# -- texts


def test_texts_and_thoughts_are_segments_and_nothing_else_is() -> None:
    assert segment_of(text("a")) == ("text", "a")
    assert segment_of(text("")) == ("text", "")
    assert segment_of(thought("a")) == ("thought", "a")
    assert segment_of({"text": "a", "thought": "true"}) == ("text", "a")
    others: list[Json] = [
        {},
        {"text": None},
        {"text": ["a"]},
        fc("x"),
        fr("x"),
        None,
        "x",
        {**fc("x"), "text": "a"},
    ]
    assert [segment_of(part) for part in others] == [None] * len(others)


def test_the_hash_of_a_text_knows_its_kind() -> None:
    assert text_hash("text", "Hello") == "e2672696f355ee00cf5624cb8b2a1796b3b231a436d25451b2278be748326d41"
    assert text_hash("thought", "é") == hashlib.sha256("thought\0é".encode()).hexdigest()


# -- ids


def test_rp_75_the_id_under_which_claude_s_clients_see_a_call() -> None:
    """Given fc-1, `read`, `{"path":"a<b","n":1}`, expect the canonical arguments
    `{"n":1,"path":"a\\u003cb"}`, the id cpa_gemini_58f89fa9e855b0cf6850556964383735, and unresolved
    call_081f3a0e4475 on call and response.
    """
    args: JsonObject = {"path": "a<b", "n": 1}
    assert canonical(args) == b'{"n":1,"path":"a\\u003cb"}'
    assert claude_call_id(" fc-1 ", " read", args) == RESERVED
    assert claude_call_id("fc-1", "read", {"n": 1.0, "path": "a<b"}) == RESERVED
    assert degraded_call_id(RESERVED) == "call_081f3a0e4475"
    degraded = fc("call_081f3a0e4475"), fr("call_081f3a0e4475")
    with Unchanged(fc(RESERVED)):
        assert (with_degraded_id(fc(RESERVED)), with_degraded_id(fr(RESERVED))) == degraded


def test_a_call_without_an_id_or_a_name_has_no_other_id() -> None:
    assert claude_call_id("", "read", {}) == ""
    assert claude_call_id("fc-1", " ", {}) == ""


@pytest.mark.parametrize(
    ("call_id", "reserved"),
    [
        (RESERVED, True),
        (RESERVED.replace("c", "C").replace("Cpa", "cpa"), True),
        (RESERVED[:-1], False),
        (f"{RESERVED}0", False),
        (RESERVED[:-1] + "g", False),
        ("cpa_gemini_", False),
        ("fc-1", False),
        ("", False),
    ],
)
def test_which_ids_are_reserved(call_id: str, reserved: bool) -> None:
    assert is_reserved_id(call_id) is reserved
    part = fc(call_id)
    assert (with_degraded_id(part) is not part) is reserved


def test_other_parts_have_no_id_to_degrade() -> None:
    others: list[Json] = [text("a"), None, {"functionCall": None}, fc("fc-1"), fr("")]
    assert [with_degraded_id(part) for part in others] == others


def test_what_is_nested_too_deep_cannot_be_sent() -> None:
    deep: Json = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested too deep"):
        canonical(deep)


# -- contexts


def contexts(payload: JsonObject) -> Contexts:
    return Contexts(request_of(payload), contents_of(payload))


def test_what_comes_before_a_content_is_hashed() -> None:
    found = contexts(request(user("go"), model("x")))
    assert found.before(1) == "ddf0abcfea54f565785c6ddf5e4c00ba597996aaa34f8da1ebd2912fb7e2b0be"
    assert found.before(1) == hashlib.sha256(b'user\0{"text":"go"}\0').hexdigest()
    assert found.before(2) == hashlib.sha256(b'user\0{"text":"go"}\0model\0{"text":"x"}\0').hexdigest()


def test_before_the_first_content_there_is_what_the_request_says_of_all() -> None:
    assert contexts(request(user("go"))).before(0) == ""
    said = contexts(request(systemInstruction={"b": 1, "a": 2}, toolConfig=None, other=1))
    expected = b'request.systemInstruction\0{"a":2,"b":1}\0request.toolConfig\0null\0'
    assert said.before(0) == hashlib.sha256(expected).hexdigest()
    tools = contexts({"contents": [], "tools": []})
    assert tools.before(0) == hashlib.sha256(b"request.tools\0[]\0").hexdigest()


def test_there_is_nothing_before_a_content_that_cannot_be() -> None:
    found = contexts(request(user("go")))
    assert (found.before(-1), found.before(2)) == ("", "")


def test_roles_count_and_signatures_and_what_is_no_list_of_parts_do_not() -> None:
    plain = contexts(request(user("go"), model(fc("x")), {"role": "user"})).before(3)
    parts: JsonObject = {"role": " MODEL ", "parts": [fc("x", signature=G1)]}
    assert contexts(request(user("go"), parts, {"role": "user", "parts": "x"})).before(3) == plain
    assert contexts(request(user("go"), user(fc("x")), {"role": "user"})).before(3) != plain
    assert contexts(request(user("go"), model(fc("y")), {"role": "user"})).before(3) != plain


def test_an_id_that_nothing_resolves_counts_as_what_is_sent() -> None:
    sent = request(user("go"), model(fc(degraded_call_id(RESERVED))))
    assert contexts(request(user("go"), model(fc(RESERVED)))).before(2) == contexts(sent).before(2)


def test_an_empty_hash_matches_everything() -> None:
    found = contexts(request(user("go")))
    assert found.matches("", 7)
    assert found.matches(found.before(1), 1)
    assert not found.matches("x", 1)


def test_what_changed_is_hashed_again_once_it_is_told() -> None:
    history: list[Json] = [user("a"), user("b"), user("c")]
    found = Contexts({}, history)
    before = [found.before(index) for index in range(4)]
    history[1] = user("x")
    assert [found.before(index) for index in range(4)] == before
    found.forget(1)
    after = [found.before(index) for index in range(4)]
    assert after[:2] == before[:2]
    assert not set(after[2:]) & set(before)
    history.insert(0, user("first"))
    found.forget(0)
    assert found.before(3) == contexts(request(user("first"), user("a"), user("x"))).before(3)
