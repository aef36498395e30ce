"""Streams of events that upstreams may say, by hand: all that the vocabulary holds and Lingma cannot say yet.

Each entry of GALLERY is a Scenario. For tests of encoders, of the matrix and of whatever else reads streams:

    from tests.matrix.gallery import GALLERY
    frames = GALLERY["tool_call"].frames(turn)
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonObject
from gateway.turn.events import (
    AnnotationAdded,
    CancelReason,
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
    Dialect,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from gateway.turn.request import Turn
from gateway.turn.usage import Usage

Events: TypeAlias = list[TurnEvent]


class Offer(msgspec.Struct, frozen=True):
    """A tool that the client of a scenario offers, in no dialect."""

    name: str
    kind: Literal["function", "custom"] = "function"
    namespace: str | None = None


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream answer."""

    name: str
    about: str
    frames: Callable[[Turn], Sequence[Frame]]
    """The answer to that turn: legal, as the engine would hand it to an encoder."""
    offers: tuple[Offer, ...] = ()
    rewritten: bool = False
    """A finished item says another text than its deltas: a stream cannot take back what it said."""

    @property
    def custom(self) -> bool:
        """Whether it takes a client that can offer custom tools."""
        return any(offer.kind == "custom" for offer in self.offers)


USAGE = Usage(input_tokens=12, output_tokens=34)
WEATHER = Offer("get_weather")
SEARCH = Offer("search")
PATCH = Offer("apply_patch", "custom")
MAIL = Offer("mail__send", "function", "mail")
CITATION: JsonObject = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 5,
    "title": "A page",
    "url": "https://example.com/a",
}
FILE_CITATION: JsonObject = {
    "type": "file_citation",
    "file_id": "file-1",
    "filename": "a.txt",
    "index": 3,
}


# -- pieces -----------------------------------------------------------------------------------------------


def message(
    index: int, *texts: str, whole: str | None = None, annotations: Sequence[JsonObject] = ()
) -> Events:
    """One message of one part, each text a delta."""
    text = "".join(texts) if whole is None else whole
    return [
        ItemStarted(index, "message", f"msg_{index}"),
        *(TextDelta(index, text) for text in texts),
        *(AnnotationAdded(index, 0, annotation) for annotation in annotations),
        ItemDone(index, _message(index, TextPart(text, tuple(annotations)))),
    ]


def _message(index: int, *parts: Part) -> Message:
    return Message(role="assistant", parts=parts, id=f"msg_{index}")


def call(
    index: int,
    name: str,
    *fragments: str,
    kind: Literal["function", "custom"] = "function",
    whole: str | None = None,
    result: str | None = None,
    named_at_start: bool = True,
) -> Events:
    """One tool call, each fragment of its arguments a delta."""
    item = ToolCall(
        call_id=f"call_{index}",
        name=name,
        arguments="".join(fragments) if whole is None else whole,
        kind=kind,
        result=result,
        id=f"fc_{index}",
    )
    started = ItemStarted(index, "tool_call", f"fc_{index}")
    if named_at_start:
        started = msgspec.structs.replace(started, name=name, call_id=item.call_id)
    return [
        started,
        *(ToolInputDelta(index, fragment) for fragment in fragments),
        ItemDone(index, item),
    ]


def reasoning(
    index: int,
    *deltas: ReasoningDelta,
    summary: Sequence[str] = (),
    text: str = "",
    signature: str | None = None,
) -> Events:
    """One reasoning item: its deltas, its signature in one piece, the item."""
    signed = [SignatureDelta(index, signature)] if signature is not None else []
    item = Reasoning(summary=tuple(summary), text=text, signature=signature, id=f"rs_{index}")
    return [ItemStarted(index, "reasoning", f"rs_{index}"), *deltas, *signed, ItemDone(index, item)]


