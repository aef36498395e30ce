from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from anthropic import NOT_GIVEN, Anthropic, Stream
from anthropic.lib.streaming import MessageStream
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.kernel.errors import ErrorKind
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps, loads
from gateway.protocols.bodies import TurnContext
from gateway.protocols.messages.blocks import build_message
from gateway.protocols.messages.encode import MessagesEncoder
from gateway.protocols.messages.parse import parse_messages
from gateway.turn.estimate import input_tokens
from gateway.turn.events import (
    AnnotationAdded,
    CancelReason,
    ErrorInfo,
    Finish,
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
from gateway.turn.items import Message, OpaqueItem, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter
from tests.matrix.gallery import GALLERY, Scenario

STARTED = TurnStarted(model="upstream", created_at=1, input_tokens_estimate=7)
USAGE = Usage(input_tokens=3, output_tokens=2)
ADAPTIVE = {"type": "adaptive"}
CITATION: Any = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
CITED = {
    "type": "web_search_result_location",
    "url": "u",
    "title": "t",
    "cited_text": "",
    "encrypted_index": "",
}

CLIENT = Anthropic(api_key="any", base_url="http://127.0.0.1:9")
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def make_turn(*, resumable: bool = False, turn_id: str = "01turn", **fields: Any) -> Turn:
    body = {
        "model": "asked",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "a"}],
        "stream": True,
        "thinking": ADAPTIVE,
        **fields,
    }
    context = TurnContext(id=TurnId(turn_id), tenant="t", created_at_ms=1, resumable=resumable)
    return parse_messages(dumps(body), context)


def frames(events: Sequence[TurnEvent]) -> list[Frame]:
    return [Frame((event,)) for event in events]


def message(text: str) -> Message:
    return Message(role="assistant", parts=(TextPart(text),))


def said(*texts: str, index: int = 0) -> list[TurnEvent]:
    """One message item, from its start to its end."""
    return [
        ItemStarted(index, "message", "msg"),
        *(TextDelta(index, text) for text in texts),
        ItemDone(index, message("".join(texts))),
    ]


def called(*fragments: str, index: int = 0, result: str | None = None) -> list[TurnEvent]:
    """One tool call, its arguments in fragments."""
    call = ToolCall(call_id=f"c{index}", name="find", arguments="".join(fragments), result=result)
    return [
        ItemStarted(index, "tool_call", f"item_{index}", "find", f"c{index}"),
        *(ToolInputDelta(index, fragment) for fragment in fragments),
        ItemDone(index, call),
    ]


def encode(turn: Turn, events: Sequence[TurnEvent], losses: list[Loss] | None = None) -> bytes:
    return MessagesEncoder(turn, losses=losses).encode(frames(events))


def values_of(raw: bytes) -> list[dict[str, Any]]:
    """The events' data. Each is named as it says, and legal where it stands."""
    splitter = SseSplitter()
    values: list[Any] = []
    for event in splitter.feed(raw):
        assert event.data is not None
        value: Any = loads(event.data)
        assert value["type"] == event.event
        values.append(value)
    assert splitter.pending == b""
    check_order(values)
    return values


def check_order(values: list[dict[str, Any]]) -> None:
    """Blocks rise from 0 without gaps, one at a time; nothing follows an end. Types are those of the SDK."""
    opened, index, ended = False, -1, False
    for at, value in enumerate(values):
        assert not ended, "an event after the end"
        match value["type"]:
            case "message_start":
                assert at == 0
            case "content_block_start":
                assert not opened
                opened, index = True, index + 1
            case "content_block_delta":
                assert opened
            case "content_block_stop":
                assert opened
                opened = False
            case "message_delta":
                assert not opened
                assert values[at + 1]["type"] == "message_stop"
            case "message_stop" | "error":
                ended = True
        if "index" in value:
            assert value["index"] == index
        of_ours = value["type"] == "error" or value.get("content_block", {}).get("type") == "tool_result"
        if not of_ours:
            EVENTS.validate_python(value)


def stream(turn: Turn, *events: TurnEvent) -> list[dict[str, Any]]:
    return values_of(encode(turn, events))


