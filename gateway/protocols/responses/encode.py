"""Frames to the bytes of a Responses stream. Pure.

Order of a stream: `response.created`, `response.in_progress`, the events of one item after the other,
`response.completed` (or `.incomplete`, `.failed`), `[DONE]`, which comes after a failure too. Every event is
named and numbered from 0. A turn that was cancelled ends as a failure: streams have no other word for it.

The events of an upstream that speaks Responses itself go out as they came (lane.py), until something has to
be said that it never said: that is encoded from events, with the numbers that follow.
"""

from collections.abc import Sequence
from typing import Literal, assert_never, cast

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonError, loads
from gateway.protocols.answers import cancelled_error
from gateway.protocols.responses.events import EventWriter
from gateway.protocols.responses.lane import RawLane
from gateway.protocols.responses.open_calls import OpenCall, OpenOpaque
from gateway.protocols.responses.open_items import OpenItem, OpenMessage, OpenReasoning, Output
from gateway.protocols.responses.response import (
    Ending,
    ended,
    ending_of,
    error_out,
    is_codex,
    last_incomplete,
    response_out,
)
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
from gateway.turn.frame import Frame
from gateway.turn.items import ToolCall
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage, merge
from gateway.wire.responses import ItemOut, ResponseOut
from gateway.wire.sse import CONTENT_TYPE

OnEof = Literal["failed", "incomplete", "completed"]
"""What a stream says when its upstream ended early."""

_ENDED_EARLY = frozenset({ErrorKind.UPSTREAM_EOF, ErrorKind.WORKER_LOST, ErrorKind.STORE_DATA_LOSS})


