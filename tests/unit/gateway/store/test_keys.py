import re

import pytest

from gateway.store import keys as module
from gateway.store.keys import CATALOGUE, Keys, hash_key_part, key_slot, render_markdown, replay_key, trim


def test_kv_1_a_hashed_part_is_lower_case_sha256() -> None:
    """Given `abc`, expect ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad."""
    assert hash_key_part("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_kv_2_the_codex_replay_key_trims_its_model() -> None:
    """Given model ` gpt-5.4-nova `, session `claude:3f2a9c10-0000-4abc-8def-1234567890ab:agent:main`, expect
    cpa:codex:reasoning-replay:193758ba…bb72:b195b299…ce6f.
    """
    assert replay_key(
        "codex", " gpt-5.4-nova ", "claude:3f2a9c10-0000-4abc-8def-1234567890ab:agent:main"
    ) == (
        b"cpa:codex:reasoning-replay:"
        b"193758ba184b7bf3f10120b01943e079d07bc7c34df1adb0e6b196f955f6bb72:"
        b"b195b29908ea8e6bf78d1cbed63f7c1dcd0cdd65228ecd8a6f65d1bbd575ce6f"
    )


def test_kv_3_the_antigravity_replay_key() -> None:
    """Given model `gemini-3.7-flash` and session `session:4242`, expect
    cpa:antigravity:reasoning-replay:4aa2768e…6c69:d97b495e…51fa.
    """
    assert replay_key("antigravity", "gemini-3.7-flash", "session:4242") == (
        b"cpa:antigravity:reasoning-replay:"
        b"4aa2768e1515ce3f2ba78034ea57c7f4816057500e898b904de2b052a3cd6c69:"
        b"d97b495e1303b615e1c10531d6f370454fd025ca1fdfb471bbd3b1871e2951fa"
    )


def test_trimming_takes_unicode_white_space_and_not_control_characters() -> None:
    assert trim("\u3000\u00a0\x85 a b\t\r\n\u2028") == "a b"
    assert trim("\x1ca\x1f") == "\x1ca\x1f"
    assert trim("\u200ba\ufeff") == "\u200ba\ufeff"


def test_a_replay_key_has_no_prefix_of_ours_and_depends_on_every_part() -> None:
    keys = {
        replay_key("codex", "m", "s"),
        replay_key("antigravity", "m", "s"),
        replay_key("codex", "m2", "s"),
        replay_key("codex", "m", "s2"),
    }
    assert len(keys) == 4
    assert all(key.startswith(b"cpa:") for key in keys)


def test_keys_of_a_worker_share_its_hash_tag() -> None:
    keys = Keys()
    assert keys.worker("worker-0") == b"lg:v1:worker:{worker-0}"
    assert keys.commands("worker-0") == b"lg:v1:worker:{worker-0}:commands"
    assert keys.slots("worker-0", 2) == b"lg:v1:worker:{worker-0}:slots:2"
    slots = {key_slot(k) for k in (keys.worker("w"), keys.commands("w"), keys.slots("w", 0))}
    assert slots == {key_slot(b"w")}


def test_a_standalone_server_has_one_bucket() -> None:
    keys = Keys()
    assert {keys.bucket_of(f"turn-{i}") for i in range(100)} == {0}
    assert keys.turn("t1") == b"lg:v1:{b00}:turn:t1"
    assert keys.frames("t1") == b"lg:v1:{b00}:turn:t1:frames"
    assert keys.lease("t1") == b"lg:v1:{b00}:turn:t1:lease"
    assert keys.blob("t1") == b"lg:v1:{b00}:blob:t1"
    assert keys.wakes("r1") == [b"lg:v1:{b00}:wake:r1"]


def test_a_cluster_spreads_turns_over_sixteen_buckets_by_crc16() -> None:
    keys = Keys(buckets=16)
    # 0x31C3 is the published check value of CRC16/XMODEM for these digits.
    assert keys.bucket_of("123456789") == 0x31C3 % 16
    assert keys.turn("123456789") == b"lg:v1:{b03}:turn:123456789"
    assert {keys.bucket_of(f"turn-{i}") for i in range(500)} == set(range(16))
    assert keys.wakes("r1")[10] == b"lg:v1:{b10}:wake:r1"


def test_what_one_turn_needs_is_in_one_slot_with_the_wake_stream_of_its_bucket() -> None:
    keys = Keys(buckets=16)
    for turn_id in map(str, range(50)):
        bucket = keys.bucket_of(turn_id)
        together = [keys.turn(turn_id), keys.frames(turn_id), keys.lease(turn_id), keys.blob(turn_id)]
        assert {key_slot(key) for key in together} == {key_slot(keys.wakes("replica")[bucket])}


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"a{tag}b", b"tag"),
        (b"{}a", b"{}a"),
        (b"{a", b"{a"),
        (b"a{{b}}c", b"{b"),
        (b"{a}{b}", b"a"),
        (b"k", b"k"),
    ],
)
def test_the_slot_is_that_of_the_first_tag_that_is_not_empty(key: bytes, hashed: bytes) -> None:
    assert key_slot(key) == key_slot(hashed)


