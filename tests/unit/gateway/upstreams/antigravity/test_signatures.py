import base64

import pytest

from gateway.upstreams.antigravity.signatures import gemini_signature_in
from tests.support.signature_chains import G1, gemini_signature

UUID = b"3f2a9c10-0000-4abc-8def-1234567890AB"


def envelope(payload: bytes, *, inner: int = 0x0A, outer: int = 0x12) -> str:
    def field(tag: int, content: bytes) -> bytes:
        length, size = b"", len(content)
        while size > 0x7F:
            length, size = length + bytes([0x80 | (size & 0x7F)]), size >> 7
        return bytes([tag]) + length + bytes([size]) + content

    return base64.b64encode(field(outer, field(inner, payload))).decode()


@pytest.mark.parametrize(
    "signature",
    [
        gemini_signature("a"),
        gemini_signature("a").rstrip("="),
        f" {gemini_signature('a')}\n",
        envelope(b"\x01"),
        envelope(b"\x01" + b"x" * 300),
        envelope(b"\x01" + b"x" * 100_000),
        envelope(UUID),
    ],
)
def test_the_shape_of_a_signature(signature: str) -> None:
    assert gemini_signature_in(signature) == signature.strip()


@pytest.mark.parametrize(
    "signature",
    [
        "",
        G1,
        "skip_thought_signature_validator",
        "é" * 16,
        "Eg==",
        envelope(b""),
        envelope(b"\x02xx"),
        envelope(b"\x01x", inner=0x12),
        envelope(b"\x01x", outer=0x0A),
        envelope(UUID[:-1]),
        envelope(UUID.replace(b"-", b"0")),
        envelope(b"\x01 claude-opus"),
        base64.b64encode(UUID).decode(),
        base64.b64encode(base64.b64decode(gemini_signature("a")) + b"\x0a\x01x").decode(),
        base64.b64encode(base64.b64decode(gemini_signature("a"))[:-1]).decode(),
        base64.b64encode(b"\x12\xff\xff\xff\xff\xff\xff\xff").decode(),
        base64.b64encode(b"\x12").decode(),
        gemini_signature("a")[:4] + "-+" + gemini_signature("a")[6:],
        gemini_signature("a")[:4] + "." + gemini_signature("a")[5:],
        gemini_signature("a") + "=",
        "gAAAAABqAAAAAAECAwQFBgcICQoLDA0ODw",
    ],
)
def test_anything_else_is_no_signature(signature: str) -> None:
    assert not gemini_signature_in(signature)


def test_a_signature_has_an_end() -> None:
    assert not gemini_signature_in("E" * (32 * 2**20 + 4))


def test_what_googles_sdk_makes_of_a_signature_is_read() -> None:
    """It decodes the base64 of answers and writes the bytes in the alphabet for addresses."""
    told = envelope(b"\x01" + bytes(range(256)))
    again = base64.urlsafe_b64encode(base64.b64decode(told)).decode()
    assert again != told
    assert gemini_signature_in(again) == told
