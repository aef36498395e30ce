"""What a Lingma subprocess leaves in its working directory for its clients: the port it listens on, its pid.

`.info` holds port and pid on a line each, `.info.json` the same as an object; whichever is absent, empty or
wrong counts as not there yet. Called by process.py.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

INFO_JSON = ".info.json"
INFO_TEXT = ".info"
MAX_INFO_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Info:
    port: int
    pid: int


class _InfoJson(msgspec.Struct):
    websocketPort: int
    pid: int


def read_info(path: Path) -> Info | None:
    """One discovery file of either form; None for anything that does not name a port and a pid."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_INFO_BYTES)
    except OSError:
        return None
    try:
        if path.suffix == ".json":
            named = msgspec.json.decode(content, type=_InfoJson)
            port, pid = named.websocketPort, named.pid
        else:
            lines = content.decode("ascii", "replace").splitlines()
            port, pid = int(lines[0]), int(lines[1])
    except (msgspec.DecodeError, ValueError, IndexError):
        return None
    return Info(port, pid) if 0 < port < 65536 and pid > 0 else None


def info_files(work_dir: Path) -> tuple[Path, Path]:
    """In the order in which they are believed."""
    return work_dir / INFO_JSON, work_dir / INFO_TEXT


def forget_info(work_dir: Path) -> None:
    """Remove what an earlier process left."""
    for path in info_files(work_dir):
        path.unlink(missing_ok=True)
