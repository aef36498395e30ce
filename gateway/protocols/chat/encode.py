"""Frames to the bytes of a Chat Completions stream. Pure.

Order of a stream: a chunk with the role, chunks of content, reasoning and tool calls, one chunk with all
citations (the SDK cannot add up several), a chunk with the finish reason, a usage chunk without choices when
asked for, `[DONE]`. A turn that failed or was cancelled ends with `data: {"error": {...}}` and nothing after
it: OpenAI's SDKs raise APIError on it, and a `[DONE]` behind it would look like success to clients that skip
what they do not know.

The events of a resumable turn carry `id:` lines, numbered from 1. Nobody else's do, because simple clients
take the first line of an event for its data. Keep-alives are comments and are never numbered.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.answers import cancelled_error
from gateway.protocols.chat.answer import (
    NO_ARGUMENTS,
    Citations,
    custom_tools,
    finish_reason,
    head,
    reasoning_of,
    refusal_of,
    speaks_functions,
    text_of,
    usage_out,
)
from gateway.protocols.openai.errors import envelope
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
from gateway.turn.items import (
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage, merge
from gateway.wire.sse import CONTENT_TYPE, write_comment, write_event

_KEEPALIVE = write_comment("keep-alive")
_DONE = write_event(b"[DONE]")


class ChatEncoder:
    """One stream. `encode` takes its bursts in order; the state is what the open item has said so far."""

    content_type = CONTENT_TYPE

    def __init__(
        self,
        turn: Turn,
        include_usage: bool,
        *,
        losses: list[Loss] | None = None,
        starting_after: int = 0,
    ) -> None:
        """`starting_after` leaves out the events up to that number, for a client that has them."""
        self._losses = losses if losses is not None else []
        self._include_usage = include_usage
        self._functions = speaks_functions(turn)
        self._custom_tools = custom_tools(turn)
        self._numbered = turn.resumable
        self._number = 0
        self._starting_after = starting_after

        begun = dumps(head(turn, "chat.completion.chunk"))[:-1]
        self._chunk_head = b"data: " + begun + b',"choices":'
        self._delta_head = self._chunk_head + b'[{"index":0,"delta":'
        end = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._delta_tail = b',"logprobs":null,"finish_reason":null}]' + end
        self._finish_tail = b"}]" + end
        self._text_head = self._delta_head + b'{"content":'
        self._text_tail = b"}" + self._delta_tail

        self._open: ItemStarted | None = None
        self._spoken = False
        """The open item has said something; otherwise its ItemDone says it whole."""
        self._refused = False
        """The same of the refusal in a message."""
        self._announced = False
        self._part = 0
        self._channel: str | None = None
        self._calls = 0
        self._runnable = False
        """There is a call that the client is to run."""
        self._citations = Citations()
        self._usage: Usage | None = None

    def encode(self, burst: Sequence[Frame]) -> bytes:
        out: list[bytes] = []
        for frame in burst:
            for event in frame.events:
                if type(event) is TextDelta:
                    # The hot path: nearly every event of nearly every stream.
                    if event.text:
                        self._spoken = True
                        out.append(self._text_head + dumps(event.text) + self._text_tail)
                else:
                    self._say(event, out)
        if self._numbered:
            return self._with_ids(out)
        return b"".join(out)

    def keepalive(self) -> bytes:
        return _KEEPALIVE

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
                self._delta({"content": event.text}, out)
            case ReasoningDelta():
                self._reasoning(event, out)
            case ToolInputDelta():
                self._arguments(event.json_fragment, out)
            case RefusalDelta():
                self._refuse(event.text, out)
            case AnnotationAdded():
                pass  # said again by the end of its item, with the text that it belongs to
            case TurnStarted():
                out.append(self._chunk({"role": "assistant", "content": "", "refusal": None}))
            case ItemStarted():
                self._start(event, out)
            case ItemDone():
                self._done(event, out)
            case UsageReported():
                self._usage = merge(self._usage, event.usage)
            case Heartbeat():
                pass  # the edge sends keep-alives when the stream is silent for long
            case OpaqueEvent():
                self._lose(event.type, "not-in-chat")
            case SignatureDelta():
                pass  # kept for replay; no Chat client could give it back
            case TurnCompleted():
                self._complete(event, out)
            case TurnFailed():
                self._fail(event.error, out)
            case TurnCancelled():
                self._fail(cancelled_error(event.reason), out)
            case _:
                assert_never(event)

    # -- chunks -------------------------------------------------------------------------------------------

    def _chunk(self, delta: Mapping[str, object]) -> bytes:
        return self._delta_head + dumps(delta) + self._delta_tail

    def _delta(self, delta: JsonObject, out: list[bytes]) -> None:
        self._spoken = True
        out.append(self._chunk(delta))

    def _reasoning(self, event: ReasoningDelta, out: list[bytes]) -> None:
        """Parts of a summary become paragraphs. Of an item with summary and full text, the first is shown."""
        if self._channel is None:
            self._channel, self._part = event.channel, event.part
        if event.channel != self._channel or not event.text:
            return
        next_part = event.channel == "summary" and event.part > self._part and self._spoken
        paragraph = "\n\n" if next_part else ""
        self._part = event.part
        self._delta({"reasoning_content": paragraph + event.text}, out)

    def _refuse(self, text: str, out: list[bytes]) -> None:
        if text:
            self._refused = True
            out.append(self._chunk({"refusal": text}))

    def _complete(self, event: TurnCompleted, out: list[bytes]) -> None:
        if self._citations.found:
            out.append(self._chunk({"annotations": self._citations.found}))
        finish = finish_reason(event.finish, runnable_calls=self._runnable, functions=self._functions)
        out.append(
            self._delta_head + b'{},"logprobs":null,"finish_reason":' + dumps(finish) + self._finish_tail
        )
        usage = merge(self._usage, event.usage)
        if self._include_usage and usage is not None:
            out.append(self._chunk_head + b'[],"usage":' + dumps(usage_out(usage)) + b"}\n\n")
        out.append(_DONE)

    def _fail(self, error: ErrorInfo, out: list[bytes]) -> None:
        out.append(write_event(dumps(envelope(error))))

    def _lose(self, path: str, reason: str) -> None:
        loss = Loss(path, reason)
        if loss not in self._losses:
            self._losses.append(loss)

    # -- items --------------------------------------------------------------------------------------------

    def _start(self, event: ItemStarted, out: list[bytes]) -> None:
        self._open = event
        self._spoken = self._refused = self._announced = False
        self._channel = None
        if event.kind == "tool_call":
            self._calls += 1
            if event.name is not None:
                self._announce(event.call_id or event.item_id, event.name, "", out)

    def _announce(self, call_id: str, name: str, arguments: str, out: list[bytes]) -> None:
        self._announced = True
        if self._functions:
            if self._calls == 1:
                self._delta({"function_call": {"name": name, "arguments": arguments}}, out)
            else:
                self._lose("function_call", "only-one-in-chat")
        elif name in self._custom_tools:
            self._call({"id": call_id, "type": "custom", "custom": {"name": name, "input": arguments}}, out)
        else:
            function: JsonObject = {"name": name, "arguments": arguments}
            self._call({"id": call_id, "type": "function", "function": function}, out)
        self._spoken = bool(arguments)

    def _arguments(self, fragment: str, out: list[bytes]) -> None:
        if not self._announced or not fragment or self._open is None:
            return  # a call without a name yet is said whole at its end
        if self._functions:
            if self._calls == 1:
                self._delta({"function_call": {"arguments": fragment}}, out)
        elif self._open.name in self._custom_tools:
            self._call({"custom": {"input": fragment}}, out)
        else:
            self._call({"function": {"arguments": fragment}}, out)

    def _call(self, call: JsonObject, out: list[bytes]) -> None:
        self._delta({"tool_calls": [{"index": self._calls - 1, **call}]}, out)

    def _done(self, event: ItemDone, out: list[bytes]) -> None:
        match event.item:
            case Message():
                self._end_message(event.item.parts, out)
            case Reasoning():
                if not self._spoken and (text := reasoning_of(event.item)):
                    self._delta({"reasoning_content": text}, out)
            case ToolCall():
                self._end_call(event.item, out)
            case OpaqueItem():
                self._lose(event.item.type, "not-in-chat")
            case ToolResult():
                pass
            case _:
                assert_never(event.item)
        self._open = None

    def _end_message(self, parts: Sequence[Part], out: list[bytes]) -> None:
        if not self._spoken and (text := text_of(parts)):
            self._delta({"content": text}, out)
        if not self._refused:
            self._refuse(refusal_of(parts), out)
        self._citations.add(parts)
        if self._citations.lost:
            self._lose("annotation", "not-in-chat")

    def _end_call(self, call: ToolCall, out: list[bytes]) -> None:
        arguments = call.arguments
        if not arguments and call.name not in self._custom_tools:
            arguments = NO_ARGUMENTS
        if not self._announced:
            self._announce(call.call_id, call.name, arguments, out)
        elif not self._spoken:
            self._arguments(arguments, out)
        self._runnable = self._runnable or call.result is None
