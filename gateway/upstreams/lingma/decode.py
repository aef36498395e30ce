"""Decode Lingma's pushes into turn frames. Pure: no I/O, no clock.

In:  JSON-RPC messages of one ask, exactly as the worker received them.
Out: zero or more events per frame, in the order that turn/grammar.py rules.

What Lingma says and what becomes of it:
- chat/think                     reasoning, as is <think>…</think> inside an answer
- chat/answer text               a delta; with overwrite it replaces everything said so far
- ```toolCall::…``` cards        Lingma's own display of its tools: removed
- chat/finish                    the end; fullAnswer counts only when no text came
- chat/process_step_callback     progress: a sign of life
- session/title/update, context/usage/sync     nothing
- everything else                kept as an opaque event
Lingma reports no token counts on this wire: usage is estimated from text.
"""

from typing import Final, Literal

import msgspec

from gateway.kernel.errors import ErrorKind
from gateway.kernel.ids import TurnId, derived_hex
from gateway.kernel.json import JsonObject
from gateway.telemetry.redact import redact_text
from gateway.turn.events import (
    ErrorInfo,
    Finish,
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    ReasoningDelta,
    TextDelta,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from gateway.turn.frame import Frame
from gateway.turn.items import Message, Origin, Reasoning, TextPart
from gateway.turn.usage import Usage, estimate_tokens
from gateway.upstreams.lingma.answer_text import AnswerText, Piece
from gateway.upstreams.lingma.structured import Unfenced, unfenced

EXECUTOR: Final = "lingma"

_HEARTBEAT: tuple[TurnEvent, ...] = (Heartbeat(),)


class _Params(msgspec.Struct):
    """The fields that any push of one ask may carry; unknown ones are ignored."""

    sessionId: str | None = None
    text: str | None = None
    content: str | None = None
    overwrite: bool | None = None
    isFiltered: bool | None = None
    step: str | None = None
    reason: str | None = None
    statusCode: int | None = None
    fullAnswer: str | None = None
    errorMessage: str | None = None
    message: str | None = None


class _Push(msgspec.Struct):
    method: str = ""
    params: _Params = msgspec.field(default_factory=_Params)


_decode_push = msgspec.json.Decoder(_Push).decode
_decode_object = msgspec.json.Decoder(JsonObject).decode


class LingmaDecoder:
    """One attempt's pushes. `session_id` is the one that pushes report, the finish having the last word."""

    def __init__(
        self,
        turn_id: TurnId,
        model: str,
        created_at: int,
        *,
        prompt_tokens: int,
        attempt: int = 1,
        json_only: bool = False,
    ) -> None:
        """json_only: the client asked for JSON, so a code fence around the answer goes."""
        self._turn_id = turn_id
        self._started = TurnStarted(model=model, created_at=created_at, input_tokens_estimate=prompt_tokens)
        self._prompt_tokens = prompt_tokens
        self._attempt = attempt
        self._begun = False
        self._ended = False
        self._answer = AnswerText()
        self._fence = Unfenced() if json_only else None
        self._item: ItemStarted | None = None
        self._item_text: list[str] = []
        self._next_index = 0
        self._said: list[str] = []
        self._text_came = False
        """Also where the fence around it still holds all of it back."""
        self._spoken_tokens = 0
        self._filtered = False
        self.session_id = ""
        self.first_session_id = ""
        """As the first push of all reported it: an unexpected one means that the context was lost."""

    # -- feeding ------------------------------------------------------------------------------------------

    def feed(self, raw: bytes, seq: int) -> Frame:
        """One push. Never raises on bytes that make no sense: those become a failed end."""
        if self._ended:
            return Frame((), raw, "lingma", seq)
        try:
            push = _decode_push(raw)
        except msgspec.DecodeError:
            return self._frame(
                self._protocol_failure("Lingma sent a message that is no JSON object"), raw, seq
            )
        params = push.params
        if params.sessionId:
            self.session_id = params.sessionId
            if not self.first_session_id:
                self.first_session_id = params.sessionId
        match push.method:
            case "chat/answer":
                events = self._on_answer(params)
            case "chat/think":
                events = self._pieces([Piece("reasoning", params.text or "")])
            case "chat/finish":
                events = self._on_finish(params)
            case "chat/process_step_callback":
                events = list(_HEARTBEAT)
            case "chat/filterTimeout":
                self._filtered = True
                events = list(_HEARTBEAT)
            case "error/notificationError":
                text = params.errorMessage or params.message or "Lingma reported an error"
                events = self._fail(ErrorKind.UPSTREAM_PROTOCOL, text)
            case "session/title/update" | "context/usage/sync":
                events = []  # for the IDE's own display
            case _:
                events = [OpaqueEvent("lingma", push.method, _decode_object(raw))]
        return self._frame(events, raw, seq)

    def eof(self) -> Frame | None:
        """The ask ended without chat/finish."""
        if self._ended:
            return None
        return self._frame(
            self._fail(ErrorKind.UPSTREAM_EOF, "Lingma ended without finishing its answer"), None, 0
        )

    def _frame(self, events: list[TurnEvent], raw: bytes | None, seq: int) -> Frame:
        if not self._begun and events:
            self._begun = True
            events.insert(0, self._started)
        return Frame(tuple(events), raw, "lingma", seq)

    # -- answers ------------------------------------------------------------------------------------------

    def _on_answer(self, params: _Params) -> list[TurnEvent]:
        text = params.text if params.text is not None else (params.content or "")
        if params.isFiltered:
            self._filtered = True
        if params.overwrite:
            return self._on_overwrite(text)
        return self._pieces(self._answer.feed(text)) if text else []

    def _on_overwrite(self, text: str) -> list[TurnEvent]:
        """The stream gets what can be appended; the finished item says the text as Lingma meant it."""
        events = self._pieces(self._answer.overwrite(text))
        if self._item is not None and self._item.kind == "message":
            visible = self._answer.visible if self._fence is None else unfenced(self._answer.visible)
            self._item_text = [visible.removeprefix("".join(self._said))]
        return events

    def _pieces(self, pieces: list[Piece]) -> list[TurnEvent]:
        events: list[TurnEvent] = []
        for kind, text in pieces:
            self._text_came = self._text_came or (kind == "message" and bool(text))
            if self._fence is not None and kind == "message":
                self._say(kind, self._fence.feed(text), events)
            else:
                self._say(kind, text, events)
        return events

    def _say(self, kind: Literal["message", "reasoning"], text: str, events: list[TurnEvent]) -> None:
        if not text:
            return
        opened = self._open(kind, events)
        self._item_text.append(text)
        if kind == "message":
            events.append(TextDelta(opened.index, text))
        else:
            events.append(ReasoningDelta(opened.index, text))

    def _open(self, kind: Literal["message", "reasoning"], events: list[TurnEvent]) -> ItemStarted:
        if self._item is not None:
            if self._item.kind == kind:
                return self._item
            self._close(events)
        index = self._next_index
        self._next_index += 1
        prefix = "msg" if kind == "message" else "rs"
        item_id = f"{prefix}_{derived_hex(self._turn_id, self._attempt, index)}"
        self._item = ItemStarted(index, kind, item_id)
        events.append(self._item)
        return self._item

    def _close(self, events: list[TurnEvent]) -> None:
        opened = self._item
        if opened is None:
            return
        text = "".join(self._item_text)
        self._item, self._item_text = None, []
        self._spoken_tokens += estimate_tokens(text)
        origin = Origin(executor=EXECUTOR, dialect="lingma", id=opened.item_id)
        if opened.kind == "message":
            self._said.append(text)
            item: Message | Reasoning = Message(
                role="assistant", parts=(TextPart(text),), id=opened.item_id, origin=origin
            )
        else:
            item = Reasoning(text=text, id=opened.item_id, origin=origin)
        events.append(ItemDone(opened.index, item))

    # -- the end ------------------------------------------------------------------------------------------

    def _on_finish(self, params: _Params) -> list[TurnEvent]:
        status = params.statusCode or 200
        reason = params.reason or ""
        if reason.lower() == "cancelled":
            # Not by us: a worker that asks for a stop reads no further. Never a success, whatever the status.
            return self._fail(ErrorKind.UPSTREAM_EOF, "Lingma cancelled the answer")
        if status != 200:
            kind = ErrorKind.UPSTREAM_TIMEOUT if status == 408 else ErrorKind.UPSTREAM_PROTOCOL
            return self._fail(kind, f"Lingma ended the answer with status {status}: {reason or 'no reason'}")
        events = self._pieces(self._answer.finish())
        if not self._text_came and params.fullAnswer:
            whole = AnswerText()
            events += self._pieces(whole.feed(params.fullAnswer) + whole.finish())
        if self._fence is not None:
            self._say("message", self._fence.finish(), events)
        self._close(events)
        if not self._said and not self._filtered:
            return self._fail(
                ErrorKind.UPSTREAM_PROTOCOL, "Lingma finished with an empty answer", before=events
            )
        finish: Finish = "content_filter" if self._filtered else "stop"
        self._ended = True
        events.append(TurnCompleted(finish, self.usage()))
        return events

    def usage(self) -> Usage:
        spoken = self._spoken_tokens + estimate_tokens("".join(self._item_text))
        return Usage(input_tokens=self._prompt_tokens, output_tokens=spoken, estimated=True)

    def _protocol_failure(self, message: str) -> list[TurnEvent]:
        return self._fail(ErrorKind.UPSTREAM_PROTOCOL, message)

    def _fail(
        self, kind: ErrorKind, message: str, *, before: list[TurnEvent] | None = None
    ) -> list[TurnEvent]:
        events = before if before is not None else []
        self._close(events)
        self._ended = True
        # Upstream words reach the client from here.
        safe = redact_text(message)
        events.append(TurnFailed(ErrorInfo(kind=kind, message=safe, retryable=True)))
        return events

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def reply_text(self) -> str:
        """All message text of closed items: what the session is keyed by."""
        return "".join(self._said)
