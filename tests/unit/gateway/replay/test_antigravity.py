"""What is asked of the store, and what a store that fails means. The rest is in tests/contract."""

import logging
from collections.abc import Callable

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import CasUnsupported, StoreError, StoreUnavailable
from gateway.replay.antigravity import AntigravityReplay, ReplayRead, Snapshot
from gateway.replay.antigravity_items import chain_of, chain_value, tombstone_value
from gateway.replay.scope import ReplayScope
from gateway.store.connect import connect
from gateway.store.kv import PLAIN, KVSetOptions, Value
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.store.kv_redis import RedisKV
from tests.support.resp_server import Error, RespServer
from tests.support.signature_chains import signed

SCOPE = ReplayScope("antigravity", "gemini-3.7-flash", "session:4242")
KEY = SCOPE.key
MISS = ReplayRead((), Snapshot(), False)


class FakeKV(MemoryKV):
    """Notes commands, and does before one what the test wants."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.commands: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}

    def fail(self, name: str, error: type[StoreError] = StoreUnavailable) -> None:
        def fail() -> None:
            raise error("as the test wants")

        self.before[name] = fail

    def put(self, value: bytes | None) -> None:
        """As another replica would."""
        if value is None:
            self._entries.pop(KEY, None)
        else:
            self._write(KEY, value, 3600)

    def _note(self, name: str, key: bytes, rest: str = "") -> None:
        assert key == KEY
        self.commands.append(f"{name}{rest}")
        self.before.get(name, lambda: None)()

    async def kv_get(self, key: bytes) -> bytes | None:
        self._note("get", key)
        return await super().kv_get(key)

    async def kv_set(self, key: bytes, value: Value, options: KVSetOptions = PLAIN) -> bool:
        self._note("set", key, f" ex={options.ex:g}")
        return await super().kv_set(key, value, options)

    async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
        self._note("cas", key, f" px={ttl_s:g}")
        return await super().kv_cas(key, expected, value, ttl_s)

    async def kv_expire(self, key: bytes, ttl_s: float) -> bool:
        self._note("expire", key, f" {ttl_s:g}")
        return await super().kv_expire(key, ttl_s)

    async def kv_del(self, *keys: bytes) -> int:
        raise AssertionError("nothing is ever removed before its time")


@pytest.fixture
def kv() -> FakeKV:
    return FakeKV()


@pytest.fixture
def replay(kv: FakeKV) -> AntigravityReplay:
    return AntigravityReplay(kv)


# -- commands


async def test_rp_84_absence_is_fenced_on_the_wire() -> None:
    """Given an absent key, expect `GET`, `CAS k 0 "" <tombstone> PX 3600000`; no items, yet found."""
    async with (
        RespServer(lambda args: 1 if args[0] == b"CAS" else None) as server,
        connect(f"redis://127.0.0.1:{server.port}") as redis,
    ):
        read = await AntigravityReplay(RedisKV(redis, dialect="home"), strict=True).read(SCOPE)
        sent = [command for command in server.commands if command[0] in (b"GET", b"CAS")]
    assert (read.items, read.found) == ((), True)
    assert sent[0] == [b"GET", KEY]
    *command, tombstone, option, ttl = sent[1]
    assert command == [b"CAS", KEY, b"0", b""]
    assert (option, ttl) == (b"PX", b"3600000")
    chain = chain_of(tombstone)
    assert chain is not None
    assert chain.deleted
    assert len(sent) == 2


async def test_a_hit_is_a_get_and_an_expire(kv: FakeKV, replay: AntigravityReplay) -> None:
    kv.put(chain_value([signed("a").encode()], "b"))
    assert (await replay.read(SCOPE)).items == (signed("a"),)
    assert kv.commands == ["get", "expire 3600"]


@pytest.mark.parametrize("value", [b"x", tombstone_value(), b"[]"])
async def test_without_items_nothing_is_renewed(kv: FakeKV, replay: AntigravityReplay, value: bytes) -> None:
    kv.put(value)
    await replay.read(SCOPE)
    assert kv.commands == ["get"]


async def test_rp_74_a_value_too_large_is_read_once_and_left_alone(
    kv: FakeKV, replay: AntigravityReplay
) -> None:
    """Given a value of 25 MiB, expect a miss and no EXPIRE; no write is even tried over it."""
    kv.put(b" " * (25 * 2**20))
    read = await replay.read(SCOPE)
    assert (read.items, read.found) == ((), False)
    assert await replay.commit(SCOPE, read.snapshot, [signed("a")]) == "kept"
    assert await replay.commit(SCOPE, read.snapshot, []) == "kept"
    assert kv.commands == ["get"]


async def test_commands_of_writes(kv: FakeKV, replay: AntigravityReplay) -> None:
    read = await replay.read(SCOPE)
    kv.commands.clear()
    assert await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("a")])
    assert not await replay.delete_if_unchanged(SCOPE, read.snapshot)
    assert kv.commands == ["cas px=3600", "cas px=3600"]


async def test_without_a_scope_no_command_is_sent(kv: FakeKV, replay: AntigravityReplay) -> None:
    assert await replay.read(None) == MISS
    assert kv.commands == []


# -- others write at the same time


async def test_a_first_turn_that_loses_the_race_to_fence_reads_the_winner(
    kv: FakeKV, replay: AntigravityReplay
) -> None:
    kv.before["cas"] = lambda: kv.put(chain_value([signed("a").encode()], "b"))
    read = await replay.read(SCOPE)
    assert read.items == (signed("a"),)
    assert kv.commands == ["get", "cas px=3600", "get", "expire 3600"]


async def test_absence_is_fenced_four_times_and_no_more(kv: FakeKV, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is there whenever it is written, and gone whenever it is read."""
    kv.before = {"get": lambda: kv.put(None), "cas": lambda: kv.put(b"x")}
    with pytest.raises(StoreError, match="could not fence absent antigravity reasoning replay state"):
        await AntigravityReplay(kv, strict=True).read(SCOPE)
    assert kv.commands == ["get", "cas px=3600"] * 4
    assert await AntigravityReplay(kv).read(SCOPE) == MISS
    assert [record.message for record in caplog.records] == ["replay.degraded"]


