"""Gateways and workers as real processes, for tests that kill, cut and drain.

Everything listens on loopback and ends with the test; logs go to files below the test's own directory and are
shown when a process does not come up.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.support.ports import free_port

START_S = 40.0
_PR_SET_PDEATHSIG = 1

_NOT_INHERITED = (
    "API_KEYS",
    "KEY_FILE",
    "STATE_KEYS",
    "UPSTREAMS_FILE",
    "CODEX_",
    "ANTIGRAVITY_",
    "REPLAY_",
    "ADMIN_TOKEN",
    "METRICS_TOKEN",
    "REDIS_URL",
    "LINGMA_",
    "WORKER_",
    "GATEWAY_",
    "OTEL_",
)


def wait_for(condition: Callable[[], Any], what: str, within_s: float = 20.0) -> Any:
    """The first true value of the condition; fails naming what was waited for."""
    deadline = time.monotonic() + within_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"waited {within_s} s in vain for {what}"
        time.sleep(0.02)


def get_json(url: str, **headers: str) -> Any:
    """The JSON body of a GET, whatever its status; None when nobody answers."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read() or b"null")
    except OSError:
        return None


def die_with_parent() -> None:
    """For a child to call before its program begins: what kills the tests leaves nobody behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Service:
    """One `lingma-gateway` process, or another program that answers JSON on its port."""

    within: Callable[[], contextlib.AbstractContextManager[Any]] = staticmethod(contextlib.nullcontext)
    """Entered to start it and to ask it: another network, where it is not to be on this one."""

    def __init__(
        self,
        name: str,
        command: list[str],
        directory: Path,
        port: int,
        *,
        program: Sequence[str] = (sys.executable, "-m", "gateway"),
        **env: str,
    ) -> None:
        self.name = name
        self.port = port
        address = env.get("HOST") or env.get("WORKER_HOST") or "127.0.0.1"
        self.url = f"http://{address}:{port}"
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._command = [*program, *command]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
        self._env = inherited | {"LOG_LEVEL": "INFO", "PYTHONPATH": str(Path.cwd())} | env
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = directory / f"{name}.log"

    def start(self) -> Self:
        with self.log_path.open("ab") as log, self.within():
            self.process = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=Path.cwd(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def ready(self, path: str, check: Callable[[Any], bool]) -> Self:
        """Wait until GET path answers as it should; shows the log when the process ends instead."""
        deadline = time.monotonic() + START_S
        while True:
            with self.within():
                answer = get_json(self.url + path)
            if answer is not None and check(answer):
                return self
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log}"
            assert time.monotonic() < deadline, f"{self.name} is not ready: {answer}\n{self.log}"
            time.sleep(0.05)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(within_s)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def close(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.send(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def up(directory: Path, **env: str) -> Service:
    """`lingma-gateway up`, not started."""
    port = free_port()
    settings = {
        "PORT": str(port),
        "LINGMA_BIN": "simulator",
        "LINGMA_WORK_DIR": str(directory / "lingma"),
        "LINGMA_SOCKET_PORT": "0",
        "LINGMA_HTTP_PORT": "0",
    } | env
    return Service("up", ["up"], directory, port, **settings)


def serve(directory: Path, redis_url: str, name: str = "serve", **env: str) -> Service:
    """A gateway replica, not started. It listens on loopback and drains without waiting for balancers."""
    port = free_port()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "REDIS_URL": redis_url,
        "REPLICA_ID": name,
        "DRAIN_LISTEN_S": "0",
    } | env
    return Service(name, ["serve"], directory, int(settings["PORT"]), **settings)


def work(directory: Path, redis_url: str, name: str = "worker", **env: str) -> Service:
    """A worker with the bundled simulator, not started."""
    port = free_port()
    settings = {
        "WORKER_HOST": "127.0.0.1",
        "WORKER_PORT": str(port),
        "WORKER_ID": name,
        "REDIS_URL": redis_url,
        "LINGMA_BIN": "simulator",
        "LINGMA_WORK_DIR": str(directory / name / "lingma"),
        "LINGMA_SOCKET_PORT": "0",
        "LINGMA_HTTP_PORT": "0",
    } | env
    return Service(name, ["work"], directory, int(settings["WORKER_PORT"]), **settings)


def pool_ready(count: int) -> Callable[[Any], bool]:
    """A /healthz answer with that many ready instances."""
    return lambda answer: isinstance(answer, dict) and answer.get("pool_ready", 0) >= count


def asks_of(directory: Path) -> list[dict[str, Any]]:
    """Every chat/ask that the simulators below a directory were sent, oldest first."""
    found: list[dict[str, Any]] = []
    for path in directory.rglob("sim-asks.jsonl"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry.get("method") == "chat/ask":
                entry["journal"] = str(path)
                found.append(entry)
    return sorted(found, key=lambda entry: entry["wall_ms"])
