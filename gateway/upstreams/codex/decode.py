"""Decode the stream of a Responses upstream into turn frames. Pure: no I/O, no clock.

In:  complete SSE events (wire/sse.py has done the framing); `raw` is every byte of one.
Out: one frame for each, with zero or more events in the order that turn/grammar.py rules.

At most one item is open to clients, so the events of an item that the upstream opens meanwhile are held back
until the first is done; raw frames never are. What an item says at its end is authoritative, and items that
only the terminal event shows are said then: some upstreams send no item events, others an empty `output`.
Nothing is content before an item opens, so a failure up to there may be answered by another attempt.
"""

from typing import Final

import msgspec

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonObject
from gateway.turn.events import (
    AnnotationAdded,
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
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from gateway.turn.fold import ItemBuilder
from gateway.turn.frame import Frame
from gateway.turn.items import Reasoning, ToolCall
from gateway.turn.usage import Usage
from gateway.upstreams.codex.errors import classify, read_error
from gateway.upstreams.codex.items import call_id_of, kind_of, read_item, text_at, tool_name
from gateway.upstreams.faults import Fault
from gateway.wire.sse import SseSplitter

_SILENT: Final = frozenset(
    {
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.done",
        "response.refusal.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.done",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.done",
    }
)
"""Say nothing that the item's end does not say."""
_ALIVE: Final = frozenset({"response.in_progress", "response.queued", "keepalive"})
_DELTAS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.output_text.annotation.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
    }
)


class _Said(msgspec.Struct):
    """The fields that events share; unknown ones are skipped, objects are read when they are wanted."""

    type: str = ""
    output_index: int = -1
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    annotation: msgspec.Raw = msgspec.Raw()


