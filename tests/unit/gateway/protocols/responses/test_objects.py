from typing import Any

import pytest

from gateway.protocols.responses.objects import (
    ReasoningTexts,
    as_text,
    content_out,
    item_id,
    named,
    opaque_out,
    output_of,
    said_by,
    wants_encrypted,
)
from gateway.protocols.responses.tools import CallNames
from gateway.turn.items import (
    MediaPart,
    Message,
    OpaqueItem,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from tests.support.responses import parsed

CITATION = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
EXEC = {"type": "custom", "name": "exec"}
FUNCTIONS = {"type": "namespace", "name": "functions", "tools": [EXEC]}


def output(*items: Any, **fields: Any) -> list[dict[str, Any]]:
    return output_of(parsed(**fields), items)  # type: ignore[return-value]


def message(*parts: Any) -> Message:
    return Message(role="assistant", parts=parts)


def test_messages_say_text_and_refusals() -> None:
    (out,) = output(message(TextPart("a", (CITATION,)), RefusalPart("no"), TextPart("")))  # type: ignore[arg-type]
    assert out["content"] == [
        {"type": "output_text", "text": "a", "annotations": [CITATION], "logprobs": []},
        {"type": "refusal", "refusal": "no"},
    ]
    assert (out["type"], out["role"], out["status"]) == ("message", "assistant", "completed")
    assert out["id"].startswith("msg_")


def test_a_message_that_says_nothing_is_left_out() -> None:
    call = ToolCall(call_id="c1", name="f", arguments="{}")
    for empty in (message(), message(TextPart("")), message(MediaPart(kind="image", data="AAAA"))):
        (out,) = output(empty, call)
        assert (out["type"], out["id"][:3]) == ("function_call", "fc_")


@pytest.mark.parametrize(
    ("item", "summary", "content"),
    [
        (Reasoning(), [], None),
        (Reasoning(text="full"), ["full"], None),
        (Reasoning(summary=("a", "b")), ["a", "b"], None),
        (Reasoning(summary=("a",), text="full"), ["a"], ["full"]),
    ],
)
def test_full_reasoning_is_the_summary_where_there_is_none(
    item: Reasoning, summary: list[str], content: list[str] | None
) -> None:
    (out,) = output(item)
    assert [part["text"] for part in out["summary"]] == summary
    assert ([part["text"] for part in out["content"]] if "content" in out else None) == content


def test_full_reasoning_that_was_told_first_stays_first() -> None:
    texts = ReasoningTexts.of(Reasoning(summary=("a",), text="full"), full_first=True)
    assert texts == ReasoningTexts(("full", "a"), "")


def test_the_seal_of_reasoning_is_given_to_those_who_ask() -> None:
    sealed = Reasoning(text="x", signature="s")
    (out,) = output(sealed, include=["reasoning.encrypted_content"])
    assert out["encrypted_content"] == "s"
    assert "encrypted_content" not in output(sealed)[0]
    assert "encrypted_content" not in output(Reasoning(text="x"), include=["reasoning.encrypted_content"])[0]


@pytest.mark.parametrize(
    ("include", "wanted"),
    [(None, False), ([], False), (["x"], False), (["reasoning.encrypted_content"], True)],
)
def test_who_wants_seals(include: Any, wanted: bool) -> None:
    assert wants_encrypted(parsed(include=include)) is wanted


def test_cv_9_calls_get_back_the_clients_names() -> None:
    """CV-9. Given the freeform tool `exec` in a namespace, offered as one function: its call is a
    `custom_tool_call` named `exec`.
    """
    call = ToolCall(call_id="c1", name="functions__exec", arguments='{"input": "ls"}')
    (out,) = output(call, given=[{"type": "additional_tools", "tools": [FUNCTIONS]}, "hi"])
    assert out == {
        "type": "custom_tool_call",
        "id": out["id"],
        "status": "completed",
        "call_id": "c1",
        "name": "exec",
        "input": "ls",
        "namespace": "functions",
    }
    assert out["id"].startswith("ctc_")


def test_a_call_is_custom_when_either_side_says_so() -> None:
    names = CallNames(parsed(tools=[EXEC]).tools)
    offered = named(ToolCall(call_id="c", name="exec", arguments="x"), names)
    called = named(ToolCall(call_id="c", name="other", arguments="x", kind="custom"), names)
    neither = named(ToolCall(call_id="c", name="other", arguments="x"), names)
    assert (offered.custom, called.custom, neither.custom) == (True, True, False)
    assert said_by(ToolCall(call_id="c", name="f", arguments='{"input":"x"}'), neither) == '{"input":"x"}'


def test_calls_that_the_upstream_ran_come_with_their_results() -> None:
    call, result, last = output(
        ToolCall(call_id="c1", name="f", arguments="{}", result="ok"), message(TextPart("done"))
    )
    assert call["type"] == "function_call"
    assert (result["type"], result["call_id"], result["output"]) == ("function_call_output", "c1", "ok")
    assert last["type"] == "message"
    assert len({call["id"], result["id"], last["id"]}) == 3


def test_items_of_this_dialect_go_through() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    kept = OpaqueItem(dialect="responses", type="web_search_call", payload=search, id="ws_1")  # type: ignore[arg-type]
    foreign = OpaqueItem(dialect="gemini", type="executableCode", payload={})
    nameless = OpaqueItem(dialect="responses", type="x", payload={"a": 1})
    out = output(foreign, kept, nameless, ToolResult(call_id="c", parts=()))
    assert out[0] == search
    assert out[1] == {"id": out[1]["id"], "a": 1, "type": "x"}
    assert len(out) == 2
    assert opaque_out(parsed(), foreign, 0) is None


def test_ids_depend_on_the_turn_and_the_place_alone() -> None:
    turn = parsed()
    assert item_id(turn, "msg", 0) == item_id(parsed("other"), "msg", 0)
    assert len({item_id(turn, prefix, index) for prefix in ("msg", "fc") for index in (0, 1)}) == 4


def test_media_have_no_place_in_a_message() -> None:
    assert content_out([MediaPart(kind="image", url="u")]) == []


@pytest.mark.parametrize(
    ("value", "text"), [("x", "x"), (None, ""), ({"v": 1}, '{"v": 1}'), ([1, "灵"], '[1, "灵"]'), (0, "0")]
)
def test_anything_is_text(value: Any, text: str) -> None:
    assert as_text(value) == text
