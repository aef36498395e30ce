"""Messages and reasoning of a Responses stream while they are open: what their deltas and end become. Pure.

Each kind of item says `added` first, then its parts and deltas, and `done` with the whole item, which is the
item as its ItemDone gives it: what no delta said is said before. Used by encode.py, one item at a time.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.responses.events import EventWriter
from gateway.protocols.responses.objects import (
    ReasoningTexts,
    content_out,
    item_id,
    message_out,
    part_out,
    reasoning_out,
    text_out,
    wants_encrypted,
)
from gateway.protocols.responses.tools import CallNames
from gateway.turn.events import AnnotationAdded, ReasoningDelta, RefusalDelta, TextDelta
from gateway.turn.items import Item, Message, Reasoning, RefusalPart, TextPart
from gateway.turn.request import Turn
from gateway.wire.responses import ContentOut, ItemOut, ItemStatus

_TEXT_HEAD = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":'
)
_TEXT_TAIL = b',"logprobs":[]}\n\n'


class Output:
    """What the stream has said so far: the finished items, and where the next one stands."""

    def __init__(self, turn: Turn, writer: EventWriter) -> None:
        self.turn = turn
        self.writer = writer
        self.items: list[ItemOut] = []
        self.names = CallNames(turn.tools)
        self.encrypted = wants_encrypted(turn)

    @property
    def index(self) -> int:
        return len(self.items)

    def added(self, item: ItemOut) -> None:
        self.writer.event("response.output_item.added", {"output_index": self.index, "item": item})

    def finished(self, item: ItemOut) -> None:
        self.writer.event("response.output_item.done", {"output_index": self.index, "item": item})
        self.items.append(item)


class OpenItem(Protocol):
    """One item between its ItemStarted and its ItemDone."""

    def so_far(self) -> Item | None:
        """The item as its deltas said it, for a stream that ends inside it; None when they said nothing."""
        ...

    def done(self, item: Item, status: ItemStatus) -> None: ...


class _Part(msgspec.Struct):
    """A content part of a message."""

    refusal: bool
    texts: list[str] = msgspec.field(default_factory=list)
    annotations: list[JsonObject] = msgspec.field(default_factory=list)

    def part(self) -> TextPart | RefusalPart:
        text = "".join(self.texts)
        return RefusalPart(text) if self.refusal else TextPart(text, tuple(self.annotations))


class OpenMessage:
    """Says nothing before its first part, so that a message without content leaves no trace."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._id = item_id(out.turn, "msg", out.index)
        self._parts: list[_Part] = []
        self._number = -1
        """The events' own number of the part that is open."""
        self._middle = b""

    def text(self, event: TextDelta) -> None:
        if not event.text:
            return
        part = self._part_for(event.part, refusal=False)
        part.texts.append(event.text)
        self._out.writer.prepared(_TEXT_HEAD, self._middle, dumps(event.text), _TEXT_TAIL)

    def refusal(self, event: RefusalDelta) -> None:
        if event.text:
            self._say_refusal(self._part_for(event.part, refusal=True), event.text)

    def annotation(self, event: AnnotationAdded) -> None:
        self._annotate(self._part_for(event.part, refusal=False), event.payload)

    def so_far(self) -> Item | None:
        if not self._parts:
            return None
        return Message(role="assistant", parts=tuple(part.part() for part in self._parts))

    def done(self, item: Item, status: ItemStatus) -> None:
        assert isinstance(item, Message)
        meant = [p for p in item.parts if isinstance(p, TextPart | RefusalPart) and p.text]
        for index, part in enumerate(meant):
            refusal = isinstance(part, RefusalPart)
            if index >= len(self._parts):
                self._open_part(refusal=refusal)
            if index == len(self._parts) - 1:
                self._complete(part)
        if len(self._parts) > len(meant):
            self._close_part(self._parts[-1].part())
        if not self._parts:
            return
        content = content_out(meant) or content_out([part.part() for part in self._parts])
        self._out.finished(message_out(self._id, content, status))

    # -- parts --------------------------------------------------------------------------------------------

    def _part_for(self, number: int, *, refusal: bool) -> _Part:
        if self._parts and number == self._number and self._parts[-1].refusal == refusal:
            return self._parts[-1]
        if self._parts:
            self._close_part(self._parts[-1].part())
        self._number = number
        return self._open_part(refusal=refusal)

    def _open_part(self, *, refusal: bool) -> _Part:
        if not self._parts:
            self._out.added(message_out(self._id, [], "in_progress"))
        self._parts.append(_Part(refusal))
        place: dict[str, object] = self._place()
        self._middle = b"," + dumps(place)[1:-1] + b',"delta":'
        empty: ContentOut = {"type": "refusal", "refusal": ""} if refusal else text_out("")
        self._event("response.content_part.added", part=empty)
        return self._parts[-1]

    def _complete(self, meant: TextPart | RefusalPart) -> None:
        """Say what is missing of the open part, then close it."""
        part = self._parts[-1]
        said = "".join(part.texts)
        rest = meant.text.removeprefix(said) if meant.text.startswith(said) else ""
        if rest and part.refusal:
            self._say_refusal(part, rest)
        elif rest:
            part.texts.append(rest)
            self._out.writer.prepared(_TEXT_HEAD, self._middle, dumps(rest), _TEXT_TAIL)
        if isinstance(meant, TextPart):
            for annotation in meant.annotations[len(part.annotations) :]:
                self._annotate(part, annotation)
        self._close_part(meant)

    def _close_part(self, part: TextPart | RefusalPart) -> None:
        if isinstance(part, RefusalPart):
            self._event("response.refusal.done", refusal=part.text)
        else:
            self._event("response.output_text.done", text=part.text, logprobs=[])
        self._event("response.content_part.done", part=part_out(part))

    def _say_refusal(self, part: _Part, text: str) -> None:
        part.texts.append(text)
        self._event("response.refusal.delta", delta=text)

    def _annotate(self, part: _Part, payload: JsonObject) -> None:
        index = len(part.annotations)
        part.annotations.append(payload)
        self._event("response.output_text.annotation.added", annotation_index=index, annotation=payload)

    def _place(self) -> dict[str, object]:
        return {
            "item_id": self._id,
            "output_index": self._out.index,
            "content_index": len(self._parts) - 1,
        }

    def _event(self, type_: str, **fields: object) -> None:
        self._out.writer.event(type_, {**self._place(), **fields})


