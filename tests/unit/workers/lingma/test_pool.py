import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.accounts.bundle import BundleUnavailable
from workers.accounts.parse import Account
from workers.lingma.account import Login
from workers.lingma.client import ClientState, LingmaClient
from workers.lingma.config import InstanceConfig, child_environment
from workers.lingma.errors import LingmaNotReady
from workers.lingma.pool import Instance, InstancePool, PoolConfig, bucket, choose, plan_instances


class StubClient(LingmaClient):
    """Healthy or not, busy or not; never started."""

    load = 0

    @property
    def in_flight(self) -> int:
        return self.load


def pool_of(work_dir: Path, healthy: list[bool], in_flight: list[int]) -> InstancePool:
    pool = InstancePool(PoolConfig(instance=InstanceConfig(work_dir=work_dir), count=len(healthy)))
    stubs = []
    for instance, good, load in zip(pool.instances, healthy, in_flight, strict=True):
        client = StubClient(instance.config)
        client.state = ClientState.READY if good else ClientState.FAILED
        client.load = load
        stubs.append(Instance(instance.config, instance.account, client))
    pool.instances = stubs
    return pool


def key_for(index: int, count: int) -> str:
    return next(key for key in map(str, range(1000)) if bucket(key, count) == index)


async def test_lv_40_least_loaded_without_a_key(tmp_path: Path) -> None:
    """LV-40: given 3 healthy instances with 2, 1, 1 in flight and no key, expect index 1 (tie: lowest)."""
    assert pool_of(tmp_path, [True] * 3, [2, 1, 1]).pick().index == 1


async def test_lv_41_unhealthy_bucket(tmp_path: Path) -> None:
    """LV-41: given a key of bucket 2, instance 2 unhealthy, the others 0:4 and 1:3, expect index 1."""
    pool = pool_of(tmp_path, [True, True, False], [4, 3, 0])
    assert pool.pick(key_for(2, 3)).index == 1
    assert pool.pick(key_for(0, 3)).index == 0


async def test_lv_42_none_healthy_goes_round(tmp_path: Path) -> None:
    """LV-42: given no healthy instance of 3 and four picks, expect 0, 1, 2, 0."""
    pool = pool_of(tmp_path, [False] * 3, [0, 0, 0])
    assert [pool.pick().index for _ in range(4)] == [0, 1, 2, 0]


async def test_lv_43_name_of_a_healthy_instance_wins_over_any_key(tmp_path: Path) -> None:
    """LV-43: given the cached instance name inst-2, healthy, expect inst-2 whatever the key's bucket."""
    pool = pool_of(tmp_path, [True] * 3, [0, 0, 9])
    for index in range(3):
        assert pool.pick(key_for(index, 3), name="inst-2").name == "inst-2"
    assert pool.pick(key_for(1, 3), name="gone").index == 1
    pool.instances[2].client.state = ClientState.RECONNECTING
    assert pool.pick(key_for(1, 3), name="inst-2").index == 1


def test_bucket_is_the_same_in_every_process() -> None:
    assert [bucket(key, 5) for key in ("a", "b", "session-7")] == [0, 1, 1]


def test_choose_among_none() -> None:
    assert choose([False], [0], "k") is None


def test_single_instance_keeps_its_place(tmp_path: Path) -> None:
    only = InstanceConfig(work_dir=tmp_path, socket_port=36510, http_port=37510)
    assert plan_instances(PoolConfig(instance=only)) == [only]


def test_several_instances_share_nothing(tmp_path: Path) -> None:
    plugin_dir = tmp_path / ".lingma" / "vscode" / "sharedClientCache"
    plans = plan_instances(
        PoolConfig(instance=InstanceConfig(work_dir=plugin_dir, socket_port=36510, http_port=1), count=3)
    )
    assert [plan.name for plan in plans] == ["inst-0", "inst-1", "inst-2"]
    assert [plan.index for plan in plans] == [0, 1, 2]
    assert [plan.work_dir for plan in plans] == [tmp_path / f".lingma/pool/inst-{n}" for n in range(3)]
    assert {(plan.socket_port, plan.http_port) for plan in plans} == {(0, 0)}
    elsewhere = plan_instances(PoolConfig(instance=InstanceConfig(work_dir=tmp_path / "w"), count=2))
    assert [plan.work_dir for plan in elsewhere] == [tmp_path / f"w/pool/inst-{n}" for n in range(2)]


# -- real subprocesses ------------------------------------------------------------------------------------


def live(
    work_dir: Path, *accounts: Account, count: int = 1, exclusive: bool = False, **options: Any
) -> InstancePool:
    environment = child_environment(os.environ)
    settings: dict[str, Any] = {"startup_timeout_s": 20.0, "environment": environment, **options}
    instance = InstanceConfig(work_dir=work_dir, **settings)
    return InstancePool(PoolConfig(instance=instance, accounts=accounts, exclusive=exclusive, count=count))


