"""Messages and their content blocks to the items of a turn. Pure.

Order is kept: text and media that stand together become one message, and thinking, calls and results become
items of their own. Tools that Anthropic's servers ran are calls and results like any other. What only
Anthropic can open (encrypted results) is left out as a loss; a block that nobody here knows is kept opaque,
and told as a loss because no upstream will read it.
"""

from collections.abc import Sequence
from typing import assert_never, cast

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.protocols.bodies import missing
from gateway.protocols.openai.content import split_data_url
from gateway.turn.flatten import flatten_parts
from gateway.turn.items import (
    Item,
    MediaKind,
    MediaPart,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.wire.messages import (
    Block,
    CompactionBlock,
    ContainerUploadBlock,
    DocumentBlock,
    ImageBlock,
    MessageIn,
    OtherBlock,
    RedactedThinkingBlock,
    SearchResultBlock,
    ServerResultBlock,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
)

BILLING_MARKER = "x-anthropic-billing-header"
"""How Claude Code begins a system text that differs in every run: it would make every prompt a new one."""


class Conversation:
    """The items so far. `system` first, then `message` for each message in order."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.losses: list[Loss] = []
        self._tool_names: dict[str, str] = {}
        """Of the calls so far, by id: a result names its call only."""
        self._sealed: set[Loss] = set()
        """What was left out of results: told once for each."""

    def system(self, content: str | list[Block] | None) -> None:
        if isinstance(content, str):
            content = [TextBlock(text=content)] if content else []
        located = [(f"system.{index}", block) for index, block in enumerate(content or ())]
        self._blocks("system", [found for pair in located if (found := self._unmarked(*pair))])

    def _unmarked(self, path: str, block: Block) -> tuple[str, Block] | None:
        """The block without a billing marker in its first line; None when it says nothing else."""
        if not isinstance(block, TextBlock) or not block.text.startswith(BILLING_MARKER):
            return path, block
        self.losses.append(Loss(path, "billing-marker"))
        _, _, rest = block.text.partition("\n")
        return (path, TextBlock(text=rest)) if rest.strip() else None

    def message(self, message: MessageIn, path: str) -> None:
        match message.content:
            case None if message.role in ("user", "assistant"):
                raise missing(f"{path}.content")
            case None:
                pass
            case str(text):
                self.items.append(Message(role=message.role, parts=(TextPart(text),)))
            case []:
                self.items.append(Message(role=message.role, parts=()))
            case list(blocks):
                located = [(f"{path}.content.{index}", block) for index, block in enumerate(blocks)]
                self._blocks(message.role, located)

    def _blocks(self, role: Role, blocks: Sequence[tuple[str, Block]]) -> None:
        parts: list[Part] = []
        for path, block in blocks:
            found = self._parts(block, path)
            if found is not None:
                parts += found
                continue
            if parts:
                self.items.append(Message(role=role, parts=tuple(parts)))
                parts = []
            self.items.append(self._item(block, path))
        if parts:
            self.items.append(Message(role=role, parts=tuple(parts)))

    # -- items --------------------------------------------------------------------------------------------

    def _item(self, block: Block, path: str) -> Item:
        """Of a block that is no part of a message."""
        match block:
            case ThinkingBlock():
                return Reasoning(text=block.thinking, signature=block.signature or None)
            case RedactedThinkingBlock():
                return Reasoning(signature=block.data or None)
            case ToolUseBlock():
                self._tool_names[block.id] = block.name
                return ToolCall(
                    call_id=block.id, name=block.name, arguments=_text(cast(JsonObject, block.input or {}))
                )
            case ToolResultBlock():
                return self._result(block, self._result_parts(block.content, f"{path}.content"))
            case ServerResultBlock():
                readable = self._readable(block.content, path)
                return self._result(block, (TextPart(_text(readable)),))
            case OtherBlock():
                self.losses.append(Loss(path, "unknown-block"))
                return OpaqueItem(dialect="messages", type=block.type, payload=_fields(block))
            case _:
                raise AssertionError(f"a {type(block).__name__} is a part of a message")

    def _result(self, block: ToolResultBlock | ServerResultBlock, parts: tuple[Part, ...]) -> ToolResult:
        return ToolResult(
            call_id=block.tool_use_id,
            parts=parts,
            name=self._tool_names.get(block.tool_use_id),
            is_error=bool(block.is_error),
        )

    def _result_parts(self, content: str | list[Block] | None, path: str) -> tuple[Part, ...]:
        """What stands in a result stays in it: a block of a type that is unknown there, as JSON."""
        if content is None:
            return ()
        if isinstance(content, str):
            return (TextPart(content),)
        parts: list[Part] = []
        for index, block in enumerate(content):
            found = self._parts(block, f"{path}.{index}")
            if found is None:
                raw = _fields(block) if isinstance(block, OtherBlock) else block.model_dump()
                found = [TextPart(_text(self._readable(raw, f"{path}.{index}")))]
            parts += found
        return tuple(parts)

    # -- parts --------------------------------------------------------------------------------------------

    def _parts(self, block: Block, path: str) -> list[Part] | None:
        """Of a block that is text or media; None for any other."""
        match block:
            case TextBlock():
                return [TextPart(block.text)]
            case ImageBlock():
                return [_media("image", block.source)]
            case DocumentBlock():
                return self._document(block, path)
            case SearchResultBlock():
                texts = "\n\n".join(part.text for part in block.content)
                return [TextPart(f"{block.title}\n{block.source}\n\n{texts}")]
            case ToolReferenceBlock():
                return [TextPart(f"[tool_reference] {block.tool_name}")]
            case ContainerUploadBlock():
                return [MediaPart(kind="file", file_id=block.file_id)]
            case CompactionBlock():
                if block.content is None:
                    self.losses.append(Loss(path, "encrypted"))
                return [TextPart(block.content)] if block.content else []
            case _:
                return None

    def _document(self, block: DocumentBlock, path: str) -> list[Part]:
        if block.citations is not None and block.citations.enabled:
            self.losses.append(Loss(f"{path}.citations", "unsupported"))
        about = "\n".join(text for text in (block.title, block.context) if text)
        source = block.source
        if source.type == "text":
            return [TextPart("\n\n".join(text for text in (about, source.data) if text))]
        head: list[Part] = [TextPart(about)] if about else []
        if source.type == "content":
            return [*head, *self._result_parts(source.content, f"{path}.source.content")]
        head = [TextPart(block.context)] if block.context else []
        return [*head, _media("file", source, block.title)]

    def _readable(self, value: object, path: str) -> Json:
        """A result's content without what only Anthropic can open, and without files in base64."""
        if isinstance(value, list):
            return [self._readable(item, path) for item in value]
        if not isinstance(value, dict):
            return cast(Json, value)
        kept: JsonObject = {}
        for key, item in value.items():
            sealed = key.startswith("encrypted_") or (key == "data" and value.get("type") == "base64")
            if not sealed:
                kept[key] = self._readable(item, path)
            elif (loss := Loss(path, "encrypted" if key != "data" else "placeholder")) not in self._sealed:
                self._sealed.add(loss)
                self.losses.append(loss)
        return kept


def _media(kind: MediaKind, source: Source, name: str | None = None) -> MediaPart:
    if source.url is not None and (inline := split_data_url(source.url)) is not None:
        mime_type, data = inline
        return MediaPart(kind=kind, mime_type=mime_type, data=data, name=name)
    return MediaPart(
        kind=kind,
        mime_type=source.media_type,
        url=source.url,
        data=source.data,
        file_id=source.file_id,
        name=name,
    )


def flatten_items(items: Sequence[Item]) -> str:
    """The items as one text, for hashing: what was called and what came of it is marked as such."""
    return "\n".join(_flat(item) for item in items)


def _flat(item: Item) -> str:
    match item:
        case Message():
            return flatten_parts(item.parts)
        case ToolCall():
            return f"[tool_use] {item.name} {item.arguments}"
        case ToolResult():
            return f"[tool_result] {flatten_parts(item.parts)}"
        case Reasoning():
            return item.text
        case OpaqueItem():
            return f"[{item.type}] {_text(item.payload)}"
        case _:
            assert_never(item)


def _fields(block: OtherBlock) -> JsonObject:
    """The block as the client sent it."""
    return {"type": block.type, **cast(JsonObject, block.model_extra or {})}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else dumps(value).decode()
