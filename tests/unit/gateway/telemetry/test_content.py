"""What spans hold of a conversation when they may, in what form, and how much of it."""

from typing import Any

import pytest

from gateway.kernel.json import loads
from gateway.telemetry.content import CUT, MAX_CHARACTERS, VARIABLE, answered, asked, is_wanted
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Reasoning,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)


def said(role: Role, *texts: str) -> Message:
    return Message(role=role, parts=tuple(TextPart(text) for text in texts))


def read(attributes: dict[str, Any], name: str) -> Any:
    return loads(attributes[name])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("true", True),
        (" TRUE ", True),
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        ("event_only", False),
        ("no_content", False),
        ("false", False),
        ("1", False),
        ("", False),
    ],
)
def test_only_the_words_of_the_standard_switch_it_on(value: str, wanted: bool) -> None:
    assert is_wanted({VARIABLE: value}) is wanted


def test_nothing_is_wanted_by_default() -> None:
    assert not is_wanted({})


def test_a_conversation_has_the_form_of_the_conventions() -> None:
    items: list[Item] = [
        said("system", "be brief"),
        said("user", "weather?", "in Paris"),
        Reasoning(summary=("hm", "ask"), signature="sealed"),
        ToolCall(call_id="c1", name="weather", arguments='{"city":"Paris"}'),
        ToolResult(call_id="c1", parts=(TextPart("rainy"),)),
        said("developer", "no jokes"),
    ]
    attributes = asked(items)
    assert read(attributes, "gen_ai.system_instructions") == [
        {"type": "text", "content": "be brief"},
        {"type": "text", "content": "no jokes"},
    ]
    assert read(attributes, "gen_ai.input.messages") == [
        {
            "role": "user",
            "parts": [{"type": "text", "content": "weather?"}, {"type": "text", "content": "in Paris"}],
        },
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm\nask"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Paris"}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rainy"}]},
    ]
    assert CUT not in attributes


def test_an_answer_is_one_message_with_its_finish() -> None:
    attributes = answered([Reasoning(text="hm"), said("assistant", "rainy")], "stop")
    assert read(attributes, "gen_ai.output.messages") == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "rainy"}],
            "finish_reason": "stop",
        }
    ]
    assert read(answered([said("assistant", "rai")], ""), "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "rai"}]}
    ]
    assert answered([], "stop") == {}


def test_media_is_named_and_sealed_or_unknown_items_are_left_out() -> None:
    picture = MediaPart(kind="image", mime_type="image/png", data="aGlkZGVu", url="https://x/?sig=hidden")
    attributes = asked(
        [
            Message(role="user", parts=(picture,)),
            Reasoning(signature="hidden"),
            OpaqueItem(dialect="responses", type="compaction", payload={"encrypted_content": "hidden"}),
        ]
    )
    assert read(attributes, "gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "blob", "modality": "image", "mime_type": "image/png"}]}
    ]


def test_half_a_surrogate_pair_is_replaced() -> None:
    (message,) = read(asked([said("user", "a\ud800b")]), "gen_ai.input.messages")
    assert message["parts"] == [{"type": "text", "content": "a?b"}]


def test_what_looks_like_a_credential_is_redacted() -> None:
    text = str(asked([said("user", "my key is sk-abcdefghijklmnop, why?")]))
    assert "abcdefghijklmnop" not in text
    assert "why?" in text


def test_of_a_long_conversation_the_newest_messages_stay() -> None:
    turns = [said("user", f"{number}:" + "x" * 1000) for number in range(40)]
    attributes = asked([said("system", "s" * 2 * MAX_CHARACTERS), *turns])
    kept = read(attributes, "gen_ai.input.messages")
    assert kept[-1]["parts"][0]["content"] == "39:" + "x" * 1000
    assert 10 < len(kept) < 20
    assert attributes[CUT] is True
    for name in ("gen_ai.input.messages", "gen_ai.system_instructions"):
        assert len(str(attributes[name])) < 1.2 * MAX_CHARACTERS


def test_one_text_that_is_too_long_is_cut_at_its_end() -> None:
    attributes = answered([said("assistant", "a" * 2 * MAX_CHARACTERS)], "length")
    (message,) = read(attributes, "gen_ai.output.messages")
    assert 0.9 * MAX_CHARACTERS < len(message["parts"][0]["content"]) <= MAX_CHARACTERS
    assert attributes[CUT] is True


def test_thousands_of_empty_parts_are_bounded_too() -> None:
    attributes = asked([said("user", *[""] * 100_000)])
    assert len(str(attributes["gen_ai.input.messages"])) < 2 * MAX_CHARACTERS
    assert attributes[CUT] is True