async def test_a_descendant_is_written_in_four_tries_or_not_at_all(
    kv: FakeKV, replay: AntigravityReplay
) -> None:
    kv.put(chain_value([signed("a").encode()], "b"))
    read = await replay.read(SCOPE)
    kv.commands.clear()
    kv.before["cas"] = lambda: kv.put(chain_value([signed("a").encode()], "b"))
    assert not await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("a"), signed("b")])
    assert kv.commands == ["cas px=3600", "get"] * 4


@pytest.mark.parametrize(
    "meanwhile",
    [
        None,
        b"no chain",
        tombstone_value(),
        chain_value([signed("a").encode()], "another"),
        chain_value([signed("x").encode()], "b"),
        chain_value([signed(name).encode() for name in "abc"], "b"),
        pytest.param(b" " * (25 * 2**20), id="too large"),
    ],
)
async def test_what_does_not_lead_to_the_new_chain_is_kept(
    kv: FakeKV, replay: AntigravityReplay, meanwhile: bytes | None
) -> None:
    kv.put(chain_value([signed("a").encode()], "b"))
    read = await replay.read(SCOPE)
    kv.put(meanwhile)
    kv.commands.clear()
    assert not await replay.replace_if_unchanged(SCOPE, read.snapshot, [signed("a"), signed("b")])
    assert kv.commands == ["cas px=3600", "get"]
    assert await MemoryKV.kv_get(kv, KEY) == meanwhile


async def test_a_chain_without_a_branch_has_no_descendants(kv: FakeKV, replay: AntigravityReplay) -> None:
    """An old node's value, and another old node's value: nobody knows whether one came of the other."""
    read = await replay.read(SCOPE)
    legacy = Snapshot(read.snapshot.raw, branch="")
    kv.put(chain_value([], ""))
    assert not await replay.replace_if_unchanged(SCOPE, legacy, [signed("a")])


async def test_a_chain_that_does_not_grow_out_of_the_snapshot_begins_a_branch(
    kv: FakeKV, replay: AntigravityReplay
) -> None:
    kv.put(chain_value([signed("a").encode()], "b"))
    branches = []
    for items in ([signed("a"), signed("b")], [signed("c")]):
        read = await replay.read(SCOPE)
        assert await replay.replace_if_unchanged(SCOPE, read.snapshot, items)
        branches.append((await replay.read(SCOPE)).snapshot.branch)
    assert branches[0] == "b"
    assert branches[1] not in ("", "b")


# -- failures