def opaque(index: int, dialect: Dialect, kind: str, payload: JsonObject) -> Events:
    """Gemini's have no type: the name of their one member tells it."""
    whole = payload if dialect == "gemini" else {"type": kind, **payload}
    item = OpaqueItem(dialect=dialect, type=kind, payload=whole, id=f"op_{index}")
    return [ItemStarted(index, "opaque", f"op_{index}"), ItemDone(index, item)]


def failed(kind: ErrorKind, message_: str = "it broke", **more: object) -> TurnFailed:
    return TurnFailed(ErrorInfo(kind=kind, message=message_, **more))  # type: ignore[arg-type]


def started(turn: Turn) -> TurnStarted:
    return TurnStarted(
        model=turn.model,
        created_at=turn.created_at_ms // 1000,
        upstream_id="up_1",
        input_tokens_estimate=7,
    )


def framed(events: Sequence[TurnEvent]) -> list[Frame]:
    """A frame for each, but an item that was cut short is closed by what ends the turn."""
    frames: list[Frame] = []
    for event in events:
        last = frames[-1].events[-1] if frames else None
        if isinstance(event, TurnFailed | TurnCancelled) and isinstance(last, ItemDone):
            frames[-1] = Frame((last, event))
        else:
            frames.append(Frame((event,)))
    return frames


# -- the gallery ------------------------------------------------------------------------------------------

GALLERY: dict[str, Scenario] = {}


def _show(
    name: str,
    about: str,
    *events: TurnEvent,
    offers: tuple[Offer, ...] = (),
    rewritten: bool = False,
) -> None:
    """`events` are what follows TurnStarted."""
    GALLERY[name] = Scenario(
        name=name,
        about=about,
        frames=lambda turn: framed([started(turn), *events]),
        offers=offers,
        rewritten=rewritten,
    )


def _texts() -> None:
    done = TurnCompleted("stop", USAGE)
    _show("text", "a message in three deltas", *message(0, "Hello", ", ", "world"), done)
    _show("nothing", "no item at all", done)
    _show("empty_message", "a message that says nothing", *message(0), done)
    _show("message_without_parts", "a message of no parts", *message(0)[:1], ItemDone(0, _message(0)), done)
    _show("message_without_deltas", "a message said by its end only", *message(0, whole="All of it"), done)
    _show("empty_deltas", "deltas that say nothing", *message(0, "", "a", "", "b", ""), done)
    _show("two_messages", "one message behind the other", *message(0, "One."), *message(1, " Two."), done)
    _show(
        "several_parts",
        "a message of three parts, the second without deltas",
        ItemStarted(0, "message", "msg_0"),
        TextDelta(0, "first", 0),
        TextDelta(0, " part", 0),
        TextDelta(0, "second", 1),
        TextDelta(0, "third", 2),
        ItemDone(0, _message(0, TextPart("first part"), TextPart("second"), TextPart("third"))),
        done,
    )
    _show(
        "odd_characters",
        "line ends, framing and characters of every width",
        *message(
            0, "data: x\n\nevent: y\r\n", "\u2028\u2029\x00\x7f", "灵码 👩\u200d👩\u200d👧", '"\\</script>'
        ),
        done,
    )
    _show(
        "rewritten_message",
        "the finished message says another text than its deltas",
        *message(0, "wrong", " start", whole="right"),
        done,
        rewritten=True,
    )
    _show("refusal", "a refusal alone", *_refusal(0, "I can", "not"), done)
    _show(
        "text_then_refusal",
        "a refusal behind a text, in one message",
        ItemStarted(0, "message", "msg_0"),
        TextDelta(0, "Well: ", 0),
        RefusalDelta(0, "no", 1),
        ItemDone(0, _message(0, TextPart("Well: "), RefusalPart("no"))),
        done,
    )
    _show("refusal_without_deltas", "a refusal said by its end only", *_refusal(0, whole="No."), done)
    _show(
        "annotations",
        "text with a citation of a page",
        *message(0, "Hello", " there", annotations=[CITATION]),
        done,
    )
    _show(
        "annotations_of_other_kinds",
        "text with a citation of a file and one that nobody knows",
        *message(0, "Hello", annotations=[FILE_CITATION, {"type": "from_the_future", "x": 1}]),
        done,
    )


