"""Frames to the named events of a Messages stream. Pure.

Order: `message_start`, content blocks one after the other (start, deltas, stop; indices from 0 without gaps),
`message_delta` with the stop reason and the usage, `message_stop`. A turn that failed or was cancelled ends
with `error` wherever it is, and nothing after it.

A block is opened by the first thing that it says, so none is empty. What the items of a turn become is told
in blocks.py, which builds the whole answer; a stream put together by its client equals that one. The events
of a resumable turn carry `id:` lines, numbered from 1; `ping` is the keep-alive and never numbered.
"""

from collections.abc import Sequence
from typing import Literal, assert_never

from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.answers import cancelled_error
from gateway.protocols.messages.blocks import (
    call_input,
    citation_out,
    citations_of,
    is_refusal,
    message_blocks,
    message_head,
    reasoning_block,
    shows_thoughts,
    stop_reason,
    tool_result_block,
    tool_use_block,
    usage_out,
)
from gateway.protocols.messages.errors import envelope
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
from gateway.turn.items import Message, OpaqueItem, Reasoning, ToolCall, ToolResult
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage, merge
from gateway.wire.messages import (
    BlockOut,
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    DeltaOut,
    MessageDelta,
    MessageStart,
)
from gateway.wire.sse import CONTENT_TYPE, write_event

_PING = write_event(b'{"type":"ping"}', event="ping")
_STOP = write_event(b'{"type":"message_stop"}', event="message_stop")
_TEXT_HEAD = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":'
)
_TEXT_TAIL = b"}}\n\n"

_Event = MessageStart | MessageDelta | ContentBlockStart | ContentBlockDelta | ContentBlockStop


