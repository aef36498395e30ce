"""The fingerprint of offered tools, and the arguments of their calls as objects."""

from typing import Any

import pytest

from gateway.kernel.json import JsonObject
from gateway.turn.items import ToolCall
from gateway.turn.tools import arguments_object, fingerprint

CONFIG: JsonObject = {
    "provider": "openai",
    "tools": [{"type": "function", "function": {"name": "lookup"}}],
    "tool_choice": None,
}


def test_the_fingerprint_depends_on_what_is_offered_and_not_on_the_order_of_keys() -> None:
    assert fingerprint(CONFIG) == "da531c02c39789f9"
    assert fingerprint(dict(reversed(CONFIG.items()))) == "da531c02c39789f9"


def test_another_choice_is_another_fingerprint() -> None:
    assert fingerprint({**CONFIG, "tool_choice": "required"}) != fingerprint(CONFIG)


def test_no_tools_have_a_dash_and_an_empty_object_is_hashed() -> None:
    assert fingerprint(None) == "-"
    assert fingerprint({}) != "-"


@pytest.mark.parametrize("odd", [["a list"], "text", 3])
def test_what_is_no_object_counts_as_no_tools(odd: object) -> None:
    assert fingerprint(odd) == "-"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ('{"a":[1]}', {"a": [1]}),
        ("{}", {}),
        ("", {}),
        (" ", {}),
        ("[1]", {"input": [1]}),
        ('"x"', {"input": "x"}),
        ('{"a":', {"input": '{"a":'}),
    ],
)
def test_arguments_are_an_object(arguments: str, args: Any) -> None:
    assert arguments_object(ToolCall(call_id="c", name="n", arguments=arguments)) == args


def test_a_custom_tool_is_called_with_its_text() -> None:
    custom = ToolCall(call_id="c", name="n", arguments="{}", kind="custom")
    assert arguments_object(custom) == {"input": "{}"}
