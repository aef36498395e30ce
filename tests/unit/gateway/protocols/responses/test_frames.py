from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind, InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps, loads
from gateway.protocols.answers import Answer
from gateway.protocols.bodies import TurnContext
from gateway.protocols.openai.errors import error_answer
from gateway.protocols.responses import frames
from gateway.protocols.responses.chain import NOTHING, Past
from gateway.protocols.responses.events import EventWriter
from gateway.protocols.responses.parse import turn_of
from gateway.turn.events import ErrorInfo
from tests.support.responses_schema import validate_response


def create(**fields: Any) -> frames.Create:
    return frames.read_create(dumps({"type": "response.create", "model": "m", "input": [], **fields}))


# -- from clients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"type": "response.processed", "response_id": "resp_1"},
        {"type": "response.processed"},
        {"type": "response.processed", "response_id": 7},
        {"response_id": None, "more": {"type": "x"}, "type": "response.processed"},
    ],
)
def test_cv_41_every_form_of_processed_is_known(message: dict[str, Any]) -> None:
    assert frames.is_processed(dumps(message))


@pytest.mark.parametrize(
    "message", [b"", b"{", b"[]", b"7", b'{"type":7}', b'{"type":"response.create"}', b"\xff", b"[" * 99_999]
)
def test_nothing_else_is_taken_for_it(message: bytes) -> None:
    assert not frames.is_processed(message)


