import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from workers.lingma.config import InstanceConfig
from workers.lingma.errors import LingmaStartFailed
from workers.lingma.leftover import PID_FILE, PidRecord, start_ticks, write_pid_file
from workers.lingma.process import QUIET_PORTS, LingmaProcess, accepts, choose_ports

FAKES = Path(__file__).parents[3] / "fakes"
CHILD = FAKES / "lingma_child.py"


def config(work_dir: Path, *modes: str, **options: Any) -> InstanceConfig:
    words = "start --workDir {work_dir} --socketPort {socket_port} --httpPort {http_port} "
    return InstanceConfig(
        work_dir=work_dir,
        binary=sys.executable,
        arguments=f"{CHILD} {words}" + " ".join(modes),
        **{"startup_timeout_s": 10.0, **options},
    )


@contextlib.asynccontextmanager
async def started(settings: InstanceConfig) -> AsyncIterator[tuple[LingmaProcess, int]]:
    process = LingmaProcess(settings)
    port = await process.start()
    try:
        yield process, port
    finally:
        await process.stop()


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def gone(pid: int) -> bool:
    """Neither running nor a zombie of ours."""
    return not psutil.pid_exists(pid)


async def test_start_finds_the_port_and_stop_leaves_nothing(tmp_path: Path) -> None:
    process = LingmaProcess(config(tmp_path / "new" / "dir"))
    assert process.pid == 0
    port = await process.start()
    pid = process.pid
    assert process.alive
    assert await accepts(port)
    assert os.getpgid(pid) == pid
    assert psutil.Process(pid).cmdline()[1] == str(CHILD)
    await process.stop()
    await process.stop()
    assert (process.pid, process.alive) == (0, False)
    assert gone(pid)
    assert not (tmp_path / "new" / "dir" / PID_FILE).exists()


async def test_can_be_started_again(tmp_path: Path) -> None:
    async with started(config(tmp_path)) as (process, _):
        first = process.pid
        await process.start()
        assert process.pid != first
        assert gone(first)


async def test_wished_port_is_taken_when_free(tmp_path: Path, free_tcp_port: int) -> None:
    async with started(config(tmp_path, socket_port=free_tcp_port)) as (_, port):
        assert port == free_tcp_port
        other = config(tmp_path / "other", socket_port=free_tcp_port)
        async with started(other) as (_, other_port):
            assert other_port != free_tcp_port


async def test_lv_17_stale_info_is_not_believed(tmp_path: Path) -> None:
    """LV-17: given a stale .info (another pid, port closed), then a fresh one, expect the fresh port."""
    (tmp_path / ".info").write_text("1\n1\n")
    (tmp_path / ".info.json").write_text('{"websocketPort":1,"pid":1}')
    async with started(config(tmp_path, "stale-first")) as (process, port):
        assert (tmp_path / ".info").read_text() == f"{port}\n{process.pid}\n"
        assert not (tmp_path / ".info.json").exists()


@pytest.mark.parametrize("mode", ["never-ready", "no-listen"])
async def test_lv_17_startup_timeout_says_not_ready(tmp_path: Path, mode: str) -> None:
    """LV-17: with a startup timeout of 0.6 s, expect a ".info not ready" error."""
    process = LingmaProcess(config(tmp_path, mode, startup_timeout_s=0.6))
    with pytest.raises(LingmaStartFailed, match=r"\.info not ready: inst-0 did not listen within 0.6 s"):
        await process.start()
    assert not process.alive
    assert process.pid == 0


async def test_child_that_exits_fails_the_start_at_once(tmp_path: Path) -> None:
    with pytest.raises(LingmaStartFailed, match=r"\.info not ready: inst-0 exited with status 3"):
        await LingmaProcess(config(tmp_path, "exit", startup_timeout_s=60)).start()


async def test_binary_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LingmaStartFailed, match="LINGMA_BIN"):
        await LingmaProcess(InstanceConfig(work_dir=tmp_path, binary=str(tmp_path / "absent"))).start()


async def test_work_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LingmaStartFailed, match="work directory"):
        await LingmaProcess(config(tmp_path / "file" / "dir")).start()


async def test_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    process = LingmaProcess(config(tmp_path, "never-ready"))
    task = asyncio.ensure_future(process.start())
    await until(lambda: process.pid)
    pid = process.pid
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(pid)


async def test_killed_child_is_noticed_and_reaped(tmp_path: Path) -> None:
    async with started(config(tmp_path)) as (process, _):
        pid = process.pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not process.alive)
        assert gone(pid)


async def test_killed_child_is_noticed_without_pidfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    async with started(config(tmp_path)) as (process, _):
        pid = process.pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not process.alive)
        assert gone(pid)


