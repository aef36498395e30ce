"""What the simulator leaves behind: `logs/lingma.log` with a copy on stderr, and `sim-asks.jsonl`.

The log has the lines of the real binary and never a prompt. The second file is evidence for tests: every
ask, stop, approval and tool result exactly as it came in.
"""

import contextlib
import os
import select
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

_STDERR = 2
_PIPE_SAFE = 4000  # a pipe that polls writable takes a page without blocking


class Journal:
    """Append-only files of one work directory."""

    def __init__(self, work_dir: Path, *, silent: bool = False) -> None:
        self._asks_path = work_dir / "sim-asks.jsonl"
        self._asks: int | None = None
        self._log: int | None = None
        self._stderr: select.poll | None = None
        if silent:
            return
        (work_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._log = os.open(work_dir / "logs" / "lingma.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._stderr = select.poll()
        self._stderr.register(_STDERR, select.POLLOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for descriptor in (self._log, self._asks):
            if descriptor is not None:
                os.close(descriptor)
        self._log = self._asks = None

    def line(self, text: str, *, level: str = "INFO") -> None:
        """Write one log line. A stderr nobody reads or that is closed never stops the simulator."""
        if self._log is None:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        data = f"{stamp}.{int(now * 1000) % 1000:03d}Z\t{level}\t{text}\n".encode(errors="replace")
        os.write(self._log, data)
        assert self._stderr is not None
        with contextlib.suppress(OSError):
            if any(event & select.POLLOUT for _, event in self._stderr.poll(0)):
                os.write(_STDERR, data[:_PIPE_SAFE])

    def record(self, method: str, connection: int, rpc_id: object, params: object) -> None:
        """Append one line to sim-asks.jsonl."""
        if self._asks is None:
            self._asks = os.open(self._asks_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        entry = {
            "method": method,
            "wall_ms": int(time.time() * 1000),
            "mono_ms": time.monotonic_ns() // 1_000_000,
            "pid": os.getpid(),
            "connection": connection,
            "id": rpc_id,
            "params": params,
        }
        data = memoryview(orjson.dumps(entry) + b"\n")
        while data:
            data = data[os.write(self._asks, data) :]


def flood_stderr(size: int) -> "Future[None]":
    """Write size bytes to stderr from a thread that blocks as long as nobody reads."""
    done: Future[None] = Future()

    def write() -> None:
        line = b"flood " + b"x" * 1017 + b"\n"
        with contextlib.suppress(OSError):
            for _ in range(size // len(line) + 1):
                os.write(_STDERR, line)
        done.set_result(None)

    threading.Thread(target=write, name="stderr-flood", daemon=True).start()
    return done
