import json
import re

import pytest

from gateway.kernel.json import Json, dumps, loads
from gateway.protocols.gemini.framing import ArrayFraming, EventFraming, Framing, SdkFraming, one_line
from gateway.wire.sse import SseSplitter

JS_EVENT = re.compile(r"^\s*data: ([^\n\r\u2028\u2029]*)(?:\n\n|\r\r|\r\n\r\n)")
"""What google-genai for JavaScript looks for, with what a dot means there."""


def javascript(text: str) -> list[Json]:
    """As google-genai for JavaScript reads a stream that comes in one piece."""
    found = []
    while match := JS_EVENT.match(text):
        found.append(loads(match[1]))
        text = text[match.end() :]
    if text.strip():
        raise ValueError("Incomplete JSON segment at the end")
    return found


def go(text: str) -> list[Json]:
    """As google-genai for Go does."""
    found = []
    for line in text.split("\n\n"):
        if not line:
            continue
        prefix, _, data = line.partition(":")
        if prefix != "data":
            raise ValueError(json.loads(line)["error"]["message"])
        found.append(json.loads(data))
    return found


def events(data: bytes) -> list[Json]:
    """As the standard wants them read."""
    splitter = SseSplitter()
    read = [loads(event.data) for event in splitter.feed(data) if event.data is not None]
    assert splitter.pending == b""
    return read


CHUNK = dumps({"a": 1})
ERROR = dumps({"error": {"message": "broken"}})


def talk(framing: Framing, *keepalives: int) -> bytes:
    """That many keep-alives before each of several chunks."""
    return b"".join(
        b"".join(framing.keepalive() for _ in range(count)) + framing.chunk(CHUNK, None)
        for count in keepalives
    )


@pytest.mark.parametrize("framing", [EventFraming, SdkFraming])
@pytest.mark.parametrize("keepalives", [(0, 0), (1, 0), (0, 3), (2, 2)])
def test_keepalives_disturb_no_reader(framing: type[EventFraming], keepalives: tuple[int, ...]) -> None:
    data = talk(framing(), *keepalives)
    expected: list[Json] = [{"a": 1}, {"a": 1}]
    assert events(data) == expected
    assert javascript(data.decode()) == expected
    assert go(data.decode()) == expected


@pytest.mark.parametrize("keepalives", [0, 1, 3])
def test_errors_for_sdks_are_raised_by_each_of_them(keepalives: int) -> None:
    framing = SdkFraming()
    data = framing.chunk(CHUNK, None)
    data += b"".join(framing.keepalive() for _ in range(keepalives))
    data += framing.error(ERROR, None) + framing.end()
    with pytest.raises(ValueError, match="Incomplete"):
        javascript(data.decode())
    with pytest.raises(ValueError, match="broken"):
        go(data.decode())


def test_an_error_for_sdks_that_comes_alone_is_json() -> None:
    """The one for JavaScript shows an error only when it can read what arrived as JSON."""
    framing = SdkFraming()
    framing.chunk(CHUNK, None)
    assert loads(framing.error(ERROR, None)) == {"error": {"message": "broken"}}


def test_errors_for_others_are_events() -> None:
    framing = EventFraming()
    data = framing.keepalive() + framing.error(ERROR, None) + framing.end()
    assert events(data) == [{"error": {"message": "broken"}}]


def test_only_standard_readers_are_told_numbers() -> None:
    framing = EventFraming()
    data = framing.chunk(CHUNK, 1) + framing.keepalive() + framing.chunk(CHUNK, 2) + framing.error(ERROR, 3)
    read = SseSplitter().feed(data)
    assert [(event.id, event.data) for event in read] == [("1", CHUNK), ("2", CHUNK), ("3", ERROR)]
    assert b"id:" not in SdkFraming().chunk(CHUNK, 1)


@pytest.mark.parametrize(
    ("chunks", "failed", "read"),
    [
        (0, False, []),
        (1, False, [{"a": 1}]),
        (2, False, [{"a": 1}, {"a": 1}]),
        (2, True, [{"a": 1}, {"a": 1}, {"error": {"message": "broken"}}]),
        (0, True, [{"error": {"message": "broken"}}]),
    ],
)
def test_an_array_is_closed_whatever_happens(chunks: int, failed: bool, read: Json) -> None:
    framing = ArrayFraming()
    data = framing.keepalive()
    for _ in range(chunks):
        data += framing.chunk(CHUNK, None) + framing.keepalive()
    if failed:
        data += framing.error(ERROR, None)
    assert loads(data + framing.end()) == read


@pytest.mark.parametrize("framing", [ArrayFraming, EventFraming, SdkFraming])
def test_a_chunk_is_on_one_line(framing: type[Framing]) -> None:
    talking = framing()
    pretty = json.dumps({"text": "a\u2028b"}, indent=1, ensure_ascii=False).encode()
    data = talking.chunk(pretty, None) + talking.chunk(pretty, None)
    assert len([line for line in data.decode().splitlines() if line]) == 2


def test_one_line_is_one_line_for_everybody_and_the_same_json() -> None:
    text = "two  spaces\u2028\u2029\u0085 and \u2027 more"
    pretty = json.dumps({"text": text, "n": [1]}, indent=2, ensure_ascii=False).encode()
    line = one_line(pretty)
    assert len(line.decode().splitlines()) == 1
    assert loads(line) == {"text": text, "n": [1]}
    assert one_line(CHUNK) is CHUNK
