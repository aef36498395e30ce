"""The recorded streams of a Responses upstream for clients of the same dialect: three proofs.

1. Decoding and encoding again gives the bytes of the upstream, but for the edits that the lane declares.
2. What the events add up to is what the terminal event says: output, usage and status.
3. A request to which no edit applies goes out unchanged (tests/unit/gateway/upstreams/codex/test_edits.py).
"""

import importlib.util
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.kernel.json import dumps, dumps_canonical, loads
from gateway.protocols.responses.encode import ResponsesEncoder
from gateway.turn.events import TextDelta, TurnCompleted
from gateway.turn.fold import fold
from gateway.turn.frame import Frame
from gateway.wire.sse import SseSplitter
from tests.matrix.codex_cassettes import CODEX, MODEL, codex_index, decoded_codex, read_codex
from tests.matrix.responses import ResponsesColumn
from tests.support.responses_schema import validate_stream

ROOT = Path(__file__).resolve().parents[2]
DONE = b"data: [DONE]\n\n"
NAME = b'"model":"%b"'
ENDS_WELL = sorted(set(codex_index()) - {"failed", "failed_at_once", "error_event", "cut"})
ENDS_BADLY = sorted(set(codex_index()) - set(ENDS_WELL))
each_cassette = pytest.mark.parametrize("name", sorted(codex_index()))
each_good = pytest.mark.parametrize("name", ENDS_WELL)


