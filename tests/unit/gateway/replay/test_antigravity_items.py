import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.replay.antigravity_items import (
    MARKER,
    SENTINEL,
    CallPart,
    Chain,
    Item,
    ThoughtSignature,
    chain_of,
    chain_value,
    encoded_items,
    normalised,
    tombstone_value,
)
from gateway.replay.values import decode_items, encode_items
from tests.support.signature_chains import G1, G2, call, signed

TEXTS = st.text(max_size=8).map(lambda text: "".join(text.split()))


def stored(value: Json) -> str:
    """The item as it is stored, of a value that has to be one."""
    item = normalised(value)
    assert item is not None
    return item.encode().decode()


# -- one item


def test_a_signature_is_stored_with_its_members_in_order() -> None:
    value: JsonObject = {
        "contextHash": " c ",
        "targetOccurrence": 0,
        "targetHash": "h",
        "targetKind": "thought",
        "partIndex": 2,
        "contentIndex": 1,
        "thoughtSignature": f" {G1}\n",
        "type": " thought_signature ",
        "extra": 1,
    }
    assert stored(value) == (
        f'{{"type":"thought_signature","thoughtSignature":"{G1}","contentIndex":1,"partIndex":2,'
        '"targetKind":"thought","targetHash":"h","targetOccurrence":0,"contextHash":"c"}'
    )


def test_a_call_is_stored_with_its_members_in_order() -> None:
    value: JsonObject = {
        "contextHash": "c",
        "targetOccurrence": 3,
        "partIndex": 2,
        "contentIndex": 1,
        "thoughtSignature": "short",
        "args": {"b": 1, "a": [None]},
        "name": " read ",
        "call_id": " fc-1 ",
        "type": "function_call_part",
    }
    assert stored(value) == (
        '{"type":"function_call_part","call_id":"fc-1","name":"read","args":{"b":1,"a":[null]},'
        '"thoughtSignature":"short","contentIndex":1,"partIndex":2,"targetOccurrence":3,"contextHash":"c"}'
    )


def test_what_may_be_missing_is_left_out() -> None:
    assert stored({"type": "thought_signature", "thoughtSignature": G1}) == (
        f'{{"type":"thought_signature","thoughtSignature":"{G1}"}}'
    )
    assert stored({"type": "function_call_part", "name": "f", "args": "text"}) == (
        '{"type":"function_call_part","name":"f","args":"text"}'
    )


def test_rp_73_a_signature_of_its_own_has_sixteen_characters_and_an_alias() -> None:
    """Given a thought_signature with 15 characters, expect it rejected; given the alias `thought_signature`
    alone, expect it stored as `thoughtSignature`.
    """
    assert normalised({"type": "thought_signature", "thoughtSignature": G1[:15]}) is None
    assert normalised({"type": "thought_signature", "thought_signature": G1}) == ThoughtSignature(
        signature=G1
    )
    both: Json = {"type": "thought_signature", "thoughtSignature": G1, "thought_signature": G2}
    assert normalised(both) == ThoughtSignature(signature=G1)


def test_rp_70_a_sentinel_is_no_signature() -> None:
    """Given a call signed with `skip_thought_signature_validator`, expect an item without thoughtSignature; a
    signature of its own that is a sentinel is none.
    """
    for sentinel in (SENTINEL, "context_engineering_is_the_way_to_go"):
        assert normalised({"type": "thought_signature", "thoughtSignature": sentinel}) is None
        signed_call: Json = {
            "type": "function_call_part",
            "name": "f",
            "args": {},
            "thoughtSignature": sentinel,
        }
        assert normalised(signed_call) == CallPart(name="f", args={})


