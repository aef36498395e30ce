import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.json import dumps, loads
from gateway.wire.edits import edit_members, member, with_data

ODD = b' {"a" : 1.0e2 , "b":{ "a":[{}, "}"] },\n"c\\"d":"\\u0061,\\"a\\": ", "e":null }\r\n'


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("a", ODD.replace(b"1.0e2", b"NEW")),
        ("b", ODD.replace(b'{ "a":[{}, "}"] }', b"NEW")),
        ('c"d', ODD.replace(b'"\\u0061,\\"a\\": "', b"NEW")),
        ("e", ODD.replace(b"null", b"NEW")),
        ("d", ODD),
    ],
)
def test_only_the_members_value_changes(name: str, changed: bytes) -> None:
    assert edit_members(ODD, {name: b"NEW"}) == changed


def test_several_members_at_once() -> None:
    assert edit_members(b'{"a":1,"b":2,"c":3}', {"a": b"[]", "c": b"{}"}) == b'{"a":[],"b":2,"c":{}}'


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b'"a"', b"{}", b'{"a":1,"a":2}', b'{"a":1,"a":1}'])
def test_what_is_no_such_object_stays(text: bytes) -> None:
    assert edit_members(text, {"a": b"3"}) == text


TEXTS = st.text(st.characters(codec="utf-8"))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS


@given(
    st.dictionaries(
        TEXTS, st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))
    )
)
def test_an_edit_is_what_a_change_of_the_value_would_be(value: dict[str, object]) -> None:
    for name in (*value, "another"):
        expected = {**value, name: 7} if name in value else value
        assert loads(edit_members(dumps(value), {name: b"7"})) == expected


def test_the_text_of_a_member() -> None:
    assert member(ODD, "b") == b'{ "a":[{}, "}"] }'
    assert member(ODD, "x") is None
    assert member(b"[]", "x") is None


def test_an_event_with_other_data() -> None:
    raw = b"event: a\nid: 3\ndata: {}\n\n"
    assert with_data(raw, b"{}", b"{}") is raw
    assert with_data(raw, b"{}", b"[]") == b"event: a\nid: 3\ndata: []\n\n"
    assert with_data(raw, b"{}", b"[]", event="b") == b"event: b\nid: 3\ndata: []\n\n"
    assert with_data(b"data:{}\r\n\r\n", b"{}", b"[]", event="b") == b"data:[]\r\n\r\n"
    assert with_data(b"data: {\ndata: }\n\n", b"{\n}", b"[]") == b"data: []\n\n"