def blocks(turn: Turn, *events: TurnEvent) -> list[dict[str, Any]]:
    """The content blocks as the SDK puts them together."""
    done = TurnCompleted("stop")
    return list(put_together(encode(turn, [STARTED, *events, done]))["content"])


def put_together(raw: bytes) -> dict[str, Any]:
    """The message that the SDK has at the end of a stream, without fields that say nothing."""
    response = httpx2.Response(200, content=raw, request=httpx2.Request("POST", "http://127.0.0.1:9"))
    source: Any = Stream(cast_to=RawMessageStreamEvent, response=response, client=CLIENT)  # type: ignore[arg-type]
    # Its types know no result of a tool in an answer: it keeps one, and would warn of it.
    return said_of(MessageStream(source, NOT_GIVEN).get_final_message().to_dict(warnings=False))


def said_of(message: Any) -> dict[str, Any]:
    """A message without nulls and without what the SDK does not take over from the last event."""
    message = {name: value for name, value in message.items() if value is not None}
    message["usage"] = {name: value for name, value in message["usage"].items() if name != "estimated"}
    message["content"] = [{k: v for k, v in block.items() if v is not None} for block in message["content"]]
    return message


def whole(turn: Turn, events: Sequence[TurnEvent]) -> dict[str, Any]:
    body: Any = loads(dumps(build_message(turn, fold(frames(events)))))
    return said_of(body)


def steps(values: list[dict[str, Any]]) -> list[Any]:
    """The order of a stream in short: types, and for deltas what they say."""
    found: list[Any] = []
    for value in values:
        match value["type"]:
            case "content_block_start":
                found.append(f"start {value['index']} {value['content_block']['type']}")
            case "content_block_stop":
                found.append(f"stop {value['index']}")
            case "content_block_delta":
                _, said = value["delta"].values()
                found.append(said)
            case other:
                found.append(other)
    return found


# -- the stream -------------------------------------------------------------------------------------------


def test_lv_76_a_stream_of_a_text_and_a_tool_call() -> None:
    """Given an Anthropic stream "A" then tool t (no result): expect message_start, block 0 start/delta/stop,
    block 1 tool_use start/delta/stop, message_delta tool_use, message_stop.
    """
    values = stream(
        make_turn(), STARTED, *said("A"), *called('{"q":1}', index=1), TurnCompleted("tool_calls", USAGE)
    )
    assert steps(values) == [
        "message_start",
        "start 0 text",
        "A",
        "stop 0",
        "start 1 tool_use",
        '{"q":1}',
        "stop 1",
        "message_delta",
        "message_stop",
    ]
    assert values[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


def test_the_start_says_what_was_asked_and_what_reading_costs() -> None:
    start = stream(make_turn(), STARTED, TurnCompleted("stop"))[0]["message"]
    assert start.pop("id").startswith("msg_")
    assert start == {
        "type": "message",
        "role": "assistant",
        "model": "asked",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 7,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        },
    }


def test_an_upstream_without_an_estimate_gets_ours() -> None:
    turn = make_turn(system="a longer prompt than nothing")
    start = stream(turn, TurnStarted(model="u", created_at=1), TurnCompleted("stop"))[0]["message"]
    assert start["usage"]["input_tokens"] == input_tokens(turn) > 0
    assert "estimated" not in start["usage"], "it always is"


def test_the_same_turn_gives_the_same_bytes_and_another_does_not() -> None:
    events = [STARTED, *said("A"), TurnCompleted("stop")]
    first = encode(make_turn(), events)
    assert encode(make_turn(), events) == first
    assert encode(make_turn(turn_id="01other"), events) != first


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=6), st.integers(1, 4))
def test_any_text_in_any_bursts_arrives_unchanged(texts: list[str], size: int) -> None:
    events = frames([STARTED, *said(*texts), TurnCompleted("stop")])
    encoder = MessagesEncoder(make_turn())
    raw = b"".join(encoder.encode(events[at : at + size]) for at in range(0, len(events), size))
    assert raw == MessagesEncoder(make_turn()).encode(events)
    assert "".join(block["text"] for block in put_together(raw)["content"]) == "".join(texts)