def _refusal(index: int, *texts: str, whole: str | None = None) -> Events:
    text = "".join(texts) if whole is None else whole
    return [
        ItemStarted(index, "message", f"msg_{index}"),
        *(RefusalDelta(index, text) for text in texts),
        ItemDone(index, _message(index, RefusalPart(text))),
    ]


def _tools() -> None:
    done = TurnCompleted("tool_calls", USAGE)
    stop = TurnCompleted("stop", USAGE)
    offers = (WEATHER, SEARCH)
    _show(
        "tool_call",
        "a call with its arguments in deltas",
        *call(0, "get_weather", '{"ci', 'ty":', '"Ulm"}'),
        done,
        offers=offers,
    )
    _show(
        "tool_call_without_deltas",
        "a call said by its end only",
        *call(0, "get_weather", whole='{"city":"Ulm"}'),
        done,
        offers=offers,
    )
    _show(
        "tool_call_named_late",
        "a call whose name comes with its end",
        *call(0, "get_weather", '{"city":', '"Ulm"}', named_at_start=False),
        done,
        offers=offers,
    )
    _show(
        "tool_call_without_arguments",
        "calls with no text and with an empty object for arguments",
        *call(0, "get_weather"),
        *call(1, "search", "{}"),
        done,
        offers=offers,
    )
    _show(
        "tool_call_with_broken_arguments",
        "arguments that are no JSON, and JSON that is no object",
        *call(0, "get_weather", '{"city": "Ul'),
        *call(1, "search", "[1]"),
        done,
        offers=offers,
    )
    _show(
        "text_and_tool_calls",
        "a text, then two calls",
        *message(0, "Let me look."),
        *call(1, "get_weather", '{"city":"Ulm"}'),
        *call(2, "search", '{"q":', '"ulm"}'),
        done,
        offers=offers,
    )
    _show(
        "same_tool_twice",
        "two calls of one tool, text between",
        *call(0, "search", '{"q":"a"}'),
        *message(1, "and"),
        *call(2, "search", '{"q":"b"}'),
        done,
        offers=offers,
    )
    _show(
        "tool_call_that_ends_as_stop",
        "an upstream that calls its end a stop, though a call waits",
        *call(0, "search", '{"q":"a"}'),
        stop,
        offers=offers,
    )
    _show(
        "tool_call_with_result",
        "a call that the upstream has run itself, then the answer",
        *call(0, "search", '{"q":"a"}', result="found it"),
        *message(1, "It says: found it"),
        stop,
        offers=offers,
    )
    _show(
        "custom_tool_call",
        "a call of a custom tool, its text in deltas",
        *call(0, "apply_patch", "*** Begin Patch\n", "+ä\n", "*** End Patch", kind="custom"),
        done,
        offers=(PATCH,),
    )
    _show(
        "custom_tool_call_without_deltas",
        "a call of a custom tool said by its end only",
        *call(0, "apply_patch", whole="one\ntwo", kind="custom"),
        done,
        offers=(PATCH, SEARCH),
    )
    _show(
        "namespaced_tool_call",
        "a call of a tool that its client keeps in a namespace",
        *call(0, "mail__send", '{"to":"x"}'),
        done,
        offers=(MAIL, SEARCH),
    )
    _show(
        "unoffered_tool_call",
        "a call of a tool that nobody offered",
        *call(0, "from_nowhere", "{}"),
        done,
        offers=offers,
    )
    _show(
        "length_inside_tool_call",
        "out of tokens in the middle of the arguments",
        *call(0, "search", '{"q":"a'),
        TurnCompleted("length", USAGE),
        offers=offers,
    )


