from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.responses.items import InputRead, read_input
from gateway.turn.flatten import flatten_parts
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.wire.responses import CONTEXT_GONE

HI = {"type": "message", "role": "user", "content": "hi"}


def read(*items: Any) -> InputRead:
    return read_input(list(items))


def items(*given: Any) -> tuple[Item, ...]:
    """Of input that loses nothing."""
    found = read(*given)
    assert found.losses == []
    return found.items


def user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text),))


def result(call_id: str, text: str) -> ToolResult:
    return ToolResult(call_id=call_id, parts=(TextPart(text),))


# -- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["hi", {"role": "user", "content": "hi"}, ["hi"], [HI]])
def test_input_is_text_an_item_or_a_list(given: Any) -> None:
    assert read_input(given) == InputRead((user("hi"),), [], [])


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
@pytest.mark.parametrize("typed", [{}, {"type": "message"}])
def test_messages_come_with_and_without_their_type(role: str, typed: dict[str, str]) -> None:
    (message,) = items({**typed, "role": role, "content": [{"type": "input_text", "text": "x"}]})
    assert message == Message(role=role, parts=(TextPart("x"),))  # type: ignore[arg-type]


def test_parts_of_messages() -> None:
    content = [
        {"type": "input_text", "text": "a"},
        {"type": "output_text", "text": "b", "annotations": []},
        {"type": "text", "text": "c"},
        {"type": "summary_text", "text": "d"},
        {"type": "refusal", "refusal": "no"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
    ]
    (message,) = items({"role": "user", "content": content})
    assert isinstance(message, Message)
    assert message.parts == (
        TextPart("a"),
        TextPart("b"),
        TextPart("c"),
        TextPart("d"),
        RefusalPart("no"),
        MediaPart(kind="image", mime_type="image/png", data="AAAA", detail="low"),
        MediaPart(kind="image", file_id="file_1"),
        MediaPart(kind="file", mime_type="application/pdf", data="BBBB", name="a.pdf"),
        MediaPart(kind="file", url="https://example.com/a.pdf"),
        MediaPart(kind="audio", mime_type="audio/wav", data="CCCC"),
    )


def test_an_unknown_part_is_a_loss() -> None:
    found = read({"role": "user", "content": [{"type": "hologram"}, {"type": "input_text", "text": "x"}]})
    assert found.items == (user("x"),)
    assert found.losses == [Loss("input.0.content.0", "unknown-part")]


def test_what_codex_adds_to_its_messages_is_dropped() -> None:
    given = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [{"type": "output_text", "text": "Let me check."}],
        "internal_chat_message_metadata_passthrough": {"turn_id": "t"},
    }
    assert items(given) == (Message(role="assistant", parts=(TextPart("Let me check."),), id="msg_1"),)


def test_the_role_tool_is_a_result() -> None:
    for name in ("call_id", "tool_call_id"):
        assert items({"role": "tool", name: "c1", "content": "ok"}) == (result("c1", "ok"),)


def test_calls_in_the_form_of_chat_are_understood() -> None:
    function = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    assert items({"role": "assistant", "content": None, "tool_calls": [function, custom]}) == (
        ToolCall(call_id="c1", name="f", arguments="{}"),
        ToolCall(call_id="c2", name="sh", arguments="ls", kind="custom"),
    )
    said, _ = items({"role": "assistant", "content": "Sure", "tool_calls": [function]})
    assert said == Message(role="assistant", parts=(TextPart("Sure"),))


# -- calls and results ------------------------------------------------------------------------------------


def test_lv_74_an_object_as_output_is_json_text() -> None:
    """LV-74. Given input [{"type":"function_call_output","call_id":"c1","output":{"v":1}}]: a tool message
    with call id c1 and content `{"v": 1}`.
    """
    assert items({"type": "function_call_output", "call_id": "c1", "output": {"v": 1}}) == (
        result("c1", '{"v": 1}'),
    )


