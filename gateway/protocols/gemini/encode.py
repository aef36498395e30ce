"""Frames to the chunks of a Gemini stream. Pure.

Every chunk is an answer of its own, with what is new: a piece of text, a thought, a whole function call. The
last one has the finish reason, the usage and the grounding, and an empty text, because the SDKs take an
answer without parts for a broken one. A turn that failed or was cancelled ends with an error object and
nothing after it. What the parts are is told in answer.py; a stream put together by its client equals the
whole answer.

Chunks of an upstream that speaks Gemini itself go out as they came, but for the model's name. What such a
stream lacks (an end, where it was cut) is made from its events.

The chunks of a stream are numbered from 1; whether the bytes tell the numbers is the framing's affair.
"""

from collections.abc import Sequence
from typing import assert_never

from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.answers import cancelled_error
from gateway.protocols.gemini.answer import (
    Grounding,
    annotations_of,
    call_part,
    finish_reason,
    is_citation,
    is_refusal,
    is_whole,
    opaque_part,
    part_out,
    reasoning_text,
    response_id,
    shows_thoughts,
    usage_out,
    wire_signature,
)
from gateway.protocols.gemini.errors import envelope
from gateway.protocols.gemini.framing import EventFraming, Framing, one_line
from gateway.protocols.gemini.rename import ModelName
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
from gateway.turn.items import Message, OpaqueItem, Reasoning, ToolCall, ToolResult, text_of
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage, merge
from gateway.wire.gemini import CandidateOut, PartOut


