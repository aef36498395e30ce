import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.replay.signatures import MAX_CHARS, is_gpt_signature
from tests.support.replay import SIG_A, SIG_B


def token(ciphertext_bytes: int, *, version: int = 0x80) -> str:
    return base64.urlsafe_b64encode(bytes([version]) + bytes(24 + ciphertext_bytes + 32)).decode()


def test_the_signatures_of_the_vectors_are_valid() -> None:
    assert is_gpt_signature(SIG_A)
    assert is_gpt_signature(SIG_B)
    assert is_gpt_signature(f"\n {SIG_A}\u3000")


def test_rp_22_padding_and_alphabet() -> None:
    """Given SIG_A without `==` (98 chars), expect valid; with one `=`, with `+` or `/`, or with another first
    character: invalid.
    """
    bare = SIG_A.rstrip("=")
    assert len(bare) == 98
    assert is_gpt_signature(bare)
    assert not is_gpt_signature(bare + "=")
    assert not is_gpt_signature(bare + "===")
    assert not is_gpt_signature(bare + "======")
    for character in "+/ .\n":
        assert not is_gpt_signature(SIG_A[:20] + character + SIG_A[21:])
    assert not is_gpt_signature("h" + SIG_A[1:])
    assert not is_gpt_signature(SIG_A[:40] + "=" + SIG_A[41:])


@pytest.mark.parametrize(
    ("ciphertext_bytes", "valid"),
    [(0, False), (15, False), (16, True), (24, False), (32, True), (48, True), (4096, True)],
)
def test_rp_23_length_of_the_ciphertext(ciphertext_bytes: int, valid: bool) -> None:
    """Given 57, 72, 73, 81, 89 decoded bytes, expect invalid, invalid, valid, invalid, valid."""
    assert is_gpt_signature(token(ciphertext_bytes)) is valid


def test_rp_23_version_byte() -> None:
    """Given version byte 0x81, which encodes as `gQAA`, expect invalid."""
    assert token(16, version=0x81).startswith("gQAA")
    assert not is_gpt_signature(token(16, version=0x81))
    assert is_gpt_signature(token(16))


def test_a_digit_too_many_is_refused() -> None:
    """Of itself it would be six spare bits, all zero."""
    whole = token(48)
    assert len(whole) % 4 == 0
    assert is_gpt_signature(whole)
    assert not is_gpt_signature(whole + "A")


def test_bits_that_no_encoder_writes_are_refused() -> None:
    """73 bytes leave four spare bits in the last digit."""
    assert SIG_A.endswith("g==")
    assert not is_gpt_signature(SIG_A[:-3] + "h==")
    assert not is_gpt_signature(SIG_A[:-3] + "h")
    assert SIG_B.endswith("o=")
    assert not is_gpt_signature(SIG_B[:-2] + "p=")


@pytest.mark.parametrize("text", ["", " ", "gAAAA", "gAAAA=", "gAAAA==", "CAIS", "\u0661" * 100])
def test_what_is_no_token_is_refused(text: str) -> None:
    assert not is_gpt_signature(text)


def test_endless_ones_are_refused_unread() -> None:
    blocks = (MAX_CHARS * 6 // 8 - 57) // 16
    longest = token(16 * blocks)
    assert len(longest) <= MAX_CHARS
    assert is_gpt_signature(longest)
    assert not is_gpt_signature(token(16 * (blocks + 2)))


@settings(deadline=None)
@given(st.integers(0, 40), st.binary(min_size=1, max_size=3))
def test_the_shape_is_exactly_what_a_strict_decoder_would_find(blocks: int, noise: bytes) -> None:
    """Cutting digits off a token leaves one exactly when whole blocks of 16 bytes remain."""
    text = token(16 * blocks).rstrip("=")
    cut = text[: len(text) - len(noise)]
    decodable = len(cut) % 4 != 1
    left = len(cut) * 6 // 8 - 57
    assert is_gpt_signature(cut) is (decodable and left > 0 and left % 16 == 0)