class OpenReasoning:
    """The full text goes where a summary would, unless a summary came before it."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._id = item_id(out.turn, "rs", out.index)
        self._summary: list[list[str]] = []
        self._content: list[str] | None = None
        self._full: list[str] | None = None
        """The full text, when it is told as the first part of the summary."""
        self._number = -1
        self._close: Callable[[str], None] | None = None
        self._said: list[str] = []
        """Of what is open, with the function that closes it."""
        out.added(reasoning_out(self._id, ReasoningTexts((), ""), None))

    def delta(self, event: ReasoningDelta) -> None:
        if not event.text:
            return
        if event.channel == "summary":
            if self._said is self._full or self._said is self._content or event.part != self._number:
                self._number = event.part
                self._open_summary()
            self._say_summary(event.text)
        elif self._full is not None:
            if self._said is self._full:
                self._say_summary(event.text)
        elif not self._summary:
            self._open_summary()
            self._full = self._said
            self._say_summary(event.text)
        else:
            if self._content is None:
                self._open_content()
            self._say_content(event.text)

    def so_far(self) -> Item | None:
        summary = tuple("".join(texts) for texts in self._summary)
        if self._full is not None:
            return Reasoning(summary=summary[1:], text=summary[0])
        return Reasoning(summary=summary, text="".join(self._content or ()))

    def done(self, item: Item, status: ItemStatus) -> None:
        assert isinstance(item, Reasoning)
        texts = ReasoningTexts.of(item, full_first=self._full is not None)
        for index, text in enumerate(texts.summary):
            if index >= len(self._summary):
                self._open_summary()
            if index == len(self._summary) - 1 and self._said is self._summary[-1]:
                self._finish(text, self._say_summary)
        if texts.content:
            if self._content is None:
                self._open_content()
            self._finish(texts.content, self._say_content)
        self._shut()
        signature = item.signature if self._out.encrypted else None
        self._out.finished(reasoning_out(self._id, texts, signature))

    def _finish(self, meant: str, say: Callable[[str], None]) -> None:
        said = "".join(self._said)
        if rest := meant.removeprefix(said) if meant.startswith(said) else "":
            say(rest)
        if self._close is not None:
            self._close(meant)
            self._close = None

    def _shut(self) -> None:
        if self._close is not None:
            self._close("".join(self._said))
            self._close = None

    # -- the two places of text ---------------------------------------------------------------------------

    def _open_summary(self) -> None:
        self._shut()
        self._said = []
        self._summary.append(self._said)
        place = self._place(summary_index=len(self._summary) - 1)
        self._event("response.reasoning_summary_part.added", place, part={"type": "summary_text", "text": ""})

        def close(text: str) -> None:
            self._event("response.reasoning_summary_text.done", place, text=text)
            part = {"type": "summary_text", "text": text}
            self._event("response.reasoning_summary_part.done", place, part=part)

        self._close = close

    def _say_summary(self, text: str) -> None:
        self._said.append(text)
        place = self._place(summary_index=len(self._summary) - 1)
        self._event("response.reasoning_summary_text.delta", place, delta=text)

    def _open_content(self) -> None:
        self._shut()
        self._said = self._content = []
        place = self._place(content_index=0)
        self._event("response.content_part.added", place, part={"type": "reasoning_text", "text": ""})

        def close(text: str) -> None:
            self._event("response.reasoning_text.done", place, text=text)
            self._event("response.content_part.done", place, part={"type": "reasoning_text", "text": text})

        self._close = close

    def _say_content(self, text: str) -> None:
        self._said.append(text)
        self._event("response.reasoning_text.delta", self._place(content_index=0), delta=text)

    def _place(self, **where: int) -> dict[str, object]:
        return {"item_id": self._id, "output_index": self._out.index, **where}

    def _event(self, type_: str, place: dict[str, object], **fields: object) -> None:
        self._out.writer.event(type_, {**place, **fields})