class GeminiEncoder:
    """One stream. `encode` takes its bursts in order; the state is what the open item has said so far."""

    def __init__(
        self,
        turn: Turn,
        framing: Framing | None = None,
        *,
        losses: list[Loss] | None = None,
        starting_after: int = 0,
    ) -> None:
        """`starting_after` leaves out the chunks up to that number, for a client that has them."""
        self._framing = framing or EventFraming()
        self.content_type = self._framing.content_type
        self._losses = losses if losses is not None else []
        self._thoughts = shows_thoughts(turn)
        self._model = ModelName(turn.model)
        self._numbered = turn.resumable
        self._number = 0
        self._starting_after = starting_after

        head = {"modelVersion": turn.model, "responseId": response_id(turn)}
        self._answer_tail = b"," + dumps(head)[1:]
        self._around = before, behind = self._framing.around
        self._text_head = before + b'{"candidates":[{"content":{"role":"model","parts":[{"text":'
        self._text_tail = b'}]},"index":0}]' + self._answer_tail + behind
        self._plain = False
        """The next chunk, if it is text or an upstream's own, goes between what is around all of them."""

        self._spoken = False
        """The open item has said something; otherwise its ItemDone says it whole."""
        self._part = 0
        self._channel: str | None = None
        self._annotations: list[JsonObject] = []
        self._item_signature = ""
        self._pending: str | None = None
        """Signature of a reasoning, for the next part."""
        self._held: ToolCall | None = None
        """A call whose arguments are broken: it may turn out that the turn was cut short there."""
        self._grounding = Grounding()
        self._refused = False
        self._usage: Usage | None = None
        self._raw_end = False
        """The upstream's own chunk that says why it ends has gone out."""
        self._in_raw = False
        """The open item was begun in the upstream's own chunks, which have said it."""

    def encode(self, burst: Sequence[Frame]) -> bytes:
        out: list[bytes] = []
        for frame in burst:
            events = frame.events
            if frame.dialect == "gemini" and (frame.raw or frame.raws) and not _is_failure(frame):
                self._pass_on(frame, out)
                continue
            for event in events:
                if type(event) is TextDelta and self._plain:
                    # The hot path: nearly every event of nearly every stream.
                    if event.text:
                        self._spoken = True
                        text = dumps(event.text)
                        if not text.isascii():
                            text = one_line(text)
                        out.append(self._text_head + text + self._text_tail)
                elif not (
                    type(event) is ItemDone and isinstance(event.item, ToolCall) and _is_failure(frame)
                ):
                    # A call that the failure itself has closed is not one to run.
                    self._say(event, out)
        return b"".join(out)

    def keepalive(self) -> bytes:
        self._plain = False
        return self._framing.keepalive()

    def _say(self, event: TurnEvent, out: list[bytes]) -> None:  # noqa: C901 - one case for each event
        match event:
            case TextDelta():
                self._text(event.text, out)
            case ReasoningDelta():
                self._reason(event, out)
            case RefusalDelta():
                self._refused = True
                self._text(event.text, out)
            case AnnotationAdded():
                self._annotations.append(event.payload)
            case SignatureDelta():
                self._item_signature += event.signature
            case ToolInputDelta():
                pass  # a call is said whole, at its end
            case TurnStarted():
                pass
            case ItemStarted():
                self._release(out)
                self._start()
            case ItemDone():
                if not self._in_raw:
                    self._done(event, out)
            case UsageReported():
                self._usage = merge(self._usage, event.usage)
            case Heartbeat():
                pass  # the edge sends keep-alives when the stream is silent for long
            case OpaqueEvent():
                self._lose(event.type, "not-in-gemini")
            case TurnCompleted():
                self._complete(event, out)
            case TurnFailed():
                self._fail(event.error, out)
            case TurnCancelled():
                self._fail(cancelled_error(event.reason), out)
            case _:
                assert_never(event)

    # -- chunks -------------------------------------------------------------------------------------------

    def _count(self) -> int | None:
        """The number of the next chunk; None for one that the client has."""
        self._number += 1
        return self._number if self._number > self._starting_after else None

    def _emit(self, body: bytes, out: list[bytes]) -> None:
        if (number := self._count()) is not None:
            out.append(self._framing.chunk(body, number if self._numbered else None))
            self._plain = not self._numbered and self._pending is None

    def _parts(self, part: PartOut, out: list[bytes]) -> None:
        """A chunk with one part. It carries the signature that waits, unless it has one or is a thought."""
        self._spoken = True
        if self._pending is not None and "thought" not in part and "thoughtSignature" not in part:
            part = {**part, "thoughtSignature": self._pending}
            self._pending = None
        candidate: CandidateOut = {"content": {"role": "model", "parts": [part]}, "index": 0}
        self._emit(b'{"candidates":[' + dumps(candidate) + b"]" + self._answer_tail, out)

    def _text(self, text: str, out: list[bytes]) -> None:
        if text:
            self._parts({"text": text}, out)

    def _reason(self, event: ReasoningDelta, out: list[bytes]) -> None:
        """Parts become paragraphs. An item that says its summary and its full text is shown by the first."""
        if self._channel is None:
            self._channel, self._part = event.channel, event.part
        if event.channel != self._channel or not event.text or not self._thoughts:
            return
        paragraph = "\n\n" if event.part > self._part and self._spoken else ""
        self._part = event.part
        self._parts({"text": paragraph + event.text, "thought": True}, out)

    def _complete(self, event: TurnCompleted, out: list[bytes]) -> None:
        if event.finish == "length" and self._held is not None:
            self._lose(f"tool_call.{self._held.name}", "cut-short")
            self._held = None
        self._release(out)
        if not self._raw_end:
            self._last_chunk(event, out)
        elif self._framing.begun:
            self._parts({"text": ""}, out)
        out.append(self._framing.end())

    def _last_chunk(self, event: TurnCompleted, out: list[bytes]) -> None:
        part: PartOut = {"text": ""}
        if self._pending is not None:
            part["thoughtSignature"] = self._pending
        candidate: CandidateOut = {
            "content": {"role": "model", "parts": [part]},
            "finishReason": finish_reason(event.finish, refused=self._refused),
            "index": 0,
        }
        if (metadata := self._grounding.metadata()) is not None:
            candidate["groundingMetadata"] = metadata
        body = b'{"candidates":[' + dumps(candidate) + b"]"
        if (usage := merge(self._usage, event.usage)) is not None:
            body += b',"usageMetadata":' + dumps(usage_out(usage))
        self._emit(body + self._answer_tail, out)

    def _fail(self, error: ErrorInfo, out: list[bytes]) -> None:
        if (number := self._count()) is not None:
            out.append(self._framing.error(dumps(envelope(error)), number if self._numbered else None))
        out.append(self._framing.end())

    def _pass_on(self, frame: Frame, out: list[bytes]) -> None:
        """The events of a chunk that goes out as it came say nothing but what the stream's end needs."""
        before, behind = self._around
        if frame.raw is not None:
            self._raw_end = self._raw_end or _says_why(frame.raw)
        for raw in frame.raws or (frame.raw or b"",):
            renamed = self._model.put(raw)
            if self._plain:
                out += (before, one_line(renamed), behind)
            else:
                self._emit(renamed, out)
        self._spoken = self._in_raw = True
        for event in frame.events:
            if type(event) is not TextDelta and isinstance(event, UsageReported | TurnCompleted):
                self._say(event, out)

    def _lose(self, path: str, reason: str) -> None:
        loss = Loss(path, reason)
        if loss not in self._losses:
            self._losses.append(loss)

    # -- items --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._spoken = self._in_raw = False
        self._channel = None
        self._annotations = []
        self._item_signature = ""

    def _done(self, event: ItemDone, out: list[bytes]) -> None:
        match event.item:
            case Message():
                self._end_message(event.item, out)
            case Reasoning():
                if self._thoughts and not self._spoken and (text := reasoning_text(event.item)):
                    self._parts({"text": text, "thought": True}, out)
                self._pending = self._signature(event.item.signature) or self._pending
                self._plain = self._plain and self._pending is None
            case ToolCall(result=None):
                self._held = event.item
                if is_whole(event.item):
                    self._release(out)
            case ToolCall():
                self._lose(f"tool_call.{event.item.name}", "run-by-upstream")
            case OpaqueItem(dialect="gemini"):
                self._parts(opaque_part(event.item), out)
            case OpaqueItem():
                self._lose(event.item.type, "not-in-gemini")
            case ToolResult():
                pass
            case _:
                assert_never(event.item)
        if self._held is None:
            self._start()

    def _release(self, out: list[bytes]) -> None:
        """Say the call that was held back."""
        if self._held is not None:
            call, self._held = self._held, None
            signed = call.origin.signature if call.origin else None
            self._parts(call_part(call, self._signature(signed)), out)

    def _end_message(self, message: Message, out: list[bytes]) -> None:
        if not self._spoken:
            for part in message.parts:
                if (said := part_out(part)) is not None:
                    self._parts(said, out)
        signed = message.origin.signature if message.origin else None
        if (signature := self._signature(signed)) is not None:
            self._parts({"text": "", "thoughtSignature": signature}, out)
        self._refused = self._refused or is_refusal(message.parts)
        self._cite(message)

    def _cite(self, message: Message) -> None:
        if any(annotations_of(message.parts)):
            self._annotations = []
        text = text_of(message.parts)
        for payload in self._annotations:
            self._grounding.cite(text, payload)
        for payload in (*annotations_of(message.parts), *self._annotations):
            if not is_citation(payload):
                self._lose("annotation", "not-in-gemini")
        self._grounding.message(message.parts)

    def _signature(self, whole: str | None) -> str | None:
        """Of the item that ends: as the item has it, else as its pieces gave it."""
        given = whole or self._item_signature
        signature = wire_signature(given)
        if given and signature is None:
            self._lose("signature", "not-base64")
        return signature


def _says_why(raw: bytes) -> bool:
    """Whether an upstream's own chunk has the reason of its end."""
    return raw.find(b'Reason"') >= 0 and (b'"finishReason"' in raw or b'"blockReason"' in raw)


def _is_failure(frame: Frame) -> bool:
    """Whether the turn ends in this frame, and not well."""
    events = frame.events
    return bool(events) and type(events[-1]) in (TurnFailed, TurnCancelled)
