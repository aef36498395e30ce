"""The entries of Codex scopes on every store that keeps them, with other replicas at the same time."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.kernel.json import dumps
from gateway.replay.codex import CodexReplay
from gateway.replay.limits import TTL_S
from gateway.replay.scope import ReplayScope, scope_of
from gateway.replay.turns import Marker, ReplayTurn, marker_of, turns_of
from gateway.replay.values import decode_items, encode_items
from gateway.store.kv import KVClient
from tests.contract.stores import OpenKV
from tests.support.replay import SIG_A, R, signature

SCOPE = ReplayScope("codex", "gpt-5.4", "claude:s:agent:main")


@pytest.fixture
def replay(kv: KVClient) -> CodexReplay:
    return CodexReplay(kv, strict=True)


def turn(name: str, *numbers: int) -> ReplayTurn:
    blobs = [signature(number) for number in numbers or (0,)]
    return ReplayTurn(Marker(id=name), tuple(encoded(R(blob)) for blob in blobs))


def encoded(item: object) -> bytes:
    return dumps(item)


def names(items: Sequence[bytes]) -> list[str]:
    return [marker.id for item in items if (marker := marker_of(item))]


# -- values

RP_20 = (
    b'["'
    b"eyJ0eXBlIjoicmVhc29uaW5nIiwic3VtbWFyeSI6W10sImNvbnRlbnQiOm51bGwsImVuY3J5cHRlZF9jb250ZW50IjoiZ0FB"
    b"QUFBQnFBQUFBQUFFQ0F3UUZCZ2NJQ1FvTERBME9EOFBEdzhQRHc4UER3OFBEdzhQRHc4TmFXbHBhV2xwYVdscGFXbHBhV2xw"
    b"YVdscGFXbHBhV2xwYVdscGFXbHBhV2c9PSJ9"
    b'"]'
)
"""The literal value of the vector."""


async def test_rp_20_the_value_in_the_store(kv: KVClient, replay: CodexReplay) -> None:
    """Given one reasoning item, expect a JSON array of its standard base64, with an hour to live."""
    item = encoded(R(SIG_A))
    assert await replay.store(SCOPE, [item])
    assert await kv.kv_get(SCOPE.key) == encode_items([item]) == RP_20
    ttl = await kv.kv_ttl(SCOPE.key)
    assert TTL_S - 5 < ttl.ttl_s <= TTL_S
    assert await replay.get_items(SCOPE) == (item,)
    assert await replay.get_item(SCOPE) == item


async def test_a_value_of_a_home_node_is_read_and_continued(kv: KVClient, replay: CodexReplay) -> None:
    theirs = turn("theirs", 1)
    await kv.kv_set(SCOPE.key, encode_items(theirs.encode()))
    assert turns_of(await replay.get_items(SCOPE)) == [theirs]
    assert await replay.append(SCOPE, turn("ours", 2))
    assert turns_of(await replay.get_items(SCOPE)) == [theirs, turn("ours", 2)]


async def test_storing_replaces_and_appending_adds(replay: CodexReplay) -> None:
    await replay.store(SCOPE, [b'{"n":1}'])
    await replay.store(SCOPE, [b'{"n":2}'])
    assert await replay.get_items(SCOPE) == (b'{"n":2}',)
    assert await replay.append(SCOPE, turn("t1"))
    assert await replay.append(SCOPE, turn("t2"))
    assert turns_of(await replay.get_items(SCOPE)) == [turn("t1"), turn("t2")]


async def test_rp_28_reading_renews_an_entry(kv: KVClient, replay: CodexReplay) -> None:
    """Given an entry with little time left, expect a full hour after it was read, or appended to again."""
    await replay.append(SCOPE, turn("t1"))
    for use in (replay.get_items(SCOPE), replay.append(SCOPE, turn("t1"))):
        await kv.kv_expire(SCOPE.key, 60)
        await use
        assert (await kv.kv_ttl(SCOPE.key)).ttl_s > TTL_S - 5


async def test_scopes_are_apart(replay: CodexReplay) -> None:
    scopes = [
        scope_of("codex", model, session, tenant=tenant)
        for model in ("m1", "m2")
        for session in ("claude:s:agent:main", "claude:s:agent:a7")
        for tenant in ("t1", "t2")
    ]
    for index, scope in enumerate(scopes):
        assert scope is not None
        await replay.append(scope, turn(f"t{index}"))
    for index, scope in enumerate(scopes):
        assert scope is not None
        assert names(await replay.get_items(scope)) == [f"t{index}"]


async def test_rp_61_another_credential_finds_the_same_items(open_kv: OpenKV) -> None:
    """Given a turn that one credential served, expect the next to get the same items: scopes have none."""
    first, second = CodexReplay(open_kv()), CodexReplay(open_kv())
    await first.append(SCOPE, turn("t1"))
    scope = scope_of("codex", "gpt-5.4", "claude:s:agent:main", tenant="any", isolation="shared")
    assert scope is not None
    assert await second.get_items(scope) == tuple(turn("t1").encode())


# -- appending at the same time


async def test_rp_53_replicas_that_append_at_the_same_time_lose_nothing(open_kv: OpenKV) -> None:
    """Given two nodes appending concurrently, expect both turns; here 50 nodes."""
    nodes = [CodexReplay(open_kv()) for _ in range(50)]
    done = await asyncio.gather(*(node.append(SCOPE, turn(f"t{i}")) for i, node in enumerate(nodes)))
    assert done == [True] * 50
    items = await nodes[0].get_items(SCOPE)
    assert sorted(names(items)) == sorted(f"t{i}" for i in range(50))
    assert all(len(one.items) == 1 for one in turns_of(items))


async def test_one_replica_that_appends_at_the_same_time_loses_nothing_and_keeps_the_order(
    replay: CodexReplay,
) -> None:
    done = await asyncio.gather(*(replay.append(SCOPE, turn(f"t{i}")) for i in range(50)))
    assert done == [True] * 50
    assert names(await replay.get_items(SCOPE)) == [f"t{i}" for i in range(50)]


async def test_rp_52_a_turn_that_is_repeated_everywhere_is_stored_once(open_kv: OpenKV) -> None:
    """Given the same completed turn appended more than once, expect one."""
    nodes = [CodexReplay(open_kv()) for _ in range(5)]
    done = await asyncio.gather(*(node.append(SCOPE, turn("same")) for node in nodes))
    assert done == [True] * 5
    assert names(await nodes[0].get_items(SCOPE)) == ["same"]


# -- purging


async def test_a_purge_is_a_miss_for_everybody_and_later_turns_are_kept(open_kv: OpenKV) -> None:
    one, other = CodexReplay(open_kv()), CodexReplay(open_kv())
    await one.append(SCOPE, turn("t1"))
    before = await one.read(SCOPE)
    assert before.items
    assert await one.delete(SCOPE, seen=before.seen)
    after = await other.read(SCOPE)
    assert after.items == ()
    assert await other.append(SCOPE, turn("t2"), seen=after.seen)
    assert names((await one.read(SCOPE)).items) == ["t2"]


async def test_a_turn_that_began_before_a_purge_cannot_append_after_it(open_kv: OpenKV) -> None:
    one, other = CodexReplay(open_kv()), CodexReplay(open_kv())
    absent = await one.read(SCOPE)
    await one.append(SCOPE, turn("t1"), seen=absent.seen)
    present = await one.read(SCOPE)
    await other.delete(SCOPE)
    assert not await one.append(SCOPE, turn("t2"), seen=absent.seen)
    assert not await one.append(SCOPE, turn("t3"), seen=present.seen)
    purged = await one.read(SCOPE)
    await other.delete(SCOPE)
    assert not await one.append(SCOPE, turn("t4"), seen=purged.seen)
    assert await one.get_items(SCOPE) == ()


async def test_a_late_refusal_does_not_purge_what_came_after_the_purge(open_kv: OpenKV) -> None:
    one, other = CodexReplay(open_kv()), CodexReplay(open_kv())
    await one.append(SCOPE, turn("t1"))
    seen = (await one.read(SCOPE)).seen
    assert (await other.read(SCOPE)).seen == seen
    await other.delete(SCOPE, seen=seen)
    await other.append(SCOPE, turn("new"))
    await one.delete(SCOPE, seen=seen)
    assert names(await one.get_items(SCOPE)) == ["new"]
    await one.delete(SCOPE)
    assert await one.get_items(SCOPE) == ()


async def test_purges_and_appends_race_and_no_old_turn_survives(open_kv: OpenKV) -> None:
    """30 turns that read before the purge, against it and 20 that read after it."""
    nodes = [CodexReplay(open_kv()) for _ in range(6)]
    await nodes[0].append(SCOPE, turn("t0"))
    seen = (await nodes[0].read(SCOPE)).seen
    purged = asyncio.Event()

    async def old(index: int) -> None:
        await nodes[index % 3].append(SCOPE, turn(f"old{index}"), seen=seen)

    async def purge() -> None:
        await nodes[3].delete(SCOPE, seen=seen)
        purged.set()

    async def new(index: int) -> bool:
        await purged.wait()
        node = nodes[3 + index % 3]
        return await node.append(SCOPE, turn(f"new{index}"), seen=(await node.read(SCOPE)).seen)

    async with asyncio.TaskGroup() as group:
        for index in range(15):
            group.create_task(old(index))
        group.create_task(purge())
        for index in range(15, 30):
            group.create_task(old(index))
        kept = [group.create_task(new(index)) for index in range(20)]
    assert all(task.result() for task in kept)
    left = names(await nodes[0].get_items(SCOPE))
    assert sorted(left) == sorted(f"new{index}" for index in range(20))


async def test_purges_at_the_same_moment_are_one(open_kv: OpenKV) -> None:
    """Twenty turns are refused at once and answered anew: no purge takes what another's turn has left."""
    nodes = [CodexReplay(open_kv()) for _ in range(5)]
    await nodes[0].append(SCOPE, turn("t0"))
    seen = (await nodes[0].read(SCOPE)).seen

    async def refused(index: int) -> bool:
        node = nodes[index % 5]
        await node.purge(SCOPE, seen=seen)
        again = await node.read(SCOPE)
        return await node.append(SCOPE, turn(f"new{index}"), seen=again.seen)

    kept = await asyncio.gather(*(refused(index) for index in range(20)))
    assert kept == [True] * 20
    left = names(await nodes[0].get_items(SCOPE))
    assert sorted(left) == sorted(f"new{index}" for index in range(20))


async def test_the_fence_is_in_front_of_what_follows(kv: KVClient, replay: CodexReplay) -> None:
    await replay.delete(SCOPE)
    await replay.append(SCOPE, turn("t1"))
    value = await kv.kv_get(SCOPE.key)
    assert value is not None
    first, *rest = decode_items(value)
    assert rest == turn("t1").encode()
    assert await replay.get_items(SCOPE) == tuple(rest)
    assert marker_of(first) is not None
