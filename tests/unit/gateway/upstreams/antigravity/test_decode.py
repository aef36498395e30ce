"""What Gemini's chunks mean, one by one, with and without Code Assist's envelope."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonObject, dumps, loads
from gateway.turn.events import (
    AnnotationAdded,
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
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.grammar import check
from gateway.turn.items import Message, OpaqueItem, Reasoning, TextPart, ToolCall
from gateway.turn.usage import Usage
from gateway.upstreams.antigravity.decode import GeminiDecoder
from gateway.upstreams.antigravity.items import ItemReader
from gateway.upstreams.antigravity.merge import merged
from gateway.upstreams.antigravity.names import ClientTools
from gateway.wire.sse import write_event
from tests.fakes.antigravity_brain import limited
from tests.playbook import Playbook
from tests.support.signature_chains import carrier, fc, text, thought

STARTED = TurnStarted(model="m", created_at=7, upstream_id="r1", input_tokens_estimate=5)


def decoder(**how: Any) -> GeminiDecoder:
    reader = ItemReader(turn_id="t", executor="gem", tools=ClientTools(()), proves=True)
    return GeminiDecoder(model="m", created_at=7, reader=reader, input_tokens_estimate=5, **how)


def answer(*parts: Any, finish: str = "", candidate: Any = None, **members: Any) -> JsonObject:
    told: JsonObject = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        told["finishReason"] = finish
    return {"candidates": [{**told, **(candidate or {})}], "responseId": "r1", **members}


def data(*parts: Any, **members: Any) -> bytes:
    return dumps(answer(*parts, **members))


def event(*parts: Any, **members: Any) -> bytes:
    return write_event(data(*parts, **members))


def frames_of(*chunks: bytes, **how: Any) -> list[Frame]:
    """All that a stream means, its end included."""
    one = decoder(**how)
    frames = [one.feed_data(chunk, seq) for seq, chunk in enumerate(chunks, 1)]
    last = one.eof()
    return [*frames, *([last] if last else [])]


def events_of(*chunks: bytes, **how: Any) -> list[TurnEvent]:
    events = [event for frame in frames_of(*chunks, **how) for event in frame.events]
    check(events)
    return events


def result_of(*chunks: bytes, **how: Any) -> TurnResult:
    return fold(frames_of(*chunks, **how))


# -- a stream ---------------------------------------------------------------------------------------------


def test_thoughts_a_text_and_a_call() -> None:
    play = Playbook(decoder())
    play >> event(thought("Hm")) << STARTED << ItemStarted(0, "reasoning", "item_0")
    play << ReasoningDelta(0, "Hm", channel="summary")
    play >> event(thought("m", "sig-1")) << ReasoningDelta(0, "m", channel="summary")
    play << SignatureDelta(0, "sig-1")
    play >> event(text("Hel")) << ItemDone
    play << ItemStarted(1, "message", "item_1") << TextDelta(1, "Hel")
    play >> event(text("lo")) << TextDelta(1, "lo")
    play >> event(carrier("sig-2")) << SignatureDelta(1, "sig-2")
    play >> event(fc("fc-1", {"p": 1}, "sig-3"), finish="STOP", usageMetadata={"promptTokenCount": 3})
    play << ItemDone << ItemStarted << ToolInputDelta(2, '{"p":1}') << ItemDone
    play.eof() << TurnCompleted("tool_calls", Usage(input_tokens=3))
    play.end()
    check(play.events)
    thoughts, message, call = (event.item for event in play.events if isinstance(event, ItemDone))
    assert isinstance(thoughts, Reasoning)
    assert (thoughts.summary, thoughts.signature) == (("Hmm",), "sig-1")
    assert isinstance(message, Message)
    assert message.origin is not None
    assert (message.parts, message.origin.signature) == ((TextPart("Hello"),), "sig-2")
    assert isinstance(call, ToolCall)
    assert call.origin is not None
    assert (call.origin.id, call.origin.signature) == ("fc-1", "sig-3")


def test_calls_in_parallel_are_items_one_after_another() -> None:
    result = result_of(data(fc("a", {"n": 1}), fc("b", {"n": 2})), data(fc("c", {"n": 3}), finish="STOP"))
    assert [call.arguments for call in result.tool_calls] == ['{"n":1}', '{"n":2}', '{"n":3}']
    assert result.finish == "tool_calls"


def test_pieces_of_a_calls_arguments_are_for_who_asked_for_them() -> None:
    piece: Any = {"functionCall": {"partialArgs": [{"jsonPath": "$.a"}], "willContinue": True}}
    assert result_of(data(piece, finish="STOP"), native=True).items == ()


def test_code_and_what_came_of_it_are_text() -> None:
    run: Any = {"executableCode": {"language": "PYTHON", "code": "1+1"}}
    came: Any = {"codeExecutionResult": {"output": "2"}}
    result = result_of(data(text("so:"), run, came, text("yes"), finish="STOP"))
    assert result.text == "so:\n```python\n1+1\n```\n\n```\n2\n```\nyes"
    assert len(result.items) == 1


def test_pictures_and_unknown_parts_are_opaque() -> None:
    picture: Any = {"inlineData": {"mimeType": "image/png", "data": "x"}}
    result = result_of(data(text("here"), picture, {"newKind": {}}, text("there"), finish="STOP"))
    assert [type(item) for item in result.items] == [Message, OpaqueItem, OpaqueItem, Message]
    assert [item.type for item in result.items if isinstance(item, OpaqueItem)] == ["inlineData", "newKind"]


def test_empty_texts_open_nothing() -> None:
    assert result_of(data(text("")), data(carrier("s")), data(finish="STOP")).items == ()


def test_a_signature_signs_what_is_being_said_once() -> None:
    events = events_of(data(text("a", "s1")), data(text("b", "s2"), finish="STOP"))
    assert [event.signature for event in events if isinstance(event, SignatureDelta)] == ["s1"]
    skipped = events_of(data(text("a", "skip_thought_signature_validator"), finish="STOP"))
    assert not any(isinstance(event, SignatureDelta) for event in skipped)
    bare: Any = {"thoughtSignature": "s3"}
    alone = events_of(data(text("a"), bare, finish="STOP"))
    assert SignatureDelta(0, "s3") in alone
    other = events_of(data(text("a"), thought("", "s4"), finish="STOP"))
    assert not any(isinstance(event, SignatureDelta) for event in other), "a thought's, where none is open"


def test_more_than_one_candidate_is_for_geminis_own_clients() -> None:
    chunk: Any = answer(text("a"), finish="STOP")
    chunk["candidates"].append({"index": 1, "content": {"parts": [text("b")]}})
    assert result_of(dumps(chunk)).text == "a"


# -- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("OTHER", "stop"),
        ("A_NEW_ONE", "stop"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert result_of(data(text("a"), finish=reason)).finish == finish


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_an_answer_that_came_to_nothing_is_a_failure_but_for_geminis_own_clients(reason: str) -> None:
    chunk = data(finish=reason, candidate={"finishMessage": "Malformed function call: f("})
    error = result_of(chunk).error
    assert error is not None
    assert (error.kind, error.retryable) == (ErrorKind.UPSTREAM_PROTOCOL, True)
    assert error.message == f"The model's answer came to nothing ({reason}): Malformed function call: f("
    assert result_of(chunk, native=True).finish == "stop"


def test_a_blocked_prompt() -> None:
    chunk = dumps({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
    result = result_of(chunk)
    assert (result.finish, result.items, result.usage) == ("content_filter", (), Usage(input_tokens=3))


def test_what_comes_behind_a_finish_reason_still_counts() -> None:
    """Old models give a reason with every chunk, and some the usage behind it."""
    result = result_of(
        data(text("a"), finish="STOP"),
        data(text("b"), finish="STOP"),
        dumps({"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2}}),
    )
    assert (result.text, result.usage) == ("ab", Usage(input_tokens=1, output_tokens=2))


def test_usage_is_said_once_at_the_end() -> None:
    events = events_of(
        data(text("a"), usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 1}),
        data(text("b"), finish="STOP", usageMetadata={"candidatesTokenCount": 2}),
    )
    assert not any(isinstance(event, UsageReported) for event in events)
    assert events[-1] == TurnCompleted("stop", Usage(input_tokens=9, output_tokens=2))


@pytest.mark.parametrize("said", [(), (data(text("a")),), (data(thought("a"), usageMetadata={"x": 1}),)])
def test_a_stream_that_is_cut_is_a_failure(said: tuple[bytes, ...]) -> None:
    error = result_of(*said).error
    assert error is not None
    assert (error.kind, error.retryable) == (ErrorKind.UPSTREAM_EOF, True)
    events_of(*said)


def test_what_a_failed_stream_used_is_told() -> None:
    events = events_of(data(text("a"), usageMetadata={"promptTokenCount": 3}))
    assert UsageReported(Usage(input_tokens=3)) in events
    assert isinstance(events[-1], TurnFailed)


@pytest.mark.parametrize("listed", [False, True])
def test_an_error_in_a_stream_is_judged(listed: bool) -> None:
    error: Any = limited(delay="20s").error
    one = decoder()
    one.feed_data(data(text("a")), 1)
    frame = one.feed_data(dumps([error] if listed else error), 2)
    assert (frame.raw, one.ended, one.completed) == (None, True, False)
    assert one.fault is not None
    assert one.fault.name == "rate_limited"
    assert isinstance(frame.events[-1], TurnFailed)
    assert one.eof() is None
    assert one.feed_data(data(text("b")), 3).events == ()


@pytest.mark.parametrize("junk", [b"{broken", b"3", b'"x"', b"[]", b"[3]", b"null"])
def test_what_is_no_answer_is_a_failure(junk: bytes) -> None:
    error = result_of(data(text("a")), junk).error
    assert error is not None
    assert error.kind is ErrorKind.UPSTREAM_PROTOCOL
    assert fold([decoder().feed_whole(junk)]).error is not None


def test_comments_and_a_foreign_last_word_mean_nothing() -> None:
    one = decoder()
    for nothing in (None, b"", b"  ", b"[DONE]"):
        assert one.feed_data(nothing, 1) == Frame((), None, "gemini", 1)
    assert one.feed(b": ping\n\n", 1).events == ()


# -- citations --------------------------------------------------------------------------------------------


def test_grounding_becomes_citations_of_the_text() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [
            {"segment": {"endIndex": 5, "text": "Hello"}, "groundingChunkIndices": [0]},
        ],
    }
    events = events_of(
        data(text("Hello ")), data(text("you"), finish="STOP", candidate={"groundingMetadata": grounding})
    )
    (added,) = (event for event in events if isinstance(event, AnnotationAdded))
    assert (added.payload["url"], added.payload["start_index"], added.payload["end_index"]) == (
        "https://a.example",
        0,
        5,
    )
    (message,) = (event.item for event in events if isinstance(event, ItemDone))
    assert isinstance(message, Message)
    assert message.parts == (TextPart("Hello you", (added.payload,)),)


def test_grounding_without_a_text_is_kept() -> None:
    events = events_of(
        data(fc("a"), finish="STOP", candidate={"groundingMetadata": {"webSearchQueries": []}})
    )
    assert OpaqueEvent("gemini", "groundingMetadata", {"webSearchQueries": []}) in events


# -- bytes ------------------------------------------------------------------------------------------------

SPACED = b'{ "candidates": [ {"content": {"parts": [{"text": "A"}]}, "new": 1.0} ], "responseId": "r1" }'


def test_a_frame_keeps_its_chunk_byte_for_byte() -> None:
    assert decoder().feed_data(SPACED, 1).raw == SPACED
    enveloped = b'{"traceId": "t", "response" : ' + SPACED + b', "metadata": {}}'
    frame = decoder().feed_data(enveloped, 1)
    assert (frame.raw, frame.dialect, frame.whole) == (SPACED, "gemini", False)
    assert decoder().feed_data(enveloped, 1).events == decoder().feed_data(SPACED, 1).events


def test_a_member_called_response_may_be_the_answers_own() -> None:
    odd = b'{"candidates":[],"response":{"a":1}}'
    assert decoder().feed_data(odd, 1).raw == odd


def test_a_whole_answer() -> None:
    body = data(thought("Hm"), text("A"), fc("a"), finish="STOP", usageMetadata={"promptTokenCount": 1})
    frame = decoder().feed_whole(body)
    assert (frame.raw, frame.whole) == (body, True)
    check(frame.events)
    result = fold([frame])
    assert (result.text, result.reasoning, result.finish) == ("A", "Hm", "tool_calls")
    assert fold([decoder().feed_whole(dumps({"response": loads(body)}))]) == result


def test_a_whole_answer_without_an_end_is_a_failure() -> None:
    for body in (data(text("A")), b"{}", dumps({"response": {}})):
        error = fold([decoder().feed_whole(body)]).error
        assert error is not None
        assert error.kind is ErrorKind.UPSTREAM_EOF


@pytest.mark.parametrize("enveloped", [False, True])
def test_a_stream_in_one_list(enveloped: bool) -> None:
    """An upstream that does not know server-sent events."""
    chunks: list[Any] = [answer(text("A")), answer(text("B")), answer(fc("a"), finish="STOP")]
    body = dumps([{"response": chunk} for chunk in chunks] if enveloped else chunks)
    frame = decoder().feed_whole(body)
    assert frame.raw == dumps(merged(chunks))
    assert fold([frame]) == result_of(*map(dumps, chunks))
    error: Any = limited().error
    failed = fold([decoder().feed_whole(dumps([chunks[0], error]))])
    assert failed.error is not None
    assert (failed.error.kind, failed.text) == (ErrorKind.RATE_LIMITED, "A")


def test_chunks_are_gathered_for_who_wants_them_whole() -> None:
    chunks: list[Any] = [answer(text("A")), answer(text("B"), finish="STOP")]
    *frames, last = frames_of(*map(dumps, chunks), native=True, gather=True)
    assert [frame.raw for frame in frames] == [None, None]
    assert (last.raw, last.whole) == (dumps(merged(chunks)), True)
    cut = frames_of(dumps(chunks[0]), native=True, gather=True)
    assert cut[-1].raw is None


class Seen:
    """An observer that notes what it is shown; plain pieces of text as the chunks they are."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []

    def observe(self, chunk: Any) -> None:
        self.chunks.append(chunk)

    def observe_text(self, text: str) -> None:
        self.chunks.append(text)


