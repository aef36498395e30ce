"""How settings become a worker."""

import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.kernel.clock import SystemClock
from gateway.store.backends import open_memory
from workers.assemble import assemble, pool_config
from workers.lingma.pool import plan_instances
from workers.settings import WorkerSettings


def settings(work_dir: Path, **given: Any) -> WorkerSettings:
    return WorkerSettings(**({"lingma_bin": "simulator", "lingma_work_dir": work_dir} | given))


def test_whoever_runs_the_stand_in_is_logged_in(tmp_path: Path) -> None:
    simulated = settings(tmp_path)
    assert pool_config(simulated, {}).instance.environment == {"LINGMA_SIM_LOGGED_IN": "1"}
    told = {"LINGMA_SIM_LOGIN": "never"}
    assert pool_config(simulated, told).instance.environment == told
    assert pool_config(settings(tmp_path, lingma_bin="/bin/Lingma"), {}).instance.environment == {}


@pytest.mark.parametrize(("mode", "exclusive"), [("exclusive", True), ("replicate", False)])
def test_accounts_are_exclusive_unless_told_otherwise(tmp_path: Path, mode: str, exclusive: bool) -> None:
    config = pool_config(settings(tmp_path, lingma_accounts="ann:p,bob:q", lingma_accounts_mode=mode), {})
    assert (config.exclusive, config.count) == (exclusive, 2)


def test_one_instance_has_the_ports_that_ides_and_login_pages_expect(tmp_path: Path) -> None:
    [only] = plan_instances(pool_config(settings(tmp_path), {}))
    assert (only.socket_port, only.http_port) == (36510, 37510)
    several = plan_instances(pool_config(settings(tmp_path, lingma_instance_count=2), {}))
    assert {(one.socket_port, one.http_port) for one in several} == {(0, 0)}


@pytest.mark.parametrize("wanted", [True, False])
def test_coalescing_can_be_switched_off(tmp_path: Path, wanted: bool) -> None:
    given = settings(tmp_path, lingma_coalesce_frames=wanted)
    assert pool_config(given, {}).instance.coalesce is wanted


@pytest.mark.parametrize(("wanted", "lines"), [(True, 1), (False, 0)])
async def test_who_wants_a_browser_login_is_told_what_to_do_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: bool, lines: int
) -> None:
    async with open_memory(SystemClock()) as stores:
        with caplog.at_level(logging.WARNING):
            assemble(settings(tmp_path, auto_login_enabled=wanted), stores, environ={})
    told = [vars(r)["remedy"] for r in caplog.records if r.getMessage() == "accounts.no_browser_login"]
    assert len(told) == lines
    assert all("LINGMA_SESSION_BUNDLE" in text for text in told)