def test_a_turn_that_says_nothing_has_no_blocks() -> None:
    assert steps(stream(make_turn(), STARTED, *said("", ""), TurnCompleted("stop"))) == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


def test_parts_are_blocks_of_their_own() -> None:
    events = [
        ItemStarted(0, "message", "m"),
        TextDelta(0, "a"),
        TextDelta(0, "b"),
        TextDelta(0, "c", 1),
        RefusalDelta(0, "no", 1),
        ItemDone(0, Message(role="assistant", parts=(TextPart("ab"), TextPart("c"), RefusalPart("no")))),
    ]
    assert blocks(make_turn(), *events) == [
        {"type": "text", "text": "ab"},
        {"type": "text", "text": "c"},
        {"type": "text", "text": "no"},
    ]


def test_items_that_had_no_deltas_are_said_by_their_end() -> None:
    call = ToolCall(call_id="c3", name="find", arguments='{"q":1}')
    events = [
        ItemStarted(0, "reasoning", "r"),
        ItemDone(0, Reasoning(text="hm", signature="s")),
        ItemStarted(1, "message", "m"),
        ItemDone(1, Message(role="assistant", parts=(TextPart("a", (CITATION,)), RefusalPart("no")))),
        ItemStarted(2, "tool_call", "t", "find", "c2"),
        ItemDone(2, ToolCall(call_id="c2", name="find", arguments='{"q":0}')),
        ItemStarted(3, "tool_call", "t"),
        ItemDone(3, call),
    ]
    assert blocks(make_turn(), *events) == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a", "citations": [CITED]},
        {"type": "text", "text": "no"},
        {"type": "tool_use", "id": "c2", "name": "find", "input": {"q": 0}},
        {"type": "tool_use", "id": "c3", "name": "find", "input": {"q": 1}},
    ]


def test_deltas_are_not_repeated_by_the_end_of_their_item() -> None:
    values = stream(make_turn(), STARTED, *said("A", "B"), TurnCompleted("stop"))
    assert [step for step in steps(values) if step in ("A", "B", "AB")] == ["A", "B"]


# -- thinking ---------------------------------------------------------------------------------------------

THOUGHT = [
    ItemStarted(0, "reasoning", "r"),
    ReasoningDelta(0, "h"),
    ReasoningDelta(0, "m"),
    ItemDone(0, Reasoning(text="hm")),
]
SIGNED = [*THOUGHT[:3], SignatureDelta(0, "si"), SignatureDelta(0, "g"), ItemDone(0, Reasoning(text="hm"))]


def test_lv_25_reasoning_is_thinking_and_never_text() -> None:
    """Given think start "hmm", done, answer "7": expect content "7" and the reasoning in its own place."""
    thought = [ItemStarted(0, "reasoning", "r"), ReasoningDelta(0, "hmm"), ItemDone(0, Reasoning(text="hmm"))]
    assert blocks(make_turn(), *thought, *said("7", index=1)) == [
        {"type": "thinking", "thinking": "hmm", "signature": ""},
        {"type": "text", "text": "7"},
    ]


def test_a_signature_comes_once_and_whole_at_the_end_of_its_block() -> None:
    values = stream(make_turn(), STARTED, *SIGNED, TurnCompleted("stop"))
    assert steps(values)[1:-2] == ["start 0 thinking", "h", "m", "sig", "stop 0"]


def test_a_signature_belongs_to_one_item() -> None:
    unsigned = [ItemStarted(1, "reasoning", "r"), ReasoningDelta(1, "m"), ItemDone(1, Reasoning(text="m"))]
    first, second = blocks(make_turn(), *SIGNED, *unsigned)
    assert (first["signature"], second["signature"]) == ("sig", "")


def test_thinking_that_says_nothing_has_no_block() -> None:
    events = [ItemStarted(0, "reasoning", "r"), ReasoningDelta(0, ""), ItemDone(0, Reasoning())]
    assert steps(stream(make_turn(), STARTED, *events, TurnCompleted("stop"))) == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


