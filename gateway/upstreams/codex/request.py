"""A turn to the body of a Responses request. Pure.

A client of the same dialect has its own body edited (edits.py); every other client's turn is built from its
items. Reasoning is only given back to models that could have written it. What the upstream is narrower in is
made fit: names of tools and ids of calls are shortened the same way every time, and a limit below the least
one that is accepted becomes that.
"""

from collections.abc import Mapping, Sequence
from typing import Final, cast

from gateway.kernel.json import Json, JsonObject
from gateway.replay.signatures import is_gpt_signature
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    RefusalPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.turn.request import ReasoningRequest, Turn
from gateway.turn.tools import ToolSpec
from gateway.upstreams.codex.edits import Shape, edited, without_fields
from gateway.upstreams.codex.item_ids import sound_name

ENCRYPTED: Final = "reasoning.encrypted_content"
MIN_OUTPUT_TOKENS: Final = 16
_EFFORTS: Final = {"max": "xhigh"}
"""What other dialects call an effort that this one has under another name."""
_BUDGETS: Final = ((0, "none"), (2048, "low"), (12288, "medium"))


def build_body(turn: Turn, shape: Shape) -> JsonObject:
    if turn.raw.dialect == "responses":
        body = edited(turn.raw.body, shape)
        return _as_named(body, turn) if turn.effort_named and shape.reasoning else body
    return built(turn, shape)


def _as_named(body: JsonObject, turn: Turn) -> JsonObject:
    """With the effort that the model's name asks for in the place of the body's own."""
    given = body.get("reasoning")
    others = (
        {name: value for name, value in given.items() if name != "effort"} if isinstance(given, dict) else {}
    )
    effort = _effort(turn.reasoning) if turn.reasoning is not None else None
    return {**body, "reasoning": {**others, **({} if effort is None else {"effort": effort})}}


def original_names(turn: Turn) -> Mapping[str, str]:
    """The names of tools that the upstream knows under another, by that other."""
    if turn.raw.dialect == "responses":
        return {}
    return {sound: tool.name for tool in turn.tools if (sound := sound_name(tool.name)) != tool.name}


def built(turn: Turn, shape: Shape) -> JsonObject:
    instructions, items = _split(turn.items)
    body: JsonObject = {
        "model": shape.model,
        "instructions": instructions,
        "input": _input(items, shape),
        "stream": bool(shape.stream),
        "store": False,
    }
    if shape.reasoning:
        body["include"] = [ENCRYPTED]
    if tools := [_tool(tool) for tool in turn.tools if _offered(tool)]:
        body["tools"] = cast(Json, tools)
        body["tool_choice"] = _choice(turn)
        if turn.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = turn.parallel_tool_calls
    body |= _sampling(turn, shape)
    if shape.reasoning and (reasoning := _reasoning(turn)) is not None:
        body["reasoning"] = reasoning
    if (text := _text_format(turn)) is not None:
        body["text"] = text
    return without_fields(body, shape)


