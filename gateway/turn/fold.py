"""A stream folded into its result: a non-stream answer is the fold of the stream.

`Fold` is incremental; folding a stream in pieces, at any cut, gives the same result as folding it whole.
"""

from collections.abc import Iterable
from typing import assert_never

import msgspec

from gateway.kernel.json import JsonObject
from gateway.turn.events import (
    AnnotationAdded,
    CancelReason,
    ErrorInfo,
    Finish,
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    ToolInputDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
    UsageReported,
)
from gateway.turn.frame import Frame
from gateway.turn.items import (
    Item,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    text_of,
)
from gateway.turn.usage import Usage, merge


class TurnResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole turn. Exactly one of finish, error and cancelled is set once the stream has ended."""

    model: str = ""
    created_at: int = 0
    upstream_id: str | None = None
    items: tuple[Item, ...] = ()
    usage: Usage | None = None
    finish: Finish | None = None
    error: ErrorInfo | None = None
    cancelled: CancelReason | None = None

    @property
    def text(self) -> str:
        """All message text, in order."""
        return "".join(text_of(item.parts) for item in self.items if isinstance(item, Message))

    @property
    def reasoning(self) -> str:
        """All reasoning text: the full text where there is any, else the summary."""
        return "".join(
            item.text or "\n\n".join(item.summary) for item in self.items if isinstance(item, Reasoning)
        )

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(item for item in self.items if isinstance(item, ToolCall))


class ItemBuilder:
    """One item put together from its deltas, for a stream that ends before it says ItemDone."""

    def __init__(self, started: ItemStarted) -> None:
        self._started = started
        self._parts: dict[tuple[int, str], list[str]] = {}
        self._annotations: dict[int, list[JsonObject]] = {}
        self._signature: list[str] = []
        self._text: list[str] = []
        self._text_part: int | None = None
        """Where the last piece of text went: the next goes there, too, nearly always."""

    def add(self, event: TurnEvent) -> None:
        """Take one delta; events that are no deltas change nothing."""
        if type(event) is TextDelta:
            if event.part != self._text_part:
                self._text_part, self._text = event.part, self._piece(event.part, "text")
            self._text.append(event.text)
            return
        match event:
            case RefusalDelta():
                self._piece(event.part, "refusal").append(event.text)
            case ReasoningDelta():
                self._piece(event.part, event.channel).append(event.text)
            case ToolInputDelta():
                self._piece(0, "arguments").append(event.json_fragment)
            case SignatureDelta():
                self._signature.append(event.signature)
            case AnnotationAdded():
                self._annotations.setdefault(event.part, []).append(event.payload)
            case _:
                pass

    def _piece(self, part: int, kind: str) -> list[str]:
        return self._parts.setdefault((part, kind), [])

    def _joined(self, kind: str) -> list[str]:
        return ["".join(texts) for (_, k), texts in sorted(self._parts.items()) if k == kind]

    def item(self) -> Item:
        started = self._started
        match started.kind:
            case "message":
                parts: list[Part] = []
                for (number, kind), texts in sorted(self._parts.items()):
                    text = "".join(texts)
                    if kind == "refusal":
                        parts.append(RefusalPart(text))
                    else:
                        parts.append(TextPart(text, tuple(self._annotations.get(number, ()))))
                return Message(role="assistant", parts=tuple(parts), id=started.item_id)
            case "reasoning":
                return Reasoning(
                    summary=tuple(self._joined("summary")),
                    text="".join(self._joined("full")),
                    signature="".join(self._signature) or None,
                    id=started.item_id,
                )
            case "tool_call":
                return ToolCall(
                    call_id=started.call_id or started.item_id,
                    name=started.name or "",
                    arguments="".join(self._joined("arguments")),
                    id=started.item_id,
                )
            case "opaque":
                return OpaqueItem(dialect="responses", type="unknown", payload={}, id=started.item_id)
            case _:
                assert_never(started.kind)


class Fold:
    """Events in, one TurnResult out. Expects a legal stream; `result()` may be asked at any time."""

    def __init__(self) -> None:
        self._result = TurnResult()
        self._done: dict[int, Item] = {}
        self._open: dict[int, ItemBuilder] = {}
        self._usage: Usage | None = None

    def add(self, event: TurnEvent) -> None:
        match event:
            case (
                TextDelta()
                | RefusalDelta()
                | ReasoningDelta()
                | SignatureDelta()
                | ToolInputDelta()
                | AnnotationAdded()
            ):
                if (builder := self._open.get(event.index)) is not None:
                    builder.add(event)
            case TurnStarted():
                self._set(model=event.model, created_at=event.created_at, upstream_id=event.upstream_id)
            case ItemStarted():
                self._open[event.index] = ItemBuilder(event)
            case ItemDone():
                self._open.pop(event.index, None)
                self._done[event.index] = event.item
            case UsageReported():
                self._usage = merge(self._usage, event.usage)
            case TurnCompleted():
                self._usage = merge(self._usage, event.usage)
                self._set(finish=event.finish)
            case TurnFailed():
                self._set(error=event.error)
            case TurnCancelled():
                self._set(cancelled=event.reason)
            case OpaqueEvent() | Heartbeat():
                pass
            case _:
                assert_never(event)

    def _set(self, **changes: object) -> None:
        self._result = msgspec.structs.replace(self._result, **changes)

    def result(self) -> TurnResult:
        items = dict(self._done)
        items.update({index: builder.item() for index, builder in self._open.items()})
        return msgspec.structs.replace(
            self._result, items=tuple(items[index] for index in sorted(items)), usage=self._usage
        )


def fold(frames: Iterable[Frame]) -> TurnResult:
    folder = Fold()
    for frame in frames:
        for event in frame.events:
            folder.add(event)
    return folder.result()
