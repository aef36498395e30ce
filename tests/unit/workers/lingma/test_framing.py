import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.lingma.errors import FramingError
from workers.lingma.framing import FrameDecoder, encode

PING = '{"jsonrpc":"2.0","id":7,"method":"ping","params":{"t":"né 灵码"}}'.encode()


def test_lv_1_length_counts_bytes() -> None:
    """LV-1: given the body of a ping with `né 灵码`, 63 characters, expect `Content-Length: 68`."""
    assert len(PING.decode()) == 63
    assert encode(PING) == b"Content-Length: 68\r\n\r\n" + PING


def test_lv_2_cuts_in_header_blank_line_and_character() -> None:
    """LV-2: given that frame cut after byte 9, in the blank line and in 灵, expect one message, late."""
    frame = encode(PING)
    blank = frame.index(b"\r\n\r\n") + 2
    character = frame.index("灵".encode()) + 1
    decoder = FrameDecoder()
    chunks = [frame[:9], frame[9:blank], frame[blank:character], frame[character:]]
    assert [decoder.feed(chunk) for chunk in chunks] == [[], [], [], [PING]]
    assert decoder.pending_bytes == 0


def test_lv_3_several_frames_in_one_message_and_a_rest() -> None:
    """LV-3: given 3 frames and 5 bytes of a 4th in a binary message, the rest in text, expect 4 in order."""
    bodies = [b'{"n":1}', b'{"n":2}', b'{"n":3}', '{"n":"灵"}'.encode()]
    stream = b"".join(map(encode, bodies))
    cut = len(stream) - len(encode(bodies[3])) + 5
    decoder = FrameDecoder()
    assert decoder.feed(bytearray(stream[:cut])) == bodies[:3]
    assert decoder.feed(stream[cut:].decode()) == bodies[3:]


def test_lv_4_other_headers_and_any_case() -> None:
    """LV-4: given `content-type: x` and `CONTENT-LENGTH:2` before `{}`, expect `{}`."""
    assert FrameDecoder().feed(b"content-type: x\r\nCONTENT-LENGTH:2\r\n\r\n{}") == [b"{}"]


@given(
    bodies=st.lists(st.text(max_size=60).map(lambda text: json.dumps(text, ensure_ascii=False).encode())),
    cuts=st.lists(st.integers(0, 4000)),
    other_header=st.booleans(),
)
def test_any_chunking_decodes_the_same(bodies: list[bytes], cuts: list[int], other_header: bool) -> None:
    header = b"Content-Type: x\r\n" if other_header else b""
    stream = b"".join(header + encode(body) for body in bodies)
    borders = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    decoder = FrameDecoder()
    decoded: list[bytes] = []
    for start, stop in itertools.pairwise(borders):
        decoded += decoder.feed(stream[start:stop])
    assert decoded == bodies
    assert decoder.pending_bytes == 0


def test_byte_by_byte() -> None:
    stream = encode(PING) + encode(b"{}")
    decoder = FrameDecoder()
    decoded = [body for byte in stream for body in decoder.feed(bytes([byte]))]
    assert decoded == [PING, b"{}"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_are_bytes_of_their_own(kind: type) -> None:
    source = bytearray(encode(PING))
    (body,) = FrameDecoder().feed(kind(source))
    source[-1:] = b"X"
    assert body == PING
    assert type(body) is bytes


@pytest.mark.parametrize(
    "stream",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b"Content-Type: x\r\n\r\n{}",
        b"Content-Length: -2\r\n\r\n{}",
        b"Content-Length: 2.0\r\n\r\n{}",
        b"Content-Length:\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length 2\r\n\r\n{}",
        b"Content-Length : 2\r\n\r\n{}",
        b"\r\n\r\n{}",
        b"\r\n",
        b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
        b"X" * 9000,
    ],
)
def test_malformed_header_is_an_error(stream: bytes) -> None:
    with pytest.raises(FramingError):
        FrameDecoder().feed(stream)


def test_header_and_body_sizes_are_bounded() -> None:
    decoder = FrameDecoder(max_body_bytes=10)
    assert decoder.feed(encode(b"0123456789")) == [b"0123456789"]
    with pytest.raises(FramingError):
        decoder.feed(encode(b"0123456789X"))
    endless = FrameDecoder(max_header_bytes=100)
    assert endless.feed(b"Content-Type: " + b"x" * 80) == []
    with pytest.raises(FramingError):
        endless.feed(b"x" * 80)


def test_bodies_of_the_largest_size_in_small_chunks_take_linear_time() -> None:
    body = b"x" * (8 * 2**20)
    stream = encode(body)
    decoder = FrameDecoder()
    decoded: list[bytes] = []
    for start in range(0, len(stream), 1024):
        decoded += decoder.feed(stream[start : start + 1024])
    assert decoded == [body]
