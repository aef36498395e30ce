"""Install the command-line clients that tests/clients runs, at the versions locked in tests/clients/packages.

Each goes into a folder of its own below .clients, by npm, from whatever registry npm is set up for. Where
that cannot be done (no npm, an old node, no registry) it says why in .clients/unavailable.txt, which those
tests show when they skip, and still exits 0. Anything else that goes wrong is a defect: exit 1.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "tests" / "clients" / "packages"
CLIENTS = Path(os.environ.get("CLIENTS_DIR") or ROOT / ".clients")
UNAVAILABLE = CLIENTS / "unavailable.txt"
LOCK = "package-lock.json"
OLDEST_NODE = 20
INSTALL_S = 600

# Install scripts may fetch from anywhere, so none are run. This one only links a binary that npm has brought.
LOCAL_STEPS = {"claude-code": "node_modules/@anthropic-ai/claude-code/install.cjs"}

# Bindings to terminal and keyring: built or fetched by install scripts, and needed at a terminal only.
WITHOUT_OPTIONAL = {"gemini-cli"}

_NO_REGISTRY = re.compile(
    r"npm (?:error|ERR!) code (E(?:AI_AGAIN|NOTFOUND|CONN\w+|TIMEDOUT|NETUNREACH|HOSTUNREACH|PROTO|NEEDAUTH"
    r"|401|403|404|407|429|5\d\d)|ERR_SOCKET_TIMEOUT|ETARGET|UNABLE_TO_\w+|SELF_SIGNED\w*|DEPTH_ZERO\w*)"
)


class UnavailableError(Exception):
    """The clients cannot be had here, and that is nobody's mistake."""


def names() -> list[str]:
    return sorted(path.name for path in PACKAGES.iterdir())


def is_installed(name: str) -> bool:
    """Whether what is there was installed from the very lock file of the tree."""
    try:
        return (CLIENTS / name / LOCK).read_bytes() == (PACKAGES / name / LOCK).read_bytes()
    except OSError:
        return False


def main() -> int:
    CLIENTS.mkdir(exist_ok=True)
    with (CLIENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            npm = _npm()
            for name in names():
                if not is_installed(name):
                    _install(npm, name)
        except UnavailableError as problem:
            UNAVAILABLE.write_text(f"{problem}\n")
            print(f"the tests with command-line clients will be skipped: {problem}", flush=True)
            return 0
        UNAVAILABLE.unlink(missing_ok=True)
    return 0


def _npm() -> str:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise UnavailableError(f"they need node {OLDEST_NODE} or newer and npm on the PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        raise UnavailableError(f"they need node {OLDEST_NODE} or newer, and this is {version}")
    return npm


def _install(npm: str, name: str) -> None:
    """Beside its place, then moved there: what is there is always whole."""
    wanted = json.loads((PACKAGES / name / "package.json").read_text())["dependencies"]
    what = " ".join(f"{package}@{version}" for package, version in wanted.items())
    print(f"Installing {what} into {CLIENTS.name} (first run only)", flush=True)
    with tempfile.TemporaryDirectory(dir=CLIENTS, prefix=f"{name}.new-") as folder:
        fresh = Path(folder)
        for file in (PACKAGES / name).iterdir():
            shutil.copy(file, fresh)
        _fetch(npm, name, fresh)
        if (script := LOCAL_STEPS.get(name)) is not None:
            subprocess.run(["node", script], cwd=fresh, check=True)
        place = CLIENTS / name
        if place.exists():
            shutil.rmtree(place)
        fresh.rename(place)
        fresh.mkdir()  # what the context manager removes


def _fetch(npm: str, name: str, folder: Path) -> None:
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=2000"]
    if name in WITHOUT_OPTIONAL:
        command.append("--omit=optional")
    try:
        done = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"npm did not get {name} within {INSTALL_S} s") from None
    if done.returncode == 0:
        return
    if (code := _NO_REGISTRY.search(done.stderr)) is not None:
        raise UnavailableError(f"npm cannot get {name} from its registry ({code[1]})")
    print(done.stderr, file=sys.stderr)
    raise SystemExit(f"npm failed to install {name}")


if __name__ == "__main__":
    sys.exit(main())
