"""The recorded answers of a Gemini upstream: byte for byte to Gemini's clients, in sense to all others."""

import re
from typing import Any

import pytest

from gateway.kernel.json import dumps, loads
from gateway.protocols.gemini.encode import GeminiEncoder
from gateway.protocols.gemini.framing import ArrayFraming, EventFraming, Framing, SdkFraming, one_line
from gateway.protocols.gemini.routes import GEMINI
from gateway.turn.events import TurnCompleted, TurnEvent
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.grammar import Repair, check
from gateway.turn.items import Item, Message, OpaqueItem, Reasoning, ToolCall, text_of
from gateway.turn.request import Turn
from gateway.upstreams.antigravity.decode import GeminiDecoder
from gateway.upstreams.antigravity.items import ItemReader
from gateway.upstreams.antigravity.names import ClientTools
from gateway.wire.sse import SseSplitter
from tests.fakes.antigravity_cassettes import CASSETTES, INDEX, SCENARIOS, read, read_whole, record
from tests.matrix.chat import ChatColumn
from tests.matrix.column import MODEL, Column, Folded
from tests.matrix.gallery import started
from tests.matrix.gemini import GeminiEventsColumn
from tests.matrix.matrix import encoded, in_bursts, not_streamed
from tests.matrix.messages import MessagesColumn
from tests.matrix.responses import ResponsesColumn

OTHERS: tuple[Column, ...] = (ChatColumn(), MessagesColumn(), ResponsesColumn())
each_cassette = pytest.mark.parametrize("name", list(SCENARIOS))
WHOLE = [name for name, scenario in SCENARIOS.items() if scenario.whole]


def decoder(turn: Turn) -> GeminiDecoder:
    native = turn.raw.dialect == "gemini"
    reader = ItemReader(turn_id=turn.id, executor="gem", tools=ClientTools(turn.tools), proves=not native)
    return GeminiDecoder(
        model=turn.model,
        created_at=turn.created_at_ms // 1000,
        reader=reader,
        input_tokens_estimate=None,
        native=native,
    )


def pieces(name: str) -> list[bytes]:
    """The data of the stream's events."""
    splitter = SseSplitter()
    found = [event.data for event in splitter.feed(read(name)[1])]
    assert splitter.pending == b""
    assert None not in found
    return [data for data in found if data is not None]


def frames_of(name: str, turn: Turn, *, together: int = 0) -> list[Frame]:
    """As the engine hands them to an encoder; the decoder keeps the grammar by itself.

    together: so many chunks come at once.
    """
    one = decoder(turn)
    chunks = pieces(name)
    frames: list[Frame] = []
    if together:
        for start in range(0, len(chunks), together):
            one.feed_all(chunks[start : start + together], start + 1, frames)
    else:
        frames = [one.feed_data(data, seq) for seq, data in enumerate(chunks, 1)]
    if (last := one.eof()) is not None:
        frames.append(last)
    repair = Repair(started(turn))
    for frame in frames:
        assert repair.feed(frame.events) == frame.events
    assert repair.ended
    assert repair.repairs == 0
    return [frame for frame in frames if frame.events or frame.size]


# -- the cassettes ----------------------------------------------------------------------------------------


def test_the_index_lists_every_cassette_and_no_other() -> None:
    index: Any = loads((CASSETTES / INDEX).read_bytes())
    assert index == {name: scenario.about for name, scenario in SCENARIOS.items()}
    assert {path.stem for path in CASSETTES.glob("*.sse")} == set(SCENARIOS)
    assert {path.stem for path in CASSETTES.glob("*.json")} - {"index"} == set(WHOLE)


@each_cassette
def test_a_cassette_says_where_it_comes_from(name: str) -> None:
    header, stream = read(name)
    assert (header["cassette"], header["about"]) == (name, SCENARIOS[name].about)
    assert header["upstream"] == "antigravity"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(header["date"]))
    assert not re.search(rb"127\.0\.0\.1|localhost", stream)


@each_cassette
async def test_the_fake_says_today_what_it_said_then(name: str) -> None:
    stream, whole = await record(name)
    assert stream == (CASSETTES / f"{name}.sse").read_bytes()
    assert whole == read_whole(name)


# -- Gemini's own clients ---------------------------------------------------------------------------------


def passed_on(name: str) -> list[bytes]:
    """The upstream's chunks as a Gemini client is to get them: bare, and under the name that it asked for."""
    enveloped = SCENARIOS[name].envelope
    chunks = []
    for data in pieces(name):
        if b'"error"' in data:
            continue
        if enveloped:
            data = data.removeprefix(b'{"response": ').partition(b', "traceId"')[0]
        assert loads(data)
        chunks.append(data.replace(b'"gemini-3-pro-001"', dumps(MODEL)))
    return chunks


@each_cassette
@pytest.mark.parametrize("framing", [None, SdkFraming, ArrayFraming])
def test_chunks_go_out_byte_for_byte_but_for_the_models_name(
    name: str, framing: type[Framing] | None
) -> None:
    column = GeminiEventsColumn()
    turn = column.turn()
    frames = frames_of(name, turn)
    sent = GeminiEncoder(turn, framing() if framing else None).encode(frames)
    expected = passed_on(name)
    if framing is ArrayFraming:
        start = b"[" + b"\n,".join(expected) if b"\n," in sent else None
        values: Any = loads(sent)
        assert [dumps(value) for value in values[: len(expected)]] == [dumps(loads(one)) for one in expected]
        assert start is None or sent.startswith(start)
        return
    stream = b"".join(b"data: " + one_line(data) + b"\n\n" for data in expected)
    assert sent.startswith(stream)
    rest = sent[len(stream) :]
    completed = isinstance(frames[-1].events[-1], TurnCompleted)
    assert (rest == b"") == completed, "only a failure is told in other words"
    assert completed or b'"error"' in rest


