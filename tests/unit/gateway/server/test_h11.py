"""Whatever a client sends, and however it is cut: the short way says what h11 says."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.server.h11 import PlainConnection

LIMIT = 2048

lines = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /v1/responses?x=1 HTTP/1.1",
        b"HEAD /x HTTP/1.1",
        b"GET / HTTP/1.0",
        b"CONNECT x:1 HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /\xc3\xa4 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"",
        b"\x16\x03\x01",
    ]
)
fields = st.sampled_from(
    [
        b"host: x",
        b"Host: x",
        b"host:x",
        b"host:  x  ",
        b"host : x",
        b"content-length: 3",
        b"Content-Length: 3",
        b"content-length: 3, 3",
        b"content-length: 4",
        b"content-length: 0",
        b"content-length: -1",
        b"content-length: \xb2",
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip",
        b"connection: close",
        b"connection: keep-alive, Upgrade",
        b"upgrade: websocket",
        b"expect: 100-continue",
        b"x-empty:",
        b"x-empty: ",
        b"x: a\tb",
        b"x: a\x0bb",
        b"x: \xc3\xa4",
        b"x: a\rb",
        b"x: a\nb",
        b"x: a: b",
        b" folded",
        b"no colon",
        b"x\0: y",
    ]
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
bodies = st.sampled_from([b"", b"abc", b"abcd", b"3\r\nabc\r\n0\r\n\r\n", b"x"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """What a client might send for a request, most of it legal."""
    end = draw(ends)
    given = [draw(lines), b"host: x", *draw(st.lists(fields, max_size=4))]
    return end.join([*given, b"", b""]) + draw(bodies)


def is_over(connection: h11.Connection) -> bool:
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


ANSWERS: dict[str, list[Any]] = {
    "whole": [h11.Response(status_code=200, headers=[("content-length", "2")]), h11.Data(data=b"ok")],
    "in pieces": [h11.Response(status_code=200, headers=[]), h11.Data(data=b"o"), h11.Data(data=b"k")],
    "in pieces, kept": [
        h11.Response(status_code=200, headers=[("Connection", "keep-alive"), ("x", "y")]),
        h11.Data(data=b""),
        h11.Data(data=b"ok"),
    ],
    "the last": [
        h11.Response(status_code=500, headers=[("content-length", "2"), ("connection", "close")]),
        h11.Data(data=b"ok"),
    ],
    "both lengths": [
        h11.Response(status_code=200, headers=[("content-length", "2"), ("transfer-encoding", "chunked")]),
        h11.Data(data=b"ok"),
    ],
    "nothing": [h11.Response(status_code=204, headers=[])],
    "nothing new": [h11.Response(status_code=304, headers=[("content-length", "2")])],
    "go on": [
        h11.InformationalResponse(status_code=100, headers=[]),
        h11.Response(status_code=200, headers=[("content-length", "0")]),
    ],
    "too short": [h11.Response(status_code=200, headers=[("content-length", "2")])],
    "other": [
        h11.InformationalResponse(status_code=101, headers=[("upgrade", "websocket")]),
    ],
}


def answered(connection: h11.Connection, answer: str, seen: list[Any]) -> None:
    events = ANSWERS[answer]
    for event in [*events, h11.EndOfMessage()] if answer != "other" else events:
        if connection.they_are_waiting_for_100_continue:
            seen.append("waiting")
        seen.append(connection.send(event))
        seen.append(connection.states)


def told(connection: h11.Connection, pieces: Sequence[bytes], answer: str) -> list[Any]:
    """All that can be seen of a connection that answers what it understands."""
    seen: list[Any] = []
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while True:
                event = connection.next_event()
                seen += [event, connection.states, connection.they_are_waiting_for_100_continue]
                if event in (h11.NEED_DATA, h11.PAUSED) or type(event) is h11.ConnectionClosed:
                    break
                if type(event) is h11.EndOfMessage and connection.our_state is h11.SEND_RESPONSE:
                    answered(connection, answer, seen)
                    if is_over(connection):
                        connection.start_next_cycle()
                        seen.append(connection.states)
    except (h11.RemoteProtocolError, h11.LocalProtocolError) as error:
        seen += [type(error), str(error), error.error_status_hint, connection.states]
    seen.append(connection.trailing_data)
    return seen


def both(
    stream: bytes, cuts: Sequence[int], closes: bool, answer: str = "whole"
) -> tuple[list[Any], list[Any]]:
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(borders) if a < b]
    pieces += [b""] if closes else []
    plain, original = (
        kind(h11.SERVER, max_incomplete_event_size=LIMIT) for kind in (PlainConnection, h11.Connection)
    )
    return told(plain, pieces, answer), told(original, pieces, answer)


@given(
    st.lists(requests(), min_size=1, max_size=3),
    st.lists(st.integers(0, 300), max_size=4),
    st.booleans(),
    st.sampled_from(sorted(ANSWERS)),
)
@example([b"GET / HTTP/1.1\r\nhost: x\r\nx: a\rb\r\n\r\n"], [], False, "whole")
def test_what_is_seen_of_a_connection_is_what_h11_shows(
    sent: list[bytes], cuts: list[int], closes: bool, answer: str
) -> None:
    plain, original = both(b"".join(sent), cuts, closes, answer)
    assert plain == original


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=2))
def test_bytes_without_sense_are_refused_alike(stream: bytes, cuts: list[int]) -> None:
    plain, original = both(stream, cuts, closes=True)
    assert plain == original


@pytest.mark.parametrize("size", [LIMIT - 100, LIMIT, LIMIT + 100])
def test_a_head_that_grows_too_long_is_refused_alike(size: int) -> None:
    plain, original = both(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * size, [], closes=False)
    assert plain == original


@given(st.integers(2, 8), st.integers(1, 9))
def test_an_answer_that_is_not_as_long_as_it_said_is_refused_alike(length: int, size: int) -> None:
    seen: list[list[Any]] = []
    for kind in (PlainConnection, h11.Connection):
        connection = kind(h11.SERVER)
        connection.receive_data(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        shown: list[Any] = [connection.next_event(), connection.next_event()]
        try:
            shown.append(
                connection.send(h11.Response(status_code=200, headers=[("content-length", str(length))]))
            )
            shown.append(connection.send(h11.Data(data=b"x" * size)))
            shown.append(connection.send(h11.EndOfMessage()))
        except h11.LocalProtocolError as error:
            shown.append(str(error))
        seen.append([*shown, connection.states])
    assert seen[0] == seen[1]


def test_a_plain_head_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.h11.read_any_head", None)
    connection = PlainConnection(h11.SERVER)
    connection.receive_data(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\ncontent-length: 2\r\n\r\nok")
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.headers.raw_items()) == (
        b"POST",
        b"/v1/responses",
        [(b"Host", b"x"), (b"content-length", b"2")],
    )