async def until(condition: Callable[[], object], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def log_in(instance: Instance) -> None:
    """As a login page would leave it."""
    cache = instance.config.work_dir / "cache"
    cache.mkdir(exist_ok=True)
    (cache / "id").write_text("machine")
    (cache / "user").write_text("sealed")
    await instance.client.auth_status()


async def test_pool_from_start_to_end(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    pool = live(tmp_path / "w", count=2)
    async with pool.running():
        await pool.wait_started(20)
        records = pool.snapshot()
        assert [(r.name, r.index, r.ready, r.state, r.login) for r in records] == [
            ("inst-0", 0, False, "ready", "login_required"),
            ("inst-1", 1, False, "ready", "login_required"),
        ]
        assert len({r.pid for r in records}) == 2
        first = pool.get("inst-0")
        assert first is not None
        assert pool.get("inst-9") is None
        with pytest.raises(BundleUnavailable):
            await first.export_bundle()
        await log_in(first)
        await until(lambda: pool.snapshot()[0].ready)
        bundle = await first.export_bundle()
        killed = pool.snapshot()[1].pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: pool.snapshot()[1].pid not in (0, killed))
        await until(lambda: pool.snapshot()[1].state == "ready")
        assert pool.snapshot()[1].restarts == 1
    assert {child.pid for child in psutil.Process().children()} == before
    assert [r.state for r in pool.snapshot()] == ["closed", "closed"]

    restored = live(tmp_path / "restored", Account(session_bundle=bundle))
    async with restored.running():
        await restored.wait_started(20)
        (record,) = restored.snapshot()
        assert (record.ready, record.login) == (True, "logged_in")
        assert record.models
        assert len(record.account) == 12
        assert (tmp_path / "restored/cache/user").read_text() == "sealed"


async def test_exclusive_accounts_run_only_while_they_are_granted(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    pool = live(tmp_path, Account("ann"), Account("bob"), count=3, exclusive=True)
    ann, bob = pool.leased
    assert (ann.names, bob.names) == ({"inst-0", "inst-2"}, {"inst-1"})
    assert ann.id != bob.id
    async with pool.running():
        bob.withhold("w-2")
        ann.grant()
        await pool.wait_started(20)
        assert [(r.state, r.login, r.held_by) for r in pool.snapshot()] == [
            ("ready", "login_required", ""),
            ("waiting", "elsewhere", "w-2"),
            ("ready", "login_required", ""),
        ]
        assert not ann.at_home
        await log_in(pool.instances[0])
        assert (ann.movable, pool.instances[0].ready) == (False, True)
        ann.leave()
        assert (pool.snapshot()[0].state, pool.snapshot()[0].ready) == ("leaving", False)
        await ann.stop()
        assert {child.pid for child in psutil.Process().children()} == before
        assert [r.state for r in pool.snapshot()] == ["waiting"] * 3
        ann.grant()
        await until(lambda: pool.snapshot()[0].ready)
        assert pool.snapshot()[0].restarts == 0
    assert {child.pid for child in psutil.Process().children()} == before
    assert [r.state for r in pool.snapshot()] == ["waiting"] * 3


async def test_a_start_that_is_revoked_midway_leaves_nothing(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    slow = child_environment(os.environ) | {"LINGMA_SIM_INFO_DELAY": "60000"}
    pool = live(tmp_path, Account("ann"), exclusive=True, environment=slow)
    (ann,) = pool.leased
    async with pool.running():
        ann.grant()
        await until(lambda: {child.pid for child in psutil.Process().children()} - before)
        await ann.stop()
        assert {child.pid for child in psutil.Process().children()} == before
        await ann.stop()


def test_nothing_is_leased_without_accounts_or_when_they_are_replicated(tmp_path: Path) -> None:
    assert live(tmp_path, exclusive=True, count=2).leased == []
    assert live(tmp_path, Account("ann"), exclusive=False).leased == []


async def test_waiting_for_the_start_does_not_wait_for_what_is_elsewhere(tmp_path: Path) -> None:
    pool = live(tmp_path, Account("ann"), exclusive=True)
    pool.leased[0].withhold("w-2")
    async with asyncio.timeout(5):
        await pool.wait_started(60)


async def test_a_bundle_makes_an_account_movable(tmp_path: Path) -> None:
    pool = live(tmp_path, Account("ann", session_bundle="b"), exclusive=True)
    assert pool.leased[0].at_home
    pool.instances[0].client.login = Login(True)
    assert pool.leased[0].movable


async def test_start_that_fails_is_tolerated(tmp_path: Path) -> None:
    pool = live(tmp_path, binary=str(tmp_path / "absent"), count=2)
    async with pool.running():
        await pool.wait_started(10)
        assert [(r.ready, r.state, r.pid) for r in pool.snapshot()] == [(False, "failed", 0)] * 2
        assert pool.pick().name == "inst-0"
        with pytest.raises(LingmaNotReady, match="LINGMA_BIN"):
            await pool.instances[0].client.ask(b"{}", "r")
        pool.wake()


async def test_bad_bundle_does_not_stop_a_start(tmp_path: Path) -> None:
    pool = live(tmp_path, Account(session_bundle="nonsense"))
    async with pool.running():
        await pool.wait_started(20)
        assert pool.snapshot()[0].login == "login_required"


async def test_waiting_for_the_start_is_bounded(tmp_path: Path) -> None:
    pool = live(tmp_path, environment=child_environment(os.environ) | {"LINGMA_SIM_INFO_DELAY": "60000"})
    async with pool.running():
        await pool.wait_started(0.05)
        assert pool.snapshot()[0].state in ("stopped", "starting")
