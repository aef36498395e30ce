"""Build programs from Go modules, for tests: through whatever GOPROXY is set up, and checked by their sums.

For scripts/ensure_apiserver.py and scripts/ensure_jaeger.py, which say what is built.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Module(NamedTuple):
    """One that was downloaded."""

    text: str
    """Its go.mod."""
    folder: Path


class Builder:
    """Builds in a folder, of which a Go module is made that requires what is built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def go(self, *words: str) -> str:
        """What it prints; what it says on the way only when it fails, for it names every module."""
        run = subprocess.run(["go", *words], cwd=self.folder, capture_output=True, text=True, check=False)
        if run.returncode:
            raise SystemExit(f"go {words[0]} failed:\n{run.stderr[-4000:]}")
        return run.stdout

    def download(self, module: str) -> Module:
        """`module` with its version, as `path@v1.2.3`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "go.mod").is_file():
            self._write("")
        found = json.loads(self.go("mod", "download", "-json", module))
        return Module(Path(found["GoMod"]).read_text(encoding="utf-8"), Path(found["Dir"]))

    def build(
        self,
        command: str,
        version: str,
        module: Module,
        *,
        binary: Path,
        replaced: Sequence[str] = (),
        variables: dict[str, str] | None = None,
    ) -> None:
        """The command of that module, in the Go language that the module asks for.

        replaced: lines for `replace`. variables: strings of the program that its own build would set.
        """
        language = re.search(r"^go .*$", module.text, re.MULTILINE)
        lines = "".join(f"\t{line}\n" for line in replaced)
        self._write(f"\n{language[0] if language else ''}\n" + (f"\nreplace (\n{lines})\n" if lines else ""))
        # Proxies need not know the sums of all that it requires; its own list of them is part of its own sum.
        if (sums := module.folder / "go.sum").is_file():
            shutil.copyfile(sums, self.folder / "go.sum")
        self.go("get", f"{command}@{version}")
        flags = "".join(f" -X {name}={value}" for name, value in (variables or {}).items())
        self.go("build", f"-ldflags=-s -w{flags}", "-o", str(binary), command)

    def _write(self, rest: str) -> None:
        (self.folder / "go.mod").write_text(f"module {self.folder.name}\n{rest}", encoding="utf-8")


def ensure(what: str, missing: Callable[[], str], build: Callable[[], None], *programs: str) -> int:
    """Build unless nothing is missing. Says so where Go or a program is. Returns the exit code."""
    if not missing():
        return 0
    absent = [name for name in ("go", *programs) if shutil.which(name) is None]
    if absent:
        print(f"Skipped: needs {' and '.join(absent)} on the PATH.", file=sys.stderr)
        return 0
    print(f"building {what} (minutes, first run only)", flush=True)
    build()
    return 0
