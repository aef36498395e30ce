"""Chains of Gemini's signatures on every store that keeps them, with other replicas at the same time."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.replay.antigravity import AntigravityReplay, ReplayRead
from gateway.replay.antigravity_items import Item, chain_of, chain_value, tombstone_value
from gateway.replay.limits import TTL_S
from gateway.replay.scope import ReplayScope, scope_of
from gateway.replay.values import decode_items, encode_items
from gateway.store.kv import KVClient, KVSetOptions
from tests.contract.stores import OpenKV
from tests.support.signature_chains import call, items_at, signed

SCOPE = ReplayScope("antigravity", "gemini-3.7-flash", "session:4242")


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def replay(kv: KVClient, request: pytest.FixtureRequest) -> AntigravityReplay:
    return AntigravityReplay(kv, strict=True, packs=request.param)


async def stored(replay: AntigravityReplay, *items: Item) -> ReplayRead:
    """What is read after these items were written over whatever is there."""
    before = await replay.read(SCOPE)
    assert await replay.replace_if_unchanged(SCOPE, before.snapshot, items)
    return await replay.read(SCOPE)


async def items_of(kv: KVClient) -> Sequence[Item]:
    return await items_at(kv, SCOPE)


async def is_left(kv: KVClient, ttl_s: float) -> bool:
    """Whether the entry has this long to live, give or take the length of a slow test."""
    left = await kv.kv_ttl(SCOPE.key)
    return ttl_s - 20 < left.ttl_s <= ttl_s


# -- reading and writing


@pytest.mark.parametrize("packs", [False, True])
async def test_either_form_is_read_and_gone_on_from(kv: KVClient, packs: bool) -> None:
    """Nodes of both kinds share a chain while a fleet changes over, and HOME nodes' chains are read."""
    one, other = (AntigravityReplay(kv, strict=True, packs=form) for form in (packs, not packs))
    first, second = call("fc-1", {"text": "x\ny"}, "sig"), signed("b")
    read = await stored(one, first)
    assert (await other.read(SCOPE)) == read
    assert await other.replace_if_unchanged(SCOPE, read.snapshot, (first, second))
    after = await one.read(SCOPE)
    assert after.items == (first, second)
    assert after.snapshot.branch == read.snapshot.branch
    assert (after.snapshot.raw or b"").startswith(b"[") is packs


async def test_rp_84_who_finds_nothing_leaves_a_fence(replay: AntigravityReplay, kv: KVClient) -> None:
    """Given an absent key, expect a read to leave a tombstone for an hour: no items, and yet found."""
    read = await replay.read(SCOPE)
    assert (read.items, read.found) == ((), True)
    value = await kv.kv_get(SCOPE.key)
    assert value == read.snapshot.raw
    chain = chain_of(value or b"")
    assert chain is not None
    assert chain.deleted
    assert await is_left(kv, TTL_S)
    assert (await replay.read(SCOPE)).snapshot == read.snapshot


async def test_a_chain_is_read_as_it_was_written(replay: AntigravityReplay, kv: KVClient) -> None:
    items = (signed("a"), call("fc-1", {"b": 1, "a": {"<": None}}, "sig"), call("fc-2"))
    read = await stored(replay, *items)
    assert read.items == items
    assert read.found
    assert read.snapshot.raw == await kv.kv_get(SCOPE.key)


async def test_the_marker_comes_first_and_is_new_with_every_write(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    values = []
    for _ in range(3):
        values.append((await stored(replay, signed("a"))).snapshot.raw or b"")
    assert len(set(values)) == 3
    branches = {chain.branch for value in values if (chain := chain_of(value)) is not None}
    assert len(branches) == 1
    assert all(decode_items(value)[1:] == [signed("a").encode()] for value in values)


async def test_a_first_chain_is_on_the_branch_of_the_tombstone_before_it(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    """So that a turn which goes on from it may write over it, although it has read no more than that."""
    read = await replay.read(SCOPE)
    reserved = chain_of(await kv.kv_get(SCOPE.key) or b"")
    assert reserved is not None
    assert reserved.deleted
    assert (read.snapshot.branch, read.snapshot.buried) == (reserved.branch, True)
    assert await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("a")])
    again = await replay.read(SCOPE)
    assert (again.snapshot.branch, again.snapshot.buried) == (reserved.branch, False)


