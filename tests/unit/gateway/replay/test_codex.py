"""What is asked of the store, and what a store that fails means. The rest is in tests/contract."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import CasUnsupported, StoreError, StoreUnavailable
from gateway.replay.codex import MISS, CodexReplay, Seen
from gateway.replay.limits import MAX_VALUE_BYTES
from gateway.replay.scope import ReplayScope
from gateway.replay.turns import Marker, ReplayTurn, turns_of
from gateway.replay.values import decode_items, encode_items
from gateway.store.connect import connect
from gateway.store.kv import PLAIN, KVSetOptions, Value
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.store.kv_redis import RedisKV
from tests.support.resp_server import Error, RespServer

SCOPE = ReplayScope("codex", "m", "claude:s:agent:main")
KEY = SCOPE.key


def turn(name: str, size: int = 10) -> ReplayTurn:
    return ReplayTurn(Marker(id=name), (b"x" * size,))


class FakeKV(MemoryKV):
    """Notes commands, and fails as a test wants."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(self.clock)
        self.commands: list[str] = []
        self.failing: dict[str, Callable[[], None]] = {}
        self.before_swap: Callable[[], Awaitable[None]] | None = None
        """Once: what others do between a look and a swap."""

    def fail(self, name: str, error: type[StoreError] = StoreUnavailable) -> None:
        def fail() -> None:
            raise error("as the test wants")

        self.failing[name] = fail

    def _note(self, name: str, key: bytes, rest: str = "") -> None:
        assert key == KEY
        self.commands.append(f"{name}{rest}")
        self.failing.get(name, lambda: None)()

    async def kv_get(self, key: bytes) -> bytes | None:
        self._note("get", key)
        return await super().kv_get(key)

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        self._note("set", key, f" ex={options.ex:g}")
        return await super().kv_set(key, value, options)

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        self._note("cas", key, f" px={ttl_s:g}")
        others, self.before_swap = self.before_swap, None
        if others is not None:
            await others()
        return await super().kv_cas(key, expected, value, ttl_s)

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        self._note("expire", key, f" {ttl_s:g}")
        return await super().kv_expire(key, ttl_s)


@pytest.fixture
def kv() -> FakeKV:
    return FakeKV()


@pytest.fixture
def replay(kv: FakeKV) -> CodexReplay:
    return CodexReplay(kv)


# -- commands


async def test_rp_30_a_hit_is_a_get_and_an_expire(kv: FakeKV, replay: CodexReplay) -> None:
    """Given a hit, expect `GET k`, `EXPIRE k 3600`. A miss is a GET alone."""
    await replay.get_items(SCOPE)
    await replay.store(SCOPE, [b"{}"])
    kv.commands.clear()
    assert await replay.get_items(SCOPE) == (b"{}",)
    assert kv.commands == ["get", "expire 3600"]


async def test_rp_30_an_expire_that_fails(kv: FakeKV, replay: CodexReplay) -> None:
    """Given an EXPIRE error, expect required reads to fail and plain ones to miss."""
    await replay.store(SCOPE, [b"{}"])
    kv.fail("expire")
    with pytest.raises(StoreUnavailable):
        await replay.get_items_required(SCOPE)
    assert await replay.get_items(SCOPE) == ()
    assert await replay.get_item(SCOPE) is None


async def test_writing_is_a_set_and_appending_a_get_and_a_swap(kv: FakeKV, replay: CodexReplay) -> None:
    await replay.store(SCOPE, [b"{}"])
    await replay.append(SCOPE, turn("t1"))
    await replay.append(SCOPE, turn("t1"))
    await replay.delete(SCOPE)
    assert kv.commands == [
        *("set ex=3600",),
        *("get", "cas px=3600"),
        *("get", "expire 3600"),
        *("set ex=3600",),
    ]


async def test_nothing_to_write_is_no_command(kv: FakeKV, replay: CodexReplay) -> None:
    assert not await replay.store(SCOPE, [])
    assert not await replay.append(SCOPE, ReplayTurn(Marker(id="t"), ()))
    assert kv.commands == []


