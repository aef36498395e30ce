"""The order that every stream must keep, and the repair that makes any stream keep it.

1. TurnStarted first, exactly once; one of Completed, Failed, Cancelled last; nothing after it.
2. At most one item is open. An item's index is the next unused one.
3. Deltas name the open item and fit its kind; part numbers never fall; ItemDone closes the item.
4. Opaque events, usage reports and heartbeats may stand anywhere between the first and the last.

`check` raises where tests want to see a violation; `Repair` mends it where a client is waiting.
"""

from collections.abc import Iterable
from typing import TypeAlias, TypeVar

import msgspec

from gateway.kernel.errors import ErrorKind
from gateway.turn.events import (
    AnnotationAdded,
    ErrorInfo,
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
from gateway.turn.fold import ItemBuilder
from gateway.turn.items import ItemKind, Message, OpaqueItem, Reasoning, ToolCall

_DELTA_KIND: dict[type, ItemKind] = {
    TextDelta: "message",
    RefusalDelta: "message",
    AnnotationAdded: "message",
    ReasoningDelta: "reasoning",
    ToolInputDelta: "tool_call",
}
_Parted: TypeAlias = TextDelta | RefusalDelta | ReasoningDelta | AnnotationAdded
_Delta: TypeAlias = _Parted | SignatureDelta | ToolInputDelta
_IndexedT = TypeVar("_IndexedT", bound=ItemStarted | _Delta)
_PartedT = TypeVar("_PartedT", bound=_Parted)


class GrammarViolation(Exception):
    pass


class Grammar:
    """The state machine. `violation(event)` judges, `take(event)` believes, `advance(event)` does both."""

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.open: ItemStarted | None = None
        self.next_index = 0
        self.part = 0

    def violation(self, event: TurnEvent) -> str | None:
        """Why this event may not come now, or None."""
        if self.ended:
            return "event after the terminal event"
        if isinstance(event, TurnStarted):
            return "second TurnStarted" if self.started else None
        if not self.started:
            return "event before TurnStarted"
        match event:
            case ItemStarted():
                return self._item_violation(event)
            case ItemDone():
                return self._done_violation(event)
            case TurnCompleted() | TurnFailed() | TurnCancelled():
                return "terminal event with an item open" if self.open else None
            case OpaqueEvent() | UsageReported() | Heartbeat():
                return None
            case _:
                return self._delta_violation(event)

    def _item_violation(self, event: ItemStarted) -> str | None:
        if self.open is not None:
            return "item opened inside an item"
        if event.index != self.next_index:
            return f"item {event.index} opened where {self.next_index} is next"
        return None

    def _done_violation(self, event: ItemDone) -> str | None:
        if self.open is None or event.index != self.open.index:
            return "ItemDone for an item that is not open"
        if kind_of(event) != self.open.kind:
            return "ItemDone of another kind than its item"
        return None

    def _delta_violation(self, event: _Delta) -> str | None:
        if self.open is None or event.index != self.open.index:
            return "delta for an item that is not open"
        kind = _DELTA_KIND.get(type(event))
        if kind is not None and kind != self.open.kind:
            return f"{type(event).__name__} inside a {self.open.kind} item"
        if not isinstance(event, SignatureDelta | ToolInputDelta) and event.part < self.part:
            return "part number falls"
        return None

    def advance(self, event: TurnEvent) -> None:
        """Take a legal event into account. Raises GrammarViolation on an illegal one."""
        problem = self.violation(event)
        if problem is not None:
            raise GrammarViolation(f"{problem}: {event!r}")
        self.take(event)

    def take(self, event: TurnEvent) -> None:
        """Take into account an event that violation() has nothing against."""
        match event:
            case TurnStarted():
                self.started = True
            case ItemStarted():
                self.open = event
                self.next_index += 1
                self.part = 0
            case ItemDone():
                self.open = None
            case TurnCompleted() | TurnFailed() | TurnCancelled():
                self.ended = True
            case TextDelta() | RefusalDelta() | ReasoningDelta() | AnnotationAdded():
                self.part = event.part
            case _:
                pass


def kind_of(event: ItemDone) -> ItemKind | None:
    """The item kind that an ItemDone closes; None for a kind that no stream opens."""
    match event.item:
        case Message():
            return "message"
        case Reasoning():
            return "reasoning"
        case ToolCall():
            return "tool_call"
        case OpaqueItem():
            return "opaque"
        case _:
            return None


def check(events: Iterable[TurnEvent]) -> None:
    """Raise GrammarViolation unless the whole stream is legal, its end included."""
    grammar = Grammar()
    for event in events:
        grammar.advance(event)
    if not grammar.ended:
        raise GrammarViolation("the stream has no terminal event")


class Repair:
    """The grammar on the live path: legal events pass as they are, illegal ones are mended or dropped.

    Mending closes an open item with what its deltas said, opens a missing one, adds the start and the end.
    Every violation counts in `repairs`.
    """

    def __init__(self, started: TurnStarted) -> None:
        """`started` is what to say first when the stream forgets to."""
        self._fallback_start = started
        self._grammar = Grammar()
        self._builder: ItemBuilder | None = None
        self.repairs = 0

    @property
    def ended(self) -> bool:
        return self._grammar.ended

    def feed(self, events: tuple[TurnEvent, ...]) -> tuple[TurnEvent, ...]:
        """The same tuple when all of it is legal (the common case), else the mended one."""
        grammar = self._grammar
        if len(events) == 1:
            # The hot path: one more delta of the open message.
            event = events[0]
            if type(event) is TextDelta:
                opened = grammar.open
                if (
                    opened is not None
                    and opened.index == event.index
                    and opened.kind == "message"
                    and event.part == grammar.part
                ):
                    if self._builder is not None:
                        self._builder.add(event)
                    return events
        out: list[TurnEvent] = []
        changed = False
        for event in events:
            if grammar.violation(event) is None:
                grammar.take(event)
                self._accepted(event, out)
            else:
                self.repairs += 1
                changed = True
                self._mend(event, out)
        return tuple(out) if changed else events

    def eof(self, failure: TurnFailed | TurnCancelled | None = None) -> tuple[TurnEvent, ...]:
        """What is missing for a legal end: nothing when the stream already ended."""
        if self._grammar.ended:
            return ()
        out: list[TurnEvent] = []
        self._start_and_close(out)
        if failure is None:
            self.repairs += 1
            failure = TurnFailed(
                ErrorInfo(
                    kind=ErrorKind.UPSTREAM_EOF,
                    message="the upstream ended without saying so",
                    retryable=True,
                )
            )
        self._accept(failure, out)
        return tuple(out)

    def _accept(self, event: TurnEvent, out: list[TurnEvent]) -> None:
        self._grammar.advance(event)
        self._accepted(event, out)

    def _accepted(self, event: TurnEvent, out: list[TurnEvent]) -> None:
        if isinstance(event, ItemStarted):
            self._builder = ItemBuilder(event)
        elif isinstance(event, ItemDone):
            self._builder = None
        elif self._builder is not None:
            self._builder.add(event)
        out.append(event)

    def _mend(self, event: TurnEvent, out: list[TurnEvent]) -> None:
        if self._grammar.ended or isinstance(event, TurnStarted):
            return
        if not self._grammar.started:
            self._accept(self._fallback_start, out)
        match event:
            case ItemStarted():
                self._close(out)
                self._accept(_at(event, self._grammar.next_index), out)
            case TurnCompleted() | TurnFailed() | TurnCancelled():
                self._close(out)
                self._accept(event, out)
            case OpaqueEvent() | UsageReported() | Heartbeat():
                self._accept(event, out)
            case ItemDone():
                self._mend_done(event, out)
            case _:
                self._mend_delta(event, out)

    def _mend_done(self, event: ItemDone, out: list[TurnEvent]) -> None:
        kind = kind_of(event)
        opened = self._grammar.open
        if kind is None or (opened is None and event.index < self._grammar.next_index):
            return  # a second ItemDone for an item that is closed, or an item that no stream carries
        if opened is None or opened.kind != kind:
            self._close(out)
            self._accept(self._new_item(kind, event), out)
        self._accept(ItemDone(self._grammar.next_index - 1, event.item), out)

    def _mend_delta(self, event: _Delta, out: list[TurnEvent]) -> None:
        kind = _DELTA_KIND.get(type(event), "reasoning")
        opened = self._grammar.open
        if opened is None or opened.kind != kind:
            if kind == "tool_call":
                return  # arguments without a call: there is nothing to attach them to
            self._close(out)
            self._accept(self._new_item(kind, event), out)
        fixed = _at(event, self._grammar.next_index - 1)
        if not isinstance(fixed, SignatureDelta | ToolInputDelta) and fixed.part < self._grammar.part:
            fixed = _with_part(fixed, self._grammar.part)
        self._accept(fixed, out)

    def _new_item(self, kind: ItemKind, event: ItemDone | _Delta) -> ItemStarted:
        index = self._grammar.next_index
        item = event.item if isinstance(event, ItemDone) else None
        if isinstance(item, ToolCall):
            return ItemStarted(index, kind, f"repaired-{index}", item.name, item.call_id)
        return ItemStarted(index, kind, f"repaired-{index}")

    def _start_and_close(self, out: list[TurnEvent]) -> None:
        if not self._grammar.started:
            self._accept(self._fallback_start, out)
        self._close(out)

    def _close(self, out: list[TurnEvent]) -> None:
        if self._grammar.open is not None and self._builder is not None:
            self._accept(ItemDone(self._grammar.open.index, self._builder.item()), out)


def _at(event: _IndexedT, index: int) -> _IndexedT:
    return msgspec.structs.replace(event, index=index)


def _with_part(event: _PartedT, part: int) -> _PartedT:
    return msgspec.structs.replace(event, part=part)