async def test_lv_20_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    """LV-20: given a child that ignores SIGTERM, expect it killed after 5 s (here 0.3) and stop() back."""
    assert InstanceConfig(work_dir=tmp_path).stop_grace_s == 5.0
    async with started(config(tmp_path, "ignore-term", stop_grace_s=0.3)) as (process, _):
        pid = process.pid
        loop = asyncio.get_running_loop()
        before = loop.time()
        await process.stop()
        assert 0.3 <= loop.time() - before < 3
        assert gone(pid)


async def test_lv_21_flood_of_stderr_does_not_block(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """LV-21: given a child that writes 5 MB to stderr, expect no deadlock."""
    caplog.set_level("DEBUG", logger="workers.lingma.process")
    async with started(config(tmp_path, "flood")) as (process, _):
        assert process.alive
    lines = [record for record in caplog.records if record.message == "lingma.output"]
    assert len(lines) == 5 * 1024
    assert {vars(record)["line"] for record in lines} == {"x" * 1023}


async def test_whole_group_ends(tmp_path: Path) -> None:
    async with started(config(tmp_path, "grandchild")) as (process, _):
        stopped = int((tmp_path / "grandchild").read_text())
        await process.stop()
        await until(lambda: start_ticks(stopped) is None)
        await process.start()
        orphaned = int((tmp_path / "grandchild").read_text())
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: start_ticks(orphaned) is None)


async def test_child_dies_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, str(FAKES / "dying_worker.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=FAKES.parents[1],
        env={**os.environ, "PYTHONPATH": str(FAKES.parents[1])},
    )
    assert worker.stdout is not None
    try:
        pid = int(await asyncio.to_thread(worker.stdout.readline))
        assert start_ticks(pid) is not None
        worker.kill()
        await until(lambda: start_ticks(pid) is None)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def run_leftover(work_dir: Path) -> "subprocess.Popen[bytes]":
    """A process that an earlier worker might have left in work_dir."""
    work_dir.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, CHILD, "start", "--workDir", work_dir, "--socketPort", "0"], start_new_session=True
    )


async def test_leftover_of_an_earlier_worker_is_killed(tmp_path: Path) -> None:
    leftover = run_leftover(tmp_path)
    try:
        await until(lambda: (tmp_path / ".info").exists())
        write_pid_file(tmp_path, leftover.pid, [str(CHILD), *map(str, leftover.args[2:])])  # type: ignore[index]
        async with started(config(tmp_path)):
            assert start_ticks(leftover.pid) is None
    finally:
        leftover.kill()
        leftover.wait()


async def test_two_workers_on_one_directory_do_not_fight(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, str(FAKES / "dying_worker.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=FAKES.parents[1],
        env={**os.environ, "PYTHONPATH": str(FAKES.parents[1])},
    )
    assert worker.stdout is not None
    try:
        pid = int(await asyncio.to_thread(worker.stdout.readline))
        with pytest.raises(LingmaStartFailed, match="another worker"):
            await LingmaProcess(config(tmp_path)).start()
        assert start_ticks(pid) is not None
        worker.kill()
        worker.wait()
        async with started(config(tmp_path)):
            assert start_ticks(pid) is None
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


@pytest.mark.parametrize("wrong", ["start time", "command", "no file", "garbage"])
async def test_stranger_with_the_pid_of_a_leftover_lives(tmp_path: Path, wrong: str) -> None:
    stranger = run_leftover(tmp_path)
    try:
        await until(lambda: (tmp_path / ".info").exists())
        ticks = start_ticks(stranger.pid)
        assert ticks is not None
        command = [str(word) for word in stranger.args[1:]]  # type: ignore[index]
        record = PidRecord(stranger.pid, ticks, command, 1, 0)
        match wrong:
            case "start time":
                record.start_ticks -= 1
            case "command":
                record.arguments[-1] = "1"
        if wrong == "garbage":
            (tmp_path / PID_FILE).write_text("{")
        elif wrong != "no file":
            (tmp_path / PID_FILE).write_bytes(msgspec.json.encode(record))
        async with started(config(tmp_path)):
            assert start_ticks(stranger.pid) == ticks
    finally:
        stranger.kill()
        stranger.wait()


async def test_secrets_are_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "sk-secret")
    monkeypatch.setenv("LINGMA_PASSWORD", "secret")
    monkeypatch.setenv("LINGMA_SIM_TTFT", "1")
    monkeypatch.setenv("https_proxy", "http://proxy")
    async with started(config(tmp_path)) as (process, _):
        environment = psutil.Process(process.pid).environ()
        assert "secret" not in " ".join(environment.values())
        assert environment["LINGMA_SIM_TTFT"] == "1"
        assert environment["https_proxy"] == "http://proxy"


def test_ports_are_free_and_different() -> None:
    ports = choose_ports(0, 0, 0)
    assert len(set(ports)) == 3
    assert all(port in QUIET_PORTS for port in ports), "no outgoing connection takes one meanwhile"
    assert choose_ports(ports[0], ports[0])[0] == ports[0]
    assert len(set(choose_ports(ports[0], ports[0]))) == 2