class MessagesEncoder:
    """One stream. `encode` takes its bursts in order; the state is the open block and what its item said."""

    content_type = CONTENT_TYPE

    def __init__(self, turn: Turn, *, losses: list[Loss] | None = None, starting_after: int = 0) -> None:
        """`starting_after` leaves out the events up to that number, for a client that has them."""
        self._turn = turn
        self._losses = losses if losses is not None else []
        self._thoughts = shows_thoughts(turn)
        self._numbered = turn.resumable
        self._number = 0
        self._starting_after = starting_after

        self._index = -1
        """Of the newest block."""
        self._open: Literal["text", "thinking", "tool_use"] | None = None
        self._part = 0
        """Which part of its item the open text is, or which part of the reasoning came last."""
        self._text_head = b""
        """How a delta of the open text begins."""
        self._said = False
        """The open item has said something; otherwise its ItemDone says it whole."""
        self._annotated = False
        self._channel: str | None = None
        self._signature = ""
        self._unsaid = ""
        """Arguments of the open call that may turn out to be no JSON object."""
        self._runnable = False
        """There is a call that the client is to run."""
        self._refused = False
        self._usage: Usage | None = None

    def encode(self, burst: Sequence[Frame]) -> bytes:
        out: list[bytes] = []
        for frame in burst:
            for event in frame.events:
                if type(event) is TextDelta and event.part == self._part and self._open == "text":
                    # The hot path: nearly every event of nearly every stream.
                    if event.text:
                        out.append(self._text_head + dumps(event.text) + _TEXT_TAIL)
                else:
                    self._say(event, out)
        if self._numbered:
            return self._with_ids(out)
        return b"".join(out)

    def keepalive(self) -> bytes:
        return _PING

    def _with_ids(self, events: list[bytes]) -> bytes:
        pieces: list[bytes] = []
        for event in events:
            self._number += 1
            if self._number > self._starting_after:
                pieces.append(b"id: %d\n%b" % (self._number, event))
        return b"".join(pieces)

    def _say(self, event: TurnEvent, out: list[bytes]) -> None:  # noqa: C901 - one case for each event
        match event:
            case TextDelta():
                self._text(event.part, event.text, out)
            case ReasoningDelta():
                self._reason(event, out)
            case ToolInputDelta():
                self._arguments(event.json_fragment, out)
            case RefusalDelta():
                # A part of its own, even where the text beside it has the same number.
                self._text(~event.part, event.text, out)
            case AnnotationAdded():
                self._annotate(event, out)
            case SignatureDelta():
                self._signature += event.signature
            case TurnStarted():
                self._start_message(event, out)
            case ItemStarted():
                self._start_item(event, out)
            case ItemDone():
                self._end_item(event, out)
            case UsageReported():
                self._usage = merge(self._usage, event.usage)
            case Heartbeat():
                pass  # the edge sends pings when the stream is silent for long
            case OpaqueEvent():
                self._lose(event.type)
            case TurnCompleted():
                self._complete(event, out)
            case TurnFailed():
                self._fail(event.error, out)
            case TurnCancelled():
                self._fail(cancelled_error(event.reason), out)
            case _:
                assert_never(event)

    # -- the message --------------------------------------------------------------------------------------

    def _start_message(self, event: TurnStarted, out: list[bytes]) -> None:
        usage = usage_out(self._turn, Usage(input_tokens=event.input_tokens_estimate, output_tokens=1))
        usage.pop("estimated", None)  # at the start it always is
        _emit(
            {
                "type": "message_start",
                "message": {
                    **message_head(self._turn),
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": usage,
                },
            },
            out,
        )

    def _complete(self, event: TurnCompleted, out: list[bytes]) -> None:
        reason = stop_reason(event.finish, runnable=self._runnable, refused=self._refused)
        usage = usage_out(self._turn, merge(self._usage, event.usage))
        _emit(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": usage,
            },
            out,
        )
        out.append(_STOP)

    def _fail(self, error: ErrorInfo, out: list[bytes]) -> None:
        out.append(write_event(dumps(envelope(error)), event="error"))

    def _lose(self, path: str) -> None:
        loss = Loss(path, "not-in-messages")
        if loss not in self._losses:
            self._losses.append(loss)

    # -- blocks -------------------------------------------------------------------------------------------

    def _start(self, block: BlockOut | JsonObject, out: list[bytes]) -> None:
        self._stop(out)
        self._index += 1
        _emit({"type": "content_block_start", "index": self._index, "content_block": block}, out)

    def _delta(self, delta: DeltaOut, out: list[bytes]) -> None:
        self._said = True
        _emit({"type": "content_block_delta", "index": self._index, "delta": delta}, out)

    def _stop(self, out: list[bytes]) -> None:
        if self._open is not None:
            self._open = None
            _emit({"type": "content_block_stop", "index": self._index}, out)

    def _whole(self, block: BlockOut, out: list[bytes]) -> None:
        """A block at once, in the steps that a client puts it together by."""
        match block["type"]:
            case "text":
                self._start({"type": "text", "text": ""}, out)
                if block["text"]:
                    self._delta({"type": "text_delta", "text": block["text"]}, out)
                for citation in block.get("citations", ()):
                    self._delta({"type": "citations_delta", "citation": citation}, out)
            case "thinking":
                self._start({"type": "thinking", "thinking": "", "signature": ""}, out)
                self._delta({"type": "thinking_delta", "thinking": block["thinking"]}, out)
                self._sign(block["signature"], out)
            case "tool_use":
                self._start({**block, "input": {}}, out)
                arguments = dumps(block["input"]).decode()
                self._delta({"type": "input_json_delta", "partial_json": arguments}, out)
            case "redacted_thinking" | "tool_result":
                self._start(block, out)
            case _:
                assert_never(block["type"])
        _emit({"type": "content_block_stop", "index": self._index}, out)

    def _sign(self, signature: str, out: list[bytes]) -> None:
        """At once and at the end of its block: clients replace what they had."""
        if signature:
            self._delta({"type": "signature_delta", "signature": signature}, out)

    # -- what items say -----------------------------------------------------------------------------------

    def _text(self, part: int, text: str, out: list[bytes]) -> None:
        if text:
            self._open_text(part, out)
            self._said = True
            out.append(self._text_head + dumps(text) + _TEXT_TAIL)

    def _open_text(self, part: int, out: list[bytes]) -> None:
        if self._open == "text" and part == self._part:
            return
        self._start({"type": "text", "text": ""}, out)
        self._open, self._part = "text", part
        self._text_head = _TEXT_HEAD % self._index

    def _annotate(self, event: AnnotationAdded, out: list[bytes]) -> None:
        self._annotated = True
        citation = citation_out(event.payload)
        if citation is None:
            self._lose("annotation")
            return
        self._open_text(event.part, out)
        self._delta({"type": "citations_delta", "citation": citation}, out)

    def _reason(self, event: ReasoningDelta, out: list[bytes]) -> None:
        """Parts become paragraphs. An item that says its summary and its full text is shown by the first."""
        if self._channel is None:
            self._channel = event.channel
        if event.channel != self._channel or not event.text or not self._thoughts:
            return
        text = event.text
        if self._open is None:
            self._start({"type": "thinking", "thinking": "", "signature": ""}, out)
            self._open = "thinking"
        elif event.part > self._part:
            text = f"\n\n{text}"
        self._part = event.part
        self._delta({"type": "thinking_delta", "thinking": text}, out)

    def _arguments(self, fragment: str, out: list[bytes]) -> None:
        """Said at the end of the item: a call without a name yet, and arguments that are no JSON object."""
        if self._open != "tool_use":
            return
        if not self._said:
            self._unsaid += fragment
            if not self._unsaid.lstrip().startswith("{"):
                return  # at most white space has been left out when an object begins after all
        if fragment:
            self._delta({"type": "input_json_delta", "partial_json": fragment}, out)

    def _start_item(self, event: ItemStarted, out: list[bytes]) -> None:
        self._said = self._annotated = False
        self._channel = None
        self._signature = self._unsaid = ""
        if event.kind == "tool_call" and event.name is not None:
            call_id = event.call_id or event.item_id
            self._start({"type": "tool_use", "id": call_id, "name": event.name, "input": {}}, out)
            self._open = "tool_use"

    def _end_item(self, event: ItemDone, out: list[bytes]) -> None:
        item = event.item
        match item:
            case Message():
                self._end_message(item, out)
            case Reasoning():
                self._end_reasoning(item, out)
            case ToolCall():
                self._end_call(item, out)
            case OpaqueItem():
                self._end_opaque(item, out)
            case ToolResult():
                pass
            case _:
                assert_never(item)
        self._stop(out)

    def _end_message(self, message: Message, out: list[bytes]) -> None:
        self._refused = self._refused or is_refusal(message)
        if not self._said:
            for block in message_blocks(message):
                self._whole(block, out)
        elif not self._annotated and self._open == "text":
            for citation in citations_of(message):
                self._delta({"type": "citations_delta", "citation": citation}, out)

    def _end_reasoning(self, item: Reasoning, out: list[bytes]) -> None:
        signature = item.signature or self._signature
        if self._open == "thinking":
            self._sign(signature, out)
        elif (block := reasoning_block(self._turn, item, signature)) is not None:
            self._whole(block, out)

    def _end_opaque(self, item: OpaqueItem, out: list[bytes]) -> None:
        if item.dialect != "messages":
            self._lose(item.type)
            return
        self._start({**item.payload, "type": item.type}, out)
        _emit({"type": "content_block_stop", "index": self._index}, out)

    def _end_call(self, call: ToolCall, out: list[bytes]) -> None:
        if self._open != "tool_use":
            self._whole(tool_use_block(call), out)
        elif not self._said:
            arguments = dumps(call_input(call)).decode()
            self._delta({"type": "input_json_delta", "partial_json": arguments}, out)
        if call.result is None:
            self._runnable = True
        else:
            self._stop(out)
            self._whole(tool_result_block(call.call_id, call.result), out)


def _emit(event: _Event, out: list[bytes]) -> None:
    out.append(write_event(dumps(event), event=event["type"]))
