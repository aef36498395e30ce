"""The process: discovery files, lock, signals, start-up."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.unit.workers.simulator.harness import PATIENCE_S, ROOT, Simulator, client, simulator, wait_until
from workers.simulator.server import WorkDirTaken, take_lock, write_info


def test_it_ends_promptly_on_sigterm(work_dir: Path) -> None:
    with simulator(work_dir) as sim:
        started = time.monotonic()
        sim.process.terminate()
        assert sim.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started < 5


async def test_it_ends_on_sigterm_in_the_middle_of_an_answer(work_dir: Path) -> None:
    with simulator(work_dir) as sim:
        async with client(sim) as peer:
            request_id = await peer.ask("wait 60 seconds")
            await peer.until(lambda: peer.of(request_id), "a first push")
            sim.process.terminate()
            await peer.until(lambda: peer.closed, "close")
        assert sim.process.wait(PATIENCE_S) == 0


async def test_exit_ends_it(work_dir: Path) -> None:
    with simulator(work_dir) as sim:
        async with client(sim) as peer:
            await peer.notify("exit")
            await peer.until(lambda: peer.closed, "close")
        assert sim.process.wait(PATIENCE_S) == 0


async def test_lv_20_sigterm_can_be_ignored(work_dir: Path) -> None:
    """Given fail ignore_sigterm; expected it to live on after SIGTERM and to die of SIGKILL."""
    with simulator(work_dir) as sim:
        sim.turn(fail="ignore_sigterm")
        sim.process.terminate()
        sim.wait_log("SIGTERM ignored")
        async with client(sim) as peer:
            assert await peer.answer("say alive") == "alive"
        sim.process.kill()
        assert sim.process.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_closed_stderr_is_no_reason_to_die(work_dir: Path) -> None:
    with simulator(work_dir, stderr=subprocess.PIPE) as sim:
        assert sim.process.stderr is not None
        sim.process.stderr.close()
        sim.process.terminate()
        assert sim.process.wait(PATIENCE_S) == 0
        assert sim.log().rstrip().endswith("bye")


def test_two_processes_never_share_a_work_directory(work_dir: Path) -> None:
    with simulator(work_dir) as sim:
        second = Simulator(work_dir, stderr=subprocess.PIPE)
        try:
            assert second.process.wait(PATIENCE_S) == 1
            assert second.process.stderr is not None
            complaint = second.process.stderr.read().decode()
            assert f"in use by process {sim.process.pid}" in complaint
        finally:
            second.close()
        assert sim.info() is not None
        sim.process.kill()
        sim.process.wait(PATIENCE_S)
    # The lock of a dead process holds nobody up, whatever pid it names.
    (work_dir / ".lock").write_text(f"{os.getpid()}\n")
    with simulator(work_dir) as sim:
        assert (work_dir / ".lock").read_text() == f"{sim.process.pid}\n"


def test_the_lock_is_free_after_its_file_is_closed(tmp_path: Path) -> None:
    held = take_lock(tmp_path / ".lock")
    with pytest.raises(WorkDirTaken, match=str(os.getpid())):
        take_lock(tmp_path / ".lock")
    held.close()
    take_lock(tmp_path / ".lock").close()


def test_a_taken_socket_port_is_an_error(work_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        sim = Simulator(work_dir, "--socketPort", port)
        try:
            assert sim.process.wait(PATIENCE_S) == 1
            assert "cannot listen" in sim.log()
            assert sim.info() is None
        finally:
            sim.close()


@pytest.mark.parametrize(("form", "files"), [("text", {".info"}), ("json", {".info.json"}), ("both", None)])
def test_the_discovery_files_name_port_and_pid(tmp_path: Path, form: str, files: set[str] | None) -> None:
    write_info(tmp_path, 36512, form)
    assert {path.name for path in tmp_path.iterdir()} == (files or {".info", ".info.json"})
    if form != "json":
        assert (tmp_path / ".info").read_text() == f"36512\n{os.getpid()}\n"
    if form != "text":
        info = json.loads((tmp_path / ".info.json").read_text())
        assert (info["websocketPort"], info["pid"], info["isDev"]) == (36512, os.getpid(), False)


def test_lv_17_a_stale_info_stays_until_the_fresh_one(work_dir: Path) -> None:
    """Given a stale .info and a late start; expected the stale one first, then one with the live pid."""
    work_dir.mkdir()
    (work_dir / ".info").write_text("36599\n1\n")
    sim = Simulator(work_dir, env={"LINGMA_SIM_START_DELAY": "50", "LINGMA_SIM_INFO_DELAY": "300"})
    try:
        wait_until(lambda: "Using http server" in sim.log(), "listeners")
        assert sim.info() == (36599, 1)
        port = sim.wait_ready()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    finally:
        sim.close()
    assert sim.info() is not None


def test_the_log_has_the_lines_of_a_start(work_dir: Path) -> None:
    with simulator(work_dir, env={"LINGMA_SIM_LOGGED_IN": "0", "LINGMA_SIM_TYPO": "1"}) as sim:
        sim.wait_log("Communication servers ready - WebSocket: ")
        log = sim.log()
    assert "No cached user info, please login." in log
    assert "unknown knob: typo" in log
    assert log.index("Initializing database") < log.index("Using http server: ") < log.index("servers ready")


def test_it_can_be_told_to_die_with_its_parent(work_dir: Path) -> None:
    work_dir.mkdir()
    launcher = textwrap.dedent(
        f"""
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-m", "workers.simulator", "--workDir", {str(work_dir)!r},
                          "--socketPort", "0", "--httpPort", "0"], stderr=subprocess.DEVNULL)
        time.sleep(60)
        """
    )
    environ = {**os.environ, "LINGMA_SIM_DIE_WITH_PARENT": "1"}
    parent = subprocess.Popen([sys.executable, "-c", launcher], cwd=ROOT, env=environ)
    try:
        wait_until((work_dir / ".info").exists, ".info")
        child = psutil.Process(int((work_dir / ".info").read_text().split()[1]))
    finally:
        parent.kill()
        parent.wait(PATIENCE_S)

    def gone() -> bool:
        try:
            return bool(child.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    wait_until(gone, "death of the child")
