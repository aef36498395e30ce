from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import UpstreamProtocol
from gateway.wire.sse import SseEvent, SseSplitter, write_comment, write_event

PIECES = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"data: ",
        b"data:",
        b"data",
        b"event: ping",
        b"id: 7",
        b"retry: 10",
        b": note",
        b"x",
        "灵".encode(),
        b"\xef\xbb\xbf",
        b"\0",
    ]
)
STREAMS = st.lists(PIECES, max_size=40).map(b"".join)


def split(chunks: list[bytes]) -> tuple[list[SseEvent], bytes]:
    splitter = SseSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.pending


def reference(stream: bytes) -> list[tuple[str | None, bytes]]:
    """The algorithm of the HTML standard, written down as it stands there: (event, data) of what it fires."""
    lines: list[bytes] = []
    line = b""
    at = 0
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    while at < len(stream):
        byte = stream[at : at + 1]
        at += 1
        if byte in (b"\r", b"\n"):
            if byte == b"\r" and stream[at : at + 1] == b"\n":
                at += 1
            lines.append(line)
            line = b""
        else:
            line += byte
    fired: list[tuple[str | None, bytes]] = []
    event: str | None = None
    data: list[bytes] = []
    for text in lines:
        if not text:
            if data:
                fired.append((event, b"\n".join(data)))
            event, data = None, []
            continue
        name, _, value = text.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            data.append(value)
        if name == b"event":
            event = value.decode()
    return fired


@given(STREAMS, st.data())
def test_any_chunking_gives_the_same_events_and_loses_no_byte(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    borders = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(borders)]

    whole, whole_rest = split([stream])
    cut, cut_rest = split(chunks)

    assert cut == whole
    assert cut_rest == whole_rest
    assert b"".join(event.raw for event in whole) + whole_rest == stream


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert split([bytes([byte]) for byte in stream]) == split([stream])


@given(STREAMS)
def test_events_are_those_of_the_html_standard(stream: bytes) -> None:
    events, rest = split([stream])
    fired = [(event.event, event.data) for event in events if event.data is not None]
    expected = reference(stream)
    # The last blank line may still wait for the LF of its CRLF.
    waiting = 1 if rest.endswith(b"\r") and len(expected) == len(fired) + 1 else 0
    assert fired == expected[: len(expected) - waiting]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_frames_an_event(end: bytes) -> None:
    stream = end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])
    events, rest = split([stream, b":"])
    assert [(event.event, event.data) for event in events] == [("a", b"1\n2"), (None, b"3")]
    assert rest == b":"


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert [event.raw for event in splitter.feed(b"\n")] == [b"data: 1\r\n\r\n"]
    assert splitter.feed(b"data: 2\n") == []
    assert [event.data for event in splitter.feed(b"\n")] == [b"2"]


def test_the_byte_order_mark_is_kept_in_raw_and_is_no_part_of_the_field() -> None:
    (event,), rest = split([b"\xef", b"\xbb\xbfdata: 1\n\n"])
    assert event == SseEvent(b"\xef\xbb\xbfdata: 1\n\n", b"1")
    assert rest == b""


def test_a_byte_order_mark_behind_a_line_end_is_part_of_a_field_that_nobody_knows() -> None:
    (event,), _ = split([b"\n\xef\xbb\xbfdata: 1\n\n"])
    assert event.data is None


def test_a_block_without_data_is_given_with_data_none() -> None:
    (event,), _ = split([b": keep-alive\nid: 4\nretry: 250\n\n"])
    assert event == SseEvent(b": keep-alive\nid: 4\nretry: 250\n\n", None, None, "4", 250)


def test_an_empty_data_field_is_data() -> None:
    (event,), _ = split([b"data\n\n"])
    assert event.data == b""


@pytest.mark.parametrize(
    ("line", "event_id", "retry_ms"),
    [(b"id: a\0b", None, None), (b"retry: soon", None, None), (b"retry: -1", None, None), (b"id", "", None)],
)
def test_unusable_fields_mean_nothing(line: bytes, event_id: str | None, retry_ms: int | None) -> None:
    (event,), _ = split([line + b"\n\n"])
    assert (event.id, event.retry_ms) == (event_id, retry_ms)


def test_the_end_of_the_input_completes_an_event_that_lacks_its_blank_line_only() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: [DONE]\n") == []
    assert splitter.eof() == SseEvent(b"data: [DONE]\n", b"[DONE]")
    assert splitter.eof() is None


def test_the_end_of_the_input_inside_a_line_drops_the_event() -> None:
    splitter = SseSplitter()
    splitter.feed(b'data: {"type":"resp')
    assert splitter.eof() is None
    assert splitter.pending == b""


@pytest.mark.parametrize("size", [1, 7, 100])
def test_an_event_beyond_the_limit_is_an_error_however_it_arrives(size: int) -> None:
    stream = b"data: " + b"x" * 50 + b"\n\n"
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    splitter = SseSplitter(max_event_bytes=40)
    with pytest.raises(UpstreamProtocol, match="more than 40 bytes"):
        for chunk in chunks:
            splitter.feed(chunk)


def test_the_limit_is_per_event_not_per_stream() -> None:
    splitter = SseSplitter(max_event_bytes=10)
    assert len(splitter.feed(b"data: 1\n\n" * 100)) == 100


@given(st.text().filter(lambda text: "\r" not in text), st.sampled_from([None, "delta"]), st.integers(0, 9))
def test_what_is_written_is_read_back(text: str, name: str | None, number: int) -> None:
    (event,), rest = split([write_event(text.encode(), event=name, event_id=number)])
    assert (event.data, event.event, event.id) == (text.encode(), name, str(number))
    assert rest == b""


def test_a_comment_cannot_break_out_of_its_line() -> None:
    (event,), _ = split([write_comment("a\ndata: b")])
    assert event.data is None
