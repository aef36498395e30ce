from collections.abc import Sequence
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps, loads
from gateway.protocols.bodies import TurnContext
from gateway.protocols.gemini.answer import build_response
from gateway.protocols.gemini.encode import GeminiEncoder
from gateway.protocols.gemini.framing import ArrayFraming, EventFraming, SdkFraming
from gateway.protocols.gemini.parse import parse_generate
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
from gateway.turn.fold import fold
from gateway.turn.frame import Frame
from gateway.turn.items import (
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter
from tests.matrix.gallery import GALLERY

STARTED = TurnStarted(model="upstream", created_at=1)
USAGE = Usage(input_tokens=3, output_tokens=2)
STOP = TurnCompleted("stop")
FAILED = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut off", retryable=True))


def make_turn(*, thoughts: bool = True, resumable: bool = False, turn_id: str = "01turn") -> Turn:
    body = {"contents": "hi", "generationConfig": {"thinkingConfig": {"includeThoughts": thoughts}}}
    named = {"model": "asked", "method": "streamGenerateContent"}
    context = TurnContext(
        id=TurnId(turn_id), tenant="t", created_at_ms=5, resumable=resumable, path_params=named
    )
    return parse_generate(dumps(body), context)


def frames(events: Sequence[TurnEvent]) -> list[Frame]:
    return [Frame((event,)) for event in events]


def stream(*events: TurnEvent, turn: Turn | None = None, losses: list[Loss] | None = None) -> list[Any]:
    """The chunks, each checked by the official types."""
    return read(GeminiEncoder(turn or make_turn(), losses=losses).encode(frames([STARTED, *events])))


def read(raw: bytes) -> list[Any]:
    splitter = SseSplitter()
    chunks: list[Any] = [loads(event.data or b"") for event in splitter.feed(raw)]
    assert splitter.pending == b""
    for chunk in chunks:
        if "error" not in chunk:
            types.GenerateContentResponse.model_validate(chunk)
    return chunks


def parts(chunks: list[Any]) -> list[Any]:
    return [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]


def said(*texts: str, signature: str | None = None) -> list[TurnEvent]:
    """One message item, from its start to its end."""
    whole = Message(role="assistant", parts=(TextPart("".join(texts)),), origin=origin(signature))
    return [ItemStarted(0, "message", "m"), *(TextDelta(0, text) for text in texts), ItemDone(0, whole)]


def origin(signature: str | None) -> Origin | None:
    return Origin(executor="x", dialect="gemini", signature=signature) if signature else None


def called(arguments: str, *, signature: str | None = None, **more: Any) -> list[TurnEvent]:
    call = ToolCall(call_id="c1", name="find", arguments=arguments, origin=origin(signature), **more)
    half = len(arguments) // 2
    return [
        ItemStarted(0, "tool_call", "t", "find", "c1"),
        ToolInputDelta(0, arguments[:half]),
        ToolInputDelta(0, arguments[half:]),
        ItemDone(0, call),
    ]


def thought(*texts: str, signature: str | None = None) -> list[TurnEvent]:
    signed = [SignatureDelta(0, signature)] if signature else []
    return [
        ItemStarted(0, "reasoning", "r"),
        *(ReasoningDelta(0, text) for text in texts),
        *signed,
        ItemDone(0, Reasoning(text="".join(texts))),
    ]


LAST = {"text": ""}
CALLED = {"functionCall": {"id": "c1", "name": "find", "args": {"q": 1}}}


# -- chunks -----------------------------------------------------------------------------------------------


def test_texts_come_as_they_are_said_and_the_last_chunk_has_the_rest() -> None:
    first, second, last = stream(*said("A", "B"), TurnCompleted("stop", USAGE))
    head = {"modelVersion": "asked", "responseId": first["responseId"]}
    assert first == {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "A"}]}, "index": 0}],
        **head,
    }
    assert parts([second]) == [{"text": "B"}]
    assert last == {
        "candidates": [{"content": {"role": "model", "parts": [LAST]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        **head,
    }


def test_the_same_turn_gives_the_same_bytes_and_another_does_not() -> None:
    events = frames([STARTED, *said("A"), STOP])
    first = GeminiEncoder(make_turn()).encode(events)
    assert GeminiEncoder(make_turn()).encode(events) == first
    assert GeminiEncoder(make_turn(turn_id="01other")).encode(events) != first


def test_nothing_is_said_before_there_is_something_to_say() -> None:
    encoder = GeminiEncoder(make_turn())
    silent: list[TurnEvent] = [
        STARTED,
        Heartbeat(),
        UsageReported(USAGE),
        ItemStarted(0, "message", "m"),
        TextDelta(0, ""),
    ]
    assert encoder.encode(frames(silent)) == b""


def test_usage_reports_are_merged() -> None:
    (last,) = stream(UsageReported(Usage(input_tokens=9)), TurnCompleted("stop", Usage(output_tokens=5)))
    assert last["usageMetadata"]["totalTokenCount"] == 14
    assert "usageMetadata" not in stream(STOP)[0]


def test_thoughts_are_marked_and_shown_to_whoever_asked() -> None:
    events = [*thought("h", "mm"), *said("A"), STOP]
    assert parts(stream(*events)) == [
        {"text": "h", "thought": True},
        {"text": "mm", "thought": True},
        {"text": "A"},
        LAST,
    ]
    assert parts(stream(*events, turn=make_turn(thoughts=False))) == [{"text": "A"}, LAST]


def test_parts_of_thoughts_are_paragraphs_and_only_the_first_channel_is_shown() -> None:
    chunks = stream(
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "one", 0, "summary"),
        ReasoningDelta(0, "full", 0, "full"),
        ReasoningDelta(0, "two", 1, "summary"),
        ItemDone(0, Reasoning(summary=("one", "two"), text="full")),
        STOP,
    )
    assert [part["text"] for part in parts(chunks)] == ["one", "\n\ntwo", ""]


def test_calls_are_said_whole() -> None:
    assert parts(stream(*said("Let me see."), *called('{"q":1}'), TurnCompleted("tool_calls"))) == [
        {"text": "Let me see."},
        CALLED,
        LAST,
    ]


def test_signatures_go_with_their_parts() -> None:
    chunks = stream(
        *thought("hm", signature="czE="),
        *called('{"q":1}'),
        *called('{"q":1}', signature="czI="),
        *said("A", "B", signature="czM="),
        *thought("so", signature="czQ="),
        STOP,
    )
    assert [(part.get("text"), part.get("thoughtSignature")) for part in parts(chunks)] == [
        ("hm", None),
        (None, "czE="),
        (None, "czI="),
        ("A", None),
        ("B", None),
        ("", "czM="),
        ("so", None),
        ("", "czQ="),
    ]


def test_a_signature_goes_with_the_first_text_that_follows() -> None:
    chunks = stream(*thought(signature="czE="), *said("A", "B"), STOP)
    assert parts(chunks) == [{"text": "A", "thoughtSignature": "czE="}, {"text": "B"}, LAST]


def test_a_signature_of_several_pieces_is_one() -> None:
    chunks = stream(
        ItemStarted(0, "tool_call", "t", "find", "c1"),
        SignatureDelta(0, "cz"),
        SignatureDelta(0, "E="),
        ItemDone(0, ToolCall(call_id="c1", name="find", arguments='{"q":1}')),
        STOP,
    )
    assert parts(chunks)[0] == {**CALLED, "thoughtSignature": "czE="}


def test_a_signature_that_sdks_would_choke_on_is_a_loss() -> None:
    losses: list[Loss] = []
    chunks = stream(*thought("hm", signature="no base64!"), *said("A"), STOP, losses=losses)
    assert not any("thoughtSignature" in part for part in parts(chunks))
    assert losses == [Loss("signature", "not-base64")]


def test_items_that_had_no_deltas_are_said_by_their_end() -> None:
    image = MediaPart(kind="image", mime_type="image/png", data="AA==")
    chunks = stream(
        ItemStarted(0, "reasoning", "r"),
        ItemDone(0, Reasoning(summary=("a", "b"))),
        ItemStarted(1, "message", "m"),
        ItemDone(1, Message(role="assistant", parts=(TextPart("x"), image, RefusalPart("no")))),
        STOP,
    )
    assert parts(chunks) == [
        {"text": "a\n\nb", "thought": True},
        {"text": "x"},
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        {"text": "no"},
        LAST,
    ]


def test_deltas_are_not_repeated_by_the_end_of_their_item() -> None:
    assert parts(stream(*said("A", "", "B"), STOP)) == [{"text": "A"}, {"text": "B"}, LAST]


def test_a_refusal_is_text_with_a_reason() -> None:
    refused = Message(role="assistant", parts=(RefusalPart("no"),))
    chunks = stream(ItemStarted(0, "message", "m"), RefusalDelta(0, "no"), ItemDone(0, refused), STOP)
    assert parts(chunks) == [{"text": "no"}, LAST]
    assert chunks[-1]["candidates"][0]["finishReason"] == "SAFETY"


CITATION: Any = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0, "end_index": 1}


@pytest.mark.parametrize("told", ["by events", "by the item", "by both"])
def test_citations_are_grounding_of_the_last_chunk(told: str) -> None:
    annotations = () if told == "by events" else (CITATION,)
    whole = Message(role="assistant", parts=(TextPart("AB", annotations),))
    event = [] if told == "by the item" else [AnnotationAdded(0, 0, CITATION)]
    chunks = stream(
        ItemStarted(0, "message", "m"), TextDelta(0, "AB"), *event, ItemDone(0, whole), *said("C"), STOP
    )
    assert [chunk["candidates"][0].get("groundingMetadata") for chunk in chunks] == [
        None,
        None,
        {
            "groundingChunks": [{"web": {"uri": "https://x", "title": "X"}}],
            "groundingSupports": [
                {"segment": {"startIndex": 0, "endIndex": 1, "text": "A"}, "groundingChunkIndices": [0]}
            ],
        },
    ]


# -- what Gemini has no word for --------------------------------------------------------------------------


def test_what_cannot_be_said_is_a_loss_once() -> None:
    losses: list[Loss] = []
    opaque = OpaqueItem(dialect="responses", type="web_search_call", payload={})
    stream(
        ItemStarted(0, "opaque", "o"),
        ItemDone(0, opaque),
        OpaqueEvent("lingma", "step", {}),
        OpaqueEvent("lingma", "step", {}),
        ItemStarted(1, "message", "m"),
        AnnotationAdded(1, 0, {"type": "file_citation"}),
        ItemDone(1, Message(role="assistant", parts=(TextPart("a"),))),
        *called("{}", result="found"),
        STOP,
        losses=losses,
    )
    assert losses == [
        Loss("web_search_call", "not-in-gemini"),
        Loss("step", "not-in-gemini"),
        Loss("annotation", "not-in-gemini"),
        Loss("tool_call.find", "run-by-upstream"),
    ]


def test_googles_own_parts_pass() -> None:
    part: Any = {"executableCode": {"language": "PYTHON", "code": "1"}}
    opaque = OpaqueItem(dialect="gemini", type="executableCode", payload=part)
    assert parts(stream(ItemStarted(0, "opaque", "o"), ItemDone(0, opaque), STOP)) == [part, LAST]


def test_a_call_that_was_cut_short_is_not_said() -> None:
    losses: list[Loss] = []
    chunks = stream(*called('{"q":'), TurnCompleted("length"), losses=losses)
    assert parts(chunks) == [LAST]
    assert chunks[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert losses == [Loss("tool_call.find", "cut-short")]


@pytest.mark.parametrize("after", [[STOP], [*said("A"), TurnCompleted("length")]])
def test_a_call_with_broken_arguments_is_left_to_whoever_runs_it(after: list[TurnEvent]) -> None:
    chunks = stream(*called('{"q":', signature="czE="), UsageReported(USAGE), *after)
    assert parts(chunks)[0] == {
        "functionCall": {"id": "c1", "name": "find", "args": {"input": '{"q":'}},
        "thoughtSignature": "czE=",
    }


@pytest.mark.parametrize("end", [FAILED, TurnCancelled("drain")])
@pytest.mark.parametrize("arguments", ['{"q":', "", "{}"])
def test_a_call_that_a_failure_closed_is_not_said(end: TurnEvent, arguments: str) -> None:
    """The repair of a stream ends the open item and the turn in one frame."""
    *opened, done = called(arguments)
    encoder = GeminiEncoder(make_turn())
    (error,) = read(encoder.encode([*frames([STARTED, *opened]), Frame((done, end))]))
    assert "error" in error


# -- ends -------------------------------------------------------------------------------------------------


def test_a_failure_is_the_last_word() -> None:
    chunk, error = stream(*said("A"), FAILED)
    assert parts([chunk]) == [{"text": "A"}]
    assert error["error"]["code"] == 502
    assert error["error"]["status"] == "UNAVAILABLE"
    assert error["error"]["message"] == "cut off"


@pytest.mark.parametrize(
    ("reason", "code"), [("deadline", 504), ("drain", 503), ("admin", 409), ("client_gone", 409)]
)
def test_a_cancelled_turn_is_told_as_an_error(reason: Any, code: int) -> None:
    (error,) = stream(TurnCancelled(reason))
    assert error["error"]["code"] == code


def test_sdks_get_the_error_bare() -> None:
    encoder = GeminiEncoder(make_turn(), SdkFraming())
    raw = encoder.encode(frames([STARTED, *said("A"), FAILED]))
    chunk, error, rest = raw.split(b"\n\n")
    assert chunk.startswith(b"data: ")
    failure: Any = loads(error)
    assert failure["error"]["message"] == "cut off"
    assert rest == b""


@pytest.mark.parametrize("end", [STOP, FAILED, TurnCancelled("drain")])
def test_an_array_is_closed_whatever_happens(end: TurnEvent) -> None:
    encoder = GeminiEncoder(make_turn(), ArrayFraming())
    raw = encoder.encode(frames([STARTED]))
    raw += encoder.keepalive()
    for event in (*said("A", "B"), end):
        raw += encoder.encode(frames([event]))
        raw += encoder.keepalive() if event is not end else b""
    chunks: Any = loads(raw)
    assert [sorted(chunk) for chunk in chunks[:2]] == [["candidates", "modelVersion", "responseId"]] * 2
    assert len(chunks) == 3
    assert encoder.content_type == b"application/json; charset=utf-8"


def test_keepalives_begin_the_next_event() -> None:
    encoder = GeminiEncoder(make_turn())
    raw = encoder.keepalive() + encoder.keepalive() + encoder.encode(frames([STARTED, *said("A")]))
    raw += encoder.keepalive() + encoder.encode(frames([STOP]))
    assert [part["text"] for part in parts(read(raw))] == ["A", ""]
    encoder = GeminiEncoder(make_turn())
    raw = encoder.keepalive() + encoder.encode(frames([STARTED, FAILED]))
    assert "error" in read(raw)[0]


# -- numbers ----------------------------------------------------------------------------------------------


def test_chunks_of_a_resumable_turn_are_numbered() -> None:
    events = frames([STARTED, *thought("hm"), *said("A", "B"), *called("{}"), STOP])
    whole = GeminiEncoder(make_turn(resumable=True)).encode(events)
    numbers = [event.id for event in SseSplitter().feed(whole)]
    assert numbers == ["1", "2", "3", "4", "5"]
    for after in range(6):
        rest = GeminiEncoder(make_turn(resumable=True), starting_after=after).encode(events)
        assert whole.endswith(rest)
        assert [event.id for event in SseSplitter().feed(rest)] == numbers[after:]
    assert b"id:" not in GeminiEncoder(make_turn()).encode(events)


# -- an upstream that speaks Gemini -----------------------------------------------------------------------


def test_chunks_of_geminis_own_go_out_byte_for_byte() -> None:
    raws = [
        b'{"candidates": [{"content": {"parts": [{"text": "A"}], "role": "model"}, "new": 1}]}',
        b'{"candidates":[{"finishReason":"STOP"}],"modelVersion":"asked","usageMetadata":{"x":1}}',
    ]
    encoder = GeminiEncoder(make_turn())
    first = Frame((STARTED, *said("A")), raw=raws[0], dialect="gemini", seq=1)
    last = Frame((STOP,), raw=raws[1], dialect="gemini", seq=2)
    assert encoder.encode([first, last]) == b"".join(b"data: " + raw + b"\n\n" for raw in raws)


def test_only_the_models_name_is_changed_in_them() -> None:
    raw = b'{ "modelVersion":"gemini-x", "candidates":[ ] }'
    encoded = GeminiEncoder(make_turn()).encode([Frame((STARTED,), raw=raw, dialect="gemini")])
    assert encoded == b'data: { "modelVersion":"asked", "candidates":[ ] }\n\n'


def test_an_end_that_the_upstream_did_not_say_is_made() -> None:
    raw = b'{"candidates":[{"content":{"parts":[{"text":"A"}],"role":"model"}}]}'
    begun = Frame((STARTED, *said("A")[:2]), raw=raw, dialect="gemini")
    cut = read(GeminiEncoder(make_turn()).encode([begun, Frame((FAILED,))]))
    assert ["error" in chunk for chunk in cut] == [False, True]
    done = read(GeminiEncoder(make_turn()).encode([begun, Frame((STOP,))]))
    assert done[-1]["candidates"][0]["finishReason"] == "STOP"


def test_an_end_that_the_upstream_said_is_not_said_again() -> None:
    raw = b'{"candidates":[{"finishReason":"STOP","content":{"parts":[{"text":"A"}],"role":"model"}}]}'
    frame = Frame((STARTED, *said("A")), raw=raw, dialect="gemini")
    encoder = GeminiEncoder(make_turn(), ArrayFraming())
    chunks: Any = loads(encoder.encode([frame, Frame((STOP,))]))
    assert len(chunks) == 1
    encoder = GeminiEncoder(make_turn())
    data = encoder.encode([frame]) + encoder.keepalive() + encoder.encode([Frame((STOP,))])
    assert [part["text"] for part in parts(read(data))] == ["A", ""], "an event that was begun has an end"


@pytest.mark.parametrize("framing", [ArrayFraming, EventFraming, SdkFraming])
def test_an_end_in_the_upstreams_own_chunk_ends_the_stream(framing: Any) -> None:
    raw = b'{"candidates":[{"finishReason":"STOP","content":{"parts":[{"text":"A"}],"role":"model"}}]}'
    encoded = GeminiEncoder(make_turn(), framing()).encode(
        [Frame((STARTED, *said("A"), STOP), raw=raw, dialect="gemini")]
    )
    chunks: Any = loads(encoded) if framing is ArrayFraming else read(encoded)
    assert chunks == [loads(raw)]


def test_an_end_without_a_reason_gets_one_with_the_usage() -> None:
    raw = b'{"candidates":[{"content":{"parts":[{"text":"A"}],"role":"model"}}]}'
    events = (STARTED, *said("A"), UsageReported(USAGE), STOP)
    first, last = read(GeminiEncoder(make_turn()).encode([Frame(events, raw=raw, dialect="gemini")]))
    assert first == loads(raw)
    assert last["usageMetadata"]["totalTokenCount"] == 5


def test_a_cut_does_not_repeat_what_the_upstreams_chunks_said() -> None:
    """The repair closes the open item, whose text has gone out, in a frame of its own."""
    raw = b'{"candidates":[{"content":{"parts":[{"text":"A"}],"role":"model"}}]}'
    *opened, done = said("A")
    begun = Frame((STARTED, *opened), raw=raw, dialect="gemini")
    chunk, error = read(GeminiEncoder(make_turn()).encode([begun, Frame((done, FAILED))]))
    assert chunk == loads(raw)
    assert "error" in error


def test_an_item_that_went_out_in_the_upstreams_chunks_is_not_said_at_its_end() -> None:
    raw = b'{"candidates":[{"content":{"parts":[{"text":"A","thoughtSignature":"c2ln"}],"role":"model"}}]}'
    signed = Origin(executor="x", dialect="gemini", signature="c2ln")
    done = ItemDone(0, Message(role="assistant", parts=(TextPart("A"),), origin=signed))
    begun = Frame((STARTED, *said("A")[:2]), raw=raw, dialect="gemini")
    chunks = read(GeminiEncoder(make_turn()).encode([begun, Frame((done, FAILED))]))
    assert ["error" in chunk for chunk in chunks] == [False, True]
    more = [begun, Frame((done, ItemStarted(1, "message", "i"), TextDelta(1, "B"))), Frame((STOP,))]
    assert [part["text"] for part in parts(read(GeminiEncoder(make_turn()).encode(more)))] == ["A", "B", ""]


def test_a_blocked_prompt_that_the_upstream_said_is_not_said_again() -> None:
    raw = b'{"promptFeedback":{"blockReason":"SAFETY"}}'
    frame = Frame((STARTED,), raw=raw, dialect="gemini")
    encoder = GeminiEncoder(make_turn(), ArrayFraming())
    chunks: Any = loads(encoder.encode([frame, Frame((TurnCompleted("content_filter"),))]))
    assert chunks == [loads(raw)]


def test_what_an_upstream_says_of_its_failure_is_not_passed_on() -> None:
    raw = b'{"error":{"message":"secret"}}'
    encoded = GeminiEncoder(make_turn()).encode([Frame((STARTED, FAILED), raw=raw, dialect="gemini")])
    assert b"secret" not in encoded
    assert b"cut off" in encoded


def test_chunks_of_other_dialects_are_encoded_from_their_events() -> None:
    frame = Frame((STARTED, *said("A")), raw=b"{}", dialect="lingma")
    assert parts(read(GeminiEncoder(make_turn()).encode([frame]))) == [{"text": "A"}]


# -- streams and whole answers ----------------------------------------------------------------------------


def added_up(chunks: list[Any]) -> Any:
    """What a client has at the end, joining texts that follow each other."""
    joined: list[Any] = []
    for part in parts(chunks):
        last = joined[-1] if joined else {}
        texts = "text" in last and "text" in part and last.get("thought") == part.get("thought")
        if texts and not ("thoughtSignature" in last and "thoughtSignature" in part):
            joined[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            joined.append(part)
    while len(joined) > 1 and joined[-1] == LAST:
        joined.pop()
    candidate = {**chunks[-1]["candidates"][0], "content": {"role": "model", "parts": joined}}
    return {**chunks[-1], "candidates": [candidate]}


APART = {
    "rewritten_message": "a stream cannot take back what it said",
    "reasoning_summary_and_full": "a stream goes on with the channel that came first",
}


@pytest.mark.parametrize("thoughts", [True, False])
@pytest.mark.parametrize("name", sorted(GALLERY.keys() - APART.keys()))
def test_every_stream_adds_up_to_the_whole_answer(name: str, thoughts: bool) -> None:
    turn = make_turn(thoughts=thoughts)
    given = GALLERY[name].frames(turn)
    chunks = read(GeminiEncoder(turn).encode(given))
    result = fold(given)
    if result.finish is None:
        assert "error" in chunks[-1]
        assert not any("error" in chunk for chunk in chunks[:-1])
    else:
        assert added_up(chunks) == build_response(turn, result)


@st.composite
def turns(draw: st.DrawFn) -> list[TurnEvent]:
    """A legal turn of any items, said by deltas or by their ends."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    signature = st.sampled_from([None, "czE=", "-_8"])
    events: list[TurnEvent] = [STARTED]
    for index in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["message", "reasoning", "call"]))
        pieces = draw(st.lists(text, max_size=3))
        whole = "".join(pieces)
        signed = draw(signature)
        deltas = pieces if draw(st.booleans()) else []
        if kind == "message":
            found: tuple[Part, ...] = (TextPart(whole),)
            events.append(ItemStarted(index, "message", "m"))
            events += [TextDelta(index, piece) for piece in deltas]
            events.append(ItemDone(index, Message(role="assistant", parts=found, origin=origin(signed))))
        elif kind == "reasoning":
            events.append(ItemStarted(index, "reasoning", "r"))
            events += [ReasoningDelta(index, piece) for piece in deltas]
            events.append(ItemDone(index, Reasoning(text=whole, signature=signed)))
        else:
            arguments = dumps({"q": whole}).decode()
            call = ToolCall(call_id=f"c{index}", name="f", arguments=arguments, origin=origin(signed))
            events.append(ItemStarted(index, "tool_call", "t", "f", call.call_id))
            events.append(ItemDone(index, call))
    finish = draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter", "paused"]))
    return [*events, TurnCompleted(finish, USAGE)]  # type: ignore[arg-type]


@given(turns(), st.booleans(), st.integers(1, 4))
def test_any_stream_adds_up_to_the_whole_answer(events: list[TurnEvent], thoughts: bool, size: int) -> None:
    turn = make_turn(thoughts=thoughts)
    given = frames(events)
    encoder = GeminiEncoder(turn)
    raw = b"".join(encoder.encode(given[at : at + size]) for at in range(0, len(given), size))
    assert raw == GeminiEncoder(turn).encode(given), "however the frames came together"
    assert added_up(read(raw)) == build_response(turn, fold(given))