def test_every_chunk_of_the_answer_is_observed() -> None:
    seen = Seen()
    frames_of(
        data(text("A")),
        data(text("B")),
        dumps({"response": answer(text("C"), finish="STOP")}),
        dumps(limited().error),
        observer=seen,
    )
    assert seen.chunks == [answer(text("A")), "B", answer(text("C"), finish="STOP")]


@pytest.mark.parametrize(
    "chunk",
    [
        answer(text("B", "sig")),
        answer(thought("B")),
        answer(text("B"), text("C")),
        answer(text("B"), finish="STOP"),
        answer(text("B")) | {"promptFeedback": {}},
    ],
)
def test_chunks_that_say_more_than_text_are_read_whole(chunk: Any) -> None:
    seen = Seen()
    frames_of(data(text("A")), dumps(chunk), observer=seen)
    assert seen.chunks == [answer(text("A")), chunk]


def test_plain_chunks_report_what_was_used() -> None:
    used = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    chunks = [answer(text("A")), answer(text("B")) | {"usageMetadata": used}, answer(finish="STOP")]
    *_, last = frames_of(*map(dumps, chunks))
    end = last.events[-1]
    assert isinstance(end, TurnCompleted)
    assert end.usage == Usage(input_tokens=3, output_tokens=2)


# -- properties -------------------------------------------------------------------------------------------

