"""Output items of the Responses API to items of the vocabulary. Pure.

Every item keeps its exact JSON as its origin, encrypted reasoning included: what a stateless client never saw
can be given back to the same upstream. A tool in a namespace is known by one name.
"""

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.turn.items import (
    Item,
    ItemKind,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from gateway.turn.tools import qualified

_CALLS = frozenset({"function_call", "custom_tool_call"})


def kind_of(item: JsonObject) -> ItemKind:
    match item.get("type"):
        case "message":
            return "message"
        case "reasoning":
            return "reasoning"
        case "function_call" | "custom_tool_call":
            return "tool_call"
        case _:
            return "opaque"


def text_at(item: JsonObject, name: str) -> str:
    """A field that should be a text; anything else is none."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def tool_name(item: JsonObject) -> str:
    return qualified(text_at(item, "namespace") or None, text_at(item, "name"))


def call_id_of(item: JsonObject) -> str:
    return text_at(item, "call_id") or text_at(item, "id")


def read_item(item: JsonObject, *, executor: str, raw: bytes | None = None) -> Item:
    """`raw` is the item's exact JSON where it was kept."""
    item_id = text_at(item, "id") or None
    signature = text_at(item, "encrypted_content") or None
    origin = Origin(
        executor=executor, dialect="responses", id=item_id, signature=signature, raw=raw or dumps(item)
    )
    match kind_of(item):
        case "message":
            return Message(role="assistant", parts=_parts(item.get("content")), id=item_id, origin=origin)
        case "reasoning":
            return Reasoning(
                summary=tuple(_texts(item.get("summary"))),
                text="".join(_texts(item.get("content"))),
                signature=signature,
                id=item_id,
                origin=origin,
            )
        case "tool_call":
            custom = item.get("type") == "custom_tool_call"
            arguments = item.get("input" if custom else "arguments")
            return ToolCall(
                call_id=call_id_of(item),
                name=tool_name(item),
                arguments=arguments if isinstance(arguments, str) else dumps(arguments or {}).decode(),
                kind="custom" if custom else "function",
                id=item_id,
                origin=origin,
            )
        case "opaque":
            return OpaqueItem(
                dialect="responses",
                type=text_at(item, "type") or "unknown",
                payload=item,
                id=item_id,
                origin=origin,
            )


def _parts(content: Json) -> tuple[Part, ...]:
    parts: list[Part] = []
    for part in content if isinstance(content, list) else []:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "refusal":
            parts.append(RefusalPart(text_at(part, "refusal")))
        else:
            annotations = part.get("annotations")
            kept = (
                [one for one in annotations if isinstance(one, dict)] if isinstance(annotations, list) else []
            )
            parts.append(TextPart(text_at(part, "text"), tuple(kept)))
    return tuple(parts)


def _texts(pieces: Json) -> list[str]:
    return (
        [text_at(piece, "text") for piece in pieces if isinstance(piece, dict)]
        if isinstance(pieces, list)
        else []
    )