async def test_an_old_array_without_a_marker_is_read_and_gets_one_when_it_is_replaced(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    await kv.kv_set(SCOPE.key, encode_items([signed("a").encode()]), KVSetOptions(ex=60))
    read = await replay.read(SCOPE)
    assert (read.items, read.found, read.snapshot.branch) == ((signed("a"),), True, "")
    assert await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("a"), signed("b")])
    chain = chain_of(await kv.kv_get(SCOPE.key) or b"")
    assert chain is not None
    assert chain.branch
    assert chain.items == (signed("a"), signed("b"))


async def test_reading_a_chain_gives_it_another_hour(replay: AntigravityReplay, kv: KVClient) -> None:
    await kv.kv_set(SCOPE.key, chain_value([signed("a").encode()], "b"), KVSetOptions(ex=60))
    await replay.read(SCOPE)
    assert await is_left(kv, TTL_S)


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"[]",
        encode_items([b"{}"]),
        encode_items([signed("a").encode(), b'{"type":"reasoning"}']),
        tombstone_value(),
        pytest.param(chain_value([b"[" * 300 + b"]" * 300], "b"), id="deep"),
        pytest.param(chain_value([signed("a").encode()] * 4097, "b"), id="4097 items"),
    ],
)
async def test_what_is_no_chain_is_a_miss_that_gets_no_other_hour(
    replay: AntigravityReplay, kv: KVClient, value: bytes
) -> None:
    await kv.kv_set(SCOPE.key, value, KVSetOptions(ex=60))
    read = await replay.read(SCOPE)
    assert read.items == ()
    assert await is_left(kv, 60)
    assert await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("a")])
    assert await items_of(kv) == (signed("a"),)


async def test_rp_74_a_chain_that_is_too_long_is_refused_whole_and_a_value_too_large_is_a_miss(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    """Given 4097 items, or items of more than 16 MiB, expect the whole store rejected; given a value of 25
    MiB, expect a miss without EXPIRE, and nothing written over it.
    """
    before = await stored(replay, signed("a"))
    for items in ([signed("a")] * 4097, [call("big", {"a": "x" * 2**24})], []):
        with pytest.raises(ValueError, match="no chain that can be stored"):
            await replay.replace_if_unchanged(SCOPE, before.snapshot, items)
    assert await items_of(kv) == (signed("a"),)
    await kv.kv_set(SCOPE.key, b'["' + b"A" * 25 * 2**20 + b'"]', KVSetOptions(ex=60))
    read = await replay.read(SCOPE)
    assert (read.items, read.found) == ((), False)
    assert await is_left(kv, 60)
    assert not await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("b")])
    assert not await replay.delete_if_unchanged(SCOPE, read.snapshot)
    assert await is_left(kv, 60)


async def test_a_chain_as_long_as_may_be_is_stored(replay: AntigravityReplay) -> None:
    items = [signed(str(number)) for number in range(4096)]
    assert (await stored(replay, *items)).items == tuple(items)


async def test_without_a_scope_nothing_is_read(replay: AntigravityReplay) -> None:
    assert scope_of("antigravity", " ", "session:1", tenant="t") is None
    read = await replay.read(None)
    assert (read.items, read.found) == ((), False)


async def test_tenants_that_name_the_same_session_do_not_meet(replay: AntigravityReplay) -> None:
    scopes = [scope_of("antigravity", "gemini-3", "session:1", tenant=name) for name in ("t1", "t2")]
    assert scopes[0] is not None
    read = await replay.read(scopes[0])
    assert await replay.commit(scopes[0], read.snapshot, [signed("a")]) == "stored"
    assert (await replay.read(scopes[1])).items == ()
    assert (await replay.read(scopes[0])).items == (signed("a"),)


# -- who wins


