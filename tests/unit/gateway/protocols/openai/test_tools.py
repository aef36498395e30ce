import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.openai.tools import read_choice, read_tool
from gateway.turn.tools import AUTO, NONE, ToolChoice
from gateway.wire.chat import ToolChoiceIn, ToolDef

FIND = {"type": "function", "function": {"name": "find"}}


def read(choice: object) -> ToolChoice:
    return read_choice(choice if isinstance(choice, str) else ToolChoiceIn.model_validate(choice))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", AUTO),
        ("none", NONE),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"type": "auto"}, AUTO),
        ({"type": "none"}, NONE),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "required"}, ToolChoice("required")),
        ({"type": "function", "function": {"name": "pick"}}, ToolChoice("named", ("pick",))),
        ({"type": "function", "name": "pick"}, ToolChoice("named", ("pick",))),
        ({"function": {"name": "pick"}}, ToolChoice("named", ("pick",))),
        ({"type": "tool", "name": "pick"}, ToolChoice("named", ("pick",))),
        ({"type": "custom", "custom": {"name": "sh"}}, ToolChoice("named", ("sh",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [FIND]}},
            ToolChoice("required", ("find",)),
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "a"}, {"type": "custom", "custom": {"name": "b"}}],
            },
            ToolChoice("auto", ("a", "b")),
        ),
    ],
)
def test_a_choice_of_every_form_is_read(choice: object, expected: ToolChoice) -> None:
    assert read(choice) == expected


def test_a_word_that_means_nothing_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read("pick")
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("nested", [True, False])
def test_a_tool_is_the_same_nested_and_flat(nested: bool) -> None:
    function = {"name": "find", "description": "d", "parameters": {"type": "object"}, "strict": True}
    definition = {"type": "function", "function": function} if nested else {"type": "function", **function}
    spec = read_tool(ToolDef.model_validate(definition), definition, "tools.0")  # type: ignore[arg-type]
    assert (spec.name, spec.description, spec.strict, spec.kind) == ("find", "d", True, "function")
    assert (spec.parameters, spec.raw) == ({"type": "object"}, definition)
