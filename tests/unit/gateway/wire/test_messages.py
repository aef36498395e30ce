from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.bodies import check
from gateway.wire.messages import (
    MessagesRequest,
    OtherBlock,
    ServerResultBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)


def request_of(content: Any, **fields: Any) -> MessagesRequest:
    return check(
        MessagesRequest, {"model": "m", "messages": [{"role": "user", "content": content}], **fields}
    )


def block_of(**block: Any) -> Any:
    content = request_of([block]).messages[0].content
    assert isinstance(content, list)
    return content[0]


def problem_of(content: Any, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request_of(content, **fields)
    return caught.value


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_calls_are_calls_whoever_runs_them(kind: str) -> None:
    block = block_of(type=kind, id="c1", name="find", input={"q": 1}, server_name="s", caller={})
    assert block == ToolUseBlock(id="c1", name="find", input={"q": 1})


@pytest.mark.parametrize("kind", ["web_search_tool_result", "web_fetch_tool_result", "from_2030_tool_result"])
def test_results_of_servers_have_any_content(kind: str) -> None:
    block = block_of(type=kind, tool_use_id="c1", content={"type": "error", "code": 7})
    assert block == ServerResultBlock(tool_use_id="c1", content={"type": "error", "code": 7})


def test_a_block_of_an_unknown_type_keeps_all_its_fields() -> None:
    block = block_of(type="hologram", text=5, source=[1], depth={"z": None})
    assert isinstance(block, OtherBlock)
    assert block.model_dump() == {"type": "hologram", "text": 5, "source": [1], "depth": {"z": None}}


def test_unknown_fields_of_known_blocks_are_ignored() -> None:
    block = block_of(type="text", text="a", cache_control={"type": "ephemeral"}, citations=None, x=1)
    assert block == TextBlock(text="a")


def test_a_whole_number_is_one_however_it_is_written() -> None:
    assert request_of("a", max_tokens=5.0).max_tokens == 5


def test_results_hold_blocks() -> None:
    block = block_of(type="tool_result", tool_use_id="c", content=[{"type": "text", "text": "ok"}])
    assert isinstance(block, ToolResultBlock)
    assert block.content == [TextBlock(text="ok")]


@pytest.mark.parametrize(
    ("content", "param", "message"),
    [
        (5, "messages.0.content", "expected a string or an array, but got a number"),
        (["a"], "messages.0.content.0", "expected an object, but got a string"),
        ([{"text": "a"}], "messages.0.content.0.type", "Missing required parameter"),
        ([{"type": 5}], "messages.0.content.0.type", "expected a string, but got a number"),
        ([{"type": "text"}], "messages.0.content.0.text", "Missing required parameter"),
        ([{"type": "text", "text": 5}], "messages.0.content.0.text", "expected a string, but got a number"),
        ([{"type": "thinking"}], "messages.0.content.0.thinking", "Missing required parameter"),
        ([{"type": "image"}], "messages.0.content.0.source", "Missing required parameter"),
        ([{"type": "image", "source": "x"}], "messages.0.content.0.source", "expected an object"),
        (
            [{"type": "tool_use", "id": "c", "name": "n", "input": "{}"}],
            "messages.0.content.0.input",
            "expected an object, but got a string",
        ),
        ([{"type": "tool_result"}], "messages.0.content.0.tool_use_id", "Missing required parameter"),
        (
            [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text"}]}],
            "messages.0.content.0.content.0.text",
            "Missing required parameter",
        ),
        (
            [{"type": "web_search_tool_result", "content": []}],
            "messages.0.content.0.tool_use_id",
            "Missing required parameter",
        ),
    ],
)
def test_problems_of_content_name_the_place(content: Any, param: str, message: str) -> None:
    problem = problem_of(content)
    assert problem.param == param
    assert message in problem.message
    assert f"'{param}'" in problem.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "text"}]}, "system.0.text"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": "5"}, "top_k"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": [1]}, "stop_sequences.0"),
        ({"thinking": "yes"}, "thinking"),
        ({"thinking": {}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "9"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_format": {"schema": {}}}, "output_format.type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": 3}]}, "tools.0.name"),
        ({"tools": [{"name": "n", "input_schema": "x"}]}, "tools.0.input_schema"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ],
)
def test_problems_of_settings_name_the_field(fields: dict[str, Any], param: str) -> None:
    assert problem_of("a", **fields).param == param


def test_fields_that_are_only_told_as_losses_have_any_form() -> None:
    request = request_of("a", container="c", mcp_servers=5, context_management=[], speed={}, thread="t")
    assert request.container == "c"