@pytest.mark.parametrize(
    ("members", "item"),
    [
        ({"name": "f", "args": {}, "id": "i"}, CallPart(name="f", args={}, call_id="i")),
        ({"name": "f", "args": {}, "call_id": "c", "id": "i"}, CallPart(name="f", args={}, call_id="c")),
        ({"name": "f", "args": {}, "functionCall": {"id": "x"}}, CallPart(name="f", args={})),
        (
            {"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}},
            CallPart(name="f", args={"a": 1}, call_id="x"),
        ),
        (
            {"name": "g", "functionCall": {"id": "x", "name": "f", "args": {}}},
            CallPart(name="g", args={}, call_id="x"),
        ),
        (
            {"args": {"top": 1}, "call_id": "c", "functionCall": {"id": "x", "name": "f", "args": {}}},
            CallPart(name="f", args={"top": 1}, call_id="c"),
        ),
        ({"name": "f", "args": None}, CallPart(name="f", args=None)),
        ({"name": "f", "args": {}, "thought_signature": G1}, CallPart(name="f", args={})),
        ({"name": "f", "args": {}, "functionCall": {"thoughtSignature": G1}}, CallPart(name="f", args={})),
        ({"name": "f"}, None),
        ({"args": {}}, None),
        ({"name": " ", "args": {}}, None),
        (
            {"name": "f", "functionCall": {"args": None, "id": "x"}},
            CallPart(name="f", args=None, call_id="x"),
        ),
        ({"name": "f", "functionCall": []}, None),
        ({"functionCall": {"name": "f"}}, None),
    ],
)
def test_where_the_parts_of_a_call_are_looked_for(members: JsonObject, item: Item | None) -> None:
    """The nested call is read only for a name or arguments that the top lacks, and its id with them."""
    assert normalised({"type": "function_call_part", **members}) == item


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (1, 1),
        (1.9, 1),
        (-1.9, -1),
        ("1", None),
        (True, None),
        (None, None),
        (1e300, 2**63 - 1),
        (-1e300, -(2**63)),
    ],
)
def test_indices_are_numbers_cut_to_integers(value: Json, index: int | None) -> None:
    item = normalised(
        {"type": "thought_signature", "thoughtSignature": G1, "contentIndex": value, "partIndex": value}
    )
    assert item == ThoughtSignature(signature=G1, content_index=index, part_index=index)
    assert item is not None
    assert normalised(loads(item.encode())) == item


def test_an_occurrence_is_not_negative_and_a_kind_is_one_of_two() -> None:
    item = normalised(
        {"type": "thought_signature", "thoughtSignature": G1, "targetOccurrence": -1, "targetKind": "image"}
    )
    assert item == ThoughtSignature(signature=G1)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"type": "reasoning"}, {"type": MARKER}])
def test_anything_else_is_no_item(value: Json) -> None:
    assert normalised(value) is None


INDICES = st.none() | st.integers(-3, 5000)
OCCURRENCES = st.none() | st.integers(0, 9)
ITEMS: st.SearchStrategy[Item] = st.builds(
    ThoughtSignature,
    signature=st.from_regex(r"\A[A-Za-z0-9+/]{16,20}\Z"),
    content_index=INDICES,
    part_index=INDICES,
    target_kind=st.sampled_from(["text", "thought", None]),
    target_hash=TEXTS,
    target_occurrence=OCCURRENCES,
    context_hash=TEXTS,
) | st.builds(
    CallPart,
    name=st.from_regex(r"\A[a-z]{1,5}\Z"),
    args=st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    call_id=TEXTS,
    signature=TEXTS,
    content_index=INDICES,
    part_index=INDICES,
    target_occurrence=OCCURRENCES,
    context_hash=TEXTS,
)


@given(st.lists(ITEMS, max_size=5))
def test_items_are_read_as_they_were_written(items: list[Item]) -> None:
    encoded = encoded_items(items)
    assert encoded is not None
    assert chain_of(chain_value(encoded, "b")) == Chain(tuple(items), encoded, "b")


# -- values


