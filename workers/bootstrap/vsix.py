"""Finding the binary in an extension package (a zip, or a zip within it) and taking it out. Blocking.

Where exactly it lies differs by version, so it is searched for: a file named like the binary on a path that
names the platform. Nothing but its bytes is taken: no path, mode or link of an archive is followed.
"""

import contextlib
import hashlib
import platform
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from workers.bootstrap.errors import BootstrapFailed

BINARY_NAME = "Lingma"
NESTED_SUFFIXES = frozenset({".zip", ".vsix"})
MAX_NESTED = 8
CHUNK_BYTES = 1024 * 1024


def this_platform() -> str:
    """The directory name of this machine's binary, such as x86_64_linux."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{arch}_{platform.system().lower()}"


def extract_binary(
    package: Path, target: Path, wanted_platform: str, *, min_bytes: int, max_bytes: int
) -> str:
    """Write the binary of a package to target and return its sha256. Raises BootstrapFailed."""
    try:
        with zipfile.ZipFile(package) as archive, _open_binary(archive, wanted_platform) as (member, source):
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise BootstrapFailed("the binary in the package is no regular file")
            if not min_bytes <= member.file_size <= max_bytes:
                raise BootstrapFailed(f"the binary in the package has an odd size: {member.file_size} bytes")
            return _copy(source, target, max_bytes)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError: encrypted. NotImplementedError: an unknown compression.
        raise BootstrapFailed("the package is not a readable zip file") from error


@contextlib.contextmanager
def _open_binary(
    archive: zipfile.ZipFile, wanted_platform: str
) -> Iterator[tuple[zipfile.ZipInfo, IO[bytes]]]:
    with contextlib.ExitStack() as stack:
        for outer_path, candidate in _archives(archive, stack):
            for member in candidate.infolist():
                path = PurePosixPath(member.filename)
                if path.name == BINARY_NAME and wanted_platform in (*outer_path, *path.parts):
                    yield member, stack.enter_context(candidate.open(member))
                    return
        raise BootstrapFailed(f"the package holds no {BINARY_NAME} for {wanted_platform}")


def _archives(
    archive: zipfile.ZipFile, stack: contextlib.ExitStack
) -> Iterator[tuple[tuple[str, ...], zipfile.ZipFile]]:
    """The package itself, then the archives in it, with the path that leads there."""
    yield (), archive
    nested = [m for m in archive.infolist() if PurePosixPath(m.filename).suffix.lower() in NESTED_SUFFIXES]
    for member in nested[:MAX_NESTED]:
        path = PurePosixPath(member.filename)
        with contextlib.suppress(zipfile.BadZipFile):
            # A member is seekable by reading it again from its start; nothing is unpacked to disk or memory.
            inner = zipfile.ZipFile(stack.enter_context(archive.open(member)))
            yield (*path.parts[:-1], path.stem), stack.enter_context(inner)


def _copy(source: IO[bytes], target: Path, max_bytes: int) -> str:
    digest = hashlib.sha256()
    written = 0
    with target.open("wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > max_bytes:
                raise BootstrapFailed("the binary in the package is larger than it says")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
