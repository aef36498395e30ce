from hashlib import sha256
from typing import Any

import pytest

from gateway.upstreams.codex import item_ids
from gateway.upstreams.codex.item_ids import sound_name, with_sound_ids
from tests.support.replay import SIG_A

LONG = "rs_" + "z" * 80


def test_rp_98_an_id_gets_the_prefix_of_its_type_and_is_shortened() -> None:
    """RP-98. Given the id `rs_zzz…` (80 z) on a message, expect
    `msg_rs_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz_61a615c267fc15fb`; on reasoning with encrypted content
    the item is dropped.
    """
    (found,) = with_sound_ids([{"type": "message", "id": LONG}])
    assert found == {
        "type": "message",
        "id": "msg_rs_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz_61a615c267fc15fb",
    }
    assert with_sound_ids([{"type": "reasoning", "id": LONG, "encrypted_content": SIG_A}]) == []
    (kept,) = with_sound_ids([{"type": "reasoning", "id": LONG, "summary": []}])
    assert isinstance(kept, dict)
    assert len(str(kept["id"])) == 64


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ({"role": "user", "id": "x"}, "msg_x"),
        ({"type": "function_call", "id": "msg_1"}, "fc_msg_1"),
        ({"type": "custom_tool_call", "id": "a"}, "ctc_a"),
        ({"type": "custom_tool_call_output", "id": "a"}, "ctco_a"),
    ],
)
def test_prefixes(item: Any, wanted: str) -> None:
    assert with_sound_ids([item]) == [{**item, "id": wanted}]


def test_sound_items_are_the_same_list() -> None:
    items: list[Any] = [
        "text",
        {"role": "user"},
        {"type": "message", "id": "msg_1"},
        {"type": "message", "id": ""},
        {"type": "message", "id": 7},
        {"type": "web_search_call", "id": "ws_1"},
        {"id": "anything"},
    ]
    assert with_sound_ids(items) is items


def test_two_ids_never_become_one() -> None:
    short = with_sound_ids([{"type": "message", "id": LONG}])[0]
    assert isinstance(short, dict)
    found = with_sound_ids([short, {"type": "message", "id": LONG}])
    ids = [item["id"] for item in found if isinstance(item, dict)]
    assert len(set(ids)) == 2
    assert all(len(str(one)) == 64 for one in ids)


@pytest.mark.parametrize("name", ["a", "mcp__x-y_z", "n" * 64])
def test_names_that_are_accepted_stay(name: str) -> None:
    assert sound_name(name) == name


def test_names_that_are_not_accepted_become_others() -> None:
    assert sound_name("a.b:c") == "a_b_c"
    long = sound_name("n" * 65)
    assert (len(long), long[:48]) == (64, "n" * 47 + "_")


def test_many_items_under_one_id_cost_a_hash_or_two_each(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = 0

    def counted(data: bytes) -> Any:
        nonlocal hashed
        hashed += 1
        return sha256(data)

    monkeypatch.setattr(item_ids.hashlib, "sha256", counted)
    items: list[Any] = [{"type": "message", "id": "msg_" + "x" * 80} for _ in range(500)]
    sound = with_sound_ids(items)
    assert len({item["id"] for item in sound if isinstance(item, dict)}) == 500
    assert hashed <= 1000
