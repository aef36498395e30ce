"""A turn to the body of a Responses request. Pure.

A client of the same dialect has its own body edited, by named edits in a fixed order, so that whatever it
says that nobody here knows goes upstream as it came; where no edit applies it goes out unchanged. Every other
client's turn is built from its items. Reasoning is only given back to models that could have written it.
"""

from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from gateway.kernel.json import Json, JsonObject
from gateway.replay.signatures import is_gpt_signature
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    RefusalPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.tools import ToolSpec

ENCRYPTED: Final = "reasoning.encrypted_content"
CLIENTS_OWN: Final = "internal_chat_message_metadata_passthrough"
"""A field of Codex's items that is meant for nobody else."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How this upstream wants its requests."""

    model: str
    stream: bool
    drop: tuple[str, ...] = ()
    """Fields that this upstream refuses."""
    prompt_cache_key: str | None = None
    """For clients that have none of their own."""


def build_body(turn: Turn, shape: Shape) -> JsonObject:
    if turn.raw.dialect == "responses":
        return edited(turn, shape)
    return built(turn, shape)


# -- the same dialect: edits ------------------------------------------------------------------------------

Edit = Callable[[JsonObject, Shape], JsonObject]


def _model(body: JsonObject, shape: Shape) -> JsonObject:
    return body if body.get("model") == shape.model else {**body, "model": shape.model}


def _stream(body: JsonObject, shape: Shape) -> JsonObject:
    return body if bool(body.get("stream")) is shape.stream else {**body, "stream": shape.stream}


def _unsupported(body: JsonObject, shape: Shape) -> JsonObject:
    dropped = {"generate", *shape.drop} & body.keys()
    return {name: value for name, value in body.items() if name not in dropped} if dropped else body


def _items(body: JsonObject, shape: Shape) -> JsonObject:
    given = body.get("input")
    if not isinstance(given, list):
        return body
    items = [_item(item, stored=body.get("store") is True) for item in given]
    if all(new is old for new, old in zip(items, given, strict=True)):
        return body
    return {**body, "input": [item for item in items if item is not None]}


def _item(item: Json, *, stored: bool) -> Json:
    if not isinstance(item, dict):
        return item
    if CLIENTS_OWN in item:
        item = {name: value for name, value in item.items() if name != CLIENTS_OWN}
    return _sound_reasoning(item, stored=stored) if item.get("type") == "reasoning" else item


def _sound_reasoning(item: JsonObject, *, stored: bool) -> JsonObject | None:
    """Without a blob that this upstream did not write. What is left without any content goes, too: an id
    alone names something that was never stored.
    """
    if "encrypted_content" not in item:
        return item
    blob = item["encrypted_content"]
    if isinstance(blob, str) and is_gpt_signature(blob):
        return item
    kept = {name: value for name, value in item.items() if name != "encrypted_content"}
    if stored or kept.get("summary") or kept.get("content"):
        return kept if stored else {name: value for name, value in kept.items() if name != "id"}
    return None


EDITS: Final[tuple[Edit, ...]] = (_model, _stream, _unsupported, _items)


def edited(turn: Turn, shape: Shape) -> JsonObject:
    """The client's own body; the very same object when no edit applies."""
    body = turn.raw.body
    for edit in EDITS:
        body = edit(body, shape)
    return body


# -- every other dialect: built ---------------------------------------------------------------------------


def built(turn: Turn, shape: Shape) -> JsonObject:
    instructions, items = _split(turn.items)
    body: JsonObject = {
        "model": shape.model,
        "instructions": instructions,
        "input": [entry for item in items for entry in _entries(item)],
        "stream": shape.stream,
        "store": False,
        "include": [ENCRYPTED],
    }
    if tools := [_tool(tool) for tool in turn.tools if _offered(tool)]:
        body["tools"] = cast(Json, tools)
        body["tool_choice"] = _choice(turn)
        if turn.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = turn.parallel_tool_calls
    sampling = turn.sampling
    for name, value in (
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("max_output_tokens", sampling.max_output_tokens),
        ("prompt_cache_key", shape.prompt_cache_key),
    ):
        if value is not None:
            body[name] = value
    if (reasoning := _reasoning(turn)) is not None:
        body["reasoning"] = reasoning
    if (text := _text_format(turn)) is not None:
        body["text"] = text
    return _unsupported(body, shape)


def _split(items: Sequence[Item]) -> tuple[str, Sequence[Item]]:
    """What the conversation begins with as a system is its instructions."""
    said: list[str] = []
    for number, item in enumerate(items):
        if not (isinstance(item, Message) and item.role in ("system", "developer")):
            return "\n\n".join(said), items[number:]
        said.append("\n".join(part.text for part in item.parts if not isinstance(part, MediaPart)))
    return "\n\n".join(said), ()


