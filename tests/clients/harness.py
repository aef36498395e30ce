"""Command-line clients as subprocesses: each with a home of its own, a deadline, and no way out.

A client is told by its own settings not to call anybody but the gateway. That it obeys is proved by the only
way out it is given, a proxy that lets nothing through and remembers what it was asked for.
"""

import contextlib
import json
import os
import shutil
import signal
import socketserver
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scripts.ensure_clients import CLIENTS, UNAVAILABLE, is_installed
from tests.support.network import InThread

RUN_S = 60.0

_QUIET = {
    "CI": "1",
    "LANG": "C.UTF-8",
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
    "NO_COLOR": "1",
}


def need(name: str) -> Path:
    """The folder with a client's command in it; skips the test where the client cannot be had."""
    if is_installed(name):
        return CLIENTS / name / "node_modules" / ".bin"
    try:
        reason = UNAVAILABLE.read_text().strip()
    except OSError:
        reason = "not installed: run scripts/ensure_clients.py"
    pytest.skip(f"command-line clients: {reason}")


class Run(NamedTuple):
    """How a client ended and what it said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def all(self) -> str:
        return f"exit code {self.code} after {self.seconds:.1f} s\n{self.out}\n{self.err}"


class NoWayOut(InThread):
    """A proxy for everything but loopback that refuses all, and knows what it was asked for."""

    def __init__(self) -> None:
        asked: list[str] = []

        class Refuse(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                asked.append(self.rfile.readline(4096).decode("latin-1").strip())
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        self.asked = asked
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse)
        server.daemon_threads = True
        super().__init__(server)
        self.start()

    @property
    def env(self) -> dict[str, str]:
        url = self.url
        loopback = "127.0.0.1,localhost"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), url) | {"NO_PROXY": loopback}
        return proxies | {name.lower(): value for name, value in proxies.items()}


class Cli:
    """One client, one home, one working directory."""

    def __init__(self, name: str, directory: Path, **env: str) -> None:
        self._bin = need(name)
        self.home = directory / "home"
        self.workspace = directory / "workspace"
        scratch = directory / "tmp"
        for folder in (self.home, self.workspace, scratch):
            folder.mkdir(parents=True)
        node = shutil.which("node")
        assert node is not None
        self._env = _QUIET | {
            "PATH": os.pathsep.join((str(self._bin), str(Path(node).parent), "/usr/bin", "/bin")),
            "HOME": str(self.home),
            "TMPDIR": str(scratch),
        }
        self._env |= env

    def run(
        self,
        *command: str | Path,
        within_s: float = RUN_S,
        asks_for: tuple[str, ...] = (),
        proxied: bool = True,
        **env: str,
    ) -> Run:
        """Run it to its end, standard input closed. It leaves no process behind and has called nobody.

        `asks_for` are requests to others that it is known to try, in vain. A client that behaves differently
        behind a proxy can be run without one, and then unwatched.
        """
        way_out = NoWayOut()
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env=self._env | (way_out.env if proxied else {}) | env,
            cwd=self.workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            out, err = process.communicate()
            pytest.fail(f"{command[0]} did not end within {within_s} s\n{out}\n{err}")
        finally:
            _kill(process)
            way_out.close()
        run = Run(process.returncode, out, err, time.monotonic() - started)
        assert set(way_out.asked) <= set(asks_for), f"it wanted to reach {way_out.asked}\n{run.all}"
        return run


def _kill(process: subprocess.Popen[str]) -> None:
    """The process and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