def test_known_slots() -> None:
    assert key_slot(b"foo") == 12182
    assert key_slot(b"123456789") == 0x31C3


def test_user_chosen_parts_are_hashed_with_the_tenant() -> None:
    keys = Keys()
    assert b"secret" not in keys.idempotency("tenant-secret", "key-secret")
    assert keys.idempotency("a", "b") != keys.idempotency("b", "a")
    assert keys.idempotency("a", "bc") != keys.idempotency("ab", "c")
    assert keys.response("a", "r") != keys.response("b", "r")
    assert b"@" not in keys.account("someone@example.com")
    assert (
        keys.session("some user's first words")
        == b"lg:v1:session:" + hash_key_part("some user's first words").encode()
    )


def test_the_prefix_is_configurable_and_must_not_break_hash_tags() -> None:
    assert Keys("team-a").dead == b"team-a:v1:dead"
    for prefix in ("", "a{b", "a}b", "a b"):
        with pytest.raises(ValueError, match="prefix"):
            Keys(prefix)


def public_names() -> set[str]:
    helpers = {"bucket_of", "wakes", "prefix", "buckets"}
    return {name for name in vars(Keys) if not name.startswith("_")} - helpers | {"replay_key"}


def test_every_key_is_in_the_catalogue() -> None:
    assert sorted(spec.name for spec in CATALOGUE) == sorted(public_names())


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_every_key_looks_as_the_catalogue_says(spec: module.KeySpec) -> None:
    keys = Keys(buckets=16)
    made = getattr(module if spec.name == "replay_key" else keys, spec.name)
    key = made if isinstance(made, bytes) else call_with_samples(made)
    pattern = re.escape(spec.pattern)
    pattern = pattern.replace(re.escape("<prefix>"), "lg").replace(re.escape("<NN>"), "(0[0-9]|1[0-5])")
    pattern = re.sub(r"<h\\?[^>]*>", "[0-9a-f]{64}", pattern)
    pattern = re.sub(r"<[^>]*>", "[^:{}]+", pattern)
    assert re.fullmatch(pattern, key.decode()), (key, pattern)


def call_with_samples(made: object) -> bytes:
    parameters = [p for p in made.__annotations__ if p != "return"]  # type: ignore[attr-defined]
    return made(*(7 if made.__annotations__[p] is int else f"sample-{p}" for p in parameters))  # type: ignore[operator]


def test_the_reference_page_lists_every_key_once() -> None:
    page = render_markdown()
    assert all(page.count(f"| `{spec.pattern}` |") == 1 for spec in CATALOGUE)
    assert page.endswith("\n")
