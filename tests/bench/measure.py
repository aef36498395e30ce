"""CPU and memory of other processes, pinning, and children that talk to us in JSON lines."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[2]


class NotMeasured(Exception):
    """Something did not run as it should, so that its figures would mean nothing."""


def cpu_ns(pid: int) -> int:
    """CPU time of a process, all its threads, since it started: user and system together."""
    try:
        # The id of another process's CPU clock, as clock_getcpuclockid(3) makes it: nanoseconds, where
        # /proc counts in hundredths of a second.
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return round((times.user + times.system) * 1e9)


class Cpu:
    """CPU that processes use between `with` and its end, in nanoseconds by name."""

    def __init__(self, **pids: int | Iterable[int]) -> None:
        self._pids = {name: [p] if isinstance(p, int) else list(p) for name, p in pids.items()}
        self._before: dict[str, int] = {}
        self.used: dict[str, int] = {}

    def _now(self) -> dict[str, int]:
        return {name: sum(map(cpu_ns, pids)) for name, pids in self._pids.items()}

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.used = {name: after - self._before[name] for name, after in self._now().items()}


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def pin(pid: int, core: int) -> None:
    """Bind a process to one of our cores, counted from 0; nothing on a machine with a single one."""
    ours = cores()
    if len(ours) > 1:
        os.sched_setaffinity(pid, {ours[core % len(ours)]})


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Bind this process for the length of a block."""
    before = os.sched_getaffinity(0)
    pin(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """`python -m tests.bench.<module>`, which reads a JSON line and answers with one."""

    def __init__(self, module: str, *arguments: str, core: int | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.pid = self._process.pid
        if core is not None:
            pin(self.pid, core)

    def tell(self, **message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise NotMeasured(f"a process of the bench ended:\n{self._log.read()[-2000:].decode()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise NotMeasured(str(answer["error"]))
        return answer

    def ask(self, **message: Any) -> Any:
        self.tell(**message)
        return self.hear()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def say(**message: Any) -> None:
    """A child's answer."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
