from gateway.kernel.ids import TurnId
from gateway.turn.estimate import ITEM_TOKENS, input_tokens
from gateway.turn.items import Item, Message, Reasoning, TextPart, ToolCall, ToolResult
from gateway.turn.request import RawRequest, Turn
from gateway.turn.tools import ToolSpec


def turn(*items: Item, tools: tuple[ToolSpec, ...] = ()) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant="t",
        created_at_ms=0,
        model="m",
        items=items,
        raw=RawRequest("chat", {}),
        tools=tools,
    )


def user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text),))


def test_nothing_costs_nothing() -> None:
    assert input_tokens(turn()) == 0


def test_a_message_costs_its_text_and_its_frame() -> None:
    assert input_tokens(turn(user("x" * 40))) == 10 + ITEM_TOKENS
    assert input_tokens(turn(user("灵码网关"))) == 3 + ITEM_TOKENS


def test_every_kind_of_item_counts() -> None:
    parts = (TextPart("x" * 40),)
    for item in (
        ToolResult(call_id="c", parts=parts),
        ToolCall(call_id="c", name="f", arguments="x" * 40),
        Reasoning(text="x" * 40),
        Reasoning(summary=("x" * 40,)),
    ):
        assert input_tokens(turn(item)) == 10 + ITEM_TOKENS


def test_tools_count_by_their_definition() -> None:
    plain = turn(user("hello"))
    offered = turn(user("hello"), tools=(ToolSpec(name="f", raw={"name": "f", "description": "d" * 400}),))
    assert input_tokens(offered) - input_tokens(plain) > 100