PARTS = st.one_of(
    st.builds(text, st.text(max_size=4), st.sampled_from(["", "sig"])),
    st.builds(thought, st.text(max_size=4), st.sampled_from(["", "sig"])),
    st.builds(fc, st.sampled_from(["", "a", "b"]), st.just({"n": 1})),
    st.just({"inlineData": {"data": "x"}}),
    st.just({"thoughtSignature": "sig"}),
    st.just({"executableCode": {"code": "1"}}),
    st.just(None),
    st.just({}),
)


@given(st.lists(st.lists(PARTS, max_size=4), max_size=6), st.sampled_from(["", "STOP", "MAX_TOKENS"]))
@settings(max_examples=100, deadline=None)
def test_any_stream_is_legal_and_folds_to_the_whole_answer(parts: list[list[Any]], finish: str) -> None:
    chunks = [answer(*group) for group in parts] + [answer(finish=finish)]
    events_of(*map(dumps, chunks))
    streamed = result_of(*map(dumps, chunks))
    whole = fold([decoder().feed_whole(dumps(merged(chunks)))])
    assert _without_signatures(streamed) == _without_signatures(whole)


def _without_signatures(result: TurnResult) -> Any:
    """What a merged text is signed by is its last chunk's word."""
    return (
        result.finish,
        result.error and result.error.kind,
        [
            (type(item), getattr(item, "parts", None) or getattr(item, "summary", None))
            for item in result.items
        ],
    )


def test_what_came_before_a_chunk_that_cannot_be_read_is_told() -> None:
    """Deeper than any parser goes, behind texts that came in the same piece."""
    deep = b'{"candidates":[%b],"usageMetadata":{"a":%b}}' % (
        dumps({"content": {"role": "model", "parts": [text("x")]}, "index": 0}),
        b"[" * 5000 + b"]" * 5000,
    )
    frames: list[Frame] = []
    with pytest.raises(RecursionError):
        decoder().feed_all([data(text("good ")), data(text("good ")), data(text("good ")), deep], 1, frames)
    assert fold(frames).text == "good good good "
