from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.json import dumps, loads
from gateway.replay.turns import (
    MARKER,
    Marker,
    ReplayTurn,
    appended,
    fence,
    fence_of,
    marker_of,
    trimmed,
    turns_of,
)
from tests.support.replay import C, R

ITEM = dumps(R())


def turn(name: str, *items: bytes) -> ReplayTurn:
    return ReplayTurn(Marker(id=name), items or (ITEM,))


def names(items: Sequence[bytes]) -> list[str]:
    return [marker.id for item in items if (marker := marker_of(item))]


def entry(*turns: ReplayTurn) -> list[bytes]:
    return [item for turn in turns for item in turn.encode()]


# -- markers


def test_a_marker_says_only_what_it_knows_in_a_given_order() -> None:
    assert Marker(id="t").encode() == b'{"type":"cpa_codex_replay_turn","id":"t"}'
    full = Marker(id="t", assistant_fingerprint="a", request_fingerprint="r", call_ids=("c1", "c2"))
    assert full.encode() == (
        b'{"type":"cpa_codex_replay_turn","id":"t","assistant_fingerprint":"a","request_fingerprint":"r",'
        b'"call_ids":["c1","c2"]}'
    )
    assert marker_of(full.encode()) == full


def test_a_marker_of_another_writer_is_read_with_its_blanks() -> None:
    item = dumps({"x": 1, "type": f" {MARKER} ", "id": " t\n", "call_ids": [" c ", "", None, 7], "other": {}})
    assert marker_of(item) == Marker(id="t", call_ids=("c", "7"))


@pytest.mark.parametrize(
    "item",
    [
        ITEM,
        b"",
        b"cpa_codex_replay_turn",
        b'"cpa_codex_replay_turn"',
        b'{"type":"cpa_codex_replay_turn"}',
        b'{"type":"cpa_codex_replay_turn","id":" "}',
        dumps({**C("c"), "arguments": '{"type":"cpa_codex_replay_turn","id":"t"}'}),
    ],
)
def test_what_is_no_marker(item: bytes) -> None:
    assert marker_of(item) is None


# -- turns


def test_the_first_item_opens_a_turn_and_markers_open_the_others() -> None:
    one, two = b'{"n":1}', b'{"n":2}'
    items = [one, two, *turn("t1", one, two).encode(), *turn("t2", two).encode()]
    assert turns_of(items) == [ReplayTurn(None, (one, two)), turn("t1", one, two), turn("t2", two)]
    assert turns_of([]) == []
    assert turns_of(turn("t1").encode()) == [turn("t1")]


def test_a_fence_is_no_turn() -> None:
    assert turns_of([fence("x")]) == []
    assert turns_of([fence("x"), *turn("t").encode()]) == [turn("t")]


def test_a_fence_is_known_by_its_id_and_only_at_the_front() -> None:
    assert fence_of([fence("x")]) == "purged-x"
    assert fence_of([fence("x")]) != fence_of([fence("y")])
    for items in ([], [ITEM], turn("t").encode(), [*turn("t").encode(), fence("x")]):
        assert fence_of(items) == ""


def test_to_other_nodes_a_fence_is_a_turn_without_items() -> None:
    """They read a marker with an id and nothing else; items that they would inject it has none."""
    assert loads(fence("x")) == {"type": MARKER, "id": "purged-x"}


# -- appending


def test_rp_52_the_same_turn_is_there_once() -> None:
    """Given the same completed turn appended twice, expect one turn stored."""
    items = appended([], turn("t1"))
    assert items == turn("t1").encode()
    assert appended(items, turn("t1")) is None
    assert appended(items, turn("t2")) == entry(turn("t1"), turn("t2"))


def test_rp_52_legacy_items_are_dropped() -> None:
    """Given an entry without a marker, expect its items gone after an append."""
    assert appended([ITEM, b'{"n":1}'], turn("t1")) == turn("t1").encode()
    assert appended([ITEM, *turn("t0").encode()], turn("t1")) == turn("t1").encode()


def test_what_is_given_is_not_changed() -> None:
    existing = turn("t0").encode()
    appended(existing, turn("t1"))
    assert existing == turn("t0").encode()


def test_a_fence_stays_in_front() -> None:
    assert appended([fence("x")], turn("t1")) == [fence("x"), *turn("t1").encode()]
    many = [fence("x"), *entry(*(turn(f"t{i}") for i in range(256)))]
    items = appended(many, turn("new"))
    assert items is not None
    assert names(items) == ["purged-x", *(f"t{i}" for i in range(1, 256)), "new"]


def test_rp_53_the_257th_turn_pushes_the_first_out() -> None:
    """Given 257 one-item turns appended, expect the oldest gone and 256 markers."""
    items: list[bytes] = []
    for i in range(257):
        items = appended(items, turn(f"t{i}")) or []
    assert names(items) == [f"t{i}" for i in range(1, 257)]
    assert len(items) == 512


# -- trimming


def test_old_turns_go_whole_until_the_rest_fits() -> None:
    one, two, three = turn("1", b"x" * 60), turn("2", b"x" * 30, b"x" * 30), turn("3", b"x" * 60)
    size = len(b"".join(one.encode()))
    assert size == len(b"".join(two.encode()))
    items = entry(one, two, three)
    assert trimmed(items, max_bytes=3 * size) == items
    assert trimmed(items, max_bytes=3 * size - 1) == entry(two, three)
    assert trimmed(items, max_bytes=2 * size - 1) == entry(three)
    assert trimmed(items, max_turns=2) == entry(two, three)
    assert trimmed(items, max_turns=2, max_bytes=2 * size) == entry(two, three)


def test_a_turn_that_is_too_large_alone_leaves_nothing() -> None:
    huge = turn("huge", b"x" * (16 * 1024 * 1024))
    assert trimmed(huge.encode()) == []
    assert trimmed([fence("x"), *huge.encode()]) == []
    assert appended(turn("t1").encode(), huge) == []


TURNS = st.lists(
    st.tuples(st.booleans(), st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4)),
    max_size=12,
)


@settings(deadline=None)
@given(TURNS, st.booleans(), st.integers(1, 8), st.integers(40, 400))
def test_trimming_keeps_the_limits_and_the_newest(
    made: list[tuple[bool, list[bytes]]], fenced: bool, max_turns: int, max_bytes: int
) -> None:
    items = [fence("x")] if fenced else []
    for index, (marked, content) in enumerate(made):
        items += ReplayTurn(Marker(id=f"t{index}") if marked else None, tuple(content)).encode()
    kept = trimmed(items, max_turns=max_turns, max_bytes=max_bytes)
    assert len(turns_of(kept)) <= max_turns
    assert sum(map(len, kept)) <= max_bytes
    assert trimmed(kept, max_turns=max_turns, max_bytes=max_bytes) == kept
    without_fence = kept[1:] if fence_of(kept) else kept
    assert items[len(items) - len(without_fence) :] == without_fence
    if kept and fenced:
        assert kept[0] == fence("x")
