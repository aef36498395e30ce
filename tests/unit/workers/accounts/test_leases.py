"""Who uses which account, over stores in memory with a clock that the test moves."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.kernel.aio import Tasks
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.backends import Stores, open_memory
from tests.fakes.worker import Switch, eventually
from workers.accounts.leases import (
    FREE_S,
    LOOK_S,
    RELUCTANT_S,
    STEP_S,
    TTL_S,
    YIELD_S,
    AccountLeases,
    Claim,
)
from workers.ports import LeasedAccount


class FakeAccount:
    def __init__(self, account_id: str) -> None:
        self.id = account_id
        self.names = frozenset({f"inst-{account_id}"})
        self.at_home = True
        self.movable = True
        self.running = False
        self.leaving = False
        self.held_by = ""

    def grant(self) -> None:
        assert not self.running
        self.running, self.leaving, self.held_by = True, False, ""

    def withhold(self, holder: str) -> None:
        assert not self.running
        self.held_by = holder

    def leave(self) -> None:
        self.leaving = True

    async def stop(self) -> None:
        self.running = False


class FakeWorker:
    """One process: its accounts, and turns on them that end when the test says so."""

    def __init__(self, town: "Town", name: str, epoch: int, accounts: str) -> None:
        self.name = name
        self.town = town
        self.accounts = {account_id: FakeAccount(account_id) for account_id in accounts}
        self.busy: set[str] = set()
        self.retired: list[tuple[str, bool]] = []
        self.draining = False
        self.leases = AccountLeases(
            town.stores,
            list(self.accounts.values()),
            worker=name,
            epoch=epoch,
            clock=town.clock,
            tasks=town.tasks,
            retire=self.retire,
            draining=lambda: self.draining,
        )

    async def retire(self, account: LeasedAccount, *, lost: bool) -> None:
        self.retired.append((account.id, lost))
        await eventually(lambda: account.id not in self.busy)
        await account.stop()

    @property
    def used(self) -> str:
        return "".join(sorted(a.id for a in self.accounts.values() if a.running))


class Town:
    """Workers over one store."""

    def __init__(self, stores: Stores, clock: FakeClock, tasks: Tasks) -> None:
        # As on Redis, where others may come at any time.
        shared: Any = object()
        self.stores = stores._replace(redis=shared)
        self.clock = clock
        self.tasks = tasks
        self.workers: dict[str, FakeWorker] = {}
        self.epoch = 0

    def start(self, name: str, accounts: str = "ab") -> FakeWorker:
        self.epoch += 1
        self.workers[name] = FakeWorker(self, name, self.epoch, accounts)
        return self.workers[name]

    def kill(self, name: str) -> None:
        del self.workers[name]

    async def stop(self, name: str) -> None:
        await self.workers.pop(name).leases.leave()

    async def settle(self) -> None:
        """Let turns and stops that nothing holds up come to their end."""
        await asyncio.sleep(0)  # what was spawned begins
        await eventually(lambda: len(self.tasks) <= sum(len(w.busy) for w in self.workers.values()))

    async def pass_time(self, seconds: float) -> None:
        """Everybody looks once every LOOK_S. No account is ever used twice."""
        for _ in range(round(seconds / LOOK_S)):
            for worker in list(self.workers.values()):
                await worker.leases.look()
                await self.settle()
                self.check()
            self.clock.advance(LOOK_S)

    def check(self) -> None:
        used = "".join(worker.used for worker in self.workers.values())
        assert len(used) == len(set(used)), {w.name: w.used for w in self.workers.values()}

    @property
    def retired(self) -> list[tuple[str, bool]]:
        return [one for worker in self.workers.values() for one in worker.retired]

    @property
    def used(self) -> dict[str, str]:
        return {worker.name: worker.used for worker in self.workers.values()}


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    clock, tasks = FakeClock(), Tasks()
    async with open_memory(clock) as stores:
        yield Town(stores, clock, tasks)
        await tasks.aclose()


async def test_two_workers_that_start_together_have_one_account_each(town: Town) -> None:
    town.start("w0")
    town.start("w1")
    await town.pass_time(6)
    assert town.used == {"w0": "a", "w1": "b"}
    assert town.workers["w0"].accounts["b"].held_by == "w1"
    assert town.retired == []


@pytest.mark.parametrize(
    ("workers", "accounts", "shares"),
    [(1, "abc", [3]), (2, "abcde", [2, 3]), (3, "ab", [0, 1, 1]), (3, "abcd", [1, 1, 2])],
)
async def test_shares_differ_by_no_more_than_one(
    town: Town, workers: int, accounts: str, shares: Sequence[int]
) -> None:
    for number in range(workers):
        town.start(f"w{number}", accounts)
    await town.pass_time(15)
    assert sorted(len(used) for used in town.used.values()) == shares


async def test_a_worker_that_comes_later_gets_its_share_without_a_gap_in_the_others(town: Town) -> None:
    first = town.start("w0", "abcd")
    await town.pass_time(5)
    assert first.used == "abcd"
    town.start("w1", "abcd")
    await town.pass_time(10)
    assert sorted(len(used) for used in town.used.values()) == [2, 2]
    assert [lost for _, lost in first.retired] == [False, False]
    await town.pass_time(60)
    assert len(first.retired) == 2, "accounts wander about"


async def test_what_is_given_is_ours_until_its_turns_have_ended(town: Town) -> None:
    first = town.start("w0", "abcd")
    await town.pass_time(3)
    first.busy.update("abcd")
    town.start("w1", "abcd")
    await town.pass_time(TTL_S * 3)
    assert town.used == {"w0": "abcd", "w1": ""}
    [(given, _)] = first.retired
    assert first.accounts[given].leaving
    first.busy.clear()
    await town.pass_time(10)
    assert sorted(len(used) for used in town.used.values()) == [2, 2]
    assert len(first.retired) == 2, "more was given than one after the other"


async def test_what_is_lost_while_it_is_given_is_not_given_back(town: Town) -> None:
    first = town.start("w0")
    await town.pass_time(3)
    first.busy.update("ab")
    town.start("w1")
    await town.pass_time(3)
    [(given, _)] = first.retired
    key = town.stores.keys.account(given)
    await town.stores.kv.kv_set(key, Claim(9, "w9").write())
    await town.pass_time(2)
    first.busy.clear()
    await town.settle()
    assert await town.stores.kv.kv_get(key) == Claim(9, "w9").write()
    assert [account_id for account_id, _ in first.retired].count(given) == 1


async def test_what_was_given_is_left_to_one_that_hesitates(town: Town) -> None:
    first = town.start("w0")
    await town.pass_time(3)
    for account in town.start("w1").accounts.values():
        account.at_home = False
    await town.pass_time(RELUCTANT_S + 5)
    assert sorted(town.used.values()) == ["a", "b"]
    assert len(first.retired) == 1


async def test_one_that_would_lose_its_login_stays(town: Town) -> None:
    first = town.start("w0")
    first.accounts["a"].movable = first.accounts["b"].movable = False
    await town.pass_time(5)
    town.start("w1")
    await town.pass_time(30)
    assert town.used == {"w0": "ab", "w1": ""}
    first.accounts["a"].movable = True
    await town.pass_time(5)
    assert town.used == {"w0": "b", "w1": "a"}


async def test_the_accounts_of_a_dead_worker_are_taken_over_and_given_back(town: Town) -> None:
    town.start("w0")
    town.start("w1")
    await town.pass_time(6)
    town.kill("w1")
    await town.pass_time(TTL_S - 1)
    assert town.used == {"w0": "a"}
    await town.pass_time(FREE_S + STEP_S + 2)
    assert town.used == {"w0": "ab"}
    town.start("w1")
    await town.pass_time(5)
    assert town.used == {"w0": "a", "w1": "b"}


async def test_a_restarted_worker_has_its_own_accounts_back_at_once(town: Town) -> None:
    town.start("w0")
    town.start("w1")
    await town.pass_time(6)
    town.kill("w0")
    again = town.start("w0")
    await again.leases.look()
    assert again.used == "a"


async def test_a_worker_that_stops_gives_back_at_once(town: Town) -> None:
    town.start("w0")
    town.start("w1")
    await town.pass_time(6)
    await town.stop("w0")
    await town.pass_time(1)
    assert town.used == {"w1": "ab"}


async def test_of_two_with_one_name_the_younger_has_the_account(town: Town) -> None:
    older = town.start("w0")
    await town.pass_time(3)
    younger = town.start("w0")
    await younger.leases.look()
    assert younger.used == "ab"
    await older.leases.look()
    await town.settle()
    assert older.used == ""
    assert sorted(older.retired) == [("a", True), ("b", True)]
    await older.leases.leave()
    await younger.leases.look()
    assert younger.used == "ab"


async def test_an_account_lost_in_an_outage_lets_its_turns_end_and_stops(town: Town) -> None:
    cut_off = town.start("w0", "a")
    await town.pass_time(3)
    cut_off.busy.add("a")
    town.start("w1", "a")
    del town.workers["w0"]
    await town.pass_time(TTL_S + 3)
    assert town.used == {"w1": "a"}
    await cut_off.leases.look()
    account = cut_off.accounts["a"]
    assert (account.running, account.leaving) == (True, True)
    await cut_off.leases.look()
    await eventually(lambda: cut_off.retired == [("a", True)])
    cut_off.busy.clear()
    await town.settle()
    assert (account.running, account.held_by) == (False, "w1")


async def test_a_store_that_lost_everything_leaves_all_as_it_was(town: Town) -> None:
    town.start("w0")
    town.start("w1")
    town.start("w2")
    await town.pass_time(8)
    before = town.used
    keys = town.stores.keys
    for waiting in ("w2", "w1", "w0"):
        await town.stores.kv.kv_del(keys.account("a"), keys.account("b"))
        await town.workers[waiting].leases.look()
        await town.pass_time(5)
        assert (town.used, town.retired) == (before, [])


async def test_an_outage_changes_nothing(town: Town) -> None:
    kv: Any = Switch(town.stores.kv, "kv_mget", "kv_cas")
    town.stores = town.stores._replace(kv=kv)
    worker = town.start("w0")
    await town.pass_time(3)
    kv.mode = "off"
    with pytest.raises(StoreUnavailable):
        await worker.leases.look()
    town.clock.advance(TTL_S * 3)
    kv.mode = "on"
    await worker.leases.look()
    await town.settle()
    assert (worker.used, worker.retired) == ("ab", [])


async def test_a_claim_whose_reply_was_lost_is_ours(town: Town) -> None:
    kv: Any = Switch(town.stores.kv, "kv_cas")
    town.stores = town.stores._replace(kv=kv)
    worker = town.start("w0", "a")
    await worker.leases.look()
    town.clock.advance(FREE_S)
    kv.mode = "deaf"
    with pytest.raises(StoreUnavailable):
        await worker.leases.look()
    assert worker.used == ""
    kv.mode = "on"
    await worker.leases.look()
    assert worker.used == "a"


async def test_where_a_person_would_have_to_log_in_others_go_first(town: Town) -> None:
    town.start("w0", "a").accounts["a"].at_home = False
    town.start("w1", "a")
    await town.pass_time(5)
    assert town.used == {"w0": "", "w1": "a"}
    town.kill("w1")
    await town.pass_time(TTL_S + FREE_S + RELUCTANT_S + STEP_S + 2)
    assert town.used == {"w0": "a"}


async def test_among_free_accounts_those_with_a_login_come_first(town: Town) -> None:
    for name, own in (("w0", "b"), ("w1", "a")):
        for account in town.start(name).accounts.values():
            account.at_home = account.id == own
    await town.pass_time(6)
    assert town.used == {"w0": "b", "w1": "a"}


async def test_a_draining_worker_gives_what_is_idle_and_takes_nothing(town: Town) -> None:
    first = town.start("w0")
    town.start("w1")
    await town.pass_time(6)
    first.draining = True
    await town.pass_time(4)
    assert town.used == {"w0": "", "w1": "ab"}
    town.kill("w1")
    await town.pass_time(TTL_S * 2)
    assert town.used == {"w0": ""}
    first.draining = False
    await town.pass_time(YIELD_S)
    assert town.used == {"w0": "ab"}


async def test_a_draining_worker_without_others_keeps_its_accounts(town: Town) -> None:
    worker = town.start("w0")
    await town.pass_time(3)
    worker.draining = True
    await town.pass_time(20)
    assert worker.used == "ab"


async def test_what_was_given_away_and_nobody_took_comes_back(town: Town) -> None:
    worker = town.start("w0")
    await town.pass_time(3)
    users = town.stores.keys.account_users(["a", "b"])
    await town.stores.leases.acquire(users, "ghost", limit=0, ttl_s=5)
    await town.pass_time(2)
    assert len(worker.used) == 1
    await town.pass_time(YIELD_S + 5)
    assert worker.used == "ab"


async def test_what_another_has_is_not_taken_when_the_claim_makes_no_sense(town: Town) -> None:
    await town.stores.kv.kv_set(town.stores.keys.account("a"), b"\xff\xfe")
    worker = town.start("w0", "a")
    await town.pass_time(10)
    assert worker.used == ""


async def test_in_memory_there_is_nobody_to_wait_for() -> None:
    async with open_memory(FakeClock()) as stores:
        town = Town(stores, FakeClock(), Tasks())
        town.stores = stores
        worker = town.start("w0")
        worker.accounts["a"].at_home = False
        await worker.leases.look()
        assert worker.used == "ab"


def test_a_claim_reads_as_it_was_written() -> None:
    claim = Claim(7, "w-1.pod")
    assert Claim.read(claim.write()) == claim
    assert Claim.read(None) is None


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_no_account_is_used_twice_and_all_are_used_in_the_end(
    town: Town, seed: int
) -> None:
    dice = random.Random(seed)
    names, accounts = ["w0", "w1", "w2"], "abcde"[: dice.randint(1, 5)]
    for _ in range(60):
        name = dice.choice(names)
        match dice.choice(["start", "start", "kill", "stop", "drain", "login", "wait", "lose"]):
            case "start" if name not in town.workers:
                town.start(name, accounts)
            case "kill" if name in town.workers:
                town.kill(name)
            case "stop" if name in town.workers:
                await town.stop(name)
            case "drain" if name in town.workers:
                town.workers[name].draining = dice.random() < 0.5
            case "login" if name in town.workers:
                account = town.workers[name].accounts[dice.choice(accounts)]
                account.at_home, account.movable = dice.random() < 0.5, dice.random() < 0.5
            case "lose":
                await town.stores.kv.kv_del(town.stores.keys.account(dice.choice(accounts)))
            case _:
                pass
        await town.pass_time(dice.choice([1, 2, 5, 15]))
    for name in names:
        if name not in town.workers:
            town.start(name, accounts)
    for worker in town.workers.values():
        worker.draining = False
        for one in worker.accounts.values():
            one.at_home = one.movable = True
    await town.pass_time(120)
    assert sorted("".join(town.used.values())) == list(accounts)
    shares = [len(used) for used in town.used.values()]
    assert max(shares) - min(shares) <= 1
    before = town.used
    await town.pass_time(60)
    assert town.used == before, "accounts wander about"
