"""A process in the tree of an image, as a container engine starts it: with the image's variables, working
directory and command, as the image's user or another; a read-only root; a volume at /app/data and a fresh
/tmp; no capability and no way to get one. The network is the host's, so that tests reach it.
"""

import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.images.builder import Image
from tests.support.processes import get_json, wait_for

# All mounts are gone with their namespace. /dev is the host's: what is asked of it is null and urandom.
_SETUP = """
set -eu
mount --bind "$TREE" "$PLACE"
mount --bind "$DATA" "$PLACE/app/data"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$PLACE/tmp"
mount --rbind /dev "$PLACE/dev"
mount -t proc proc "$PLACE/proc"
mount -o remount,bind,ro "$PLACE"
exec chroot "$PLACE" setpriv --reuid "$USER_ID" --regid "$GROUP_ID" --clear-groups --no-new-privs \\
  --inh-caps=-all --bounding-set=-all env -i -C "$WORKDIR" "$@"
"""


class Sandbox:
    """One volume, and processes of images on it."""

    def __init__(self, image: Image, directory: Path, *, user: str = "", **env: str) -> None:
        """user: numbers as `1000:1000`, in place of the image's own."""
        self.image = image
        self._env = image.env | env
        self._place = directory / "root"
        self.data = directory / "data"
        for folder in (self._place, self.data):
            folder.mkdir(parents=True, exist_ok=True)
        owner, group = (user or str(image.config["User"])).split(":")
        shutil.chown(self.data, int(owner), int(group))
        self._told = {
            **{"TREE": str(image.tree), "PLACE": str(self._place), "DATA": str(self.data)},
            **{"USER_ID": owner, "GROUP_ID": group, "WORKDIR": image.config["WorkingDir"]},
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    def command(self, *words: str) -> list[str]:
        variables = [f"{name}={value}" for name, value in self._env.items()]
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private"]
        return [*namespaces, "sh", "-c", _SETUP, "sh", *variables, *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self._told, capture_output=True, text=True, timeout=60, check=False
        )

    def healthcheck(self) -> subprocess.CompletedProcess[str]:
        kind, *words = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*words)

    def start(self, *arguments: str) -> "Running":
        """The entry point with the image's own arguments, or with others in their place."""
        words = [*self.image.config["Entrypoint"], *(arguments or self.image.config["Cmd"])]
        log = self._place.with_name("log")
        with log.open("ab") as file:
            process = subprocess.Popen(self.command(*words), env=self._told, stdout=file, stderr=file)
        return Running(process, log, self.image.config["StopSignal"])


class Running:
    def __init__(self, process: subprocess.Popen[bytes], log: Path, stop_signal: str) -> None:
        self._process = process
        self._log = log
        self._stop_signal = signal.Signals[stop_signal]

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def main(self) -> psutil.Process:
        """Process 1 of the sandbox: the one that engines send signals to."""
        return psutil.Process(self._process.pid).children()[0]

    def until(self, url: str, member: str) -> None:
        """Wait until the JSON at an address has a true member."""

        def is_so() -> bool:
            assert self._process.poll() is None, f"it ended:\n{self.log}"
            answer = get_json(url)
            return isinstance(answer, dict) and bool(answer.get(member))

        try:
            wait_for(is_so, f"{member} at {url}", within_s=60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def stop(self) -> int:
        self.main.send_signal(self._stop_signal)
        return self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            # Its end is that of all in the sandbox; unshare takes along only who never changed its user.
            for first in psutil.Process(self._process.pid).children():
                first.kill()
            self._process.wait(10)
