"""Files that are generated and committed: which of them are not current, and the command that writes them."""

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def stale(texts: Mapping[Path, str]) -> list[Path]:
    """Those that do not hold what they must."""
    return [
        path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def write_or_check(drifted: list[Path], texts: Mapping[Path, str], arguments: list[str], target: str) -> int:
    """Write the files that drifted, and remove those among them that have no text; with --check only say so.
    `target`: what to make. Returns the exit code, 1 when --check found any.
    """
    if "--check" in arguments:
        for path in drifted:
            print(f"{path.relative_to(ROOT)} is not current: make {target}", file=sys.stderr)
        return 1 if drifted else 0
    for path in drifted:
        if path in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
        else:
            path.unlink()
            print(f"removed {path.relative_to(ROOT)}")
    return 0
