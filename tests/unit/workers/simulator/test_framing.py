"""Frames on the byte stream."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.simulator.framing import FrameReader, UnknownHeader, encode, is_text, pieces


def read_all(*chunks: bytes) -> list[bytes]:
    reader = FrameReader()
    found: list[bytes] = []
    for chunk in chunks:
        reader.feed(chunk)
        found.extend(reader.bodies())
    return found


def test_lv_1_the_length_counts_bytes() -> None:
    """Given a body with accents and CJK of 63 characters; expected `Content-Length: 68`."""
    message = {"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"t": "né 灵码"}}
    encoded = encode(message)
    header, body = encoded.split(b"\r\n\r\n")
    assert (len(body.decode()), header) == (63, b"Content-Length: 68")


def test_lv_2_a_frame_cut_anywhere_is_one_message() -> None:
    """Given that frame cut after byte 9, in the blank line, inside 灵; expected one message, none early."""
    whole = encode({"t": "né 灵码"})
    inside = whole.index("灵".encode()) + 1
    blank = whole.index(b"\r\n\r\n") + 2
    reader = FrameReader()
    found: list[list[bytes]] = []
    for chunk in (whole[:9], whole[9:blank], whole[blank:inside], whole[inside:]):
        reader.feed(chunk)
        found.append(list(reader.bodies()))
    assert [len(bodies) for bodies in found] == [0, 0, 0, 1]


def test_lv_3_several_frames_in_one_message_come_in_order() -> None:
    """Given 3 frames and the first 5 bytes of a 4th, then the rest; expected 4 messages in order."""
    frames = [encode({"n": number}) for number in range(4)]
    assert read_all(b"".join(frames[:3]) + frames[3][:5], frames[3][5:]) == [
        b'{"n":%d}' % number for number in range(4)
    ]


def test_lv_4_other_headers_and_any_letter_case() -> None:
    """Given a content-type header and an upper case length; expected the body."""
    assert read_all(b"content-type: x\r\nCONTENT-LENGTH:2\r\n\r\n{}") == [b"{}"]


def test_an_empty_body_is_a_body() -> None:
    assert read_all(b"Content-Length: 0\r\n\r\n") == [b""]


@pytest.mark.parametrize(
    "junk",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b"[1]",
        b"GET / HTTP/1.1\r\n\r\n",
        b"Content-Length: many\r\n\r\n{}",
        b"Content-Type: x\r\n\r\n{}",
        b"a" * 9000,
        b"X: " + b"y" * 9000,
    ],
)
def test_what_is_no_header_is_dropped_and_the_next_frame_counts(junk: bytes) -> None:
    reader = FrameReader()
    reader.feed(junk)
    with pytest.raises(UnknownHeader):
        list(reader.bodies())
    reader.feed(encode({"n": 1}))
    assert list(reader.bodies()) == [b'{"n":1}']


def test_a_header_may_come_letter_by_letter() -> None:
    encoded = encode({"n": 1})
    assert read_all(*(encoded[at : at + 1] for at in range(len(encoded)))) == [b'{"n":1}']


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.lists(st.integers(1, 40), max_size=20))
def test_any_cutting_gives_the_same_messages(texts: list[str], cuts: list[int]) -> None:
    stream = b"".join(encode(text) for text in texts)
    chunks, rest = [], stream
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert read_all(*chunks, rest) == read_all(stream)
    assert len(read_all(stream)) == len(texts)


@given(st.text(min_size=1, max_size=40), st.sampled_from(["none", "random", "byte"]), st.integers(0, 99))
def test_pieces_join_to_the_frame_and_none_is_empty(text: str, fragment: str, seed: int) -> None:
    frame = encode(text)
    cut = pieces(frame, fragment, random.Random(seed))
    assert b"".join(cut) == frame
    assert all(cut)
    assert len(cut) == (1 if fragment == "none" else len(frame) if fragment == "byte" else len(cut))


def test_a_piece_of_a_character_is_no_text() -> None:
    assert is_text("灵".encode())
    assert not is_text("灵".encode()[:2])