async def test_rp_28_entries_live_an_hour_from_their_last_use(kv: FakeKV, replay: CodexReplay) -> None:
    """Given reads after 59 min and 59 min later, expect hits; not read for 61 min, a miss."""
    await replay.append(SCOPE, turn("t1"))
    for _ in range(2):
        kv.clock.advance(59 * 60)
        assert await replay.get_items(SCOPE)
    kv.clock.advance(61 * 60)
    assert not await replay.get_items(SCOPE)
    assert len(kv) == 0


async def test_rp_27_a_process_keeps_10240_scopes_and_reading_one_protects_it() -> None:
    """Given 10241 scopes, expect 10113 left, the 128 oldest gone but for one that was read."""
    kv = MemoryKV(FakeClock())
    replay = CodexReplay(kv)
    scopes = [ReplayScope("codex", "m", f"claude:{i}") for i in range(10_241)]
    for scope in scopes[:-1]:
        await replay.store(scope, [b"{}"])
    assert await replay.get_items(scopes[0])
    await replay.store(scopes[-1], [b"{}"])
    assert len(kv) == 10_113
    left = [await kv.kv_get(scope.key) is not None for scope in scopes[:131]]
    assert left == [True, *[False] * 128, True, True]


async def test_the_first_item_that_is_no_marker(replay: CodexReplay) -> None:
    assert await replay.get_item(SCOPE) is None
    await replay.append(SCOPE, ReplayTurn(Marker(id="t1"), (b"1", b"2")))
    assert await replay.get_item(SCOPE) == b"1"


# -- a store that fails


async def test_a_read_that_fails_is_a_miss_and_is_logged_without_the_session(
    kv: FakeKV, replay: CodexReplay, caplog: pytest.LogCaptureFixture
) -> None:
    kv.fail("get")
    assert await replay.read(SCOPE) == MISS
    (record,) = caplog.records
    assert (record.message, record.levelname) == ("replay.store_failed", "WARNING")
    fields = vars(record)
    assert (fields["operation"], fields["scope"]) == ("read", SCOPE.digest)
    assert "claude:s" not in str(fields)


async def test_strict_reads_fail_and_strict_writes_do_not(kv: FakeKV) -> None:
    replay = CodexReplay(kv, strict=True)
    for name in ("get", "set"):
        kv.fail(name)
    with pytest.raises(StoreUnavailable):
        await replay.read(SCOPE)
    assert not await replay.store(SCOPE, [b"{}"])
    assert not await replay.append(SCOPE, turn("t1"))
    assert not await replay.delete(SCOPE)
    assert await replay.get_items(SCOPE) == ()


async def test_a_purge_is_as_strict_as_reads_are(kv: FakeKV) -> None:
    kv.fail("set")
    with pytest.raises(StoreUnavailable):
        await CodexReplay(kv, strict=True).purge(SCOPE)
    replay = CodexReplay(kv)
    await replay.purge(SCOPE)
    kv.failing.clear()
    await replay.append(SCOPE, turn("t1"))
    await replay.purge(SCOPE)
    assert (await replay.read(SCOPE)).items == ()


async def test_rp_29_a_shared_store_that_fails_leaves_local_memory_alone() -> None:
    """Given a store failure in shared mode, expect False, and local memory empty even after leaving it."""
    shared, local = FakeKV(), MemoryKV(FakeClock())
    for name in ("get", "set", "cas"):
        shared.fail(name)
    replay = CodexReplay(RequiredKV(Availability(local, shared)))
    assert not await replay.store(SCOPE, [b"{}"])
    assert not await replay.append(SCOPE, turn("t1"))
    assert len(local) == 0
    assert not await CodexReplay(RequiredKV(Availability(local))).get_items(SCOPE)