def _reasonings() -> None:
    done = TurnCompleted("stop", USAGE)
    answer = message(1, "42")
    full = (ReasoningDelta(0, "Let me"), ReasoningDelta(0, " think."))
    parts = (
        ReasoningDelta(0, "First,", 0, "summary"),
        ReasoningDelta(0, " this.", 0, "summary"),
        ReasoningDelta(0, "Then that.", 1, "summary"),
    )
    summary = ("First, this.", "Then that.")
    _show("reasoning", "the full reasoning", *reasoning(0, *full, text="Let me think."), *answer, done)
    _show(
        "reasoning_signed",
        "the full reasoning and its signature",
        *reasoning(0, *full, text="Let me think.", signature="c2lnbmF0dXJl"),
        *answer,
        done,
    )
    _show(
        "reasoning_summary", "a summary in two parts", *reasoning(0, *parts, summary=summary), *answer, done
    )
    _show(
        "reasoning_summary_signed",
        "a summary in two parts and the encrypted whole",
        *reasoning(0, *parts, summary=summary, signature="ZW5jcnlwdGVk"),
        *answer,
        done,
    )
    _show(
        "reasoning_summary_and_full",
        "a summary, then the full text, in one item",
        *reasoning(
            0,
            ReasoningDelta(0, "In short.", 0, "summary"),
            ReasoningDelta(0, "At length.", 0, "full"),
            summary=("In short.",),
            text="At length.",
            signature="c2ln",
        ),
        *answer,
        done,
    )
    _show(
        "reasoning_hidden",
        "nothing but a signature",
        *reasoning(0, signature="ZW5jcnlwdGVk"),
        *answer,
        done,
    )
    _show(
        "reasoning_without_deltas",
        "a summary and a full text said by the end only",
        *reasoning(0, summary=("In short.", "And so on."), text="At length."),
        *answer,
        done,
    )
    _show("reasoning_empty", "a reasoning item that says nothing", *reasoning(0), *answer, done)
    _show("reasoning_only", "reasoning and no answer", *reasoning(0, *full, text="Let me think."), done)
    _show(
        "reasoning_by_turns",
        "reasoning, text, reasoning, call",
        *reasoning(0, ReasoningDelta(0, "one"), text="one", signature="c2lnMQ=="),
        *message(1, "first"),
        *reasoning(2, ReasoningDelta(2, "two"), text="two", signature="c2lnMg=="),
        *call(3, "search", '{"q":1}'),
        TurnCompleted("tool_calls", USAGE),
        offers=(SEARCH,),
    )


