import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.sealing import SealRing, Unsealable, parse_ring

OLD = ("2025", b"o" * 32)
NEW = ("2026", b"n" * 32)


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_is_sealed_opens_in_its_place(value: bytes, place: bytes) -> None:
    ring = SealRing([NEW, OLD])
    sealed = ring.seal(value, place)
    assert ring.open(sealed, place) == value
    if len(value) > 3:
        assert value not in sealed


def test_the_same_value_is_never_sealed_alike() -> None:
    ring = SealRing([NEW])
    assert ring.seal(b"v", b"p") != ring.seal(b"v", b"p")


def test_nothing_opens_elsewhere_altered_or_cut() -> None:
    ring = SealRing([NEW])
    sealed = ring.seal(b"value", b"place")
    with pytest.raises(Unsealable):
        ring.open(sealed, b"other place")
    for at in range(len(sealed)):
        with pytest.raises(Unsealable):
            ring.open(sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :], b"place")
        with pytest.raises(Unsealable):
            ring.open(sealed[:at], b"place")


def test_a_rotated_key_still_opens_and_a_dropped_one_does_not() -> None:
    sealed = SealRing([OLD]).seal(b"value", b"place")
    assert SealRing([NEW, OLD]).open(sealed, b"place") == b"value"
    with pytest.raises(Unsealable):
        SealRing([NEW]).open(sealed, b"place")


def test_a_ring_is_read_from_names_and_base64() -> None:
    plain = base64.b64encode(NEW[1]).decode()
    unpadded_url = base64.urlsafe_b64encode(b"\xff" * 32).decode().rstrip("=")
    ring = parse_ring([f"2026:{plain}", f"b:{unpadded_url}"])
    assert ring.open(SealRing([NEW]).seal(b"v", b"p"), b"p") == b"v"
    assert ring.open(SealRing([("b", b"\xff" * 32)]).seal(b"v", b"p"), b"p") == b"v"


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([], "at least one"),
        (["secretsecret"], "entry 1 is not of the form"),
        (["a:"], "entry 1 is not of the form"),
        (["a:%%%"], "entry 1 is not of the form"),
        (["a:c2hvcnQ="], "key a has 5 bytes"),
        ([f"a b:{base64.b64encode(b'k' * 32).decode()}"], "a key's name"),
        ([f"a:{base64.b64encode(b'k' * 32).decode()}"] * 2, "key a is there twice"),
    ],
)
def test_a_ring_of_the_wrong_form_is_refused_without_showing_a_key(entries: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_ring(entries)
    assert "secret" not in str(caught.value)
