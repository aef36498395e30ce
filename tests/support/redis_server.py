"""A private redis-server on a free port of 127.0.0.1, without persistence, for fixtures and process tests.

with RedisServer() as server:
    use(server.url)
    server.kill()       # a crash: connections are cut, everything is lost
    server.start()      # the same port again
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import redis

from scripts.ensure_redis import find
from tests.support.ports import free_port
from tests.support.processes import die_with_parent

_START_S = 10.0

REFUSED_WRITES = {
    "OOM": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "READONLY": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "NOREPLICAS": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}
"""By the word of the error: commands that make a server refuse writes so, and that end it."""


class RedisServer:
    def __init__(self, *arguments: str) -> None:
        """arguments: more of redis-server's own, such as `--maxmemory`, `1mb`."""
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._dir = Path(tempfile.mkdtemp(prefix="redis-test-"))
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it answers. After stop() or kill() it is the same address, and empty."""
        if self.running:
            return
        binary = find()
        if binary is None:
            raise RuntimeError(
                "these tests need a redis-server (6.2 or newer): on the PATH, or named by REDIS_SERVER_BIN; "
                "`make test` installs one"
            )
        log = (self._dir / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command(binary),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                text = (self._dir / "log").read_text(errors="replace")
                raise RuntimeError(f"redis-server did not start on port {self.port}:\n{text[-2000:]}")
            time.sleep(0.01)

    def _command(self, binary: str) -> list[str]:
        return [
            *(binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._dir)),
            *("--save", "", "--appendonly", "no", *self._arguments),
        ]

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered until resume()."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def client(self) -> Iterator["redis.Redis"]:
        """A plain client for the test's own look at the server."""
        client = redis.Redis(port=self.port, protocol=2, socket_timeout=5)
        try:
            yield client
        finally:
            client.close()

    def command(self, *arguments: str | bytes | int) -> Any:
        with self.client() as client:
            return client.execute_command(*arguments)

    def everything(self) -> list[bytes]:
        """Every value there is, as the server would write it to disk, uncompressed."""
        with self.client() as client:
            client.config_set("rdbcompression", "no")
            return [value for key in client.keys("*") if (value := client.dump(key)) is not None]

    def client_count(self) -> int:
        """Connections of everybody but this one."""
        with self.client() as client:
            return len(client.client_list()) - 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(number)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.settimeout(1)
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