class ResponsesEncoder:
    """One stream. `encode` takes its bursts in order."""

    content_type = CONTENT_TYPE

    def __init__(
        self,
        turn: Turn,
        *,
        on_eof: OnEof = "failed",
        losses: list[Loss] | None = None,
        starting_after: int = -1,
    ) -> None:
        """`starting_after`: number of the last event that the client has; the stream goes on behind it."""
        self._losses = losses if losses is not None else []
        self._on_eof = on_eof
        self._codex = is_codex(turn)
        self._response = response_out(turn)
        self._starting_after = starting_after
        self._writer = EventWriter(starting_after)
        self._lane = RawLane(turn, codex=self._codex)
        self._out = Output(turn, self._writer)
        self._started = False
        self._ended = False
        self._open: OpenItem | None = None
        self._usage: Usage | None = None

    def encode(self, burst: Sequence[Frame]) -> bytes:
        for frame in burst:
            events = frame.events
            if frame.dialect == "responses" and (frame.raw or frame.raws) and self._passes(frame):
                self._pass_on(frame)
                continue
            if self._lane.begun:
                self._end_of_lane(events)
                continue
            for at, event in enumerate(events):
                if type(event) is TextDelta:
                    # The hot path: nearly every event of nearly every stream.
                    if isinstance(self._open, OpenMessage):
                        self._open.text(event)
                else:
                    self._say(event, events[at + 1] if at + 1 < len(events) else None)
        return self._writer.take()

    def keepalive(self) -> bytes:
        """Clients want to hear of the response before anything else."""
        if self._lane.begun:
            self._writer.go_on_behind(self._lane.last_number)
        else:
            self._start()
            self._lane.begun_by_gateway(self._response)
        self._writer.keepalive()
        return self._writer.take()

    def _say(self, event: TurnEvent, following: TurnEvent | None) -> None:  # noqa: C901 - one case for each
        match event:
            case TextDelta():
                if isinstance(self._open, OpenMessage):
                    self._open.text(event)
            case RefusalDelta():
                if isinstance(self._open, OpenMessage):
                    self._open.refusal(event)
            case AnnotationAdded():
                if isinstance(self._open, OpenMessage):
                    self._open.annotation(event)
            case ReasoningDelta():
                if isinstance(self._open, OpenReasoning):
                    self._open.delta(event)
            case ToolInputDelta():
                if isinstance(self._open, OpenCall):
                    self._open.fragment(event.json_fragment)
            case TurnStarted():
                self._start()
            case ItemStarted():
                self._open = self._opened(event)
            case ItemDone():
                self._done(event, following)
            case UsageReported():
                self._usage = merge(self._usage, event.usage)
            case SignatureDelta():
                pass  # part of the item that its end says
            case Heartbeat():
                pass  # the edge sends keep-alives when the stream is silent for long
            case OpaqueEvent():
                self._opaque(event)
            case TurnCompleted():
                self._usage = merge(self._usage, event.usage)
                self._end(ending_of(event.finish, codex=self._codex))
            case TurnFailed():
                self._end(self._failure(event.error))
            case TurnCancelled():
                self._end(self._failure(cancelled_error(event.reason)))
            case _:
                assert_never(event)

    # -- the upstream's own events ------------------------------------------------------------------------

    def _passes(self, frame: Frame) -> bool:
        """Failures do not, for they speak of the operator's account, nor does what Codex misunderstands."""
        if frame.whole:
            return False
        last = frame.events[-1] if frame.events else None
        if type(last) is TextDelta:
            return True
        match last:
            case TurnFailed() | TurnCancelled():
                return False
            case TurnCompleted(finish=finish):
                return not (self._codex and finish == "content_filter")
            case _:
                return True

    def _pass_on(self, frame: Frame) -> None:
        if self._ended:
            return  # such as an upstream's own `[DONE]`
        passed = (
            self._lane.all_passed(frame.raws, starting_after=self._starting_after)
            if frame.raw is None
            else self._lane.passed(frame.raw, starting_after=self._starting_after)
        )
        self._writer.passed(passed)
        if frame.is_terminal:
            self._ended = True
            self._writer.done()

    def _end_of_lane(self, events: Sequence[TurnEvent]) -> None:
        """Say what the upstream did not: an item that it has left open stays open."""
        end = events[-1] if events else None
        if not isinstance(end, TurnCompleted | TurnFailed | TurnCancelled):
            return
        self._writer.go_on_behind(self._lane.last_number)
        self._started = True
        self._response = cast(ResponseOut, {**self._response, **self._lane.response()})
        self._out.items = cast(list[ItemOut], self._lane.output())
        self._open = None
        self._say(end, None)

    # -- the response -------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self._writer.event("response.created", {"response": self._response})
        self._writer.event("response.in_progress", {"response": self._response})

    def _failure(self, error: ErrorInfo) -> Ending:
        if error.kind in _ENDED_EARLY:
            match self._on_eof:
                case "completed":
                    return Ending("completed")
                case "incomplete":
                    return Ending("incomplete", error.kind.value, error_out(error, codex=self._codex))
                case "failed":
                    pass
                case _:
                    assert_never(self._on_eof)
        return Ending("failed", error=error_out(error, codex=self._codex))

    def _end(self, ending: Ending) -> None:
        self._start()
        if self._open is not None and (cut := self._open.so_far()) is not None:
            # Only a defect of ours ends a turn inside an item.
            self._finish(ItemDone(0, cut), ending)
        output = self._out.items
        if ending.status == "incomplete":
            output = last_incomplete(output)
        response = ended(self._response, ending, output, self._usage)
        self._writer.event(f"response.{ending.status}", {"response": response})
        self._writer.done()

    def _opaque(self, event: OpaqueEvent) -> None:
        if event.dialect == "responses":
            ours = ("type", "sequence_number")
            payload = {key: value for key, value in event.payload.items() if key not in ours}
            self._writer.event(event.type, payload)
        else:
            self._lose(event.type)

    def _lose(self, path: str) -> None:
        loss = Loss(path, "not-in-responses")
        if loss not in self._losses:
            self._losses.append(loss)

    # -- items --------------------------------------------------------------------------------------------

    def _opened(self, event: ItemStarted) -> OpenItem:
        match event.kind:
            case "message":
                return OpenMessage(self._out)
            case "reasoning":
                return OpenReasoning(self._out)
            case "tool_call":
                return OpenCall(self._out, event)
            case "opaque":
                return OpenOpaque(self._out, self._lose)
            case _:
                assert_never(event.kind)

    def _done(self, event: ItemDone, following: TurnEvent | None) -> None:
        """An item that the end of the turn closed is told as not whole."""
        match following:
            case TurnFailed():
                self._finish(event, self._failure(following.error))
            case TurnCancelled():
                self._finish(event, self._failure(cancelled_error(following.reason)))
            case TurnCompleted():
                self._finish(event, ending_of(following.finish, codex=self._codex))
            case _:
                self._finish(event, None)

    def _finish(self, event: ItemDone, ending: Ending | None) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        whole = ending is None or ending.status == "completed"
        if ending is not None and ending.status == "failed" and _is_cut(event):
            return  # a client that is told of a call runs it
        opened.done(event.item, "completed" if whole else "incomplete")


def _is_cut(event: ItemDone) -> bool:
    """Whether a call may lack the end of its arguments."""
    call = event.item
    if not isinstance(call, ToolCall):
        return False
    if call.kind == "custom":
        return True
    try:
        loads(call.arguments)
    except JsonError:
        return True
    return False
