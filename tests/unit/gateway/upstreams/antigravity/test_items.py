from typing import Any

from gateway.turn.items import Origin
from gateway.turn.tools import ToolSpec
from gateway.turn.usage import Usage
from gateway.upstreams.antigravity.history import claude_call_id
from gateway.upstreams.antigravity.items import ItemReader, code_text, usage_of
from gateway.upstreams.antigravity.names import ClientTools, upstream_name


def reader(*tools: ToolSpec, proves: bool = True) -> ItemReader:
    return ItemReader(turn_id="t", executor="gem", tools=ClientTools(tools), proves=proves)


def test_a_call_keeps_the_upstreams_id_and_proves_itself_by_another() -> None:
    call: Any = {"id": "fc-1", "name": "read", "args": {"p": 1}}
    item = reader().call(call, "sig", "item_0")
    assert (item.call_id, item.name, item.arguments, item.kind) == (
        claude_call_id("fc-1", "read", {"p": 1}),
        "read",
        '{"p":1}',
        "function",
    )
    assert item.origin == Origin(executor="gem", dialect="gemini", id="fc-1", signature="sig")
    assert reader(proves=False).call(call, "", "item_0").call_id == "fc-1"


def test_a_call_without_an_id_gets_one_from_the_turn() -> None:
    call: Any = {"name": "read"}
    one, other = reader(), reader()
    ids = [one.call(call, "", "item_0").call_id for _ in range(2)]
    assert len(set(ids)) == 2
    assert ids == [other.call(call, "", "item_0").call_id for _ in range(2)], "the same on any replica"
    item = reader(proves=False).call(call, "", "item_0")
    assert item.call_id == ids[0]
    assert (item.arguments, item.origin and item.origin.id) == ("{}", None)


def test_a_call_is_told_by_the_clients_own_names() -> None:
    long = "x" * 70
    item = reader(ToolSpec(name=long)).call({"name": upstream_name(long), "args": {}}, "", "i")
    assert item.name == long


def test_a_custom_tool_is_called_with_text() -> None:
    patch = ToolSpec(name="patch", kind="custom")
    for args, text in (({"input": "*** x"}, "*** x"), ({"input": 1}, '{"input":1}'), ({}, "{}")):
        item = reader(patch).call({"name": "patch", "args": args}, "", "i")
        assert (item.kind, item.arguments) == ("custom", text)


def test_texts_and_thoughts() -> None:
    message = reader().message("a", ({"type": "url_citation"},), "sig", "i")
    assert message.origin is not None
    assert (message.origin.signature, message.parts[0].annotations) == ("sig", ({"type": "url_citation"},))  # type: ignore[union-attr]
    assert reader().message("a", (), "", "i").origin is None
    thought = reader().reasoning("hm", "sig", "i")
    assert (thought.summary, thought.text, thought.signature) == (("hm",), "", "sig")
    assert reader().reasoning("", "", "i").summary == ()


def test_parts_that_nobody_knows_are_kept() -> None:
    part: Any = {"thought": True, "inlineData": {"data": "x"}, "thoughtSignature": "s"}
    item = reader().opaque(part, "i")
    assert (item.dialect, item.type, item.payload) == ("gemini", "inlineData", part)


def test_code_is_told_as_a_reader_would_see_it() -> None:
    assert code_text({"executableCode": {"language": "PYTHON", "code": "print(1)"}}) == (
        "\n```python\nprint(1)\n```\n"
    )
    assert (
        code_text({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}) == "\n```\n1\n\n```\n"
    )
    assert code_text({"codeExecutionResult": {"outcome": "OUTCOME_FAILED"}}) == "\n```\nOUTCOME_FAILED\n```\n"
    assert code_text({"executableCode": {"code": 3}}) == "\n```\n\n```\n"
    assert code_text({"text": "a"}) is None


def test_tokens() -> None:
    assert usage_of(
        {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 3,
            "cachedContentTokenCount": 2,
            "totalTokenCount": 25,
        }
    ) == Usage(input_tokens=15, output_tokens=10, cached_tokens=2, reasoning_tokens=3)
    assert usage_of({"promptTokenCount": 10}) == Usage(input_tokens=10)
    assert usage_of({"candidatesTokenCount": True, "promptTokenCount": "x"}) == Usage()
    for nothing in (None, {}, [], 3):
        empty: Any = nothing
        assert usage_of(empty) is None
