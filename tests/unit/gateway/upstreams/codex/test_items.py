from typing import Any

import pytest

from gateway.kernel.json import dumps
from gateway.turn.items import Message, OpaqueItem, Reasoning, ToolCall
from gateway.upstreams.codex.items import kind_of, read_item, tool_name


def read(item: dict[str, Any]) -> Any:
    return read_item(item, executor="openai")


@pytest.mark.parametrize(
    ("item", "kind", "read_as"),
    [
        ({"type": "message", "content": []}, "message", Message),
        ({"type": "reasoning"}, "reasoning", Reasoning),
        ({"type": "function_call", "name": "f"}, "tool_call", ToolCall),
        ({"type": "custom_tool_call", "name": "f"}, "tool_call", ToolCall),
        ({"type": "compaction", "encrypted_content": "x"}, "opaque", OpaqueItem),
        ({}, "opaque", OpaqueItem),
    ],
)
def test_every_item_has_a_kind_and_keeps_its_json(item: dict[str, Any], kind: str, read_as: type) -> None:
    assert kind_of(item) == kind
    found = read(item)
    assert type(found) is read_as
    assert found.origin.raw == dumps(item)
    assert found.origin.executor == "openai"


def test_fields_of_the_wrong_type_are_none() -> None:
    message = read({"type": "message", "id": 7, "content": [7, {"type": "output_text", "text": 7}]})
    assert (message.id, message.parts[0].text) == (None, "")
    assert read({"type": "reasoning", "summary": "no", "content": [None]}).summary == ()
    assert (
        read({"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}).arguments
        == '{"a":1}'
    )


def test_a_name_holds_its_namespace() -> None:
    assert tool_name({"name": "exec", "namespace": "functions"}) == "functions__exec"
    assert tool_name({"name": "exec"}) == "exec"