@pytest.mark.parametrize("failing", ["get", "cas", "expire"])
async def test_a_read_that_fails_finds_nothing_and_says_so(
    kv: FakeKV, replay: AntigravityReplay, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    if failing == "expire":
        kv.put(chain_value([signed("a").encode()], "b"))
    kv.fail(failing)
    assert await replay.read(SCOPE) == MISS
    (record,) = caplog.records
    assert (record.message, record.levelno) == ("replay.degraded", logging.WARNING)
    assert vars(record)["stage"] == "read"
    assert (vars(record)["scope"], vars(record)["session_kind"]) == (SCOPE.digest, "session")
    assert "4242" not in " ".join(value for value in vars(record).values() if isinstance(value, str))
    with pytest.raises(StoreUnavailable):
        await AntigravityReplay(kv, strict=True).read(SCOPE)


async def test_a_turn_that_could_not_read_the_chain_does_not_replace_it(
    kv: FakeKV, replay: AntigravityReplay
) -> None:
    kv.put(value := chain_value([signed("a").encode()], "b"))
    kv.fail("expire")
    read = await replay.read(SCOPE)
    assert await replay.commit(SCOPE, read.snapshot, [signed("b")]) == "kept"
    assert await replay.commit(SCOPE, read.snapshot, []) == "kept"
    assert await replay.invalidate(SCOPE, read.snapshot) is False
    assert await MemoryKV.kv_get(kv, KEY) == value


async def test_a_commit_that_fails_buries_the_old_chain_where_it_can(
    kv: FakeKV, replay: AntigravityReplay, caplog: pytest.LogCaptureFixture
) -> None:
    """The chain that is there would be one turn short from now on."""
    kv.put(chain_value([signed("a").encode()], "b"))
    read = await replay.read(SCOPE)

    def fail_once() -> None:
        kv.before.clear()
        raise StoreUnavailable("as the test wants")

    kv.before["cas"] = fail_once
    assert await replay.commit(SCOPE, read.snapshot, [signed("a"), signed("b")]) == "failed"
    chain = chain_of(await MemoryKV.kv_get(kv, KEY) or b"")
    assert chain is not None
    assert chain.deleted
    assert [(r.message, vars(r)["stage"]) for r in caplog.records] == [("replay.degraded", "store")]


async def test_a_commit_whose_answer_was_lost_is_not_buried(kv: FakeKV, replay: AntigravityReplay) -> None:
    read = await replay.read(SCOPE)

    def written_after_all() -> None:
        kv.before.clear()
        kv.put(chain_value([signed("a").encode()], read.snapshot.branch))
        raise StoreUnavailable("as the test wants")

    kv.before["cas"] = written_after_all
    assert await replay.commit(SCOPE, read.snapshot, [signed("a")]) == "failed"
    assert (await replay.read(SCOPE)).items == (signed("a"),)


async def test_writes_at_the_end_of_a_turn_never_fail_the_turn(
    kv: FakeKV, replay: AntigravityReplay, caplog: pytest.LogCaptureFixture
) -> None:
    read = await replay.read(SCOPE)
    kv.fail("cas")
    assert await replay.commit(SCOPE, read.snapshot, [signed("a")]) == "failed"
    assert await replay.commit(SCOPE, read.snapshot, []) == "failed"
    assert await replay.invalidate(SCOPE, read.snapshot) is None
    stages = [vars(record)["stage"] for record in caplog.records]
    assert stages == ["store", "invalidate", "invalidate", "invalidate"]


async def test_a_shared_store_that_is_down_is_not_replaced_by_the_local_one() -> None:
    local = MemoryKV(FakeClock())
    down = RequiredKV(Availability(local, MemoryKV(FakeClock()), connected=lambda: False))
    replay = AntigravityReplay(down)
    read = await replay.read(SCOPE)
    assert read == MISS
    assert await replay.commit(SCOPE, read.snapshot, [signed("a")]) == "failed"
    assert len(local) == 0


async def test_rp_85_a_store_without_compare_and_swap_costs_replay_and_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given `ERR unknown command 'cas'`, expect requests to go on without replay, and one warning in all."""

    def answer(args: list[bytes]) -> object:
        known = args[0] in (b"GET", b"SET")
        return None if known else Error(f"ERR unknown command '{args[0].decode().lower()}'")

    caplog.set_level(logging.DEBUG)
    async with RespServer(answer) as server, connect(f"redis://127.0.0.1:{server.port}") as redis:
        replay = AntigravityReplay(RedisKV(redis, dialect="home"))
        for _ in range(3):
            read = await replay.read(SCOPE)
            assert read == MISS
            assert await replay.commit(SCOPE, read.snapshot, [signed("a")]) == "failed"
            assert await replay.invalidate(SCOPE, read.snapshot) is False
        assert len(server.named(b"CAS")) == 1
        assert all(b"XX" in command for command in server.named(b"SET")), "nothing is left where nothing was"
    ours = [record for record in caplog.records if record.name.startswith("gateway.replay")]
    assert {record.levelno for record in ours} == {logging.DEBUG}
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [event for event in warnings if not event.startswith("link.")] == ["kv.cas_unsupported"]


async def test_a_store_without_compare_and_swap_still_gives_what_it_has(kv: FakeKV) -> None:
    kv.put(chain_value([signed("a").encode()], "b"))
    kv.fail("cas", CasUnsupported)
    assert (await AntigravityReplay(kv).read(SCOPE)).items == (signed("a"),)