@each_cassette
@pytest.mark.parametrize("framing", [EventFraming, SdkFraming, ArrayFraming])
@pytest.mark.parametrize("together", [1, 2, 3, 1000])
def test_chunks_that_come_together_say_what_they_say_alone(
    name: str, framing: type[Framing], together: int
) -> None:
    turn = GeminiEventsColumn().turn()
    alone, frames = frames_of(name, turn), frames_of(name, turn, together=together)
    assert fold(frames) == fold(alone)
    for after in (0, 2):
        one, other = (GeminiEncoder(turn, framing(), starting_after=after) for _ in range(2))
        assert one.encode(frames) == other.encode(alone)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_goes_out_byte_for_byte_but_for_the_models_name(name: str) -> None:
    body = read_whole(name)
    assert body is not None
    turn = GeminiEventsColumn().turn(stream=False)
    frame = decoder(turn).feed_whole(body)
    sent = GEMINI.passed_on(turn, frame.raw or b"", "stop")
    assert sent is not None
    given: Any = loads(body)
    inner = given["response"] if SCENARIOS[name].envelope else given
    assert loads(sent) == {**inner, "modelVersion": MODEL}
    assert sent.replace(dumps(MODEL), b'"gemini-3-pro-001"') in body


# -- the stream and the whole answer ----------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_the_stream_folds_to_the_whole_answer(name: str) -> None:
    turn = ChatColumn().turn()
    body = read_whole(name)
    assert body is not None
    streamed = fold(frames_of(name, turn))
    whole = fold([decoder(turn).feed_whole(body)])
    assert told(streamed) == told(whole)
    assert streamed.error == whole.error
    if whole.error is None:
        assert told(whole)[1:] == said_by(loads(body))


def told(result: TurnResult) -> tuple[Any, ...]:
    """Finish, texts, thoughts, calls and the rest."""
    return (
        result.finish,
        [text_of(item.parts) for item in result.items if isinstance(item, Message)],
        ["".join(item.summary) for item in result.items if isinstance(item, Reasoning)],
        [(item.name, loads(item.arguments), signature(item)) for item in result.tool_calls],
        [item.payload for item in result.items if isinstance(item, OpaqueItem)],
    )


def signature(item: Item) -> str | None:
    """Whether there is one: those of two answers are never the same."""
    return "signed" if isinstance(item, ToolCall) and item.origin and item.origin.signature else None


def said_by(answer: Any) -> tuple[Any, ...]:
    """The same, read from Google's own form of the whole answer."""
    answer = answer.get("response", answer)
    candidates = answer.get("candidates", [{}])
    parts = candidates[0].get("content", {}).get("parts", [])
    texts: list[str] = []
    opened = False
    for part in parts:
        code = part.get("executableCode") or part.get("codeExecutionResult")
        words = part.get("text") if not part.get("thought") else None
        if code is not None:
            words = (
                f"\n```python\n{code['code']}\n```\n" if "code" in code else f"\n```\n{code['output']}\n```\n"
            )
        if words:
            texts = [*texts[:-1], texts[-1] + words] if opened else [*texts, words]
            opened = True
        elif "functionCall" in part or "inlineData" in part or "hologram" in part:
            opened = False
    known = {"text", "functionCall", "executableCode", "codeExecutionResult"}
    return (
        texts,
        [part["text"] for part in parts if part.get("thought")],
        [
            (part["functionCall"]["name"], part["functionCall"]["args"], "signed" if signed else None)
            for part in parts
            if "functionCall" in part
            for signed in [part.get("thoughtSignature")]
        ],
        [part for part in parts if not known & part.keys()],
    )


# -- everybody else's clients -----------------------------------------------------------------------------


@each_cassette
@pytest.mark.parametrize("column", OTHERS, ids=[column.name for column in OTHERS])
def test_every_client_reads_every_answer_as_a_stream_and_whole(column: Column, name: str) -> None:
    turn = column.turn()
    frames = frames_of(name, turn)
    check([event for frame in frames for event in frame.events])
    data, losses = encoded(column, turn, frames)
    read_stream = column.read(data)
    _, whole = not_streamed(column, frames)
    assert read_stream.answer == whole.answer
    assert message_of(read_stream) == message_of(whole)
    assert in_bursts(column, turn, frames, range(1, len(frames))) == (data, losses)


def message_of(read: Folded) -> str:
    """Codex finds in a stream's message how long to wait, behind its last full stop."""
    return str((read.error or {}).get("message", "")).rstrip(".")


@each_cassette
def test_how_the_network_cuts_a_stream_makes_no_difference(name: str) -> None:
    turn = ChatColumn().turn()
    stream = read(name)[1]
    for size in (1, 7, 1000):
        splitter = SseSplitter()
        one = decoder(turn)
        events: list[TurnEvent] = []
        for start in range(0, len(stream), size):
            for event in splitter.feed(stream[start : start + size]):
                events += one.feed_data(event.data, 1).events
        if (rest := splitter.eof()) is not None:
            events += one.feed_data(rest.data, 1).events
        if (last := one.eof()) is not None:
            events += last.events
        assert events == [event for frame in frames_of(name, turn) for event in frame.events]
