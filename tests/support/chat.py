"""Chat Completions streams and answers for tests: events in, what a client reads out."""

from collections.abc import Sequence
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps, loads
from gateway.protocols.bodies import TurnContext
from gateway.protocols.chat.answer import build_completion
from gateway.protocols.chat.encode import ChatEncoder
from gateway.protocols.chat.parse import parse_chat
from gateway.turn.events import ItemDone, ItemStarted, TextDelta, ToolInputDelta, TurnEvent, TurnStarted
from gateway.turn.fold import fold
from gateway.turn.frame import Frame
from gateway.turn.items import Message, TextPart, ToolCall
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter

STARTED = TurnStarted(model="upstream", created_at=1)
USAGE = Usage(input_tokens=3, output_tokens=2)
FUNCTIONS = {"functions": [{"name": "find"}]}


def make_turn(*, resumable: bool = False, turn_id: str = "01turn", **fields: Any) -> Turn:
    body = {"model": "asked", "messages": [{"role": "user", "content": "a"}], "stream": True, **fields}
    context = TurnContext(
        id=TurnId(turn_id), tenant="t", created_at_ms=1_790_000_000_999, resumable=resumable
    )
    return parse_chat(dumps(body), context)


def frames(events: Sequence[TurnEvent]) -> list[Frame]:
    return [Frame((event,)) for event in events]


def message(text: str) -> Message:
    return Message(role="assistant", parts=(TextPart(text),))


def said(*texts: str) -> list[TurnEvent]:
    """One message item, from its start to its end."""
    return [
        ItemStarted(0, "message", "msg"),
        *(TextDelta(0, text) for text in texts),
        ItemDone(0, message("".join(texts))),
    ]


def called(*calls: ToolCall, first: int = 0) -> list[TurnEvent]:
    """Tool calls whose arguments come in two pieces."""
    events: list[TurnEvent] = []
    for index, call in enumerate(calls, first):
        half = len(call.arguments) // 2
        events += [
            ItemStarted(index, "tool_call", f"item_{index}", call.name, call.call_id),
            ToolInputDelta(index, call.arguments[:half]),
            ToolInputDelta(index, call.arguments[half:]),
            ItemDone(index, call),
        ]
    return events


def payloads(
    turn: Turn, events: Sequence[TurnEvent], *, include_usage: bool = False, losses: list[Loss] | None = None
) -> list[Any]:
    """The data of each event of the stream; `[DONE]` as it is."""
    splitter = SseSplitter()
    found = []
    for event in splitter.feed(ChatEncoder(turn, include_usage, losses=losses).encode(frames(events))):
        assert event.data is not None
        found.append("[DONE]" if event.data == b"[DONE]" else loads(event.data))
    assert splitter.pending == b""
    return found


def stream(turn: Turn, events: Sequence[TurnEvent], *, include_usage: bool = False) -> list[Any]:
    """The same, with chunks as the official types read them."""
    return [
        payload if payload == "[DONE]" or "error" in payload else ChatCompletionChunk.model_validate(payload)
        for payload in payloads(turn, events, include_usage=include_usage)
    ]


def deltas(read: list[Any]) -> list[dict[str, Any]]:
    """What the deltas say, the first chunk's role aside."""
    found = [
        chunk.choices[0].delta.model_dump(exclude_unset=True)
        for chunk in read
        if isinstance(chunk, ChatCompletionChunk) and chunk.choices
    ]
    assert found[0] == {"role": "assistant", "content": "", "refusal": None}
    return [delta for delta in found[1:] if delta]


def whole(*events: TurnEvent, **fields: Any) -> ChatCompletion:
    turn = make_turn(**fields)
    return ChatCompletion.model_validate(build_completion(turn, fold(frames(events))))
