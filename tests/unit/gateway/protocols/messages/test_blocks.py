from typing import Any

import pytest
from anthropic.types import Message as SdkMessage
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.messages.blocks import (
    build_message,
    call_input,
    shows_thinking,
    shows_thoughts,
    stop_reason,
    usage_out,
)
from gateway.protocols.messages.parse import parse_messages
from gateway.turn.estimate import input_tokens
from gateway.turn.events import Finish
from gateway.turn.fold import TurnResult
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.request import Turn
from gateway.turn.usage import Usage


def make_turn(**fields: Any) -> Turn:
    body = {
        "model": "asked",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "abcdefgh"}],
        **fields,
    }
    return parse_messages(dumps(body), TurnContext(id=TurnId("01turn"), tenant="t", created_at_ms=1))


def answer(*items: Item, finish: Finish = "stop", usage: Usage | None = None, **fields: Any) -> SdkMessage:
    result = TurnResult(items=items, finish=finish, usage=usage)
    return SdkMessage.model_validate(build_message(make_turn(**fields), result))


def test_a_whole_answer_is_a_message_of_the_sdks() -> None:
    usage = Usage(input_tokens=9, output_tokens=3, cached_tokens=4, reasoning_tokens=1)
    call = ToolCall(call_id="c1", name="find", arguments='{"q":1}')
    text = Message(role="assistant", parts=(TextPart("Sure."),))
    thinking = {"type": "adaptive"}
    message = answer(Reasoning(text="hm", signature="s"), text, call, usage=usage, thinking=thinking)
    assert message.id.startswith("msg_")
    assert message.to_dict() == {
        "id": message.id,
        "type": "message",
        "role": "assistant",
        "model": "asked",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Sure."},
            {"type": "tool_use", "id": "c1", "name": "find", "input": {"q": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 1},
        },
    }


def test_the_first_block_is_the_text_for_clients_that_asked_for_no_thinking() -> None:
    message = answer(Reasoning(text="hm"), Message(role="assistant", parts=(TextPart("7"),)))
    assert message.content[0].type == "text"
    assert message.content[0].text == "7"


def test_what_says_nothing_has_no_block() -> None:
    empty = Message(role="assistant", parts=(TextPart(""), RefusalPart(""), MediaPart(kind="image")))
    silent = ToolResult(call_id="c", parts=(TextPart("x"),))
    assert answer(empty, silent, Reasoning(), thinking={"type": "adaptive"}).content == []


@pytest.mark.parametrize(
    ("finish", "runnable", "refused", "reason"),
    [
        ("stop", False, False, "end_turn"),
        ("stop", True, False, "tool_use"),
        ("stop", False, True, "refusal"),
        ("stop", True, True, "tool_use"),
        ("tool_calls", True, False, "tool_use"),
        ("tool_calls", False, False, "end_turn"),
        ("paused", False, False, "pause_turn"),
        ("paused", True, False, "tool_use"),
        ("length", True, False, "max_tokens"),
        ("content_filter", True, False, "refusal"),
    ],
)
def test_the_stop_reason_is_what_the_client_has_to_do_next(
    finish: Finish, runnable: bool, refused: bool, reason: str
) -> None:
    assert stop_reason(finish, runnable=runnable, refused=refused) == reason


def test_usage_that_nobody_reported_is_an_estimate() -> None:
    turn = make_turn()
    assert usage_out(turn, None) == {
        "input_tokens": input_tokens(turn),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
        "estimated": True,
    }


def test_more_cached_than_read_leaves_nothing_below_zero() -> None:
    usage = usage_out(make_turn(), Usage(input_tokens=5, cached_tokens=9))
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (0, 5)


@pytest.mark.parametrize(
    ("thinking", "blocks", "thoughts"),
    [
        (None, False, False),
        ({"type": "disabled"}, False, False),
        ({"type": "adaptive"}, True, True),
        ({"type": "enabled", "budget_tokens": 1024}, True, True),
        ({"type": "adaptive", "display": "summarized"}, True, True),
        ({"type": "adaptive", "display": "omitted"}, True, False),
    ],
)
def test_thinking_is_shown_as_it_was_asked_for(thinking: Any, blocks: bool, thoughts: bool) -> None:
    turn = make_turn(thinking=thinking)
    assert (shows_thinking(turn), shows_thoughts(turn)) == (blocks, thoughts)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (" ", {}),
        ('{"a":1}', {"a": 1}),
        ("[1]", {"input": [1]}),
        ('"x"', {"input": "x"}),
        ("ls -l", {"input": "ls -l"}),
        ('{"a": 1, "b": "cut', {"a": 1}),
        ('{"a": }', {"input": '{"a": }'}),
    ],
)
def test_arguments_are_an_object_whatever_they_were(arguments: str, expected: Any) -> None:
    assert call_input(ToolCall(call_id="c", name="n", arguments=arguments)) == expected


def test_the_text_of_a_custom_tool_is_its_input() -> None:
    call = ToolCall(call_id="c", name="n", arguments='{"a":1}', kind="custom")
    assert call_input(call) == {"input": '{"a":1}'}


@given(st.text(alphabet='{}[]",:0129eE+-.a\\utrn ', max_size=24))
def test_any_arguments_can_be_written(arguments: str) -> None:
    dumps(call_input(ToolCall(call_id="c", name="n", arguments=arguments)))


def test_numbers_beyond_our_json_are_survived() -> None:
    dumps(call_input(ToolCall(call_id="c", name="n", arguments='{"n": 123456789012345678901234567890')))
    dumps(call_input(ToolCall(call_id="c", name="n", arguments='{"n": 123456789012345678901234567890}')))
    dumps(call_input(ToolCall(call_id="c", name="n", arguments='{"n": 123456789012345678901234567890, "b')))
