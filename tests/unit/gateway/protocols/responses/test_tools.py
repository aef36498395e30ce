from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.responses.tools import CallName, CallNames, free_text, merged, read_choice, read_tools
from gateway.turn.items import ToolCall
from gateway.turn.losses import Loss
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
EXEC = {"type": "custom", "name": "exec", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
FUNCTIONS = {"type": "namespace", "name": "functions", "description": "d", "tools": [EXEC]}


def read(*tools: dict[str, Any]) -> list[ToolSpec]:
    return read_tools(tools, "tools")


def choose(choice: Any, *tools: dict[str, Any]) -> ToolChoice:
    losses: list[Loss] = []
    chosen = read_choice(choice, read(*tools), losses)
    assert losses == []
    return chosen


# -- tools ------------------------------------------------------------------------------------------------


def test_functions_come_flat_and_nested() -> None:
    flat = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
    nested = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
    for tool, strict in ((flat, True), (nested, None)):
        (spec,) = read(tool)
        assert spec == ToolSpec(name="f", description="d", parameters=SCHEMA, strict=strict, raw=tool)  # type: ignore[arg-type]


def test_custom_tools_keep_their_definition() -> None:
    (spec,) = read(EXEC)
    assert (spec.kind, spec.name, spec.raw) == ("custom", "exec", EXEC)


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search", "external_web_access": True},
        {"type": "web_search_preview"},
        {"type": "image_generation", "output_format": "png"},
        {"type": "tool_search", "execution": "client", "parameters": {}},
        {"type": "file_search", "vector_store_ids": ["v"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "mcp", "server_label": "s", "server_url": "u"},
        {"type": "local_shell"},
        {"type": "of-tomorrow"},
    ],
)
def test_tools_that_openai_hosts_are_kept_as_such(tool: dict[str, Any]) -> None:
    (spec,) = read(tool)
    assert (spec.kind, spec.name, spec.raw) == ("hosted", tool["type"], tool)


def test_a_namespace_becomes_part_of_the_names() -> None:
    inner = {"type": "function", "name": "f", "parameters": SCHEMA}
    specs = read(
        {"type": "function", "name": "f"}, {"type": "namespace", "name": "ns", "tools": [inner]}, FUNCTIONS
    )
    assert [(spec.name, spec.namespace, spec.kind) for spec in specs] == [
        ("f", None, "function"),
        ("ns__f", "ns", "function"),
        ("functions__exec", "functions", "custom"),
    ]
    assert specs[1].parameters == SCHEMA


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "function"}, "tools.0.name"),
        ({"type": "custom"}, "tools.0.name"),
        ({"type": "function", "function": {}}, "tools.0.function.name"),
        ({"type": "function", "name": 5}, "tools.0.name"),
        ({"type": "function", "name": "f", "parameters": "x"}, "tools.0.parameters"),
        ({"type": "namespace", "tools": []}, "tools.0.name"),
        ({"type": "namespace", "name": "n"}, "tools.0.tools"),
        ({"type": "namespace", "name": "n", "tools": [EXEC, {"type": "custom"}]}, "tools.0.tools.1.name"),
    ],
)
def test_a_broken_tool_is_named_by_its_path(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(tool)
    assert caught.value.param == param


def test_of_tools_with_one_name_the_last_counts() -> None:
    old, new, other = read(
        {"type": "function", "name": "f", "description": "old"},
        {"type": "function", "name": "f", "description": "new"},
        {"type": "function", "name": "g"},
    )
    assert merged([old, other, new]) == (new, other)


# -- choice -----------------------------------------------------------------------------------------------

F = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, AUTO),
        ("auto", AUTO),
        ("none", NONE),
        ("required", ToolChoice("required")),
        ({"type": "none"}, NONE),
        ({"type": "required"}, ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("named", ("f",))),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", ("f",))),
        ({"type": "custom", "name": "f"}, ToolChoice("named", ("f",))),
        ({"type": "tool", "name": "f"}, ToolChoice("named", ("f",))),
        ({"type": "allowed_tools", "tools": [F]}, ToolChoice("auto", ("f",))),
        ({"type": "allowed_tools", "mode": "required", "tools": [F]}, ToolChoice("required", ("f",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [F]}},
            ToolChoice("required", ("f",)),
        ),
        (
            {"type": "allowed_tools", "tools": [F, {"type": "web_search"}]},
            ToolChoice("auto", ("f", "web_search")),
        ),
    ],
)
def test_a_choice_comes_in_many_forms(choice: Any, expected: ToolChoice) -> None:
    assert choose(choice, F) == expected


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "custom", "name": "exec"},
        {"type": "custom", "name": "exec", "namespace": "functions"},
        {"type": "custom", "name": "functions__exec"},
    ],
)
def test_a_choice_finds_tools_in_namespaces(choice: Any) -> None:
    assert choose(choice, FUNCTIONS) == ToolChoice("named", ("functions__exec",))


def test_the_choice_of_a_hosted_tool_is_a_loss() -> None:
    losses: list[Loss] = []
    assert read_choice({"type": "web_search"}, read({"type": "web_search"}), losses) == AUTO
    assert losses == [Loss("tool_choice", "unsupported")]


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("sometimes", "tool_choice"),
        ({"type": "function"}, "tool_choice.name"),
        ({"name": "f"}, "tool_choice.type"),
        ({"type": "allowed_tools"}, "tool_choice.tools"),
        ({"type": "allowed_tools", "tools": [{"type": "function"}]}, "tool_choice.tools.0.name"),
        ({"type": "function", "name": 5}, "tool_choice.name"),
    ],
)
def test_a_broken_choice_is_named(choice: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(choice)
    assert caught.value.param == param


# -- the client's names -----------------------------------------------------------------------------------


def test_calls_get_back_the_names_that_the_client_gave() -> None:
    names = CallNames(read(FUNCTIONS, {"type": "function", "name": "f"}, {"type": "web_search"}))
    assert names.of("functions__exec") == CallName("exec", "functions", True)
    assert names.of("f") == CallName("f", None, False)
    assert names.of("unknown") == CallName("unknown", None, False)


def test_a_model_may_leave_the_namespace_out() -> None:
    plain = {"type": "function", "name": "f"}
    grouped = {"type": "namespace", "name": "ns", "tools": [plain, {"type": "function", "name": "g"}]}
    names = CallNames(read(grouped, plain))
    assert names.of("g") == CallName("g", "ns", False)
    assert names.of("f") == CallName("f", None, False), "the tool that is really called so"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (ToolCall(call_id="c", name="exec", arguments='{"input": "ls"}', kind="custom"), '{"input": "ls"}'),
        (ToolCall(call_id="c", name="exec", arguments='{"input": "a\\nb"}'), "a\nb"),
        (ToolCall(call_id="c", name="exec", arguments='{"input": 1}'), '{"input": 1}'),
        (ToolCall(call_id="c", name="exec", arguments='{"input": "a", "b": 1}'), '{"input": "a", "b": 1}'),
        (ToolCall(call_id="c", name="exec", arguments="ls"), "ls"),
        (ToolCall(call_id="c", name="exec", arguments="[1]"), "[1]"),
    ],
)
def test_a_custom_tool_offered_as_a_function_gets_its_free_text(call: ToolCall, expected: str) -> None:
    assert free_text(call) == expected