def _opaques() -> None:
    done = TurnCompleted("stop", USAGE)
    text = message(1, "Found.")
    search: JsonObject = {
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "x", "queries": ["x"]},
    }
    _show(
        "opaque_item_of_responses",
        "an item that only Responses knows",
        *opaque(0, "responses", "web_search_call", search),
        *text,
        done,
    )
    _show(
        "opaque_item_of_messages",
        "an item that only Messages knows",
        *opaque(
            0,
            "messages",
            "server_tool_use",
            {"id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        ),
        *text,
        done,
    )
    _show(
        "opaque_item_of_gemini",
        "an item that only Gemini knows",
        *opaque(0, "gemini", "executableCode", {"executableCode": {"language": "PYTHON", "code": "1"}}),
        *text,
        done,
    )
    _show(
        "opaque_item_from_the_future",
        "an item that nobody knows",
        *opaque(0, "responses", "from_the_future", {"id": "ff_1", "x": [1, None]}),
        *text,
        done,
    )
    _show(
        "opaque_events",
        "events that only their own dialect knows, outside and inside an item",
        OpaqueEvent("responses", "response.future.event", {"type": "response.future.event", "x": 1}),
        OpaqueEvent("lingma", "tool/call/sync", {"method": "tool/call/sync"}),
        *message(0, "a")[:2],
        OpaqueEvent("messages", "from_the_future", {"type": "from_the_future"}),
        OpaqueEvent("gemini", "groundingMetadata", {"webSearchQueries": ["x"]}),
        *message(0, "a")[2:],
        done,
    )


def _ends() -> None:
    text = message(0, "So far")
    _show("length", "out of tokens", *text, TurnCompleted("length", USAGE))
    _show("content_filter", "stopped by a filter", *text, TurnCompleted("content_filter", USAGE))
    _show("content_filter_at_once", "a filter let nothing through", TurnCompleted("content_filter"))
    _show("paused", "a long turn that is to be continued", *text, TurnCompleted("paused", USAGE))
    _show("no_usage", "nobody reports usage", *text, TurnCompleted("stop"))
    _show(
        "usage_in_detail",
        "usage with its cached and reasoning parts",
        *text,
        TurnCompleted(
            "stop", Usage(input_tokens=100, output_tokens=50, cached_tokens=80, reasoning_tokens=20)
        ),
    )
    _show(
        "usage_in_pieces",
        "usage that grows over several reports",
        UsageReported(Usage(input_tokens=100, output_tokens=1)),
        *text,
        UsageReported(Usage(output_tokens=40, cached_tokens=60)),
        TurnCompleted("stop", Usage(reasoning_tokens=7)),
    )
    _show(
        "usage_estimated",
        "usage that was counted here",
        *text,
        TurnCompleted("stop", Usage(input_tokens=9, output_tokens=2, estimated=True)),
    )
    broken = failed(ErrorKind.UPSTREAM_PROTOCOL, "it broke", retryable=True)
    _show("failed_before_content", "a failure before anything was said", broken)
    _show("failed_after_content", "a failure behind a finished message", *text, Heartbeat(), broken)
    _show(
        "failed_inside_a_message",
        "a failure that cut a message short",
        *message(0, "So", " far"),
        broken,
    )
    _show(
        "failed_inside_a_call",
        "a failure that cut a call short",
        *call(0, "search", '{"q":'),
        broken,
        offers=(SEARCH,),
    )
    _show(
        "failed_with_everything",
        "a failure with a code, a field and a time to wait",
        *text,
        Heartbeat(),
        failed(
            ErrorKind.RATE_LIMITED,
            "too fast: wait ä",
            retryable=True,
            retry_after_s=1.5,
            code="slow_down",
            param="messages.0",
        ),
    )
    reasons: tuple[CancelReason, ...] = ("client_gone", "deadline", "drain", "admin")
    for reason in reasons:
        _show(f"cancelled_{reason}", f"cancelled: {reason}", *text, Heartbeat(), TurnCancelled(reason))
    _show("cancelled_inside_a_message", "cancelled in the middle of a message", *text, TurnCancelled("drain"))
    _show("cancelled_before_content", "cancelled before anything was said", TurnCancelled("drain"))


def _pace() -> None:
    everything: Events = [
        *reasoning(0, ReasoningDelta(0, "hm", 0, "summary"), summary=("hm",), signature="c2ln"),
        *message(1, "a", "b", annotations=[CITATION]),
        UsageReported(USAGE),
        *call(2, "search", '{"q":', "1}"),
        TurnCompleted("tool_calls", USAGE),
    ]
    beats = [beat for event in everything for beat in (Heartbeat(), event)]
    _show("heartbeats", "a sign of life between any two events", *beats, offers=(SEARCH,))
    many = [event for index in range(40) for event in message(index, f"{index} ")]
    _show("forty_items", "many small messages", *many, TurnCompleted("stop", USAGE))
    long_text = [f"word{number} " for number in range(500)]
    _show("long_text", "five hundred deltas", *message(0, *long_text), TurnCompleted("stop", USAGE))


_texts()
_tools()
_reasonings()
_opaques()
_ends()
_pace()