def test_thinking_without_a_signature_has_an_empty_one() -> None:
    values = stream(make_turn(), STARTED, *THOUGHT, TurnCompleted("stop"))
    assert values[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert steps(values)[1:-2] == ["start 0 thinking", "h", "m", "stop 0"]


def test_a_signature_alone_is_redacted_thinking() -> None:
    events = [ItemStarted(0, "reasoning", "r"), SignatureDelta(0, "sealed"), ItemDone(0, Reasoning())]
    assert blocks(make_turn(), *events) == [{"type": "redacted_thinking", "data": "sealed"}]
    silent = [ItemStarted(0, "reasoning", "r"), ItemDone(0, Reasoning())]
    assert blocks(make_turn(), *silent) == []


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
def test_clients_that_asked_for_no_thinking_get_none(thinking: Any) -> None:
    turn = make_turn(thinking=thinking)
    assert blocks(turn, *SIGNED, *said("7", index=1)) == [{"type": "text", "text": "7"}]


@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 1024}, ADAPTIVE, {"type": "new"}])
def test_clients_that_asked_for_thinking_get_it(thinking: Any) -> None:
    turn = make_turn(thinking=thinking)
    assert blocks(turn, *THOUGHT) == [{"type": "thinking", "thinking": "hm", "signature": ""}]


def test_thinking_without_display_is_its_signature() -> None:
    turn = make_turn(thinking={"type": "adaptive", "display": "omitted"})
    assert blocks(turn, *SIGNED) == [{"type": "redacted_thinking", "data": "sig"}]
    assert blocks(turn, *THOUGHT) == []


def test_parts_of_thinking_are_paragraphs_and_only_the_first_channel_is_shown() -> None:
    events = [
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "one", 0, "summary"),
        ReasoningDelta(0, "full", 0, "full"),
        ReasoningDelta(0, "two", 1, "summary"),
        ItemDone(0, Reasoning(summary=("one", "two"), text="full")),
        ItemStarted(1, "reasoning", "r2"),
        ReasoningDelta(1, "three", 2),
        ItemDone(1, Reasoning(text="three")),
    ]
    assert [block["thinking"] for block in blocks(make_turn(), *events)] == ["one\n\ntwo", "three"]


# -- tools ------------------------------------------------------------------------------------------------


def test_a_call_names_itself_first_and_then_sends_arguments() -> None:
    values = stream(make_turn(), STARTED, *called('{"q', '":1', "}"), TurnCompleted("tool_calls"))
    assert values[1]["content_block"] == {"type": "tool_use", "id": "c0", "name": "find", "input": {}}
    assert steps(values)[2:5] == ['{"q', '":1', "}"]


def test_a_call_without_an_id_is_known_by_its_item() -> None:
    events = [
        ItemStarted(0, "tool_call", "item_7", "find"),
        TurnFailed(ErrorInfo(kind=ErrorKind.INTERNAL, message="x")),
    ]
    assert stream(make_turn(), STARTED, *events)[1]["content_block"]["id"] == "item_7"


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ((), {}),
        (("",), {}),
        (("  ", "{", "}"), {}),
        (("*** Begin", " Patch"), {"input": "*** Begin Patch"}),
        (("[", "1]"), {"input": [1]}),
        (('"x"',), {"input": "x"}),
        (("null",), {"input": None}),
    ],
)
def test_arguments_always_become_an_object(fragments: tuple[str, ...], expected: Any) -> None:
    (block,) = blocks(make_turn(), *called(*fragments))
    assert block["input"] == expected


def test_arguments_that_were_cut_short_are_sent_as_they_came() -> None:
    events = [STARTED, *called('{"q": 1, "text": "unfini'), TurnCompleted("length")]
    assert steps(stream(make_turn(), *events))[2] == '{"q": 1, "text": "unfini'
    assert put_together(encode(make_turn(), events))["content"][0]["input"] == {"q": 1}


