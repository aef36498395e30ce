"""The items of Responses answers. Pure.

Streams and whole answers are made of the same items, so that both say the same: open_items.py puts them into
events, response.py into the answer to a request that does not stream.

The full reasoning of an upstream that gives no summary is told as the summary, because that is what clients
show; it is content (`reasoning_text`) only beside a summary.
"""

from collections.abc import Sequence
from typing import NamedTuple, assert_never

import msgspec

from gateway.kernel.ids import derived_hex
from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.responses.tools import CallName, CallNames, free_text
from gateway.turn.items import (
    Item,
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
from gateway.wire.responses import (
    CallOutputOut,
    ContentOut,
    CustomCallOut,
    FunctionCallOut,
    ItemOut,
    ItemStatus,
    MessageOut,
    ReasoningOut,
)

ENCRYPTED_REASONING = "reasoning.encrypted_content"


def item_id(turn: Turn, prefix: str, index: int) -> str:
    return f"{prefix}_{derived_hex(turn.id, 'output', index, length=32)}"


def as_text(value: object) -> str:
    """Text as it is, nothing as nothing, anything else as JSON with spaces between its members."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.format(dumps(value), indent=0).decode()


def wants_encrypted(turn: Turn) -> bool:
    included = turn.raw.body.get("include")
    return isinstance(included, list) and ENCRYPTED_REASONING in included


# -- items ------------------------------------------------------------------------------------------------


def content_out(parts: Sequence[Part]) -> list[ContentOut]:
    """Parts that say something; media have no place in an assistant's message."""
    return [part_out(part) for part in parts if isinstance(part, TextPart | RefusalPart) and part.text]


def part_out(part: TextPart | RefusalPart) -> ContentOut:
    if isinstance(part, RefusalPart):
        return {"type": "refusal", "refusal": part.text}
    return text_out(part.text, part.annotations)


def text_out(text: str, annotations: Sequence[JsonObject] = ()) -> ContentOut:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}


def message_out(id_: str, content: list[ContentOut], status: ItemStatus) -> MessageOut:
    return {"type": "message", "id": id_, "status": status, "role": "assistant", "content": content}


class ReasoningTexts(NamedTuple):
    summary: tuple[str, ...]
    content: str

    @classmethod
    def of(cls, item: Reasoning, *, full_first: bool = False) -> "ReasoningTexts":
        """full_first: the full text was already told as the first part of the summary."""
        if full_first:
            return cls((item.text, *item.summary), "")
        if not item.summary and item.text:
            return cls((item.text,), "")
        return cls(item.summary, item.text)


def reasoning_out(id_: str, texts: ReasoningTexts, signature: str | None) -> ReasoningOut:
    out: ReasoningOut = {
        "type": "reasoning",
        "id": id_,
        "summary": [{"type": "summary_text", "text": text} for text in texts.summary],
    }
    if texts.content:
        out["content"] = [{"type": "reasoning_text", "text": texts.content}]
    if signature is not None:
        out["encrypted_content"] = signature
    return out


def call_out(
    id_: str, called: CallName, call_id: str, said: str, status: ItemStatus
) -> FunctionCallOut | CustomCallOut:
    out: FunctionCallOut | CustomCallOut
    if called.custom:
        out = {
            "type": "custom_tool_call",
            "id": id_,
            "status": status,
            "call_id": call_id,
            "name": called.name,
            "input": said,
        }
    else:
        out = {
            "type": "function_call",
            "id": id_,
            "status": status,
            "call_id": call_id,
            "name": called.name,
            "arguments": said,
        }
    if called.namespace is not None:
        out["namespace"] = called.namespace
    return out


def call_prefix(called: CallName) -> str:
    return "ctc" if called.custom else "fc"


def named(call: ToolCall, names: CallNames) -> CallName:
    """The call's name as the client knows it; what the upstream calls free text is a custom call."""
    called = names.of(call.name)
    return called._replace(custom=called.custom or call.kind == "custom")


def said_by(call: ToolCall, called: CallName) -> str:
    return free_text(call) if called.custom else call.arguments


def result_out(turn: Turn, index: int, call: ToolCall, called: CallName) -> CallOutputOut:
    """The result of a call that the upstream has run itself: an item of its own after the call."""
    return {
        "type": "custom_tool_call_output" if called.custom else "function_call_output",
        "id": item_id(turn, "ctco" if called.custom else "fco", index),
        "status": "completed",
        "call_id": call.call_id,
        "output": call.result or "",
    }


def opaque_out(turn: Turn, item: OpaqueItem, index: int) -> JsonObject | None:
    """An item of this dialect goes through as it is; others cannot be told."""
    if item.dialect != "responses":
        return None
    return {"id": item.id or item_id(turn, "item", index), **item.payload, "type": item.type}


def output_of(turn: Turn, items: Sequence[Item]) -> list[ItemOut]:
    """The output of a turn whose items are all known. Messages that say nothing are left out."""
    names = CallNames(turn.tools)
    encrypted = wants_encrypted(turn)
    out: list[ItemOut] = []
    for item in items:
        index = len(out)
        match item:
            case Message():
                if content := content_out(item.parts):
                    out.append(message_out(item_id(turn, "msg", index), content, "completed"))
            case Reasoning():
                signature = item.signature if encrypted else None
                texts = ReasoningTexts.of(item)
                out.append(reasoning_out(item_id(turn, "rs", index), texts, signature))
            case ToolCall():
                called = named(item, names)
                id_ = item_id(turn, call_prefix(called), index)
                out.append(call_out(id_, called, item.call_id, said_by(item, called), "completed"))
                if item.result is not None:
                    out.append(result_out(turn, index + 1, item, called))
            case OpaqueItem():
                if (opaque := opaque_out(turn, item, index)) is not None:
                    out.append(opaque)
            case ToolResult():
                pass
            case _:
                assert_never(item)
    return out
