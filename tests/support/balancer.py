"""HAProxy with the configuration of the Compose profile `scale`, in front of replicas at any address."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.processes import die_with_parent, wait_for

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "compose" / "haproxy.cfg"
LOADED = "Loading success."
_SERVER = re.compile(r"(?m)^    server \S+ \S+(.*)\n")


def config_text(bind: str, servers: Mapping[str, str]) -> str:
    """The configuration as it is, but for the names of Compose's network: other addresses instead."""
    text = CONFIG.read_text(encoding="utf-8").replace("bind :8320", f"bind {bind}")
    text = text.replace(" resolvers docker init-addr last,libc,none", "")
    text = re.sub(r"(?ms)^resolvers .*?^$", "", text)
    found = _SERVER.search(text)
    assert found is not None, "the configuration has no servers"
    lines = "".join(f"    server {name} {address}{found[1]}\n" for name, address in servers.items())
    return _SERVER.sub("", text).rstrip("\n") + "\n" + lines


class Balancer:
    """The process, as its own master: `with balancer: ...`."""

    within: Callable[[], contextlib.AbstractContextManager[Any]] = staticmethod(contextlib.nullcontext)
    """As of tests/support/processes.py."""

    def __init__(self, directory: Path, bind: str, servers: Mapping[str, str]) -> None:
        self.url = f"http://{bind}"
        self._servers = servers
        self._log = directory / "haproxy.log"
        self._config = directory / "haproxy.cfg"
        self._config.write_text(config_text(bind, servers))
        # Beside the configuration, not in it: operators who want a socket choose its place.
        self._socket = directory / "haproxy.sock"
        self._extra = directory / "haproxy-socket.cfg"
        self._extra.write_text(f"global\n    stats socket {self._socket} mode 600 level admin\n")
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> int:
        """What its health address answers; 0 when nobody does."""
        try:
            with self.within(), urllib.request.urlopen(f"{self.url}/balancer-health", timeout=2) as answer:
                return int(answer.status)
        except OSError:
            return 0

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def start(self) -> Self:
        program = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        command = [str(program), "-W", "-f", str(self._config), "-f", str(self._extra)]
        with self._log.open("wb") as log, self.within():
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
        wait_for(lambda: self.up() == 200, f"the balancer\n{self.log}", within_s=20)
        return self

    def reload(self) -> None:
        """A new process takes the listener over; the old one sees its connections out."""
        before = self.log.count(LOADED)
        self.signal(signal.SIGUSR2)
        wait_for(lambda: self.log.count(LOADED) > before, f"a reload\n{self.log}", within_s=20)

    def command(self, words: str) -> str:
        """What its stats socket answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(words.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def stop(self) -> None:
        """As Compose does: what runs ends by itself."""
        self.signal(signal.SIGUSR1)
        assert self._process is not None
        assert self._process.wait(20) in (0, 128 + signal.SIGUSR1), self.log

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