def test_lv_60_a_call_that_was_run_already_is_followed_by_its_result() -> None:
    """Given `{"n":3,"result":"done","name":"pick"}` of a forced pick: expect tool_use {n:3} and tool_result
    "done", stop_reason end_turn.
    """
    call = ToolCall(call_id="c1", name="pick", arguments='{"n":3}', result="done")
    events = [
        STARTED,
        ItemStarted(0, "tool_call", "t", "pick", "c1"),
        ItemDone(0, call),
        TurnCompleted("stop"),
    ]
    expected = [
        {"type": "tool_use", "id": "c1", "name": "pick", "input": {"n": 3}},
        {"type": "tool_result", "tool_use_id": "c1", "content": "done"},
    ]
    assert steps(stream(make_turn(), *events))[1:-2] == [
        "start 0 tool_use",
        '{"n":3}',
        "stop 0",
        "start 1 tool_result",
        "stop 1",
    ]
    for answer in (put_together(encode(make_turn(), events)), whole(make_turn(), events)):
        assert answer["content"] == expected
        assert answer["stop_reason"] == "end_turn"


# -- citations and what Messages has no word for ----------------------------------------------------------


def test_citations_of_pages_stand_at_their_text_and_others_are_a_loss() -> None:
    losses: list[Loss] = []
    file: Any = {"type": "file_citation", "file_id": "f"}
    events = [
        STARTED,
        ItemStarted(0, "message", "m"),
        TextDelta(0, "a"),
        AnnotationAdded(0, 0, CITATION),
        AnnotationAdded(0, 0, file),
        AnnotationAdded(0, 0, file),
        AnnotationAdded(0, 1, CITATION),
        ItemDone(
            0, Message(role="assistant", parts=(TextPart("a", (CITATION, file)), TextPart("", (CITATION,))))
        ),
        TurnCompleted("stop"),
    ]
    raw = encode(make_turn(), events, losses)
    values_of(raw)
    assert put_together(raw)["content"] == [
        {"type": "text", "text": "a", "citations": [CITED]},
        {"type": "text", "text": "", "citations": [CITED]},
    ]
    assert losses == [Loss("annotation", "not-in-messages")]


def test_citations_that_only_the_finished_item_has_are_not_lost() -> None:
    events = [
        ItemStarted(0, "message", "m"),
        TextDelta(0, "a"),
        ItemDone(0, Message(role="assistant", parts=(TextPart("a", (CITATION,)),))),
    ]
    assert blocks(make_turn(), *events) == [{"type": "text", "text": "a", "citations": [CITED]}]


def test_what_other_dialects_say_is_a_loss_and_our_own_passes() -> None:
    losses: list[Loss] = []
    block = {"id": "s1", "name": "web_search", "input": {"query": "x"}}
    events = [
        STARTED,
        OpaqueEvent("responses", "response.new", {}),
        ItemStarted(0, "opaque", "o"),
        ItemDone(0, OpaqueItem(dialect="gemini", type="executableCode", payload={})),
        ItemStarted(1, "opaque", "o"),
        ItemDone(1, OpaqueItem(dialect="messages", type="server_tool_use", payload=block)),  # type: ignore[arg-type]
        TurnCompleted("stop"),
    ]
    raw = encode(make_turn(), events, losses)
    values_of(raw)
    assert put_together(raw)["content"] == [{"type": "server_tool_use", **block}]
    assert losses == [Loss("response.new", "not-in-messages"), Loss("executableCode", "not-in-messages")]


# -- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("tool_calls", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("paused", "pause_turn"),
    ],
)
def test_every_finish_has_its_stop_reason(finish: Finish, reason: str) -> None:
    events = [STARTED, *said("A"), TurnCompleted(finish)]
    assert put_together(encode(make_turn(), events))["stop_reason"] == reason


def test_a_refusal_is_text_and_the_reason_to_stop() -> None:
    refused = Message(role="assistant", parts=(RefusalPart("no"),))
    deltas = [ItemStarted(0, "message", "m"), RefusalDelta(0, "no"), ItemDone(0, refused)]
    for events in (deltas, [deltas[0], deltas[2]]):
        answer = put_together(encode(make_turn(), [STARTED, *events, TurnCompleted("stop")]))
        assert answer["content"] == [{"type": "text", "text": "no"}]
        assert answer["stop_reason"] == "refusal"


