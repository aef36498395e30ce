from typing import Any

import pytest

from gateway.upstreams.codex.edits import Shape, edited, has_sealed, has_stored
from gateway.wire.responses import CONTEXT_GONE
from tests.support.replay import SIG_A, A, C, O, R, U

SHAPE = Shape(model="gpt", stream=True)
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SIG_A}
NOTE = U(CONTEXT_GONE)


def body(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt", "stream": True, "input": list(items), **fields}


def items(given: dict[str, Any], **shape: Any) -> list[Any]:
    found = edited(given, Shape(**{"model": "gpt", "stream": True, **shape}))["input"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    "untouched",
    [
        body(U("a"), SEALED, A("b"), C("c"), O("c"), future={"x": 1}),
        {"model": "gpt", "stream": True, "input": "text"},
        body(U("a"), {"type": "compaction_trigger"}),
        body(U("a"), {"type": "context_compaction"}),
        body({"type": "tomorrow", "id": "anything"}, None, "text", store=False),
        body({"type": "reasoning", "id": "rs_1", "summary": []}),
    ],
)
def test_a_body_that_needs_no_edit_is_the_same_object(untouched: dict[str, Any]) -> None:
    assert edited(untouched, SHAPE) is untouched


def test_the_clients_body_is_never_changed() -> None:
    given = body(U("a"), {**SEALED, "encrypted_content": "foreign"}, model="x", generate=False)
    copy = {**given, "input": list(given["input"])}
    edited(given, SHAPE)
    assert given == copy


def test_model_and_stream_are_the_upstreams() -> None:
    assert edited(body(model="alias"), SHAPE) == body()
    given = {"model": "gpt", "input": "a"}
    assert edited(given, Shape(model="gpt", stream=False)) is given, "no stream is the default"
    assert edited(given, SHAPE) == {**given, "stream": True}
    assert edited(body(stream=False), Shape(model="gpt", stream=None)) == {"model": "gpt", "input": []}


def test_fields_that_mean_nothing_there_are_dropped() -> None:
    given = body(generate=True, safety_identifier="s")
    assert edited(given, SHAPE) == body(safety_identifier="s")
    assert edited(given, Shape(model="gpt", stream=True, drop=("safety_identifier",))) == body()


def test_codex_own_field_of_items_stays_here() -> None:
    own = {**U("a"), "internal_chat_message_metadata_passthrough": {"x": 1}}
    assert items(body(own)) == [U("a")]


@pytest.mark.parametrize("blob", ["foreign", None, 7, ""])
def test_cv_11_foreign_reasoning_is_dropped_silently(blob: Any) -> None:
    """CV-11. Given reasoning that somebody else sealed: dropped, and the request works."""
    foreign = {**SEALED, "encrypted_content": blob}
    call = {**C("c"), "id": "fc_1"}
    assert items(body(foreign, call, O("c"), store=False)) == [C("c"), O("c")], "its followers lose their ids"
    told = {**foreign, "summary": [{"type": "summary_text", "text": "so"}]}
    kept = {name: value for name, value in told.items() if name not in ("id", "encrypted_content")}
    assert items(body(told, store=False)) == [kept]


def test_reasoning_that_is_stored_is_found_by_its_id() -> None:
    foreign = {**SEALED, "encrypted_content": "foreign"}
    assert items(body(foreign)) == [{"type": "reasoning", "id": "rs_1", "summary": []}]
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert items(body(bare)) == [bare]
    assert items(body(bare, store=False)) == []


def test_what_others_compacted_is_a_note_unless_the_upstream_compacts() -> None:
    given = body({"type": "compaction", "encrypted_content": "gAAAA"}, U("a"))
    assert items(given) == [NOTE, U("a")]
    assert edited(given, Shape(model="gpt", stream=True, compaction=True)) is given


def test_a_fresh_request_holds_nothing_sealed() -> None:
    given = body(
        {"type": "compaction", "encrypted_content": "gAAAA"},
        {**SEALED, "id": "rs_2", "summary": [{"type": "summary_text", "text": "so"}]},
        SEALED,
        {**A("b"), "id": "msg_1"},
    )
    assert has_sealed(given)
    found = edited(given, Shape(model="gpt", stream=True, compaction=True, fresh=True))
    told = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}
    assert found["input"] == [NOTE, told, A("b")]
    assert not has_sealed(found)
    assert not has_sealed({"input": "text"})


def test_a_fresh_request_names_nothing_that_is_stored() -> None:
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    told = {**bare, "id": "rs_2", "summary": [{"type": "summary_text", "text": "so"}]}
    given = body(bare, told, {**C("c"), "id": "fc_1"}, O("c"))
    assert has_stored(given)
    found = edited(given, Shape(model="gpt", stream=True, fresh=True))
    assert found["input"] == [{k: v for k, v in told.items() if k != "id"}, C("c"), O("c")]
    assert not has_stored(found)
    assert not has_stored({"input": "text"})


def test_references_within_the_input_are_left_out() -> None:
    item = {**A("b"), "id": "msg_1"}
    assert items(body(item, {"type": "item_reference", "id": "msg_1"})) == [item]


def test_ids_are_made_sound() -> None:
    assert items(body({**U("a"), "id": "x"})) == [{**U("a"), "id": "msg_x"}]
    dropped = {**R(), "id": "r" * 70}
    assert items(body(dropped, {**C("c"), "id": "fc_1"}, O("c"))) == [C("c"), O("c")]
