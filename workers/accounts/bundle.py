"""The login state of an instance as one piece of text: four small files, tar, gzip, base64. A password.

Restoring never overwrites a live login, takes nothing but those four files, and changes nothing at all when
any part of a bundle is wrong. Exporting gives nothing without a login. Contents are never logged. Called by
pool.py before an instance starts, and by administrative requests.
"""

import base64
import binascii
import gzip
import io
import logging
import os
import stat
import tarfile
import zlib
from enum import StrEnum
from pathlib import Path

from gateway.kernel.errors import InvalidRequest
from workers.accounts.parse import Account

log = logging.getLogger(__name__)

MAX_BUNDLE_BYTES = 4 * 1024 * 1024
"""Of the archive, and of the files in it together."""
MAX_TEXT_BYTES = 2 * MAX_BUNDLE_BYTES
TAR_OVERHEAD_BYTES = 64 * 1024

USER_FILE = "cache/user"
"""Its presence is the login. Sealed with the machine id in the first file, hence useless without it."""
REQUIRED = ("cache/id", USER_FILE)
FILES = ("cache/id", "cache/quota", "cache/config.json", USER_FILE)
"""In the order in which they are written: the login comes last."""


class BundleRejected(InvalidRequest):
    """A bundle that is not what it should be; the message names the rule, never the content."""


class BundleUnavailable(InvalidRequest):
    """There is no login to export."""


class Restored(StrEnum):
    RESTORED = "restored"
    NO_BUNDLE = "no_bundle"
    KEPT = "kept"
    """The work directory has a login of its own."""
    REJECTED = "rejected"


def restore_bundle(account: Account, work_dir: Path) -> Restored:
    """Put the account's login into a work directory that has none. A bad bundle is logged and passed over."""
    if not account.has_bundle:
        return Restored.NO_BUNDLE
    if has_login(work_dir):
        return Restored.KEPT
    try:
        files = read_bundle(_bundle_text(account))
        _write_all(work_dir, files)
    except (BundleRejected, OSError) as error:
        problem = error.message if isinstance(error, BundleRejected) else type(error).__name__
        log.warning("accounts.bundle_rejected", extra={"problem": problem, "work_dir": str(work_dir)})
        return Restored.REJECTED
    log.info("accounts.bundle_restored", extra={"work_dir": str(work_dir)})
    return Restored.RESTORED


def has_login(work_dir: Path) -> bool:
    """Whether a login is on disk; whether it still counts is another question."""
    try:
        return (work_dir / USER_FILE).stat().st_size > 0
    except OSError:
        return False


def identity(account: Account) -> str:
    """The same wherever an account is known: its user, else its bundle. A secret, to be hashed."""
    if account.username:
        return f"user {account.username}"
    try:
        return f"bundle {''.join(_bundle_text(account).split())}"
    except (BundleRejected, OSError):
        return f"file {account.session_bundle_file}"


def export_bundle(work_dir: Path, *, logged_in: bool) -> str:
    """The login of a work directory. Raises BundleUnavailable without one."""
    if not logged_in or not has_login(work_dir):
        raise BundleUnavailable("the instance is not logged in", code="not_logged_in")
    archive = io.BytesIO()
    total = 0
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in FILES:
            content = _read_regular(work_dir / name)
            if content is None:
                if name in REQUIRED:
                    raise BundleUnavailable("the login of the instance is incomplete", code="not_logged_in")
                continue
            total += len(content)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o600
            tar.addfile(member, io.BytesIO(content))
    if total > MAX_BUNDLE_BYTES:
        raise BundleUnavailable("the login of the instance is too large")
    return base64.b64encode(gzip.compress(archive.getvalue(), mtime=0)).decode()


def read_bundle(text: str) -> dict[str, bytes]:
    """The files of a bundle by name. Raises BundleRejected unless every part of it is as it should be."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpack(_decode(text))), mode="r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isdir() and name == "cache":
                    continue
                if name not in FILES:
                    raise BundleRejected("the bundle holds a file that does not belong to a login")
                # A sparse file would grow when it is read.
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise BundleRejected("the bundle holds something that is no regular file")
                if name in files:
                    raise BundleRejected("the bundle holds a file twice")
                if member.size > MAX_BUNDLE_BYTES:
                    raise BundleRejected("the bundle is too large")
                source = tar.extractfile(member)
                assert source is not None
                files[name] = source.read()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BundleRejected("the bundle holds no readable tar archive") from error
    if any(not files.get(name) for name in REQUIRED):
        raise BundleRejected("the bundle lacks cache/id or cache/user")
    if sum(map(len, files.values())) > MAX_BUNDLE_BYTES:
        raise BundleRejected("the bundle is too large")
    return files


def _decode(text: str) -> bytes:
    """Line breaks, missing padding and the URL alphabet are what mail and secret stores make of base64."""
    if len(text) > MAX_TEXT_BYTES:
        raise BundleRejected("the bundle is too large")
    compact = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleRejected("the bundle is not valid base64") from error
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleRejected("the bundle is too large")
    return data


def _unpack(data: bytes) -> bytes:
    limit = MAX_BUNDLE_BYTES + TAR_OVERHEAD_BYTES
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        archive = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise BundleRejected("the bundle is not a gzip archive") from error
    if len(archive) > limit:
        raise BundleRejected("the bundle is too large")
    if not unpacker.eof:
        raise BundleRejected("the bundle is cut short")
    return archive


def _bundle_text(account: Account) -> str:
    return account.session_bundle or _read_file(Path(account.session_bundle_file))


def _read_file(path: Path) -> str:
    # Mounted secrets are links.
    content = _read_regular(path, MAX_TEXT_BYTES, follow_links=True)
    if content is None:
        raise BundleRejected("the bundle file is missing, too large or no regular file")
    return content.decode("ascii", "replace")


def _read_regular(
    path: Path, limit_bytes: int = MAX_BUNDLE_BYTES, *, follow_links: bool = False
) -> bytes | None:
    # Not blocking: a pipe in this place must not stop a start.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit_bytes:
                return None
            return file.read(limit_bytes)
    except OSError:
        return None


def _write_all(work_dir: Path, files: dict[str, bytes]) -> None:
    """Every file beside its place first, so that a full disk leaves things as they were."""
    (work_dir / "cache").mkdir(parents=True, exist_ok=True, mode=0o700)
    staged: list[tuple[Path, Path]] = []
    try:
        for name in FILES:
            if name in files:
                target = work_dir / name
                temporary = target.with_name(f".{target.name}.restoring")
                staged.append((temporary, target))
                _write_private(temporary, files[name])
        for temporary, target in staged:
            temporary.replace(target)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