def test_usage_is_merged_and_what_was_cached_counts_apart() -> None:
    events = [
        STARTED,
        UsageReported(Usage(input_tokens=100, cached_tokens=60)),
        TurnCompleted("stop", Usage(output_tokens=9, reasoning_tokens=4)),
    ]
    assert stream(make_turn(), *events)[-2]["usage"] == {
        "input_tokens": 40,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 60,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }


def test_usage_that_was_counted_here_says_so() -> None:
    estimate = TurnCompleted("stop", Usage(input_tokens=9, output_tokens=1, estimated=True))
    assert stream(make_turn(), STARTED, estimate)[-2]["usage"]["estimated"] is True
    assert stream(make_turn(), STARTED, TurnCompleted("stop"))[-2]["usage"]["estimated"] is True
    assert "estimated" not in stream(make_turn(), STARTED, TurnCompleted("stop", USAGE))[-2]["usage"]


def test_a_failure_is_the_last_event_even_inside_a_block() -> None:
    failed = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_UNAVAILABLE, message="gone"))
    values = stream(make_turn(), STARTED, *said("A")[:2], failed)
    assert steps(values) == ["message_start", "start 0 text", "A", "error"]
    assert values[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "gone"}}


def test_a_failure_may_be_all_there_is() -> None:
    failed = TurnFailed(ErrorInfo(kind=ErrorKind.INTERNAL, message="x"))
    assert steps(stream(make_turn(), failed)) == ["error"]


@pytest.mark.parametrize(
    ("reason", "error_type"),
    [
        ("client_gone", "api_error"),
        ("deadline", "timeout_error"),
        ("drain", "overloaded_error"),
        ("admin", "api_error"),
    ],
)
def test_a_cancelled_turn_ends_with_an_error(reason: CancelReason, error_type: str) -> None:
    values = stream(make_turn(), STARTED, *said("A"), TurnCancelled(reason))
    assert values[-1]["error"]["type"] == error_type


def test_signs_of_life_are_the_edges_business() -> None:
    encoder = MessagesEncoder(make_turn(resumable=True))
    assert encoder.encode(frames([Heartbeat()])) == b""
    assert encoder.keepalive() == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_only_events_of_resumable_turns_are_numbered_and_can_be_taken_up() -> None:
    events = frames([STARTED, *said("A"), TurnCompleted("stop")])
    assert b"id:" not in MessagesEncoder(make_turn()).encode(events)
    raw = MessagesEncoder(make_turn(resumable=True)).encode(events)
    numbered = SseSplitter().feed(raw)
    assert [event.id for event in numbered] == [str(number) for number in range(1, 7)]
    for after in range(7):
        rest = MessagesEncoder(make_turn(resumable=True), starting_after=after).encode(events)
        assert rest == b"".join(event.raw for event in numbered[after:])


# -- streams and whole answers ----------------------------------------------------------------------------


def gallery_turn(scenario: Scenario, **fields: Any) -> Turn:
    tools = [{"name": offer.name, "input_schema": {"type": "object"}} for offer in scenario.offers]
    return make_turn(tools=tools, **fields)


@pytest.mark.parametrize("thinking", [ADAPTIVE, None], ids=["thinking", "plain"])
@pytest.mark.parametrize("scenario", GALLERY.values(), ids=GALLERY)
def test_a_stream_put_together_is_the_whole_answer(scenario: Scenario, thinking: Any) -> None:
    turn = gallery_turn(scenario, thinking=thinking)
    given = list(scenario.frames(turn))
    raw = MessagesEncoder(turn).encode(given)
    ended = values_of(raw)[-1]["type"]
    result = fold(given)
    assert (ended == "message_stop") is (result.finish is not None)
    if result.finish is None:
        return
    body: Any = loads(dumps(build_message(turn, result)))
    if not any(block["type"] == "tool_result" for block in body["content"]):
        SdkMessage.model_validate(body)
    if scenario.rewritten:
        return
    assert put_together(raw) == said_of(body)