def _entries(item: Item) -> list[Json]:
    match item:
        case Message():
            role = "developer" if item.role == "system" else item.role
            content = [_part(part, answer=item.role == "assistant") for part in item.parts]
            return [{"type": "message", "role": role, "content": cast(Json, content)}] if content else []
        case Reasoning():
            if not item.signature or not is_gpt_signature(item.signature):
                return []
            return [
                {"type": "reasoning", "summary": [], "content": None, "encrypted_content": item.signature}
            ]
        case ToolCall():
            return [_call(item)]
        case ToolResult():
            return [{"type": "function_call_output", "call_id": item.call_id, "output": _output(item)}]
        case OpaqueItem():
            return []


def _call(call: ToolCall) -> Json:
    if call.kind == "custom":
        return {
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": call.call_id,
            "name": call.name,
            "input": call.arguments,
        }
    return {
        "type": "function_call",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments or "{}",
    }


def _output(result: ToolResult) -> Json:
    """A text where there is nothing but text, which every model understands; else its parts."""
    if any(isinstance(part, MediaPart) for part in result.parts):
        return cast(Json, [_part(part, answer=False) for part in result.parts])
    return "\n".join(part.text for part in result.parts if not isinstance(part, MediaPart))


def _part(part: Part, *, answer: bool) -> JsonObject:
    match part:
        case MediaPart():
            return _media(part)
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}
        case _:
            return {"type": "output_text" if answer else "input_text", "text": part.text}


def _media(part: MediaPart) -> JsonObject:
    data = f"data:{part.mime_type or 'application/octet-stream'};base64,{part.data}" if part.data else None
    if part.kind == "image":
        image: JsonObject = {"type": "input_image", "detail": part.detail or "auto"}
        if part.file_id:
            return {**image, "file_id": part.file_id}
        return {**image, "image_url": data or part.url or ""}
    if part.kind == "audio" and part.data:
        kind = (part.mime_type or "audio/wav").rpartition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": kind}}
    file: JsonObject = {"type": "input_file"}
    for name, value in (
        ("filename", part.name),
        ("file_id", part.file_id),
        ("file_url", part.url),
        ("file_data", data),
    ):
        if value is not None:
            file[name] = value
    return file


def _offered(tool: ToolSpec) -> bool:
    return tool.kind != "hosted"


def _tool(tool: ToolSpec) -> JsonObject:
    if tool.kind == "custom":
        custom: JsonObject = {"type": "custom", "name": tool.name, "description": tool.description or ""}
        nested = (tool.raw or {}).get("custom")
        grammar = nested.get("format") if isinstance(nested, dict) else None
        return custom if grammar is None else {**custom, "format": grammar}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": bool(tool.strict),
    }


def _choice(turn: Turn) -> Json:
    choice = turn.tool_choice
    kinds = {tool.name: "custom" if tool.kind == "custom" else "function" for tool in turn.tools}
    named: list[Json] = [{"type": kinds.get(name, "function"), "name": name} for name in choice.names]
    if choice.mode == "named" and named:
        return named[0]
    if named:
        return {"type": "allowed_tools", "mode": choice.mode, "tools": named}
    return choice.mode


_EFFORTS: Final = ((0, "none"), (2048, "low"), (12288, "medium"))


def _reasoning(turn: Turn) -> JsonObject | None:
    wanted = turn.reasoning
    if wanted is None:
        return None
    effort = wanted.effort
    if effort is None and wanted.budget_tokens is not None:
        effort = next((name for most, name in _EFFORTS if wanted.budget_tokens <= most), "high")
    reasoning: JsonObject = {"summary": wanted.summary or "auto"}
    return reasoning if effort is None else {"effort": effort, **reasoning}


def _text_format(turn: Turn) -> JsonObject | None:
    wanted = turn.output_format
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json_object" or wanted.schema is None:
        return {"format": {"type": "json_object"}}
    return {
        "format": {
            "type": "json_schema",
            "name": wanted.name or "answer",
            "schema": wanted.schema,
            "strict": bool(wanted.strict),
        }
    }


def losses_of(turn: Turn) -> list[Loss]:
    """What this upstream will not honour of a turn that is built; one that is edited loses nothing."""
    if turn.raw.dialect == "responses":
        return []
    unsupported = ("top_k", "stop", "seed", "presence_penalty", "frequency_penalty")
    losses = [
        Loss(name, "unsupported") for name in unsupported if getattr(turn.sampling, name) not in (None, ())
    ]
    losses += [Loss(f"tools.{tool.name}", "hosted-elsewhere") for tool in turn.tools if not _offered(tool)]
    losses += [
        Loss(f"messages.{number}", f"not-in-responses-{item.type}")
        for number, item in enumerate(turn.items)
        if isinstance(item, OpaqueItem)
    ]
    return losses