@pytest.mark.parametrize("value", [b"{}", b"[1]", b"\xff", b'["?"]', b"[" + b" " * MAX_VALUE_BYTES + b"]"])
async def test_a_corrupt_value_is_a_miss_or_an_error_and_heals_with_the_next_turn(
    value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kv = FakeKV()
    await kv.kv_set(KEY, value)
    assert (await CodexReplay(kv).read(SCOPE)).items == ()
    with pytest.raises(StoreError, match="cannot be read"):
        await CodexReplay(kv, strict=True).read(SCOPE)
    with pytest.raises(StoreError, match="cannot be read"):
        await CodexReplay(kv).get_items_required(SCOPE)
    assert "expire 3600" not in kv.commands
    assert await CodexReplay(kv).append(SCOPE, turn("t1"))
    assert turns_of(await CodexReplay(kv).get_items(SCOPE)) == [turn("t1")]
    assert {record.message for record in caplog.records} == {"replay.store_failed"}


async def test_a_swap_whose_reply_was_lost_is_looked_for(kv: FakeKV, replay: CodexReplay) -> None:
    swap = kv.kv_cas

    async def swaps_and_loses(key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        await swap(key, expected, value, ttl_s)
        raise StoreUnavailable("the connection was lost")

    kv.kv_cas = swaps_and_loses  # type: ignore[method-assign]
    assert await replay.append(SCOPE, turn("t1"))
    assert turns_of(await replay.get_items(SCOPE)) == [turn("t1")]


async def test_a_swap_that_gets_no_reply_twice_is_given_up(kv: FakeKV, replay: CodexReplay) -> None:
    kv.fail("cas")
    assert not await replay.append(SCOPE, turn("t1"))
    assert kv.commands.count("cas px=3600") == 2


async def test_a_swap_that_others_always_win_is_given_up(
    kv: FakeKV, replay: CodexReplay, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.replay.codex._MAX_PAUSE_S", 0.0)

    async def loses(key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        kv.commands.append("lost")
        return False

    kv.kv_cas = loses  # type: ignore[method-assign]
    assert not await replay.append(SCOPE, turn("t1"))
    assert kv.commands.count("lost") == 32
    assert [record.message for record in caplog.records] == ["replay.append_contended"]


async def test_a_store_that_hangs_does_not_hold_an_append_for_ever(
    kv: FakeKV, replay: CodexReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.replay.codex.APPEND_WITHIN_S", 0.01)

    async def hangs(key: bytes) -> bytes | None:
        await asyncio.Event().wait()
        return None

    kv.kv_get = hangs  # type: ignore[method-assign]
    results = await asyncio.gather(*(replay.append(SCOPE, turn(f"t{i}")) for i in range(3)))
    assert results == [False] * 3


async def test_without_compare_and_swap_turns_are_kept_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that knows neither the command nor scripts: turns after each other are all kept."""
    values: dict[bytes, bytes] = {}

    def answer(args: list[bytes]) -> object:
        match args[0].upper():
            case b"GET":
                return values.get(args[1])
            case b"SET":
                values[args[1]] = args[2]
                return "OK"
            case b"EXPIRE":
                return 1
        return Error(f"ERR unknown command '{args[0].decode().lower()}'")

    async with RespServer(answer) as server, connect(f"redis://127.0.0.1:{server.port}") as redis:
        replay = CodexReplay(RedisKV(redis, dialect="home"))
        for name in ("t1", "t2", "t3"):
            assert await replay.append(SCOPE, turn(name))
        assert turns_of(await replay.get_items(SCOPE)) == [turn("t1"), turn("t2"), turn("t3")]
        assert len(server.named(b"CAS")) == 1
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [event for event in warnings if not event.startswith("link.")] == ["kv.cas_unsupported"]


async def test_without_compare_and_swap_a_purge_still_stands(kv: FakeKV, replay: CodexReplay) -> None:
    kv.fail("cas", CasUnsupported)
    before = await replay.read(SCOPE)
    await replay.delete(SCOPE)
    assert not await replay.append(SCOPE, turn("t1"), seen=before.seen)
    assert await replay.append(SCOPE, turn("t2"))


# -- limits


async def test_a_turn_too_large_leaves_the_entry_as_it_is(
    replay: CodexReplay, caplog: pytest.LogCaptureFixture
) -> None:
    await replay.append(SCOPE, turn("t1"))
    assert not await replay.append(SCOPE, turn("huge", 16 * 1024 * 1024))
    assert turns_of(await replay.get_items(SCOPE)) == [turn("t1")]
    assert [record.message for record in caplog.records] == ["replay.turn_too_large"]
    assert not await replay.store(SCOPE, turn("huge", 16 * 1024 * 1024).encode())


async def test_an_entry_at_its_limit_can_be_read_back(replay: CodexReplay) -> None:
    assert await replay.append(SCOPE, turn("large", 16 * 1024 * 1024 - 100))
    assert len(await replay.get_items(SCOPE)) == 2


# -- purges


async def test_a_purge_leaves_what_other_nodes_read_as_a_turn_without_items(
    kv: FakeKV, replay: CodexReplay
) -> None:
    await replay.append(SCOPE, turn("t1"))
    await replay.delete(SCOPE)
    (item,) = decode_items(await kv.kv_get(KEY) or b"")
    assert item.startswith(b'{"type":"cpa_codex_replay_turn","id":"purged-')
    assert await replay.get_items(SCOPE) == ()


async def test_a_turn_that_is_kept_during_a_late_purge_stays(kv: FakeKV, replay: CodexReplay) -> None:
    """Two turns were refused. The slower looks, and then the faster purges, is answered anew and is kept."""
    await replay.append(SCOPE, turn("t1"))
    seen = (await replay.read(SCOPE)).seen

    async def faster() -> None:
        await replay.delete(SCOPE, seen=seen)
        assert await replay.append(SCOPE, turn("t2"), seen=(await replay.read(SCOPE)).seen)

    kv.before_swap = faster
    await replay.delete(SCOPE, seen=seen)
    assert turns_of(await replay.get_items(SCOPE)) == [turn("t2")]


async def test_a_purge_that_is_contended_without_end_stands(kv: FakeKV, replay: CodexReplay) -> None:
    await replay.append(SCOPE, turn("t0"))
    seen = (await replay.read(SCOPE)).seen

    async def another() -> None:
        await replay.append(SCOPE, turn(f"t{len(kv.commands)}"))
        kv.before_swap = another

    kv.before_swap = another
    await replay.delete_required(SCOPE, seen=seen)
    assert await replay.get_items(SCOPE) == ()


async def test_a_fence_that_others_trimmed_away_is_no_purge(kv: FakeKV, replay: CodexReplay) -> None:
    await replay.delete(SCOPE)
    seen = (await replay.read(SCOPE)).seen
    await kv.kv_set(KEY, encode_items(turn("t1").encode()))
    assert await replay.append(SCOPE, turn("t2"), seen=seen)


async def test_a_deletion_by_another_node_is_a_purge(kv: FakeKV, replay: CodexReplay) -> None:
    await replay.append(SCOPE, turn("t1"))
    seen = (await replay.read(SCOPE)).seen
    await kv.kv_del(KEY)
    assert not await replay.append(SCOPE, turn("t2"), seen=seen)
    assert await kv.kv_get(KEY) is None
    await replay.delete_required(SCOPE, seen=seen)
    assert await kv.kv_get(KEY) is None


async def test_who_could_not_read_is_not_fenced(replay: CodexReplay) -> None:
    await replay.delete(SCOPE)
    assert await replay.append(SCOPE, turn("t1"), seen=MISS.seen)
    assert MISS.seen is None
    assert (await replay.read(SCOPE)).seen != Seen(True, "")


async def test_locks_do_not_outlive_their_appends(replay: CodexReplay) -> None:
    await asyncio.gather(*(replay.append(SCOPE, turn(f"t{i}")) for i in range(5)))
    assert replay._locks == {}
