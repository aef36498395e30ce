"""What a turn's items are in Messages: content blocks, the stop reason, the usage, the whole message. Pure.

Called by encode.py, for the parts of a stream that are said whole, and for answers that are not streamed.

Thinking is shown to clients that asked for it (`thinking` given and not disabled) and to nobody else, as
Anthropic's API does it: most programs take the first block for the answer's text. With `display: omitted` its
text is left out and a signature is still given. Reasoning without a signature has an empty one, because the
types of the SDKs demand the field; a signature without text is a redacted block. Of a summary and a full text
the summary is shown: it is what a stream says first.
"""

from collections.abc import Iterator
from typing import assert_never

from pydantic_core import from_json, to_json

from gateway.kernel.ids import derived_hex
from gateway.kernel.json import Json, JsonError, JsonObject, loads
from gateway.turn.estimate import input_tokens
from gateway.turn.events import Finish
from gateway.turn.fold import TurnResult
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.request import Turn
from gateway.turn.tools import arguments_object
from gateway.turn.usage import Usage
from gateway.wire.messages import (
    BlockOut,
    Citation,
    MessageHead,
    MessageOut,
    RedactedThinkingOut,
    StopReason,
    TextOut,
    ThinkingOut,
    ToolResultOut,
    ToolUseOut,
    UsageOut,
)


def build_message(turn: Turn, result: TurnResult) -> MessageOut:
    """The answer to a request that did not stream; for a result that ended well."""
    runnable = any(call.result is None for call in result.tool_calls)
    refused = any(is_refusal(item) for item in result.items)
    return {
        **message_head(turn),
        "content": [block for item in result.items for block in item_blocks(turn, item)],
        "stop_reason": stop_reason(result.finish or "stop", runnable=runnable, refused=refused),
        "stop_sequence": None,
        "usage": usage_out(turn, result.usage),
    }


def message_head(turn: Turn) -> MessageHead:
    return {
        "id": f"msg_{derived_hex(turn.id, 'messages')}",
        "type": "message",
        "role": "assistant",
        "model": turn.model,
    }


def stop_reason(finish: Finish, *, runnable: bool, refused: bool) -> StopReason:
    """A call that waits for the client makes the turn end with it, whatever the upstream called its end."""
    match finish:
        case "stop" | "tool_calls" | "paused":
            if runnable:
                return "tool_use"
            if refused:
                return "refusal"
            return "pause_turn" if finish == "paused" else "end_turn"
        case "length":
            return "max_tokens"
        case "content_filter":
            return "refusal"
        case _:
            assert_never(finish)


def usage_out(turn: Turn, usage: Usage | None) -> UsageOut:
    """What nobody reported is estimated for the input and 0 for the output: the fields are not optional."""
    known = usage or Usage()
    read = input_tokens(turn) if known.input_tokens is None else known.input_tokens
    cached = min(known.cached_tokens or 0, read)
    out: UsageOut = {
        "input_tokens": read - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": known.output_tokens or 0,
    }
    if known.reasoning_tokens is not None:
        out["output_tokens_details"] = {"thinking_tokens": known.reasoning_tokens}
    if known.estimated or known.input_tokens is None:
        out["estimated"] = True
    return out


# -- blocks -----------------------------------------------------------------------------------------------


def item_blocks(turn: Turn, item: Item) -> Iterator[BlockOut | JsonObject]:
    """The blocks that an item is said with; none for one that Messages has no word for."""
    match item:
        case Message():
            yield from message_blocks(item)
        case Reasoning():
            if (thought := reasoning_block(turn, item, item.signature)) is not None:
                yield thought
        case ToolCall():
            yield tool_use_block(item)
            if item.result is not None:
                yield tool_result_block(item.call_id, item.result)
        case OpaqueItem():
            if item.dialect == "messages":
                yield {**item.payload, "type": item.type}
        case ToolResult():
            pass
        case _:
            assert_never(item)


def message_blocks(message: Message) -> Iterator[TextOut]:
    for part in message.parts:
        if (block := _part_block(part)) is not None:
            yield block


def is_refusal(item: Item) -> bool:
    return isinstance(item, Message) and any(isinstance(part, RefusalPart) for part in item.parts)


def _part_block(part: Part) -> TextOut | None:
    """No block is empty: Anthropic's API refuses empty texts when a client sends them back."""
    match part:
        case TextPart():
            citations = [found for payload in part.annotations if (found := citation_out(payload))]
            if citations:
                return {"type": "text", "text": part.text, "citations": citations}
            return {"type": "text", "text": part.text} if part.text else None
        case RefusalPart():
            return {"type": "text", "text": part.text} if part.text else None
        case MediaPart():
            return None
        case _:
            assert_never(part)


def citation_out(annotation: JsonObject) -> Citation | None:
    """A citation of a web page; None for what Messages would need a document of the request for."""
    url, title = annotation.get("url"), annotation.get("title")
    if annotation.get("type") != "url_citation" or not isinstance(url, str):
        return None
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": title if isinstance(title, str) else None,
        "cited_text": "",
        "encrypted_index": "",
    }


def shows_thinking(turn: Turn) -> bool:
    """Whether the client gets thinking blocks at all."""
    thinking = turn.raw.body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def shows_thoughts(turn: Turn) -> bool:
    """Whether thinking blocks tell what was thought."""
    thinking = turn.raw.body.get("thinking")
    return shows_thinking(turn) and isinstance(thinking, dict) and thinking.get("display") != "omitted"


def reasoning_block(
    turn: Turn, item: Reasoning, signature: str | None
) -> ThinkingOut | RedactedThinkingOut | None:
    """The summary in paragraphs, or else the full text."""
    if not shows_thinking(turn):
        return None
    text = ("\n\n".join(item.summary) or item.text) if shows_thoughts(turn) else ""
    if text:
        return {"type": "thinking", "thinking": text, "signature": signature or ""}
    return {"type": "redacted_thinking", "data": signature} if signature else None


def tool_use_block(call: ToolCall) -> ToolUseOut:
    return {"type": "tool_use", "id": call.call_id, "name": call.name, "input": call_input(call)}


def tool_result_block(call_id: str, result: str) -> ToolResultOut:
    return {"type": "tool_result", "tool_use_id": call_id, "content": result}


def call_input(call: ToolCall) -> JsonObject:
    """The arguments as the object that `input` has to be; what is none stands in its `input`.

    Of an object that was cut short only the whole members are left, which is how SDKs read such a stream.
    """
    return arguments_object(call, _whole_members)


def _whole_members(text: str) -> Json:
    try:
        return loads(text)
    except JsonError:
        pass
    try:
        # Through bytes again, because our JSON knows no numbers beyond 64 bits.
        return loads(to_json(from_json(text, allow_partial=True)))
    except ValueError:
        return text


def citations_of(message: Message) -> list[Citation]:
    """All that its texts carry and Messages can say."""
    payloads = [p for part in message.parts if isinstance(part, TextPart) for p in part.annotations]
    return [citation for payload in payloads if (citation := citation_out(payload)) is not None]
