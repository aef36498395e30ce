"""Decode the stream of a Responses upstream into turn frames. Pure: no I/O, no clock.

In:  complete SSE events (wire/sse.py has done the framing); `raw` is every byte of one.
Out: one frame for each, with zero or more events in the order that turn/grammar.py rules.

At most one item is open to clients, so the events of an item that the upstream opens meanwhile are held back
until the first is done; raw frames never are. What an item says at its end is authoritative, and items that
only the terminal event shows are said then: some upstreams send no item events, others an empty `output`.
Nothing is content before an item opens, so a failure up to there may be answered by another attempt.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonObject
from gateway.turn.events import (
    ErrorInfo,
    Finish,
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    SignatureDelta,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from gateway.turn.fold import ItemBuilder
from gateway.turn.frame import Frame
from gateway.turn.items import Reasoning, ToolCall
from gateway.upstreams.codex.errors import classify, read_error
from gateway.upstreams.codex.items import call_id_of, kind_of, read_item, text_at, tool_name
from gateway.upstreams.codex.output import Output
from gateway.upstreams.codex.shapes import (
    ALIVE,
    COMPLETED,
    DELTAS,
    ENDS,
    IMPLIED,
    ITEMS,
    JOINED,
    SILENT,
    Response,
    Said,
    decode_object,
    decode_response,
    decode_said,
    decode_type,
    delta_of,
    usage_of,
)
from gateway.upstreams.faults import Fault
from gateway.wire.edits import edit_members
from gateway.wire.sse import SseEvent, parse_block

_UNNUMBERED: Final = 1 << 32


class _Item:
    """One item of the upstream: what it has said so far, and whether clients see it yet."""

    __slots__ = ("done", "index", "waiting")

    def __init__(self) -> None:
        self.index = -1
        """Its number for clients, given when it opens to them."""
        self.waiting: list[Said] = []
        self.done = False


class CodexDecoder:
    """One attempt's answer."""

    def __init__(
        self,
        *,
        model: str,
        created_at: int,
        executor: str,
        input_tokens_estimate: int | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """`names`: what the client calls the tools that the upstream knows by other names, by those."""
        self._executor = executor
        self._names = names or {}
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
        self._waiting: dict[int, None] = {}
        """Items that have something to say and may not yet."""
        self._open: int | None = None
        self._builder: ItemBuilder | None = None
        """The open item from its deltas, should its end never come."""
        self._next_index = 0
        self._others = 0
        """How many items that the upstream does not number came before the one at hand."""
        self._calls = False
        self._output = Output()
        self.output: list[bytes] = []
        """The exact JSON of the items of a response that has ended well, in the upstream's order."""
        self._response = b""

    @property
    def response(self) -> bytes:
        """A response that has ended well, with its output repaired."""
        return edit_members(self._response, {"output": b"[" + b",".join(self.output) + b"]"})

    # -- feeding ------------------------------------------------------------------------------------------

    def feed(self, raw: bytes, seq: int) -> Frame:
        """One SSE event with its framing."""
        return self.feed_data(raw, parse_block(raw).data, seq)

    def feed_data(self, raw: bytes, data: bytes | None, seq: int) -> Frame:
        """The same, when the framing is already off: `data` is None for comments."""
        if self.ended or data is None or data == b"[DONE]":
            return Frame((), raw, "responses", seq)
        events: list[TurnEvent] = []
        try:
            said = decode_said(data)
            if said.type == "response.output_text.delta" and said.output_index == self._open:
                # The hot path: nearly every event of nearly every stream.
                self._delta(self._items[said.output_index].index, said, events)
                return Frame(tuple(events), raw, "responses", seq)
            self._take(said, data, events)
        except msgspec.DecodeError:
            self._puzzled(data, events)
        return Frame(self._begun_with(events), raw, "responses", seq)

    def feed_all(self, events: Sequence[SseEvent], seq: int, into: list[Frame]) -> None:
        """Events that came together, the first with that number. Deltas that go on with the one before them
        are one frame with it. What came before an event that raises is there.
        """
        run: list[Said] = []
        raws: list[bytes] = []
        number = seq
        try:
            for number, event in enumerate(events, seq):
                said = self._goes_on(event.data)
                if run and (said is None or not _is_more(said, run[0])):
                    into.append(self._joined(run, raws, number - 1))
                    run, raws = [], []
                if said is None:
                    into.append(self.feed_data(event.raw, event.data, number))
                else:
                    run.append(said)
                    raws.append(event.raw)
        finally:
            if run:
                into.append(self._joined(run, raws, number))

    def _goes_on(self, data: bytes | None) -> Said | None:
        """A delta of the open item, that others could go on with."""
        if self._open is None or data is None:
            return None
        try:
            said = decode_said(data)
        except msgspec.DecodeError:
            return None
        return said if said.output_index == self._open and said.type in JOINED else None

    def _joined(self, run: Sequence[Said], raws: Sequence[bytes], seq: int) -> Frame:
        said = run[0]
        events: list[TurnEvent] = []
        if len(run) > 1:
            said = msgspec.structs.replace(said, delta="".join([one.delta for one in run]))
        self._delta(self._items[said.output_index].index, said, events)
        if len(run) > 1:
            return Frame(tuple(events), None, "responses", seq, raws=tuple(raws))
        return Frame(tuple(events), raws[0], "responses", seq)

    def _puzzled(self, data: bytes, events: list[TurnEvent]) -> None:
        """An event that is not as it should be. One of a type that nobody knows may be as it likes, and what
        a delta could not say its item says; without anything else the turn makes no sense.
        """
        try:
            kind = decode_type(data).type
        except msgspec.DecodeError:
            kind = ""
        if kind in ALIVE:
            events.append(Heartbeat())
        elif not kind or kind in ENDS or kind in ITEMS:
            self._fail("The upstream sent an event that makes no sense", events)
        elif kind not in DELTAS and kind not in SILENT:
            events.append(OpaqueEvent("responses", kind, decode_object(data)))

    def feed_whole(self, body: bytes) -> Frame:
        """A whole answer that was not streamed."""
        events: list[TurnEvent] = []
        try:
            response = decode_response(body)
        except msgspec.DecodeError:
            self._fail("The upstream answered with something that is no response", events)
        else:
            if response.status in ("failed", "cancelled") or response.is_error:
                self._failed(body, events)
            else:
                self._complete(response, body, events, incomplete=response.status == "incomplete")
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

    def _take(self, said: Said, data: bytes, events: list[TurnEvent]) -> None:
        kind = said.type
        if kind in DELTAS or kind in ITEMS:
            self._of_item(said, events)
        elif kind in ALIVE:
            events.append(Heartbeat())
        elif kind in SILENT:
            pass
        elif kind in COMPLETED:
            raw = bytes(said.response) or b"{}"
            self._complete(decode_response(raw), raw, events, incomplete=kind == "response.incomplete")
        elif kind in ENDS:
            self._failed(data, events)
        else:
            events.append(OpaqueEvent("responses", kind, decode_object(data)))

    def _of_item(self, said: Said, events: list[TurnEvent]) -> None:
        index = said.output_index if said.output_index >= 0 else self._unnumbered(said.type)
        item = self._items.get(index)
        if item is not None and item.done and said.type == "response.output_item.added":
            index = self._another(index)
            item = None
        if item is None:
            item = self._items[index] = _Item()
        if self._open is not None and self._open != index:
            item.waiting.append(said)
            self._waiting[index] = None
            return
        self._say(index, item, said, events)
        while self._open is None and (waiting := self._next_waiting()) is not None:
            self._release(waiting, events)

    def _another(self, index: int) -> int:
        """A place for an item that its upstream numbers like one that is done: that one moves away."""
        self._items[_UNNUMBERED + self._others] = self._items.pop(index)
        self._others += 1
        self._output.move(index)
        return index

    def _unnumbered(self, kind: str) -> int:
        """The place of an item that its upstream does not number: behind all that it numbers."""
        current = self._items.get(_UNNUMBERED + self._others)
        if current is not None and (current.done or kind == "response.output_item.added"):
            self._others += 1
        return _UNNUMBERED + self._others

    def _next_waiting(self) -> int | None:
        return next(iter(self._waiting), None)

    def _release(self, index: int, events: list[TurnEvent]) -> None:
        """Say what the next item has said meanwhile; it stays open unless that was all of it."""
        item = self._items[index]
        del self._waiting[index]
        waiting, item.waiting = item.waiting, []
        for said in waiting:
            self._say(index, item, said, events)

    def _say(self, index: int, item: _Item, said: Said, events: list[TurnEvent]) -> None:
        if item.done:
            return
        if said.type == "response.output_item.done":
            self._done(index, item, bytes(said.item), events)
        elif said.type == "response.output_item.added":
            self._begin(index, item, decode_object(bytes(said.item)), events)
        else:
            if item.index < 0 and (kind := IMPLIED.get(said.type)) is not None:
                # Its upstream never says that it began, and may never say that it ends.
                self._begin(index, item, {"type": kind, "id": said.item_id}, events)
            if item.index >= 0:
                self._delta(item.index, said, events)
        # Arguments of a call that was never added wait for its end, which says it whole.

    def _begin(self, index: int, item: _Item, value: JsonObject, events: list[TurnEvent]) -> None:
        item.index = self._next_index
        self._next_index += 1
        self._open = index
        kind = kind_of(value)
        is_call = kind == "tool_call"
        item_id = text_at(value, "id") or f"item_{item.index}"
        name = self._named(tool_name(value)) or None if is_call else None
        call_id = call_id_of(value) or None if is_call else None
        started = ItemStarted(item.index, kind, item_id, name=name, call_id=call_id)
        self._builder = ItemBuilder(started)
        events.append(started)

    def _named(self, name: str) -> str:
        return self._names.get(name, name)

    def _delta(self, index: int, said: Said, events: list[TurnEvent]) -> None:
        event = delta_of(index, said)
        assert self._builder is not None, "an item is open to clients"
        self._builder.add(event)
        events.append(event)

    def _done(self, index: int, item: _Item, raw: bytes, events: list[TurnEvent]) -> None:
        value = decode_object(raw)
        if item.index < 0:
            self._begin(index, item, value, events)
        read = read_item(value, executor=self._executor, raw=raw)
        if isinstance(read, ToolCall) and self._names:
            read = msgspec.structs.replace(read, name=self._named(read.name))
        if isinstance(read, Reasoning) and read.signature:
            events.append(SignatureDelta(item.index, read.signature))
        self._calls = self._calls or isinstance(read, ToolCall)
        events.append(ItemDone(item.index, read))
        item.done, self._open, self._builder = True, None, None
        self._output.done(index if index < _UNNUMBERED else -1, raw)

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

    def _complete(self, response: Response, raw: bytes, events: list[TurnEvent], *, incomplete: bool) -> None:
        given = [bytes(item) for item in response.output or ()]
        places = self._places(len(given))
        for index, item in zip(places, given, strict=True):
            if index == self._open:
                self._done(index, self._items[index], item, events)
        self._close_open(events)
        for index, item in zip(places, given, strict=True):
            if not self._items.setdefault(index, _Item()).done:
                self._done(index, self._items[index], item, events)
        self.output = self._output.repaired(given)
        self._response = raw
        self.ended, self.completed = True, not incomplete
        finish = self._finish(response.reason, incomplete=incomplete)
        events.append(TurnCompleted(finish, usage_of(response.usage)))

    def _places(self, count: int) -> list[int]:
        """Under which number each item of the terminal output was told."""
        unnumbered = iter([index for index in self._items if index >= _UNNUMBERED])
        return [index if index in self._items else next(unnumbered, index) for index in range(count)]

    def _finish(self, reason: str | None, *, incomplete: bool) -> Finish:
        if incomplete:
            return "content_filter" if reason == "content_filter" else "length"
        return "tool_calls" if self._calls else "stop"

    def _failed(self, data: bytes, events: list[TurnEvent]) -> None:
        self._close_open(events)
        self.ended = True
        self.fault = classify(read_error(decode_object(data)), now_s=self._started.created_at)
        events.append(TurnFailed(self.fault.info))

    def _fail(self, message: str, events: list[TurnEvent]) -> None:
        self._close_open(events)
        self.ended = True
        events.append(
            TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_PROTOCOL, message=message, retryable=True))
        )


def _is_more(said: Said, before: Said) -> bool:
    """Whether it is more of the same."""
    return (
        said.type == before.type
        and said.content_index == before.content_index
        and said.summary_index == before.summary_index
    )
