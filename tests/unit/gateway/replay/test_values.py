import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.json import Json, dumps, loads
from gateway.replay.limits import MAX_VALUE_BYTES
from gateway.replay.values import (
    CorruptValue,
    canonical_json,
    decode_items,
    encode_items,
    go_number,
    pack_items,
)

# -- values in the store


def test_items_are_an_array_of_standard_base64() -> None:
    assert encode_items([]) == b"[]"
    assert encode_items([b"{}", b"\xfb\xff\xfe"]) == b'["e30=","+//+"]'
    assert decode_items(b' ["e30=", "+//+"] ') == [b"{}", b"\xfb\xff\xfe"]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_what_is_encoded_is_decoded(items: list[bytes]) -> None:
    assert decode_items(encode_items(items)) == items


def test_null_is_nothing_as_go_writes_it() -> None:
    assert decode_items(b"null") == []
    assert decode_items(b"[null]") == [b""]


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"1", b"[1]", b'["e30"]', b'["e3_="]', b'["e30= "]', b'["\xc3\xa9=="]', b"[", b"\xff"],
)
def test_anything_else_is_corrupt(value: bytes) -> None:
    with pytest.raises(CorruptValue):
        decode_items(value)


JSON_LINES = st.lists(
    st.binary(max_size=50).map(lambda line: line.replace(b"\n", b" ")), min_size=1, max_size=5
)


@settings(deadline=None)
@given(JSON_LINES)
def test_what_is_packed_is_read_like_anything_else(items: list[bytes]) -> None:
    assert decode_items(pack_items(items)) == items


def test_packed_items_are_small_where_they_repeat() -> None:
    items = [dumps({"call": number, "content": "def f(): return 1\n" * 100}) for number in range(100)]
    assert len(pack_items(items)) * 20 < len(encode_items(items))


@pytest.mark.parametrize(
    "spoil", [lambda frame: frame[:-1], lambda frame: frame + b"x", lambda frame: frame[:9]]
)
def test_a_frame_that_is_no_whole_one_is_corrupt(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CorruptValue):
        decode_items(spoil(pack_items([b"{}", b"[]"])))


def test_a_frame_that_holds_too_much_is_corrupt_and_never_unpacked_whole() -> None:
    with pytest.raises(CorruptValue):
        decode_items(pack_items([bytes(MAX_VALUE_BYTES + 1)]))


# -- canonical JSON


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-2.50, "-2.5"),
        (0.0, "0"),
        (-0.0, "-0"),
        (1e-6, "0.000001"),
        (1.5e-5, "0.000015"),
        (9.9e-7, "9.9e-7"),
        (1e-10, "1e-10"),
        (5e-324, "5e-324"),
        (1e16, "10000000000000000"),
        (1.5e20, "150000000000000000000"),
        (1e21, "1e+21"),
        (-1.25e100, "-1.25e+100"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_numbers_are_printed_as_go_prints_them(number: float, text: str) -> None:
    assert go_number(number) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_is_the_same_number(number: float) -> None:
    assert float(go_number(number)) == number


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (b' { "b" : 1.0, "a" : [true, null, 2e0] } ', b'{"a":[true,null,2],"b":1}'),
        (b'"<a href=\\"x\\">&amp;</a>"', b'"\\u003ca href=\\"x\\"\\u003e\\u0026amp;\\u003c/a\\u003e"'),
        ('"\\u2028 \u2029 é \U0001f600"'.encode(), '"\\u2028 \\u2029 é \U0001f600"'.encode()),
        (b'"\\b\\f\\n\\r\\t\\u0001\\u007f"', b'"\\b\\f\\n\\r\\t\\u0001\x7f"'),
        (b"9007199254740993", b"9007199254740992"),
        (b"-12345678901234567890", b"-12345678901234567000"),
        (b"9007199254740991", b"9007199254740991"),
        (
            '{"\U00010000":1,"\uffff":2,"é":3,"z":4}'.encode(),
            '{"z":4,"é":3,"\uffff":2,"\U00010000":1}'.encode(),
        ),
        (b'{"a":1,"a":2}', b'{"a":2}'),
    ],
)
def test_canonical_json(text: bytes, canonical: bytes) -> None:
    assert canonical_json(loads(text)) == canonical


# Without negative zero, which is written as -0 and read as the integer 0.
JSON: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(-1e6, 1e6).map(lambda number: number + 0.0)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_canonical_json_says_the_same_and_is_its_own_canonical_form(value: Json) -> None:
    canonical = canonical_json(value)
    assert loads(canonical) == value
    assert canonical_json(loads(canonical)) == canonical


def test_what_was_given_stays_as_it_was() -> None:
    value: Json = {"b": [1.0, {"c": 2**60}], "a": 1}
    canonical_json(value)
    assert dumps(value) == b'{"b":[1.0,{"c":1152921504606846976}],"a":1}'


def test_depth_ends_in_an_error_and_not_in_a_crash() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    with pytest.raises(ValueError, match="deep"):
        canonical_json(loads(deep))


def test_rp_75_canonical_arguments_and_the_id_made_of_them() -> None:
    r"""Given (`fc-1`, `read`, `{"path":"a<b","n":1}`), expect canonical args `{"n":1,"path":"a\u003cb"}` and
    id `cpa_gemini_58f89fa9e855b0cf6850556964383735`: 32 hex digits of sha256 over them with NULs between.
    """
    args = canonical_json({"path": "a<b", "n": 1})
    assert args == rb'{"n":1,"path":"a\u003cb"}'
    digest = hashlib.sha256(b"fc-1\0read\0" + args).hexdigest()
    assert digest[:32] == "58f89fa9e855b0cf6850556964383735"
