import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from workers.lingma.leftover import (
    PID_FILE,
    InUse,
    PidRecord,
    find_leftover,
    forget_pid_file,
    kill_leftover,
    start_ticks,
    write_pid_file,
)

SLEEP = ["-c", "import time; time.sleep(60)", "--workDir", "d"]


@pytest.fixture
def sleeper() -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen([sys.executable, *SLEEP], start_new_session=True)
    # Popen is back when the program was found; its command line appears a moment later.
    deadline = time.monotonic() + 5
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.001)
    yield process
    process.kill()
    process.wait()


def test_start_time_tells_processes_apart(sleeper: "subprocess.Popen[bytes]") -> None:
    own = start_ticks(os.getpid())
    assert own is not None
    assert (start_ticks(sleeper.pid) or 0) >= own
    assert start_ticks(2**22 + 1) is None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(sleeper.pid) is None, "a zombie counts as gone"


def test_leftover_is_found_and_killed(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    write_pid_file(tmp_path, sleeper.pid, SLEEP)
    assert find_leftover(tmp_path) == sleeper.pid
    assert kill_leftover(tmp_path) == sleeper.pid
    assert sleeper.wait(timeout=5) == -9
    assert not (tmp_path / PID_FILE).exists()
    assert kill_leftover(tmp_path) is None


@pytest.mark.parametrize("field", ["start_ticks", "arguments", "no arguments", "pid"])
def test_stranger_is_not_touched(tmp_path: Path, sleeper: "subprocess.Popen[bytes]", field: str) -> None:
    record = PidRecord(sleeper.pid, start_ticks(sleeper.pid) or 0, list(SLEEP), 1, 0)
    match field:
        case "start_ticks":
            record.start_ticks += 1
        case "arguments":
            record.arguments[-1] = "other"
        case "no arguments":
            record.arguments = []
        case "pid":
            record.pid = 1
    (tmp_path / PID_FILE).write_bytes(msgspec.json.encode(record))
    assert kill_leftover(tmp_path) is None
    assert sleeper.poll() is None
    assert not (tmp_path / PID_FILE).exists()


@pytest.mark.parametrize("owner", ["alive", "gone", "another with its pid"])
def test_process_of_a_living_worker_is_not_touched(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]", owner: str
) -> None:
    with subprocess.Popen([sys.executable, *SLEEP]) as worker:
        owner_ticks = start_ticks(worker.pid) or 0
        if owner == "another with its pid":
            owner_ticks -= 1
        record = PidRecord(sleeper.pid, start_ticks(sleeper.pid) or 0, list(SLEEP), worker.pid, owner_ticks)
        (tmp_path / PID_FILE).write_bytes(msgspec.json.encode(record))
        if owner == "alive":
            with pytest.raises(InUse):
                kill_leftover(tmp_path)
            assert sleeper.poll() is None
            assert (tmp_path / PID_FILE).exists()
        if owner == "gone":
            worker.kill()
            worker.wait()
        if owner != "alive":
            assert kill_leftover(tmp_path) == sleeper.pid
        worker.kill()


def test_process_in_the_group_of_another_is_not_touched(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, *SLEEP]) as process:
        write_pid_file(tmp_path, process.pid, SLEEP)
        assert find_leftover(tmp_path) is None
        process.kill()


def test_dead_processes_leave_nothing_to_remember(tmp_path: Path) -> None:
    write_pid_file(tmp_path, 2**22 + 1, SLEEP)
    assert list(tmp_path.iterdir()) == []
    forget_pid_file(tmp_path)