def test_what_means_something_here_alone_is_no_part_of_the_request() -> None:
    given = create(
        generate=False, previous_response_id="resp_1", stream=False, stream_id="a", input=["hi"], odd=1
    )
    assert given.body == {"model": "m", "input": ["hi"], "odd": 1, "stream": True}
    assert (given.previous, given.generate, given.stream_id) == ("resp_1", False, "a")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hi", [{"type": "message", "role": "user", "content": "hi"}]),
        ({"role": "user"}, [{"role": "user"}]),
        (["a", {"b": 1}], ["a", {"b": 1}]),
        (None, []),
    ],
)
def test_every_form_of_input_is_items(given: Any, expected: list[Any]) -> None:
    made = create(input=given)
    assert made.input == expected
    assert made.body["input"] == given


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"type": None}, "type"),
        ({"type": 7}, "type"),
        ({"type": "response.steer"}, "type"),
        ({"type": "response.append"}, "type"),
        ({"model": 7}, "model"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input.0"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"generate": "no"}, "generate"),
        ({"stream_id": []}, "stream_id"),
        ({"client_metadata": "x"}, "client_metadata"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        create(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize("message", [b"", b"nope", b"[]", b'"response.create"', b"\xff\xfe"])
def test_what_is_no_object_is_refused(message: bytes) -> None:
    with pytest.raises(InvalidRequest):
        frames.read_create(message)


def test_what_codex_says_in_headers_elsewhere_is_read() -> None:
    given = create(
        client_metadata={
            "x-codex-turn-metadata": "{}",
            "X-Codex-Window-Id": "w:1",
            "ws_request_header_x_openai_internal_codex_responses_lite": "true",
            "ws_request_header_authorization": "Bearer stolen",
            "authorization": "Bearer stolen",
            "thread_id": "t",
            "x-codex-odd": 7,
        }
    )
    assert given.metadata == {
        "x-codex-turn-metadata": "{}",
        "x-codex-window-id": "w:1",
        "x-openai-internal-codex-responses-lite": "true",
    }


def test_cv_31_the_request_is_of_the_whole_conversation() -> None:
    """CV-31, RP-91. Given a create that names a response and no model; expect the items before, then its own,
    the model from before, and no field of this protocol.
    """
    made = frames.read_create(dumps({"type": "response.create", "previous_response_id": "r", "input": "u2"}))
    body = frames.continued(made, Past(2, 9, "m"), ["u1", "a1"])
    assert body == {
        "input": ["u1", "a1", {"type": "message", "role": "user", "content": "u2"}],
        "stream": True,
        "model": "m",
    }


def test_rp_92_a_request_without_a_former_response_is_as_it_is() -> None:
    """RP-92. Given a second create with the assistant's words among its own; expect its input unchanged."""
    made = create(input=["u1", {"role": "assistant", "content": "a1"}, "u2"])
    assert frames.continued(made, NOTHING, []) is made.body


def test_a_conversation_holds_no_more_than_a_request_may() -> None:
    made = create(previous_response_id="r")
    with pytest.raises(InvalidRequest):
        frames.continued(made, Past(1), [[0] * 100_001])


def test_items_are_counted_as_the_client_did() -> None:
    error = InvalidRequest("Invalid 'input.5.role': expected x", param="input.5.role", code="invalid_value")
    told = frames.as_sent(error, 4)
    assert (told.param, told.message) == ("input.1.role", "Invalid 'input.1.role': expected x")
    assert told.code == "invalid_value"
    assert frames.as_sent(error, 6).param == "input.5.role"
    assert frames.as_sent(error, 0) is error


Values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
Fields = st.sampled_from(
    ["type", "model", "input", "previous_response_id", "generate", "stream_id", "client_metadata", "stream"]
)


@given(st.dictionaries(Fields | st.text(max_size=5), Values | st.just("response.create"), max_size=8))
@example({"type": "response.create"})
def test_any_message_is_read_or_refused(message: dict[str, Any]) -> None:
    data = dumps(message) if _fits(message) else b"{}"
    try:
        made = frames.read_create(data)
    except InvalidRequest as refused:
        assert refused.message
    else:
        assert not {"type", "generate", "previous_response_id", "stream_id"} & made.body.keys()
        assert made.body["stream"] is True


def _fits(value: Any) -> bool:
    try:
        dumps(value)
    except TypeError:
        return False
    return True


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    assert not frames.is_processed(data)
    with pytest.raises(InvalidRequest):
        frames.read_create(data)


# -- to clients -------------------------------------------------------------------------------------------


def test_events_are_the_json_of_the_stream_and_nothing_else() -> None:
    writer = EventWriter()
    writer.event("response.created", {"a": "é"})
    writer.keepalive()
    writer.passed(b': comment\n\nevent: x\ndata: { "type" : "x",  "n": 1.0 }\n\n')
    writer.passed(b"data: ping\n\n")
    writer.done()
    assert list(frames.Events().of(writer.take(), last=True)) == [
        '{"type":"response.created","sequence_number":0,"a":"é"}'.encode(),
        b'{"type":"keepalive","sequence_number":0}',
        b'{ "type" : "x",  "n": 1.0 }',
    ]


@given(st.integers(0, 80))
def test_a_cut_anywhere_changes_no_event(at: int) -> None:
    stream = b'event: a\ndata: {"type":"a"}\n\ndata: {"type":\ndata: "b"}\r\n\r\ndata: [DONE]\n\n'
    events = frames.Events()
    found = [*events.of(stream[:at]), *events.of(stream[at:], last=True)]
    assert found == [b'{"type":"a"}', b'{"type":\n"b"}']


def test_an_event_that_lacks_its_end_counts_at_the_end() -> None:
    assert list(frames.Events().of(b'data: {"type":"x"}\n', last=True)) == [b'{"type":"x"}']


def test_an_error_is_the_answer_that_http_would_give() -> None:
    error = ErrorInfo(kind=ErrorKind.RATE_LIMITED, message="wait", retryable=True, retry_after_s=1.2)
    frame: Any = loads(frames.error_frame(error_answer(error), ((b"x-turn-id", b"t1"),), "lane-1"))
    assert frame == {
        "type": "error",
        "status": 429,
        "error": {
            "message": "wait",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        },
        "headers": {"retry-after": "2", "x-turn-id": "t1"},
        "stream_id": "lane-1",
    }


def test_an_event_that_repeats_its_request_names_what_it_went_on_from() -> None:
    event = b'{"type":"response.created", "response":{"id":"r2","previous_response_id":null,"output":[ ]}}'
    assert frames.gone_on_from(event, "r1") == event.replace(b"null", b'"r1"')
    for other in (
        b'{"type":"response.output_text.delta","delta":"\\"response\\""}',
        b'{"type":"response.output_item.done","item":{"response":1}}',
        b'{"type":"response.completed","response":{"id":"r2"}}',
    ):
        assert frames.gone_on_from(other, "r1") is other


def test_an_answer_without_an_envelope_is_the_error() -> None:
    frame: Any = loads(frames.error_frame(Answer(500, b'{"oops":1}')))
    assert frame == {"type": "error", "status": 500, "error": {"oops": 1}}


def test_cv_30_a_prewarm_is_a_beginning_and_an_end() -> None:
    """CV-30. Given `generate: false`; expect a beginning and an end, no output, zero usage."""
    turn = turn_of(
        {"model": "m", "input": []},
        TurnContext(id=TurnId("t1"), tenant="t", created_at_ms=1000),
        may_be_empty=True,
    )
    begun, done = (loads(frame) for frame in frames.prewarmed(turn))
    assert (begun["type"], begun["sequence_number"]) == ("response.created", 0)  # type: ignore[call-overload,index]
    assert (done["type"], done["sequence_number"]) == ("response.completed", 1)  # type: ignore[call-overload,index]
    response: Any = done["response"]  # type: ignore[call-overload,index]
    validate_response(response)
    assert (response["id"], response["output"], response["usage"]["total_tokens"]) == ("resp_t1", [], 0)


# -- what an answer adds ----------------------------------------------------------------------------------


def heard(*events: dict[str, Any]) -> frames.Heard:
    listening = frames.Heard()
    for event in events:
        listening.hear(dumps(event))
    return listening


def done(item: Any, index: int | None = None) -> dict[str, Any]:
    told = {} if index is None else {"output_index": index}
    return {"type": "response.output_item.done", "item": item, **told}


END = {"type": "response.completed", "response": {"id": "r1", "output": [{"n": 9}]}}


def test_items_are_those_that_were_done_each_once_and_in_order() -> None:
    listening = heard(done({"n": 1}, 1), done({"n": 0}, 0), done({"n": 1}, 1), done({"n": 2}), END)
    assert frames.read_items(listening.items) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert listening.response_id == "r1"


def test_without_them_the_end_says_what_there_was() -> None:
    assert frames.read_items(heard(END).items) == [{"n": 9}]


@pytest.mark.parametrize(
    ("kind", "kept"), [("response.incomplete", "r1"), ("response.done", "r1"), ("response.failed", "")]
)
def test_what_failed_is_not_gone_on_with(kind: str, kept: str) -> None:
    assert heard(END | {"type": kind}).response_id == kept


def test_texts_that_speak_of_responses_are_texts() -> None:
    said = '"response":{"id":"x"} "response.output_item.done"'
    listening = heard({"type": "response.output_text.delta", "delta": said})
    assert (listening.response_id, listening.items) == ("", [])
    listening.hear(b'{"type":"response.completed","response":7}')
    assert listening.response_id == ""