def _sampling(turn: Turn, shape: Shape) -> JsonObject:
    wanted = turn.sampling
    body: JsonObject = {}
    if wanted.max_output_tokens is not None:
        body["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, wanted.max_output_tokens)
    if shape.reasoning:
        return body
    if wanted.temperature is not None:
        body["temperature"] = wanted.temperature
    if wanted.top_p is not None:
        body["top_p"] = wanted.top_p
    return body


def _split(items: Sequence[Item]) -> tuple[str, Sequence[Item]]:
    """What the conversation begins with as a system is its instructions."""
    said: list[str] = []
    for number, item in enumerate(items):
        if not (isinstance(item, Message) and item.role in ("system", "developer")):
            return "\n\n".join(said), items[number:]
        said.append("\n".join(part.text for part in item.parts if not isinstance(part, MediaPart)))
    return "\n\n".join(said), ()


def _input(items: Sequence[Item], shape: Shape) -> list[Json]:
    custom = {item.call_id for item in items if isinstance(item, ToolCall) and item.kind == "custom"}
    given: list[Json] = []
    for item in items:
        sealed = _sealed_with(item, shape)
        if sealed is not None and sealed not in given:
            given.append(sealed)
        match item:
            case Message():
                if content := _content(item):
                    role = "developer" if item.role == "system" else item.role
                    given.append({"type": "message", "role": role, "content": cast(Json, content)})
            case Reasoning():
                pass
            case ToolCall():
                given.append(_call(item))
            case ToolResult():
                kind = "custom_tool_call_output" if item.call_id in custom else "function_call_output"
                given.append({"type": kind, "call_id": sound_name(item.call_id), "output": _output(item)})
            case OpaqueItem():
                pass
    return given


def _sealed_with(item: Item, shape: Shape) -> Json:
    """The reasoning that an item is, or that came before it: clients of Gemini have it on what follows."""
    match item:
        case Reasoning():
            signature = item.signature
        case Message(origin=Origin() as origin) | ToolCall(origin=Origin() as origin):
            signature = origin.signature
        case _:
            return None
    blob = _blob(signature)
    if not shape.reasoning or shape.fresh or not is_gpt_signature(blob):
        return None
    return {"type": "reasoning", "summary": [], "content": None, "encrypted_content": blob}


def _blob(signature: str | None) -> str:
    """As the upstream sealed it: Gemini's clients write it in the other alphabet of Base64."""
    return (signature or "").replace("+", "-").replace("/", "_")


def _content(message: Message) -> list[JsonObject]:
    """An answer holds nothing but text."""
    answer = message.role == "assistant"
    parts = [part for part in message.parts if not (answer and isinstance(part, MediaPart))]
    return [_part(part, answer=answer) for part in parts]


def _call(call: ToolCall) -> Json:
    named: JsonObject = {"call_id": sound_name(call.call_id), "name": sound_name(call.name)}
    if call.kind == "custom":
        return {"type": "custom_tool_call", "status": "completed", **named, "input": call.arguments}
    return {"type": "function_call", **named, "arguments": call.arguments or "{}"}


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
        custom: JsonObject = {
            "type": "custom",
            "name": sound_name(tool.name),
            "description": tool.description or "",
        }
        nested = (tool.raw or {}).get("custom")
        grammar = nested.get("format") if isinstance(nested, dict) else None
        return custom if grammar is None else {**custom, "format": grammar}
    return {
        "type": "function",
        "name": sound_name(tool.name),
        "description": tool.description or "",
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": bool(tool.strict),
    }


def _choice(turn: Turn) -> Json:
    choice = turn.tool_choice
    kinds = {tool.name: "custom" if tool.kind == "custom" else "function" for tool in turn.tools}
    named: list[Json] = [
        {"type": kinds.get(name, "function"), "name": sound_name(name)} for name in choice.names
    ]
    if choice.mode == "named" and named:
        return named[0]
    if named:
        return {"type": "allowed_tools", "mode": choice.mode, "tools": named}
    return choice.mode


def _reasoning(turn: Turn) -> JsonObject | None:
    wanted = turn.reasoning
    if wanted is None:
        return None
    effort = _effort(wanted)
    reasoning: JsonObject = {"summary": wanted.summary or "auto"}
    return reasoning if effort is None else {"effort": effort, **reasoning}


def _effort(wanted: ReasoningRequest) -> str | None:
    if wanted.effort:
        return _EFFORTS.get(wanted.effort, wanted.effort)
    if wanted.budget_tokens is None:
        return None
    return next((name for most, name in _BUDGETS if wanted.budget_tokens <= most), "high")


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


def losses_of(
    turn: Turn, *, reasoning: bool = True, compaction: bool = False, drop: Sequence[str] = ()
) -> list[Loss]:
    """What this upstream will not honour of a turn.

    A Responses client's body goes out edited: of what reading it lost, that alone is lost which the upstream
    does not get either, or which its client could not come back to. reasoning: whether the model does.
    compaction: whether the upstream does. drop: fields that it refuses.
    """
    if turn.raw.dialect == "responses":
        kept = {"not-stored"} if compaction else {"not-stored", "foreign-compaction"}
        dropped = [Loss(name, "unsupported") for name in drop if turn.raw.body.get(name)]
        return [*(loss for loss in turn.losses if loss.reason in kept), *dropped]
    sampling = turn.sampling
    unsupported = ["top_k", "stop", "seed", "presence_penalty", "frequency_penalty"]
    unsupported += ["temperature", "top_p"] if reasoning else []
    losses = [Loss(name, "unsupported") for name in unsupported if getattr(sampling, name) not in (None, ())]
    if sampling.max_output_tokens is not None and sampling.max_output_tokens < MIN_OUTPUT_TOKENS:
        losses.append(Loss("max_output_tokens", "raised-to", f"{MIN_OUTPUT_TOKENS}"))
    if turn.reasoning is not None and not reasoning:
        losses.append(Loss("reasoning", "unsupported"))
    losses += [Loss(f"tools.{tool.name}", "hosted-elsewhere") for tool in turn.tools if not _offered(tool)]
    for number, item in enumerate(turn.items):
        if isinstance(item, OpaqueItem):
            losses.append(Loss(f"messages.{number}", "not-in-responses", item.type))
        elif isinstance(item, Message) and item.role == "assistant" and _has_media(item.parts):
            losses.append(Loss(f"messages.{number}", "media-in-an-answer"))
    return losses


def _has_media(parts: Sequence[Part]) -> bool:
    return any(isinstance(part, MediaPart) for part in parts)
