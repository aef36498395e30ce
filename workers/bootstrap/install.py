"""Make sure that there is a Lingma binary: keep the one that is there, or fetch one and swap it in whole.

A binary that somebody else put there, or that has the configured sha256, is kept; one that was fetched here
is refreshed, and kept when that fails. Never does anything for the bundled simulator. Called by the worker's
composition root before any instance starts.
"""

import asyncio
import hashlib
import logging
import os
import stat
import tempfile
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from gateway.kernel.clock import SystemClock
from workers.bootstrap.errors import BootstrapFailed
from workers.bootstrap.marketplace import GALLERY, Limits, download, package_url
from workers.bootstrap.vsix import extract_binary, this_platform
from workers.lingma.config import SIMULATOR

log = logging.getLogger(__name__)

SOURCE_SUFFIX = ".source.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    binary: str
    """Where it is wanted: a path, or the word `simulator`."""
    source: Literal["marketplace", "vsix"] = "marketplace"
    publisher: str = "Alibaba-Cloud"
    extension: str = "tongyi-lingma"
    vsix_url: str = ""
    """A package; the only source for `vsix`, the fallback for `marketplace`."""
    always: bool = True
    """Look for a newer one although one that was fetched earlier is there."""
    force: bool = False
    """Fetch whatever is there, even if it is still the same or was put there by somebody else."""
    sha256: str = ""
    """Of the binary; empty accepts any. One with this sum needs no refresh, one with another is no use."""
    marketplace_url: str = GALLERY
    platform: str = field(default_factory=this_platform)
    min_binary_bytes: int = 1024 * 1024
    max_binary_bytes: int = 1024 * 1024 * 1024
    max_package_bytes: int = 1024 * 1024 * 1024
    limit_s: float = 600.0


class Installed(StrEnum):
    NOT_NEEDED = "not_needed"
    """The simulator."""
    KEPT = "kept"
    """The one that is there is the one that is wanted, as far as anybody knows."""
    FETCHED = "fetched"
    STALE = "stale"
    """The one that is there stays because no other could be had."""


class _Source(msgspec.Struct):
    """What is remembered of where a binary came from."""

    url: str = ""
    etag: str = ""
    sha256: str = ""


async def ensure_binary(config: BootstrapConfig) -> Installed:
    """Raises BootstrapFailed when there is none in the end."""
    if config.binary == SIMULATOR:
        return Installed.NOT_NEEDED
    return await asyncio.to_thread(ensure_binary_now, config)


def ensure_binary_now(config: BootstrapConfig) -> Installed:
    """The same, blocking."""
    path = Path(config.binary)
    usable = is_usable(path, config.sha256)
    fetched_here = _source_file(path).exists()
    refresh = config.always and fetched_here and not config.sha256
    if usable and not (refresh or config.force):
        return Installed.KEPT
    urls = _urls(config)
    problem = "no source of the binary is configured: set LINGMA_VSIX_URL or put the file in place"
    until = SystemClock().monotonic() + config.limit_s
    for url in urls:
        try:
            return _fetch(config, path, url, until, usable=usable)
        except (BootstrapFailed, OSError) as error:
            problem = error.message if isinstance(error, BootstrapFailed) else type(error).__name__
            log.warning("bootstrap.source_failed", extra={"problem": problem})
    if usable:
        log.warning("bootstrap.binary_kept", extra={"problem": problem, "path": str(path)})
        return Installed.STALE
    raise BootstrapFailed(f"there is no Lingma binary: {problem}")


def is_usable(path: Path, sha256: str = "") -> bool:
    """A regular file that may be executed, with the right sum where one is asked for."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0 or not os.access(path, os.X_OK):
            return False
        if not sha256:
            return True
        with path.open("rb") as file:
            return _same_sum(hashlib.file_digest(file, "sha256").hexdigest(), sha256)
    except OSError:
        return False


def _same_sum(actual: str, wanted: str) -> bool:
    return actual == wanted.strip().lower()


def _urls(config: BootstrapConfig) -> list[str]:
    urls = [config.vsix_url] if config.vsix_url else []
    if config.source == "marketplace":
        urls.insert(0, package_url(config.publisher, config.extension, config.marketplace_url))
    return urls


def _fetch(config: BootstrapConfig, path: Path, url: str, until: float, *, usable: bool) -> Installed:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = _read_source(path)
    same = usable and not config.force and known.url == url
    with tempfile.TemporaryDirectory(prefix=".bootstrap-", dir=path.parent) as scratch:
        package, binary = Path(scratch) / "package", Path(scratch) / "binary"
        limits = Limits(config.max_package_bytes, until)
        etag = download(url, package, limits, known.etag if same else "")
        if etag is None:
            log.info("bootstrap.unchanged", extra={"path": str(path)})
            return Installed.KEPT
        digest = extract_binary(
            package,
            binary,
            config.platform,
            min_bytes=config.min_binary_bytes,
            max_bytes=config.max_binary_bytes,
        )
        if config.sha256 and not _same_sum(digest, config.sha256):
            raise BootstrapFailed("the binary in the package has another sha256 than the configured one")
        binary.chmod(0o755)
        binary.replace(path)
        _source_file(path).write_bytes(msgspec.json.encode(_Source(url, etag, digest)))
    log.info("bootstrap.fetched", extra={"path": str(path), "sha256": digest})
    return Installed.FETCHED


def _source_file(path: Path) -> Path:
    return path.with_name(path.name + SOURCE_SUFFIX)


def _read_source(path: Path) -> _Source:
    try:
        return msgspec.json.decode(_source_file(path).read_bytes(), type=_Source)
    except (OSError, msgspec.DecodeError):
        return _Source()
