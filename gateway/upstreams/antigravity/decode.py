"""Decode the stream of a Gemini upstream into turn frames. Pure: no I/O, no clock.

In:  complete SSE events (wire/sse.py has done the framing), or one whole answer; with or without the envelope
     of Code Assist around each.
Out: one frame for each. `raw` is the inner object, byte for byte; what exists only upstream has none.

A stream has no last word: it may go on behind a finish reason, and old models give one with every chunk. So
the turn is complete when the stream ends and a reason was given, or a prompt was blocked. What ends without
either was cut off. Finish reasons that say the model's answer came to nothing are failures to everybody but
Gemini's own clients, who know what to do about them.
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import Json, JsonObject, dumps
from gateway.replay.lookups import at
from gateway.turn.events import (
    AnnotationAdded,
    ErrorInfo,
    Finish,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    ReasoningDelta,
    SignatureDelta,
    TextDelta,
    ToolInputDelta,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
    UsageReported,
)
from gateway.turn.frame import Frame
from gateway.turn.items import ItemKind
from gateway.upstreams.antigravity.chunks import Read, Unreadable, read_chunk, read_text
from gateway.upstreams.antigravity.citations import annotations
from gateway.upstreams.antigravity.errors import classify, read_error
from gateway.upstreams.antigravity.history import call_of, name_of, parts_of, signature_of
from gateway.upstreams.antigravity.items import MARKS, ItemReader, code_text, usage_of
from gateway.upstreams.antigravity.merge import merged
from gateway.upstreams.faults import Fault
from gateway.wire.sse import SseSplitter

_FILTERED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    }
)
_BROKEN: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
    }
)


class _Open:
    """The item that is being said."""

    __slots__ = ("index", "kind", "pieces", "signature")

    def __init__(self, kind: Literal["message", "reasoning"], index: int) -> None:
        self.kind: ItemKind = kind
        self.index = index
        self.pieces: list[str] = []
        self.signature = ""


class Observer(Protocol):
    """Is shown every chunk that is part of the answer, without its envelope."""

    def observe(self, chunk: JsonObject) -> None: ...

    def observe_text(self, text: str) -> None:
        """A chunk that holds nothing but this."""
        ...


class Nobody:
    def observe(self, chunk: JsonObject) -> None:
        pass

    def observe_text(self, text: str) -> None:
        pass


class GeminiDecoder:
    """One attempt's answer."""

    def __init__(
        self,
        *,
        model: str,
        created_at: int,
        reader: ItemReader,
        input_tokens_estimate: int | None,
        native: bool = False,
        gather: bool = False,
        observer: Observer | None = None,
    ) -> None:
        """native: the client speaks Gemini. gather: it gets the chunks as one whole answer, at the end."""
        self._model = model
        self._created_at = created_at
        self._estimate = input_tokens_estimate
        self._reader = reader
        self._native = native
        self._gather = gather
        self._observer = observer or Nobody()
        self._gathered: list[JsonObject] = []
        self._begun = False
        self.ended = False
        self.completed = False
        """Ended as the upstream meant to."""
        self.fault: Fault | None = None
        """What the upstream said went wrong."""
        self._open: _Open | None = None
        self._next_index = 0
        self._calls = False
        self._reason = ""
        self._reason_told = ""
        self._blocked = False
        self._metered: JsonObject = {}
        """What the chunks have said of tokens, the later ones over the earlier."""
        self._grounding: Json = None
        self._citations: Json = None

    @property
    def finished(self) -> bool:
        """The upstream has said how the answer ends; little can follow."""
        return bool(self._reason) or self._blocked

    # -- feeding ------------------------------------------------------------------------------------------

    def feed(self, raw: bytes, seq: int) -> Frame:
        """One SSE event with its framing."""
        for event in SseSplitter().feed(raw if raw.endswith(b"\n\n") else raw + b"\n\n"):
            return self.feed_data(event.data, seq)
        return Frame((), None, "gemini", seq)

    def feed_data(self, data: bytes | None, seq: int) -> Frame:
        """The same, when the framing is already off: `data` is None for comments."""
        if self.ended or data is None:
            return Frame((), None, "gemini", seq)
        events: list[TurnEvent] = []
        if self._begun and not self._gather and (plain := read_text(data)) is not None:
            # The hot path: nearly every chunk of nearly every stream.
            self._observer.observe_text(plain.text)
            self._text(plain.text, "", events, thought=False)
            if plain.usage:
                self._metered.update(plain.usage)
            return Frame(tuple(events), data, "gemini", seq)
        if data.strip() in (b"", b"[DONE]"):
            return Frame((), None, "gemini", seq)
        read = self._read(data, events)
        raw = read.raw
        if self._gather and read.answer is not None:
            self._gathered.append(read.answer)
            raw = None
        return Frame(self._begun_with(events, read.answer), raw, "gemini", seq)

    def feed_all(self, chunks: Sequence[bytes | None], seq: int, into: list[Frame]) -> None:
        """Chunks that came together, the first with that number. Texts that go on with an open message are
        one frame. What came before a chunk that raises is there.
        """
        texts: list[str] = []
        raws: list[bytes] = []
        number = seq
        try:
            for number, data in enumerate(chunks, seq):
                open_message = self._open is not None and self._open.kind == "message" and not self._gather
                if open_message and data is not None and (plain := read_text(data)) is not None:
                    self._observer.observe_text(plain.text)
                    if plain.usage:
                        self._metered.update(plain.usage)
                    texts.append(plain.text)
                    raws.append(data)
                    continue
                if raws:
                    into.append(self._joined(texts, raws, number - 1))
                    texts, raws = [], []
                into.append(self.feed_data(data, number))
        finally:
            if raws:
                into.append(self._joined(texts, raws, number))

    def _joined(self, texts: Sequence[str], raws: Sequence[bytes], seq: int) -> Frame:
        events: list[TurnEvent] = []
        self._text("".join(texts), "", events, thought=False)
        return Frame(tuple(events), None, "gemini", seq, raws=tuple(raws))

    def feed_whole(self, body: bytes) -> Frame:
        """A whole answer that was not streamed, or a stream's chunks in one list."""
        events: list[TurnEvent] = []
        read = self._read(body, events)
        self._end(events, "The upstream's answer has no end")
        return Frame(self._begun_with(events, read.answer), read.raw, "gemini", 1, whole=read.raw is not None)

    def eof(self) -> Frame | None:
        if self.ended:
            return None
        events: list[TurnEvent] = []
        self._end(events, "The upstream's stream ended before its answer was complete")
        if not self._gathered or not self.completed:
            return Frame(self._begun_with(events))
        whole = dumps(merged(self._gathered))
        return Frame(self._begun_with(events), whole, "gemini", whole=True)

    def _begun_with(self, events: list[TurnEvent], chunk: JsonObject | None = None) -> tuple[TurnEvent, ...]:
        if not self._begun and (events or chunk is not None):
            self._begun = True
            response_id = (chunk or {}).get("responseId")
            started = TurnStarted(
                model=self._model,
                created_at=self._created_at,
                upstream_id=response_id if isinstance(response_id, str) else None,
                input_tokens_estimate=self._estimate,
            )
            events.insert(0, started)
        return tuple(events)

    # -- answers ------------------------------------------------------------------------------------------

    def _read(self, data: bytes, events: list[TurnEvent]) -> Read:
        """What it means is said; the answer is given back where it may be passed on."""
        try:
            read = read_chunk(data)
        except Unreadable as unreadable:
            error = ErrorInfo(kind=ErrorKind.UPSTREAM_PROTOCOL, message=str(unreadable), retryable=True)
            self._broken(error, events)
            return Read(None)
        if read.answer is not None:
            self._take(read.answer, events)
        if read.error is not None:
            self.fault = classify(read_error(read.error))
            self._broken(self.fault.info, events)
            return Read(read.answer)
        return read

    def _take(self, chunk: JsonObject, events: list[TurnEvent]) -> None:
        self._observer.observe(chunk)
        candidates = chunk.get("candidates")
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        if isinstance(first, dict):
            for part in parts_of(first.get("content")):
                if isinstance(part, dict):
                    self._part(part, events)
            self._candidate(first)
        if "promptFeedback" in chunk:
            self._blocked = self._blocked or bool(at(chunk, "promptFeedback", "blockReason"))
        if isinstance(usage := chunk.get("usageMetadata"), dict):
            self._metered.update(usage)

    def _candidate(self, first: JsonObject) -> None:
        """What it says beside its content."""
        if isinstance(reason := first.get("finishReason"), str) and reason:
            self._reason = reason
            told = first.get("finishMessage")
            self._reason_told = told if isinstance(told, str) else ""
        self._grounding = first.get("groundingMetadata") or self._grounding
        self._citations = first.get("citationMetadata") or self._citations

    # -- parts --------------------------------------------------------------------------------------------

    def _part(self, part: JsonObject, events: list[TurnEvent]) -> None:
        text = part.get("text")
        signature = signature_of(part)
        if (call := call_of(part)) is not None:
            self._call(call, signature, events)
        elif isinstance(text, str):
            self._text(text, signature, events, thought=part.get("thought") is True)
        elif (code := code_text(part)) is not None:
            self._text(code, signature, events, thought=False)
        elif part.keys() - MARKS:
            self._opaque(part, events)
        elif signature:
            self._sign(signature, events)

    def _text(self, text: str, signature: str, events: list[TurnEvent], *, thought: bool) -> None:
        kind: Literal["message", "reasoning"] = "reasoning" if thought else "message"
        if text:
            opened = self._opened(kind, events)
            opened.pieces.append(text)
            if thought:
                events.append(ReasoningDelta(opened.index, text, channel="summary"))
            else:
                events.append(TextDelta(opened.index, text))
        if signature and (text or not thought or self._open is None or self._open.kind == kind):
            self._sign(signature, events)

    def _opened(self, kind: Literal["message", "reasoning"], events: list[TurnEvent]) -> _Open:
        if self._open is None or self._open.kind != kind:
            self._close(events)
            self._open = _Open(kind, self._next_index)
            events.append(ItemStarted(self._next_index, kind, _item_id(self._next_index)))
            self._next_index += 1
        return self._open

    def _sign(self, signature: str, events: list[TurnEvent]) -> None:
        """What is being said. A signature with nothing to sign is for replay alone."""
        if self._open is not None and not self._open.signature:
            self._open.signature = signature
            events.append(SignatureDelta(self._open.index, signature))

    def _call(self, call: JsonObject, signature: str, events: list[TurnEvent]) -> None:
        if not name_of(call):
            return  # goes on with the arguments of a call that Gemini's own clients asked to have in pieces
        self._close(events)
        index, item_id = self._next_index, _item_id(self._next_index)
        self._next_index += 1
        self._calls = True
        item = self._reader.call(call, signature, item_id)
        events.append(ItemStarted(index, "tool_call", item_id, item.name, item.call_id))
        events.append(ToolInputDelta(index, item.arguments))
        events.append(ItemDone(index, item))

    def _opaque(self, part: JsonObject, events: list[TurnEvent]) -> None:
        self._close(events)
        index, item_id = self._next_index, _item_id(self._next_index)
        self._next_index += 1
        events.append(ItemStarted(index, "opaque", item_id))
        events.append(ItemDone(index, self._reader.opaque(part, item_id)))

    def _close(self, events: list[TurnEvent], cited: tuple[JsonObject, ...] = ()) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        text, item_id = "".join(opened.pieces), _item_id(opened.index)
        if opened.kind == "reasoning":
            events.append(ItemDone(opened.index, self._reader.reasoning(text, opened.signature, item_id)))
        else:
            message = self._reader.message(text, cited, opened.signature, item_id)
            events.append(ItemDone(opened.index, message))

    # -- the end ------------------------------------------------------------------------------------------

    def _end(self, events: list[TurnEvent], cut: str) -> None:
        if self.ended:
            return
        if not self.finished:
            self._broken(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message=cut, retryable=True), events)
        elif self._reason in _BROKEN and not self._native:
            told = f": {self._reason_told}" if self._reason_told else ""
            message = f"The model's answer came to nothing ({self._reason}){told}"
            info = ErrorInfo(kind=ErrorKind.UPSTREAM_PROTOCOL, message=message, retryable=True)
            self.fault = Fault(name="broken_answer", info=info)
            self._broken(info, events)
        else:
            self._complete(events)

    def _complete(self, events: list[TurnEvent]) -> None:
        self._cite(events)
        self.ended = self.completed = True
        events.append(TurnCompleted(self._finish(), usage_of(self._metered)))

    def _cite(self, events: list[TurnEvent]) -> None:
        opened = self._open
        if opened is not None and opened.kind == "message":
            cited = tuple(annotations("".join(opened.pieces), self._grounding, self._citations))
            events += [AnnotationAdded(opened.index, 0, payload) for payload in cited]
            self._close(events, cited)
            return
        self._close(events)
        if isinstance(self._grounding, dict):
            events.append(OpaqueEvent("gemini", "groundingMetadata", self._grounding))

    def _finish(self) -> Finish:
        if self._reason == "MAX_TOKENS":
            return "length"
        if self._reason in _FILTERED or (self._blocked and not self._reason):
            return "content_filter"
        return "tool_calls" if self._calls else "stop"

    def _broken(self, info: ErrorInfo, events: list[TurnEvent]) -> None:
        """What was used up until then is reported all the same."""
        self._close(events)
        self.ended = True
        if (usage := usage_of(self._metered)) is not None:
            events.append(UsageReported(usage))
        events.append(TurnFailed(info))


def _item_id(index: int) -> str:
    return f"item_{index}"