@cache
def recorder() -> ModuleType:
    path = ROOT / "scripts/record_codex_cassettes.py"
    spec = importlib.util.spec_from_file_location("record_codex_cassettes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turn() -> Any:
    return ResponsesColumn().turn()


def encoded(frames: list[Frame], cuts: list[int] | None = None, *, starting_after: int = -1) -> bytes:
    encoder = ResponsesEncoder(turn(), starting_after=starting_after)
    borders = [0, *(cuts or []), len(frames)]
    return b"".join(encoder.encode(frames[start:end]) for start, end in pairwise(borders))


def renamed(stream: bytes) -> bytes:
    """The first edit, made another way."""
    return stream.replace(NAME % MODEL.encode(), NAME % turn().model.encode())


def terminal(stream: bytes) -> Any:
    events = [event for event in SseSplitter().feed(stream) if event.data and event.data != b"[DONE]"]
    return loads(events[-1].data or b"")["response"]  # type: ignore[index,call-overload]


def bare(item: Any) -> Any:
    """Without its id, which some upstreams leave out at the end."""
    return {name: value for name, value in item.items() if name != "id"}


# -- 1: the bytes -----------------------------------------------------------------------------------------


@each_good
def test_the_bytes_are_those_of_the_upstream_but_for_the_declared_edits(name: str) -> None:
    stream = read_codex(name).stream
    expected = renamed(stream).removesuffix(DONE) + DONE
    if name == "empty_output":
        items = [
            loads(e.data or b"")["item"]
            for e in SseSplitter().feed(stream)
            if e.event == "response.output_item.done"
        ]  # type: ignore[index,call-overload]
        head, last = expected[: expected.rindex(b"event: ")], expected[expected.rindex(b"event: ") :]
        expected = head + last.replace(b'"output":[]', b'"output":%b' % dumps(items))
    frames, _ = decoded_codex(read_codex(name), turn())
    assert encoded(frames) == expected


@each_cassette
def test_bursts_make_no_difference(name: str) -> None:
    frames, _ = decoded_codex(read_codex(name), turn())
    assert encoded(frames, list(range(1, len(frames)))) == encoded(frames)


@each_cassette
@pytest.mark.parametrize("together", [1, 2, 3, 7, 1000])
def test_events_that_come_together_say_what_they_say_alone(name: str, together: int) -> None:
    cassette = read_codex(name)
    alone, one = decoded_codex(cassette, turn())
    frames, other = decoded_codex(cassette, turn(), together=together)
    assert encoded(frames) == encoded(alone)
    assert encoded(frames, starting_after=5) == encoded(alone, starting_after=5)
    assert fold(frames) == fold(alone)
    assert (other.output, other.completed) == (one.output, one.completed)
    assert max(frame.seq for frame in frames) == max(frame.seq for frame in alone)


def test_deltas_that_come_together_are_one() -> None:
    frames, _ = decoded_codex(read_codex("many_deltas"), turn(), together=1000)
    alone, _ = decoded_codex(read_codex("many_deltas"), turn())
    said = [(frame.raw, event) for frame in alone for event in frame.events if isinstance(event, TextDelta)]
    (joined,) = [frame for frame in frames if frame.raws and isinstance(frame.events[0], TextDelta)]
    assert joined.events == (TextDelta(1, "".join([event.text for _, event in said])),)
    assert joined.raws == tuple([raw for raw, _ in said])
    assert len(said) == 200


@pytest.mark.parametrize("name", ENDS_BADLY)
def test_up_to_a_failure_the_bytes_are_those_of_the_upstream(name: str) -> None:
    """The failure is told in the gateway's words, with the next number, and ends the stream as it should."""
    events = SseSplitter().feed(read_codex(name).stream)
    frames, _ = decoded_codex(read_codex(name), turn())
    passed = events if name == "cut" else events[:-1]
    before = renamed(b"".join(event.raw for event in passed))
    told = encoded(frames)
    assert told.startswith(before)
    (end, done) = SseSplitter().feed(told.removeprefix(before))
    failure: Any = loads(end.data or b"")
    assert (failure["type"], done.raw) == ("response.failed", DONE)
    assert failure["sequence_number"] == len(passed)
    begun: Any = loads(SseSplitter().feed(before)[0].data or b"")
    assert failure["response"]["id"] == begun["response"]["id"]


@pytest.mark.parametrize(
    "name", sorted({*ENDS_WELL, *ENDS_BADLY} - {"interleaved", "unknown_events", "output_without_ids"})
)
def test_the_stream_is_what_the_world_knows_as_responses(name: str) -> None:
    """Left out: items side by side, which the checker takes for a defect; events that nobody knows; and an
    end that repeats items without their ids.
    """
    frames, _ = decoded_codex(read_codex(name), turn())
    found = validate_stream(encoded(frames))
    assert found.done
    assert found.response["model"] == turn().model


# -- 2: the meaning ---------------------------------------------------------------------------------------


@each_good
def test_the_events_add_up_to_what_the_terminal_event_says(name: str) -> None:
    stream = read_codex(name).stream
    frames, decoder = decoded_codex(read_codex(name), turn())
    result, said = fold(frames), terminal(stream)
    items = [loads(item.origin.raw) for item in result.items if item.origin and item.origin.raw]
    assert len(items) == len(result.items)
    in_order = [loads(raw) for raw in decoder.output]
    if said["output"]:
        assert [bare(item) for item in in_order] == [bare(item) for item in said["output"]]
    assert sorted(map(dumps_canonical, items)) == sorted(map(dumps_canonical, in_order))
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.total_tokens) == (
        said["usage"]["input_tokens"],
        said["usage"]["output_tokens"],
        said["usage"]["total_tokens"],
    )
    assert result.usage.cached_tokens == said["usage"]["input_tokens_details"]["cached_tokens"]
    assert result.usage.reasoning_tokens == said["usage"]["output_tokens_details"]["reasoning_tokens"]
    reason = (said["incomplete_details"] or {}).get("reason")
    assert (said["status"], reason) == {
        "stop": ("completed", None),
        "tool_calls": ("completed", None),
        "length": ("incomplete", "max_output_tokens"),
        "content_filter": ("incomplete", "content_filter"),
    }[result.finish or ""]
    assert (
        isinstance(frames[-1].events[-1] if frames[-1].events else None, TurnCompleted) or name == "done_line"
    )


# -- the cassettes ----------------------------------------------------------------------------------------


def test_the_index_lists_every_cassette_and_no_other() -> None:
    assert set(codex_index()) == {path.stem for path in CODEX.glob("*.sse")} == set(recorder().SCENARIOS)


@each_cassette
def test_a_cassette_says_where_it_comes_from_and_names_no_machine(name: str) -> None:
    header = read_codex(name).header
    assert (header["cassette"], header["about"]) == (name, codex_index()[name])
    assert (header["upstream"], header["source"]) == ("codex", recorder().SOURCE)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(header["date"]))
    text = (CODEX / f"{name}.sse").read_text(encoding="utf-8")
    assert not re.search(r"/(?:tmp|home|root|Users)/|127\.0\.0\.1|localhost|sk-", text)


@each_cassette
async def test_the_fake_says_today_what_it_said_then(name: str) -> None:
    assert await recorder().record(name) == (CODEX / f"{name}.sse").read_bytes()