class _UsageDetails(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _UsageDetails | None = None
    output_tokens_details: _UsageDetails | None = None


class _Reason(msgspec.Struct):
    reason: str = ""


class _Response(msgspec.Struct):
    id: str | None = None
    status: str = ""
    output: list[msgspec.Raw] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    incomplete_details: _Reason | None = None


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_response = msgspec.json.Decoder(_Response, strict=False).decode
_decode_object = msgspec.json.Decoder(JsonObject).decode


class _Item:
    """One item of the upstream: what it has said so far, and whether clients see it yet."""

    __slots__ = ("done", "index", "waiting")

    def __init__(self) -> None:
        self.index = -1
        """Its number for clients, given when it opens to them."""
        self.waiting: list[tuple[_Said, bytes]] = []
        self.done = False


class CodexDecoder:
    """One attempt's answer."""

    def __init__(self, *, model: str, created_at: int, executor: str, input_tokens_estimate: int) -> None:
        self._executor = executor
        self._started = TurnStarted(
            model=model, created_at=created_at, input_tokens_estimate=input_tokens_estimate
        )
        self._begun = False
        self.ended = False
        self.completed = False
        """Ended with `completed`: not cut at a limit, not failed."""
        self.fault: Fault | None = None
        """What the upstream said went wrong."""
        self._items: dict[int, _Item] = {}
        """By the upstream's own index, in the order in which they began."""
        self._open: int | None = None
        self._builder: ItemBuilder | None = None
        """The open item from its deltas, should its end never come."""
        self._next_index = 0
        self._calls = False
        self.output: list[bytes] = []
        """The exact JSON of the items that are done, in the upstream's order of finishing."""

    # -- feeding ------------------------------------------------------------------------------------------

    def feed(self, raw: bytes, seq: int) -> Frame:
        """One SSE event with its framing."""
        for event in SseSplitter().feed(raw if raw.endswith(b"\n\n") else raw + b"\n\n"):
            return self.feed_data(raw, event.data, seq)
        return Frame((), raw, "responses", seq)

    def feed_data(self, raw: bytes, data: bytes | None, seq: int) -> Frame:
        """The same, when the framing is already off: `data` is None for comments."""
        if self.ended or data is None or data == b"[DONE]":
            return Frame((), raw, "responses", seq)
        events: list[TurnEvent] = []
        try:
            self._take(_decode_said(data), data, events)
        except msgspec.DecodeError:
            self._fail("The upstream sent an event that is no JSON object", events)
        return Frame(self._begun_with(events), raw, "responses", seq)

    def feed_whole(self, body: bytes) -> Frame:
        """A whole answer that was not streamed."""
        events: list[TurnEvent] = []
        try:
            response = _decode_response(body)
        except msgspec.DecodeError:
            self._fail("The upstream answered with something that is no response", events)
        else:
            if response.status in ("failed", "cancelled"):
                self._failed(body, events)
            else:
                self._complete(response, events, incomplete=response.status == "incomplete")
        return Frame(self._begun_with(events), body, "responses", 1, whole=True)

    def eof(self) -> Frame | None:
        if self.ended:
            return None
        events: list[TurnEvent] = []
        self._close_open(events)
        self.ended = True
        message = "The upstream's stream ended before its response was complete"
        events.append(TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message=message, retryable=True)))
        return Frame(self._begun_with(events))

    def _begun_with(self, events: list[TurnEvent]) -> tuple[TurnEvent, ...]:
        if events and not self._begun:
            self._begun = True
            events.insert(0, self._started)
        return tuple(events)

    # -- events -------------------------------------------------------------------------------------------

    def _take(self, said: _Said, data: bytes, events: list[TurnEvent]) -> None:
        kind = said.type
        if kind in _DELTAS or kind in ("response.output_item.added", "response.output_item.done"):
            self._of_item(said, data, events)
        elif kind == "response.created" or kind in _ALIVE:
            events.append(Heartbeat())
        elif kind in _SILENT:
            pass
        elif kind in ("response.completed", "response.done", "response.incomplete"):
            response = _decode_response(said.response) if len(bytes(said.response)) else _Response()
            self._complete(response, events, incomplete=kind == "response.incomplete")
        elif kind in ("response.failed", "error"):
            self._failed(data, events)
        else:
            events.append(OpaqueEvent("responses", kind, _decode_object(data)))

    def _of_item(self, said: _Said, data: bytes, events: list[TurnEvent]) -> None:
        item = self._items.setdefault(said.output_index, _Item())
        if self._open is not None and self._open != said.output_index:
            item.waiting.append((said, data))
            return
        self._say(said.output_index, item, said, events)
        while self._open is None and (waiting := self._next_waiting()) is not None:
            self._release(waiting, events)

    def _next_waiting(self) -> int | None:
        return next((index for index, item in self._items.items() if item.waiting), None)

    def _release(self, index: int, events: list[TurnEvent]) -> None:
        """Say what the next item has said meanwhile; it stays open unless that was all of it."""
        item = self._items[index]
        waiting, item.waiting = item.waiting, []
        for said, _ in waiting:
            self._say(index, item, said, events)

    def _say(self, index: int, item: _Item, said: _Said, events: list[TurnEvent]) -> None:
        if item.done:
            return
        if said.type == "response.output_item.done":
            self._done(index, item, bytes(said.item), events)
        elif said.type == "response.output_item.added":
            self._begin(index, item, _decode_object(bytes(said.item)), events)
        elif item.index >= 0:
            self._delta(item.index, said, events)
        # A delta of an item that was never added waits for its end, which says it whole.

    def _begin(self, index: int, item: _Item, value: JsonObject, events: list[TurnEvent]) -> None:
        item.index = self._next_index
        self._next_index += 1
        self._open = index
        kind = kind_of(value)
        is_call = kind == "tool_call"
        item_id = text_at(value, "id") or f"item_{item.index}"
        name = tool_name(value) or None if is_call else None
        call_id = call_id_of(value) or None if is_call else None
        started = ItemStarted(item.index, kind, item_id, name=name, call_id=call_id)
        self._builder = ItemBuilder(started)
        events.append(started)

    def _delta(self, index: int, said: _Said, events: list[TurnEvent]) -> None:
        event = _delta_of(index, said)
        if self._builder is not None:
            self._builder.add(event)
        events.append(event)

    def _done(self, index: int, item: _Item, raw: bytes, events: list[TurnEvent]) -> None:
        value = _decode_object(raw)
        if item.index < 0:
            self._begin(index, item, value, events)
        read = read_item(value, executor=self._executor, raw=raw)
        if isinstance(read, Reasoning) and read.signature:
            events.append(SignatureDelta(item.index, read.signature))
        self._calls = self._calls or isinstance(read, ToolCall)
        events.append(ItemDone(item.index, read))
        item.done, self._open, self._builder = True, None, None
        self.output.append(raw)

    # -- the end ------------------------------------------------------------------------------------------

    def _close_open(self, events: list[TurnEvent]) -> None:
        """Nothing more comes: what was said of each item is all there is."""
        while True:
            if self._open is not None and self._builder is not None:
                item = self._items[self._open]
                events.append(ItemDone(item.index, self._builder.item()))
                item.done, self._open, self._builder = True, None, None
            if (waiting := self._next_waiting()) is None:
                return
            self._release(waiting, events)

    def _complete(self, response: _Response, events: list[TurnEvent], *, incomplete: bool) -> None:
        for index, raw in enumerate(response.output):
            item = self._items.get(index)
            if index == self._open and item is not None:
                self._done(index, item, bytes(raw), events)
        self._close_open(events)
        for index, raw in enumerate(response.output):
            item = self._items.setdefault(index, _Item())
            if not item.done:
                self._done(index, item, bytes(raw), events)
        self.ended, self.completed = True, not incomplete
        reason = response.incomplete_details.reason if response.incomplete_details else ""
        events.append(TurnCompleted(self._finish(reason, incomplete=incomplete), _usage(response.usage)))

    def _finish(self, reason: str, *, incomplete: bool) -> Finish:
        if incomplete:
            return "content_filter" if reason == "content_filter" else "length"
        return "tool_calls" if self._calls else "stop"

    def _failed(self, data: bytes, events: list[TurnEvent]) -> None:
        self._close_open(events)
        self.ended = True
        self.fault = classify(read_error(_decode_object(data)), now_s=self._started.created_at)
        events.append(TurnFailed(self.fault.info))

    def _fail(self, message: str, events: list[TurnEvent]) -> None:
        self._close_open(events)
        self.ended = True
        events.append(
            TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_PROTOCOL, message=message, retryable=True))
        )


def _delta_of(index: int, said: _Said) -> TurnEvent:
    match said.type:
        case "response.output_text.delta":
            return TextDelta(index, said.delta, said.content_index)
        case "response.refusal.delta":
            return RefusalDelta(index, said.delta, said.content_index)
        case "response.reasoning_summary_text.delta":
            return ReasoningDelta(index, said.delta, said.summary_index, "summary")
        case "response.reasoning_text.delta":
            return ReasoningDelta(index, said.delta, said.content_index, "full")
        case "response.output_text.annotation.added":
            return AnnotationAdded(index, said.content_index, _decode_object(bytes(said.annotation)))
        case _:
            return ToolInputDelta(index, said.delta)


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.input_tokens_details.cached_tokens if usage.input_tokens_details else None,
        reasoning_tokens=usage.output_tokens_details.reasoning_tokens
        if usage.output_tokens_details
        else None,
    )
