"""The bytes that clients get, kept in files: a change of them is a change of the product.

    REWRITE_SNAPSHOTS=1 make test-matrix

writes them anew and removes those that no scenario uses; look at the difference before it is committed. What
is long is kept as its digest.
"""

import hashlib
import os
from pathlib import Path

from gateway.kernel.json import Json, dumps, loads

SNAPSHOTS = Path(__file__).with_name("snapshots")
REWRITE = bool(os.environ.get("REWRITE_SNAPSHOTS"))
LONG_BYTES = 16 * 1024


def agrees(name: str, data: bytes) -> None:
    """Compare with the file of that name below the snapshots, or write it."""
    kept = data if len(data) <= LONG_BYTES else _digest(data)
    path = SNAPSHOTS / name
    if REWRITE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kept)
        return
    assert path.is_file(), f"no snapshot {name}; REWRITE_SNAPSHOTS=1 writes it"
    assert kept.splitlines(keepends=True) == path.read_bytes().splitlines(keepends=True)


def table_agrees(name: str, rows: dict[str, Json]) -> None:
    """The same for many small values: one file, a line for each."""
    path = SNAPSHOTS / name
    if REWRITE:
        lines = b",\n".join(b"%b: %b" % (dumps(key), dumps(value)) for key, value in rows.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{\n" + lines + b"\n}\n")
        return
    assert path.is_file(), f"no snapshot {name}; REWRITE_SNAPSHOTS=1 writes it"
    assert rows == loads(path.read_bytes())


def only(names: set[str]) -> None:
    """Fails when there is a file that nobody compares with, or removes it."""
    found = {path.relative_to(SNAPSHOTS).as_posix() for path in SNAPSHOTS.rglob("*") if path.is_file()}
    unused = sorted(found - names)
    if REWRITE:
        for name in unused:
            (SNAPSHOTS / name).unlink()
        return
    assert not unused, f"snapshots that no scenario uses: {unused}"


def _digest(data: bytes) -> bytes:
    return b"%d bytes, sha256 %b\n" % (len(data), hashlib.sha256(data).hexdigest().encode())
