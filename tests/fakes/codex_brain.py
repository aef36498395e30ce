"""What the fake Responses upstream answers, and the events it says it with.

A test queues answers, sets them for a prompt, or writes the prompt so that it says what to do:

    say WORDS                     those words
    count from A to B             a delta for each number
    think about X, then ...       reasoning before the rest
    call NAME {json}              a function call; several joined by " and call "
    exec NAME text                a custom tool call
    refuse                        a refusal

Tool results are answered with what they say; anything else with "You said: ...". Models that reason do so
before every answer.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from gateway.kernel.json import dumps

SPEECH = re.compile(r"\s*\S+\s*")


class Think(msgspec.Struct, frozen=True):
    text: str = "I look into it."
    sealed: bool = True


class Say(msgspec.Struct, frozen=True):
    text: str
    deltas: tuple[str, ...] | None = None
    """How it is cut; by default word by word."""


class Refuse(msgspec.Struct, frozen=True):
    text: str = "I cannot help with that."


class CallTool(msgspec.Struct, frozen=True):
    name: str
    arguments: str = "{}"
    custom: bool = False
    call_id: str | None = None


class Compacted(msgspec.Struct, frozen=True):
    """The conversation so far, sealed."""

    kind: str = "compaction"


class Raw(msgspec.Struct, frozen=True):
    """An item of any type, as it is."""

    item: dict[str, Any]


Piece = Think | Say | Refuse | CallTool | Compacted | Raw
End = Literal["completed", "max_output_tokens", "content_filter", "failed", "error", "cut", "eof", "hang"]
"""cut: the connection breaks; eof: the stream ends as it should, without a last event."""


SERVER_ERROR = {"code": "server_error", "message": "The server had an error."}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    pieces: tuple[Piece, ...] = ()
    end: End = "completed"
    error: Mapping[str, Any] = msgspec.field(default_factory=lambda: SERVER_ERROR)
    """Of the ends `failed` and `error`."""
    output: Literal["whole", "empty", "without_ids"] = "whole"
    """Of the terminal event."""
    stop_after: int | None = None
    """How many events are said before the end, where it comes early."""
    gate_after: int | None = None
    """How many events are said before the answer waits for the test."""
    before: tuple[dict[str, Any], ...] = ()
    """Events of unknown types, said before the first item."""
    interleaved: bool = False
    """All items are added before the first is done."""


def answer_to(items: Sequence[Any], *, reasons: bool) -> Answer:
    """What the newest item asks for."""
    last = items[-1] if items else {}
    if last.get("type") == "compaction_trigger":
        return Answer(pieces=(Compacted(),))
    if last.get("type") == "context_compaction" and "encrypted_content" not in last:
        return Answer(pieces=(Compacted("context_compaction"),))
    results: list[str] = []
    for item in reversed(items):
        if not str(item.get("type", "")).endswith("_output"):
            break
        results.insert(0, _words(item.get("output")))
    if results:
        return _with_thought([Say("Got " + " and ".join(results))], reasons=reasons)
    return asked(_words(last.get("content")), reasons=reasons)


def asked(prompt: str, *, reasons: bool = False) -> Answer:
    thought = None
    if found := re.match(r"think about (.+?), then (.*)", prompt, re.DOTALL):
        thought, prompt = found[1], found[2]
    pieces: list[Piece] = [*_pieces(prompt)]
    return _with_thought(pieces, reasons=reasons or thought is not None, about=thought)


def _with_thought(pieces: Sequence[Piece], *, reasons: bool, about: str | None = None) -> Answer:
    if not reasons:
        return Answer(pieces=tuple(pieces))
    thought = Think(f"I think about {about}.") if about else Think()
    return Answer(pieces=(thought, *pieces))


def _pieces(prompt: str) -> Iterator[Piece]:
    if prompt.startswith("call "):
        for wish in re.split(r"\s+and call\s+", prompt.removeprefix("call ")):
            name, _, arguments = wish.partition(" ")
            yield CallTool(name, arguments or "{}")
    elif prompt.startswith("exec "):
        name, _, text = prompt.removeprefix("exec ").partition(" ")
        yield CallTool(name, text, custom=True)
    elif prompt == "refuse":
        yield Refuse()
    elif prompt.startswith("say "):
        yield Say(prompt.removeprefix("say "))
    elif found := re.fullmatch(r"count from (\d+) to (\d+)", prompt):
        numbers = tuple(f"{n} " for n in range(int(found[1]), int(found[2]) + 1))
        yield Say("".join(numbers), numbers)
    else:
        yield Say(f"You said: {prompt}")


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(part.get("text", f"[{part['type']}]") for part in parts)


# -- items and events -------------------------------------------------------------------------------------


class Speaker:
    """One answer as the items and events of the original. `seal` makes a blob of this answer's."""

    def __init__(self, number: int, response: dict[str, Any], seal: Any) -> None:
        self._number = number
        self._response = response
        self._seal = seal
        self._sequence = 0

    def item(self, index: int, piece: Piece) -> dict[str, Any]:
        tag = f"{self._number:06x}{index:02x}"
        match piece:
            case Think():
                item = {
                    "id": f"rs_{tag}",
                    "type": "reasoning",
                    "summary": [{"type": "summary_text", "text": piece.text}] if piece.text else [],
                }
                return {**item, "encrypted_content": self._seal()} if piece.sealed else item
            case Say() | Refuse():
                refusal = isinstance(piece, Refuse)
                part: dict[str, Any] = (
                    {"type": "refusal", "refusal": piece.text}
                    if refusal
                    else {"type": "output_text", "annotations": [], "logprobs": [], "text": piece.text}
                )
                return {
                    "id": f"msg_{tag}",
                    "type": "message",
                    "status": "completed",
                    "content": [part],
                    "role": "assistant",
                }
            case CallTool():
                call_id = piece.call_id or f"call_{tag}"
                kind, field = (
                    ("custom_tool_call", "input") if piece.custom else ("function_call", "arguments")
                )
                return {
                    "id": f"{'ctc' if piece.custom else 'fc'}_{tag}",
                    "type": kind,
                    "status": "completed",
                    field: piece.arguments,
                    "call_id": call_id,
                    "name": piece.name,
                }
            case Compacted():
                return {"id": f"cmp_{tag}", "type": piece.kind, "encrypted_content": self._seal()}
            case Raw():
                return {"id": f"it_{tag}", **piece.item}

    def events(self, answer: Answer, output: Sequence[dict[str, Any]]) -> Iterator[bytes]:
        """Everything before the end."""
        yield self.event("response.created", response=self._response)
        yield self.event("response.in_progress", response=self._response)
        for extra in answer.before:
            yield self.event(extra["type"], **{k: v for k, v in extra.items() if k != "type"})
        if answer.interleaved:
            for index, item in enumerate(output):
                yield self._added(index, item)
            bodies = [
                list(self._body(index, p, i))
                for index, (p, i) in enumerate(zip(answer.pieces, output, strict=True))
            ]
            while any(bodies):
                for body in bodies:
                    if body:
                        yield body.pop(0)
            for index in reversed(range(len(output))):
                yield self._done(index, output[index])
            return
        for index, (piece, item) in enumerate(zip(answer.pieces, output, strict=True)):
            yield self._added(index, item)
            yield from self._body(index, piece, item)
            yield self._done(index, item)

    def event(self, kind: str, **fields: Any) -> bytes:
        data = dumps({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _added(self, index: int, item: dict[str, Any]) -> bytes:
        begun = dict(item)
        for name in ("summary", "content"):
            if name in begun:
                begun[name] = []
        for name in ("arguments", "input"):
            if name in begun:
                begun[name] = ""
        if "status" in begun:
            begun["status"] = "in_progress"
        return self.event("response.output_item.added", output_index=index, item=begun)

    def _done(self, index: int, item: dict[str, Any]) -> bytes:
        return self.event("response.output_item.done", output_index=index, item=item)

    def _body(self, index: int, piece: Piece, item: dict[str, Any]) -> Iterator[bytes]:
        place = {"item_id": item["id"], "output_index": index}
        match piece:
            case Think(text=""):
                pass
            case Think():
                place["summary_index"] = 0
                part = {"type": "summary_text", "text": ""}
                yield self.event("response.reasoning_summary_part.added", **place, part=part)
                for delta in SPEECH.findall(piece.text):
                    yield self._delta("response.reasoning_summary_text.delta", place, delta)
                yield self.event("response.reasoning_summary_text.done", **place, text=piece.text)
                part = {"type": "summary_text", "text": piece.text}
                yield self.event("response.reasoning_summary_part.done", **place, part=part)
            case Say() | Refuse():
                yield from self._content(piece, item, {**place, "content_index": 0})
            case CallTool():
                kind = "custom_tool_call_input" if piece.custom else "function_call_arguments"
                for start in range(0, len(piece.arguments), 7):
                    yield self._delta(f"response.{kind}.delta", place, piece.arguments[start : start + 7])
                field = "input" if piece.custom else "arguments"
                yield self.event(f"response.{kind}.done", **place, **{field: piece.arguments})
            case Compacted() | Raw():
                pass

    def _content(self, piece: Say | Refuse, item: dict[str, Any], place: dict[str, Any]) -> Iterator[bytes]:
        whole = item["content"][0]
        field = "refusal" if isinstance(piece, Refuse) else "text"
        kind = "refusal" if isinstance(piece, Refuse) else "output_text"
        yield self.event("response.content_part.added", **place, part={**whole, field: ""})
        deltas = piece.deltas if isinstance(piece, Say) and piece.deltas else SPEECH.findall(piece.text)
        more = {"logprobs": []} if kind == "output_text" else {}
        for delta in deltas:
            yield self._delta(f"response.{kind}.delta", {**place, **more}, delta)
        yield self.event(f"response.{kind}.done", **place, **{field: piece.text}, **more)
        yield self.event("response.content_part.done", **place, part=whole)

    def _delta(self, kind: str, place: Mapping[str, Any], delta: str) -> bytes:
        """With the padding that hides how long a delta is."""
        return self.event(kind, **place, delta=delta, obfuscation="x" * (16 - len(delta) % 16))