def test_lv_75_a_call_and_its_output_are_a_tool_call_and_a_tool_message() -> None:
    """LV-75. Given a function_call, then its output: an assistant's tool call and a tool message."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
    output = {"type": "function_call_output", "id": "fco_1", "call_id": "c1", "output": "done"}
    assert items(call, output) == (
        ToolCall(call_id="c1", name="f", arguments='{"a":1}', id="fc_1"),
        ToolResult(call_id="c1", parts=(TextPart("done"),), id="fco_1"),
    )


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        (None, ""),
        ([], "[]"),
        ([1, "灵", {"a": None}], '[1, "灵", {"a": null}]'),
        (True, "true"),
        ([{"type": "file", "name": "a.py"}], '[{"type": "file", "name": "a.py"}]'),
        ([{"type": "text"}], '[{"type": "text"}]'),
        ([{"type": ["text"]}, None], '[{"type": ["text"]}, null]'),
        ({"type": "text", "text": "x"}, '{"type": "text", "text": "x"}'),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], "a\nb"),
        ([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "u"}], "a\n[image]"),
    ],
)
def test_outputs_are_text_parts_or_json(output: Any, text: str) -> None:
    (found,) = items({"type": "function_call_output", "call_id": "c1", "output": output})
    assert isinstance(found, ToolResult)
    assert flatten_parts(found.parts) == text


def test_namespaces_become_part_of_the_name() -> None:
    function = {"type": "function_call", "call_id": "c1", "namespace": "ns", "name": "f", "arguments": "{}"}
    custom = {"type": "custom_tool_call", "call_id": "c2", "namespace": "functions", "name": "exec"}
    assert items(function, {**custom, "input": "ls"}) == (
        ToolCall(call_id="c1", name="ns__f", arguments="{}"),
        ToolCall(call_id="c2", name="functions__exec", arguments="ls", kind="custom"),
    )


def test_custom_calls_and_their_outputs() -> None:
    call = {"type": "custom_tool_call", "status": "completed", "call_id": "c1", "name": "apply_patch"}
    output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"}
    assert items({**call, "input": "*** Begin Patch\n"}, output) == (
        ToolCall(call_id="c1", name="apply_patch", arguments="*** Begin Patch\n", kind="custom"),
        result("c1", "ok"),
    )


def test_arguments_may_be_an_object() -> None:
    (call,) = items({"type": "function_call", "call_id": "c1", "name": "f", "arguments": {"a": 1}})
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"a":1}'


@pytest.mark.parametrize(
    ("given", "name", "arguments"),
    [
        (
            {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["ls"]}},
            "local_shell",
            '{"type": "exec", "command": ["ls"]}',
        ),
        (
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
            "shell",
            '{"commands": ["ls"]}',
        ),
        (
            {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file"}},
            "apply_patch",
            '{"type": "delete_file"}',
        ),
        (
            {"type": "computer_call", "call_id": "c", "action": {"type": "screenshot"}},
            "computer",
            '{"type": "screenshot"}',
        ),
        (
            {"type": "computer_call", "call_id": "c", "actions": [{"type": "type", "text": "hi"}]},
            "computer",
            '[{"type": "type", "text": "hi"}]',
        ),
        (
            {"type": "computer_call", "call_id": "c", "action": {"type": "wait"}, "actions": []},
            "computer",
            '{"type": "wait"}',
        ),
        ({"type": "tool_search_call", "call_id": "c", "arguments": {}}, "tool_search", "{}"),
        (
            {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"q": "x"}},
            "tool_search",
            '{"q": "x"}',
        ),
    ],
)
def test_calls_of_tools_that_openai_defines(given: Any, name: str, arguments: str) -> None:
    assert items(given) == (ToolCall(call_id="c", name=name, arguments=arguments),)


def test_outputs_of_tools_that_openai_defines() -> None:
    local, shell, patch, screen = items(
        {"type": "local_shell_call_output", "id": "c1", "output": '{"stdout":"a"}'},
        {"type": "shell_call_output", "call_id": "c2", "output": [{"stdout": "a", "stderr": ""}]},
        {"type": "apply_patch_call_output", "call_id": "c3", "status": "completed"},
        {
            "type": "computer_call_output",
            "call_id": "c4",
            "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"},
        },
    )
    assert local == ToolResult(call_id="c1", parts=(TextPart('{"stdout":"a"}'),), id="c1")
    assert shell == result("c2", '[{"stdout": "a", "stderr": ""}]')
    assert patch == result("c3", "")
    assert screen == ToolResult(
        call_id="c4", parts=(MediaPart(kind="image", mime_type="image/png", data="AAAA"),)
    )


def test_calls_that_a_server_ran_come_with_their_results() -> None:
    mcp = {"type": "mcp_call", "id": "mcp_1", "server_label": "docs", "name": "find", "arguments": "{}"}
    code = {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "outputs": [{"logs": "2"}]}
    assert items({**mcp, "output": "found"}, {**mcp, "error": {"code": 1}}, code) == (
        ToolCall(call_id="mcp_1", name="docs__find", arguments="{}", id="mcp_1"),
        ToolResult(call_id="mcp_1", parts=(TextPart("found"),), name="docs__find"),
        ToolCall(call_id="mcp_1", name="docs__find", arguments="{}", id="mcp_1"),
        ToolResult(call_id="mcp_1", parts=(TextPart('{"code": 1}'),), name="docs__find", is_error=True),
        ToolCall(call_id="ci_1", name="code_interpreter", arguments="1+1", id="ci_1"),
        ToolResult(call_id="ci_1", parts=(TextPart('[{"logs": "2"}]'),), name="code_interpreter"),
    )


@pytest.mark.parametrize(
    "given",
    [
        {"type": "apply_patch_call_output", "call_id": "c"},
        {"type": "apply_patch_call_output", "call_id": "c", "output": "no such file"},
        {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "", "stderr": "x"}]},
        {"type": "code_interpreter_call", "id": "c", "code": "1/0", "outputs": [{"logs": "x"}]},
        {"type": "mcp_call", "id": "c", "name": "find", "arguments": "{}", "output": "half"},
    ],
)
def test_what_failed_is_an_error(given: Any) -> None:
    for status in ("failed", "completed"):
        *_, told = items({**given, "status": status})
        assert isinstance(told, ToolResult)
        assert told.is_error is (status == "failed")


def test_output_and_error_of_a_servers_tool_are_both_kept() -> None:
    call = {"type": "mcp_call", "id": "m", "name": "find", "output": "half", "error": "timed out"}
    assert items(call)[1] == ToolResult(
        call_id="m", parts=(TextPart("half"), TextPart("timed out")), name="find", is_error=True
    )


# -- reasoning, tools, compaction, references -------------------------------------------------------------


def test_reasoning_keeps_its_seal() -> None:
    given = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "s1"}, {"type": "summary_text", "text": "s2"}],
        "content": [{"type": "reasoning_text", "text": "t1"}, {"type": "reasoning_text", "text": "t2"}],
        "encrypted_content": "gAAAA",
    }
    assert items(given, {"type": "reasoning", "summary": [], "content": None}) == (
        Reasoning(summary=("s1", "s2"), text="t1t2", signature="gAAAA", id="rs_1"),
        Reasoning(),
    )


def test_cv_8_tools_may_come_as_an_item() -> None:
    """CV-8. Given no `tools` but an `additional_tools` item with a namespace that holds the freeform tool
    `exec`: it is offered, and the item is no message.
    """
    tools = [{"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}]
    found = read({"type": "additional_tools", "role": "developer", "tools": tools}, HI)
    assert found.items == (user("hi"),)
    assert [(spec.name, spec.namespace, spec.kind) for spec in found.tools] == [
        ("functions__exec", "functions", "custom")
    ]
    assert found.losses == []


def test_tools_that_a_search_found_are_offered() -> None:
    tools = [{"type": "function", "name": "f", "defer_loading": True}]
    found = read({"type": "tool_search_output", "call_id": "c1", "tools": tools})
    assert [spec.name for spec in found.tools] == ["f"]
    assert found.items == (result("c1", '[{"type": "function", "name": "f", "defer_loading": true}]'),)


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary", "context_compaction"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_cv_54_cv_55_cv_58_a_foreign_compaction_is_replaced_in_its_place(kind: str, place: int) -> None:
    """CV-54, CV-55, CV-58. Given a token of somebody else's (`gAAAA…`) at the beginning, in the middle or at
    the end of the input: an ordinary turn with a note in its place, never 400.
    """
    given: list[Any] = ["one", "two"]
    given.insert(place, {"type": kind, "id": "cmp_1", "encrypted_content": "gAAAAtoken"})
    found = read_input(given)
    expected = [user("one"), user("two")]
    expected.insert(place, user(CONTEXT_GONE))
    assert found.items == tuple(expected)
    assert found.losses == [Loss(f"input.{place}", "foreign-compaction")]


@pytest.mark.parametrize(
    "trigger",
    [
        {"type": "compaction_trigger"},
        {"type": "context_compaction"},
        {"type": "context_compaction", "id": "x"},
    ],
)
def test_a_wish_to_compact_is_told_by_its_place_and_is_no_item(trigger: Any) -> None:
    found = read(HI, trigger)
    assert (found.compacts_at, found.items, found.losses) == ("input.1", (user("hi"),), [])
    assert read_input(trigger).compacts_at == "input"
    assert read(trigger, HI).compacts_at is None


def test_a_trigger_that_is_not_the_last_item_asks_for_nothing() -> None:
    found = read({"type": "compaction_trigger"}, HI)
    assert isinstance(found.items[0], OpaqueItem)
    assert found.items[1] == user("hi")


@pytest.mark.parametrize("typed", [{"type": "item_reference"}, {}, {"type": None}])
def test_a_reference_within_the_input_adds_nothing(typed: Any) -> None:
    assert items({**HI, "id": "msg_1"}, {**typed, "id": "msg_1"}) == (
        Message(role="user", parts=(TextPart("hi"),), id="msg_1"),
    )


def test_a_reference_to_what_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(HI, {"type": "item_reference", "id": "msg_9"})
    assert (caught.value.param, caught.value.code) == ("input.1.id", "item_not_found")
    assert "does not store" in caught.value.message
    with pytest.raises(InvalidRequest):
        read({"type": "item_reference", "id": "msg_9"}, {"type": "item_reference", "id": "msg_9"})


# -- the unknown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"type": "ghost_snapshot", "id": "g", "ghost_commit": {"id": "abc"}},
        {"type": "web_search_call", "id": "g", "action": {"type": "search", "query": "q"}},
        {"type": "file_search_call", "id": "g", "queries": ["q"]},
        {"type": "image_generation_call", "id": "g", "result": "AAAA"},
        {"type": "mcp_list_tools", "id": "g", "server_label": "s", "tools": []},
        {"type": "of-tomorrow", "id": "g", "content": [{"type": "hologram"}, 5]},
        {"type": "of-tomorrow", "id": "g", "role": ["user"]},
    ],
)
def test_what_no_model_reads_is_kept_aside(given: dict[str, Any]) -> None:
    found = read(given)
    assert found.items == (OpaqueItem(dialect="responses", type=given["type"], payload=given, id="g"),)
    assert found.losses == [Loss("input.0", "unknown-item")]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "agent_message", "author": "a", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "of-tomorrow", "content": "x"},
        {"type": "of-tomorrow", "content": ["x", {"type": "encrypted_content", "encrypted_content": "e"}]},
        {"type": "of-tomorrow", "text": "x"},
        {"content": "x"},
    ],
)
def test_text_in_an_unknown_item_is_a_users_message(given: dict[str, Any]) -> None:
    found = read(given)
    assert found.items == (user("x"),)
    assert found.losses == [Loss("input.0", "unknown-item")]


def test_an_unknown_item_with_a_role_is_that_roles_message() -> None:
    (message,) = items({"type": "of-tomorrow", "role": "assistant", "content": "x"})
    assert message == Message(role="assistant", parts=(TextPart("x"),))


# -- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"type": "message", "content": "x"}, "input.1.role"),
        ({"role": "banana", "content": "x"}, "input.1.role"),
        ({"role": "user", "content": 5}, "input.1.content"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input.1.content.0.text"),
        ({"role": "user", "content": [{"text": "x"}]}, "input.1.content.0.type"),
        ({"role": "tool", "content": "x"}, "input.1.call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "input.1.tool_calls.0.function"),
        ({"type": "function_call", "name": "f"}, "input.1.call_id"),
        ({"type": "function_call", "call_id": "c"}, "input.1.name"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": 5}, "input.1.arguments"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": {}}, "input.1.input"),
        ({"type": "function_call_output", "output": "x"}, "input.1.call_id"),
        ({"type": "shell_call", "action": {}}, "input.1.call_id"),
        ({"type": "mcp_call", "name": "f"}, "input.1.id"),
        ({"type": "reasoning", "summary": "x"}, "input.1.summary"),
        ({"type": "additional_tools"}, "input.1.tools"),
        ({"type": "tool_search_output", "call_id": "c"}, "input.1.tools"),
        ({"type": "tool_search_output", "call_id": "c", "tools": [None]}, "input.1.tools.0"),
        ({"type": "additional_tools", "tools": [{"type": "custom"}]}, "input.1.tools.0.name"),
        ({"type": "item_reference"}, "input.1.id"),
    ],
)
def test_a_broken_item_is_named_by_its_path(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(HI, given)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message
