import gzip
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.compression import PIECE_BYTES, BrokenBody, UnknownCoding, coding_of, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}
ALL = [*PACKERS.items(), ("deflate", raw_deflate)]


@pytest.mark.parametrize(("coding", "pack"), ALL)
@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"a":"\xe7\x81\xb5"}' * 9000, bytes(range(256)) * 3000, b"x" * PIECE_BYTES * 2],
    ids=["empty", "small", "text", "bytes", "two whole pieces"],
)
def test_what_was_packed_comes_out(coding: str, pack: object, data: bytes) -> None:
    assert b"".join(unpack(coding, pack(data))) == data  # type: ignore[operator]


@given(st.sampled_from(ALL), st.binary(max_size=300), st.integers(1, 2000))
def test_any_bytes_come_out_as_they_went_in(packer: tuple[str, object], data: bytes, times: int) -> None:
    coding, pack = packer
    assert b"".join(unpack(coding, pack(data * times))) == data * times  # type: ignore[operator]


@pytest.mark.parametrize(("coding", "pack"), ALL)
def test_a_body_unpacks_in_small_pieces_and_no_further_than_it_is_pulled(coding: str, pack: object) -> None:
    bomb = pack(b"\0" * 64 * 1024 * 1024)  # type: ignore[operator]
    assert len(bomb) < 100_000
    pieces = unpack(coding, bomb)
    sizes = [len(next(pieces)) for _ in range(5)]
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) > 0


@pytest.mark.parametrize(("coding", "pack"), ALL)
def test_data_that_is_cut_off_is_broken_at_every_place(coding: str, pack: object) -> None:
    packed = pack(b'{"model":"m"}' * 50)  # type: ignore[operator]
    for end in range(len(packed)):
        with pytest.raises(BrokenBody):
            list(unpack(coding, packed[:end]))


@pytest.mark.parametrize(("coding", "pack"), ALL)
@pytest.mark.parametrize("rest", [b"x", b"y" * 200_000], ids=["near", "far"])
def test_data_that_goes_on_after_its_end_is_broken(coding: str, pack: object, rest: bytes) -> None:
    with pytest.raises(BrokenBody, match="goes on after the end"):
        list(unpack(coding, pack(b"{}") + rest))  # type: ignore[operator]


@pytest.mark.parametrize("coding", list(PACKERS))
def test_other_data_is_broken_and_names_its_coding(coding: str) -> None:
    with pytest.raises(BrokenBody, match=coding):
        list(unpack(coding, b'{"model":"m"}'))


def test_a_flipped_bit_is_found_by_the_checksum() -> None:
    packed = bytearray(gzip.compress(b"hello hello hello"))
    packed[-5] ^= 1
    with pytest.raises(BrokenBody):
        list(unpack("gzip", bytes(packed)))


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 25})
    packed = packer.compress(b"a" * 100) + packer.flush()
    with pytest.raises(BrokenBody):
        list(unpack("zstd", packed))


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([], None),
        ([b""], None),
        ([b"identity"], None),
        ([b"Identity, identity"], None),
        ([b"gzip"], "gzip"),
        ([b" GZip "], "gzip"),
        ([b"x-gzip"], "x-gzip"),
        ([b"identity, zstd"], "zstd"),
        ([b"identity", b"deflate"], "deflate"),
    ],
)
def test_the_coding_is_read_from_its_headers(values: list[bytes], coding: str | None) -> None:
    assert coding_of(values) == coding


@pytest.mark.parametrize("values", [[b"br"], [b"gzip, gzip"], [b"gzip", b"zstd"], [b"\xff"], [b"gzip;q=1"]])
def test_a_coding_that_nobody_here_can_undo_is_unknown(values: list[bytes]) -> None:
    with pytest.raises(UnknownCoding):
        coding_of(values)