def test_a_value_begins_with_a_marker_that_is_never_the_same() -> None:
    first, second = (loads(decode_items(chain_value([], "branch"))[0]) for _ in range(2))
    assert isinstance(first, dict)
    assert list(first) == ["type", "generation", "branch"]
    assert (first["type"], first["branch"]) == (MARKER, "branch")
    assert isinstance(first["generation"], str)
    assert len(first["generation"]) == 32
    assert bytes.fromhex(first["generation"])
    assert first != second


def test_a_tombstone_is_a_marker_on_a_branch_of_its_own() -> None:
    markers = [decode_items(tombstone_value()) for _ in range(2)]
    assert [len(items) for items in markers] == [1, 1]
    (one,), (other,) = ([loads(item) for item in items] for items in markers)
    assert isinstance(one, dict)
    assert list(one) == ["type", "generation", "branch", "deleted"]
    assert one["deleted"] is True
    assert isinstance(other, dict)
    assert one["branch"] != other["branch"]
    assert chain_of(tombstone_value()) is not None


def test_tombstones_alone_are_kept_read() -> None:
    """A chain that is packed into as few bytes may hold megabytes, and arguments that somebody may change."""
    buried = tombstone_value()
    assert chain_of(buried) is chain_of(buried)
    repeats = call("", {"text": "x" * 900_000})
    small = encode_items([dumps({"type": MARKER, "branch": "b"}), call("", {}).encode()])
    for value in (small, chain_value([repeats.encode()], "b", packed=True)):
        assert len(value) <= len(buried) + 48
        one, other = chain_of(value), chain_of(value)
        assert one is not None
        assert one is not other
        assert one == other


def test_what_another_node_wrote_otherwise_is_the_same_chain() -> None:
    """Chains are not compared by white space, the order of members and escapes of HTML characters."""
    ours = call("fc-1", {"a": "<&>"}, G1)
    theirs = (
        b'{ "thoughtSignature" : "%b", "args": {"a": "\\u003c\\u0026\\u003e"}, "name": "read",'
        b' "call_id": "fc-1", "type": "function_call_part" }' % G1.encode()
    )
    marker = dumps({"type": MARKER, "branch": " b "})
    assert chain_of(encode_items([marker, theirs])) == Chain((ours,), (ours.encode(),), "b")


def test_an_item_that_is_none_spoils_the_chain_and_so_does_a_marker_in_the_middle() -> None:
    good = signed("a").encode()
    marker = decode_items(tombstone_value())[0]
    for spoilt in ([good, b"{}"], [good, b"no json"], [good, marker], [marker, marker]):
        assert chain_of(encode_items(spoilt)) is None
    assert chain_of(encode_items([marker, good])) is not None


def test_an_item_nested_too_deep_spoils_the_chain() -> None:
    deep = b"[" * 300 + b"]" * 300
    for item in (
        b'{"type":%b}' % deep,
        b'{"type":"function_call_part","name":%b,"args":1}' % deep,
        b'{"type":"function_call_part","name":"f","args":%b}' % deep,
    ):
        assert chain_of(encode_items([item])) is None
        assert chain_of(encode_items([signed("a").encode(), item])) is None


def test_a_value_of_more_than_24_mib_is_not_even_decoded() -> None:
    assert chain_of(b"[" + b" " * (24 * 2**20) + b"]") is None
    assert chain_of(b"[" + b" " * 1000 + b"]") == Chain()


def test_limits_of_a_chain() -> None:
    assert len(encoded_items([signed("a")] * 4096) or ()) == 4096
    assert encoded_items([signed("a")] * 4097) is None
    half = call("x", {"a": "x" * (8 * 2**20)})
    assert encoded_items([half]) is not None
    assert encoded_items([half, half]) is None
    largest = chain_value([b"x" * 4096] * 4096, "b")
    assert len(largest) < 24 * 2**20
    assert len(base64.b64decode(loads(largest)[1])) == 4096  # type: ignore[index,arg-type]


def test_arguments_that_cannot_be_written_are_no_chain() -> None:
    deep: Json = []
    for _ in range(300):
        deep = [deep]
    assert encoded_items([CallPart(name="f", args=deep)]) is None
