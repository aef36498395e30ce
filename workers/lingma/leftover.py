"""The pid file of a subprocess, and the end of one that outlived the worker that started it.

A process is only touched when the pid file, its start time and its command all agree, because pids are used
again, and when the worker that started it is gone: two workers on one directory must not kill each other's.
Linux only (/proc); elsewhere nothing is ever found. Called by process.py.
"""

import contextlib
import logging
import os
import signal
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

PID_FILE = ".gateway.pid.json"


class PidRecord(msgspec.Struct):
    pid: int
    start_ticks: int
    """When it started, in clock ticks since boot."""
    arguments: list[str]
    """Without the program: an interpreter may stand in front of it."""
    owner_pid: int
    owner_start_ticks: int
    """The worker that started it."""


class InUse(Exception):
    """The process of another worker that is alive runs in this directory."""


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None when there is no such process, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the name in parentheses, which may hold anything, parentheses included.
    fields = stat[stat.rfind(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def write_pid_file(work_dir: Path, pid: int, arguments: list[str]) -> None:
    """Remember a process that was just started. Without /proc there is nothing to remember."""
    ticks, own_ticks = start_ticks(pid), start_ticks(os.getpid())
    if ticks is None or own_ticks is None:
        return
    path = work_dir / PID_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(PidRecord(pid, ticks, arguments, os.getpid(), own_ticks)))
    temporary.replace(path)


def forget_pid_file(work_dir: Path) -> None:
    (work_dir / PID_FILE).unlink(missing_ok=True)


def find_leftover(work_dir: Path) -> int | None:
    """The pid of the process group that an earlier worker started here and that still runs. Raises InUse."""
    try:
        record = msgspec.json.decode((work_dir / PID_FILE).read_bytes(), type=PidRecord)
    except (OSError, msgspec.DecodeError):
        return None
    if record.pid <= 1 or start_ticks(record.pid) != record.start_ticks:
        return None
    try:
        command = Path(f"/proc/{record.pid}/cmdline").read_bytes().removesuffix(b"\0").split(b"\0")
        leads_its_group = os.getpgid(record.pid) == record.pid
    except OSError:
        return None
    wanted = [os.fsencode(argument) for argument in record.arguments]
    same = bool(wanted) and command[-len(wanted) :] == wanted
    if not same or not leads_its_group:
        return None
    if record.owner_pid != os.getpid() and start_ticks(record.owner_pid) == record.owner_start_ticks:
        raise InUse
    return record.pid


def kill_leftover(work_dir: Path) -> int | None:
    """Kill it and its whole group, without waiting. Its pid when there was one. Raises InUse."""
    pid = find_leftover(work_dir)
    if pid is not None:
        log.warning("lingma.leftover_killed", extra={"pid": pid})
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    forget_pid_file(work_dir)
    return pid