async def test_rp_83_of_two_answers_to_one_history_the_first_is_kept(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    """Given two requests that read snapshot S, of which the first commits X, expect a Y that does not extend
    X to be refused, and one that extends X byte for byte, on the same branch, to be accepted.
    """
    first, second = await replay.read(SCOPE), await replay.read(SCOPE)
    x, y = [signed("a"), signed("b")], [signed("a"), signed("c")]
    assert await replay.replace_if_unchanged(SCOPE, first.snapshot, x)
    assert not await replay.replace_if_unchanged(SCOPE, second.snapshot, y)
    assert not await replay.replace_if_unchanged(SCOPE, second.snapshot, x[:1])
    assert await items_of(kv) == tuple(x)
    assert await replay.replace_if_unchanged(SCOPE, second.snapshot, [*x, signed("d")])
    assert await items_of(kv) == (*x, signed("d"))


async def test_rp_83_two_replicas_that_commit_at_the_same_time(open_kv: OpenKV) -> None:
    """Given two writers on one snapshot at once, expect exactly one chain, whole."""
    replicas = [AntigravityReplay(open_kv(), strict=True) for _ in range(2)]
    for round_number in range(20):
        scope = ReplayScope("antigravity", "gemini-3", f"session:{round_number}")
        reads = await asyncio.gather(*(replica.read(scope) for replica in replicas))
        chains = [[signed("a"), signed(str(number))] for number in range(2)]
        wrote = await asyncio.gather(
            *(
                replica.replace_if_unchanged(scope, read.snapshot, chain)
                for replica, read, chain in zip(replicas, reads, chains, strict=True)
            )
        )
        assert sorted(wrote) == [False, True]
        assert list((await replicas[0].read(scope)).items) == chains[wrote.index(True)]


async def test_a_descendant_is_let_through_only_on_its_branch(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    """Another conversation under the same session may say the same and is not ours to extend."""
    old = await stored(replay, signed("a"))
    await stored(replay, signed("z"))
    await stored(replay, signed("a"))
    assert not await replay.replace_if_unchanged(SCOPE, old.snapshot, [signed("a"), signed("b")])
    assert await items_of(kv) == (signed("a"),)


async def test_a_value_never_comes_back_so_a_snapshot_of_it_is_outlived(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    old = await stored(replay, signed("a"))
    await stored(replay, signed("b"))
    await stored(replay, signed("a"))
    assert not await replay.delete_if_unchanged(SCOPE, old.snapshot)
    assert await items_of(kv) == (signed("a"),)


async def test_what_was_buried_does_not_rise_with_an_older_turn(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    old = await stored(replay, signed("a"))
    assert await replay.delete_if_unchanged(SCOPE, old.snapshot)
    assert not await replay.replace_if_unchanged(SCOPE, old.snapshot, [signed("a"), signed("b")])
    assert not await replay.delete_if_unchanged(SCOPE, old.snapshot)
    read = await replay.read(SCOPE)
    assert (read.items, read.found) == ((), True)
    assert await is_left(kv, TTL_S)
    assert await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("c")])


async def test_an_entry_that_ended_meanwhile_is_not_written_by_a_turn_that_read_it(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    old = await stored(replay, signed("a"))
    assert await kv.kv_del(SCOPE.key) == 1
    assert not await replay.replace_if_unchanged(SCOPE, old.snapshot, [signed("a"), signed("b")])
    assert await kv.kv_get(SCOPE.key) is None


# -- ends of turns


async def test_rp_69_an_answer_without_anything_to_replay_ends_the_chain(
    replay: AntigravityReplay, kv: KVClient
) -> None:
    """Given a finished answer without signatures and calls (no items), or with too many, expect the entry
    tombstoned; given a newer chain, expect that one kept.
    """
    for none in ([], [signed("a")] * 4097):
        read = await stored(replay, signed("a"))
        assert await replay.commit(SCOPE, read.snapshot, none) == "cleared"
        assert await items_of(kv) == ()
        assert await replay.commit(SCOPE, read.snapshot, none) == "kept"


async def test_a_turn_that_loses_keeps_what_is_there(replay: AntigravityReplay, kv: KVClient) -> None:
    read = await replay.read(SCOPE)
    assert await replay.commit(SCOPE, read.snapshot, [signed("a")]) == "stored"
    assert await replay.commit(SCOPE, read.snapshot, [signed("b")]) == "kept"
    assert await items_of(kv) == (signed("a"),)


async def test_fifty_turns_at_once_leave_one_whole_chain(open_kv: OpenKV) -> None:
    """Each goes on from what it read, and says how far it got: no chain is ever lost that was accepted."""
    accepted: list[tuple[Item, ...]] = []

    async def turn(number: int) -> None:
        replay = AntigravityReplay(open_kv(), strict=True)
        for step in range(3):
            read = await replay.read(SCOPE)
            chain = (*read.items, signed(f"{number}.{step}."))
            await asyncio.sleep(0)
            if await replay.commit(SCOPE, read.snapshot, chain) == "stored":
                accepted.append(chain)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(turn(number))
    final = await items_of(open_kv())
    assert len(accepted) >= 3
    assert sorted(map(len, accepted)) == list(range(1, len(accepted) + 1))
    assert all(tuple(final[: len(chain)]) == chain for chain in accepted)
    assert len(final) == len(accepted)
