import base64
import gzip
import io
import logging
import os
import stat
import tarfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.accounts import bundle
from workers.accounts.bundle import (
    BundleRejected,
    BundleUnavailable,
    Restored,
    export_bundle,
    has_login,
    identity,
    read_bundle,
    restore_bundle,
)
from workers.accounts.parse import Account

ID, USER = b"machine-id", b"sealed login"
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, target: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def archive(members: Iterable[Member]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def text_of(members: Iterable[Member]) -> str:
    return base64.b64encode(gzip.compress(archive(members))).decode()


def good() -> list[Member]:
    return [
        member("cache/id", ID),
        member("cache/user", USER),
        member("cache/quota", b"q"),
        member("cache/config.json", b"{}"),
    ]


def tree(work_dir: Path) -> dict[str, bytes]:
    return {str(p.relative_to(work_dir)): p.read_bytes() for p in work_dir.rglob("*") if p.is_file()}


def refused(members: Iterable[Member], work_dir: Path) -> bool:
    before = tree(work_dir)
    outcome = restore_bundle(Account(session_bundle=text_of(members)), work_dir)
    return outcome is Restored.REJECTED and tree(work_dir) == before


BAD_MEMBERS = {
    "parent": member("cache/../../x"),
    "absolute": member("/cache/user", USER),
    "symlink": member("cache/user", kind=tarfile.SYMTYPE, target="/etc/passwd"),
    "hardlink": member("cache/quota", kind=tarfile.LNKTYPE, target="cache/id"),
    "device": member("cache/quota", kind=tarfile.CHRTYPE),
    "pipe": member("cache/quota", kind=tarfile.FIFOTYPE),
    "directory": member("cache/quota", kind=tarfile.DIRTYPE),
    "database": member("cache/db/local.db"),
    "other name": member("cache/User"),
    "twice": member("cache/id", b"other"),
    "large": member("cache/quota", os.urandom(5 * 2**20)),
    "compresses well": member("cache/quota", b"\0" * (5 * 2**20)),
    "sparse": member("cache/quota", kind=tarfile.GNUTYPE_SPARSE),
}


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_lv_78_bundle_with_anything_wrong_is_rejected_as_a_whole(tmp_path: Path, case: str) -> None:
    """LV-78: given `cache/../../x`, a symlink cache/user, `cache/db/local.db` or a 5 MiB file in a bundle,
    expect it rejected as a whole and the work directory unchanged.
    """
    (tmp_path / "kept").write_text("here")
    bad = BAD_MEMBERS[case]
    names = {bad[0].name} - {"cache/id"}
    assert refused([bad, *(one for one in good() if one[0].name not in names)], tmp_path)
    assert refused([*(one for one in good() if one[0].name not in names), bad], tmp_path)


@pytest.mark.parametrize("missing", ["cache/id", "cache/user"])
def test_id_and_user_travel_together(tmp_path: Path, missing: str) -> None:
    assert refused([one for one in good() if one[0].name != missing], tmp_path)
    empty = [one for one in good() if one[0].name != missing] + [member(missing, b"")]
    assert refused(empty, tmp_path)


def test_lv_79_live_login_is_never_overwritten(tmp_path: Path) -> None:
    """LV-79: given a valid bundle and a non-empty cache/user, expect it skipped, the file untouched."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/user").write_bytes(b"live")
    assert restore_bundle(Account(session_bundle=text_of(good())), tmp_path) is Restored.KEPT
    assert tree(tmp_path) == {"cache/user": b"live"}


def test_lv_80_empty_login_is_replaced(tmp_path: Path) -> None:
    """LV-80: given a valid bundle and an empty cache/user (0 bytes), expect it restored, cache/user 0600."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/user").touch(mode=0o644)
    assert restore_bundle(Account(session_bundle=text_of(good())), tmp_path) is Restored.RESTORED
    assert tree(tmp_path) == {
        "cache/id": ID,
        "cache/user": USER,
        "cache/quota": b"q",
        "cache/config.json": b"{}",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").iterdir()} == {0o600}


def test_work_directory_is_made_when_absent(tmp_path: Path) -> None:
    work_dir = tmp_path / "a" / "b"
    assert restore_bundle(Account(session_bundle=text_of(good())), work_dir) is Restored.RESTORED
    assert (work_dir / "cache/user").read_bytes() == USER


@pytest.mark.parametrize("state", ["logged out", "no user", "empty user", "no id", "link"])
def test_lv_81_export_of_a_logged_out_instance_is_refused(tmp_path: Path, state: str) -> None:
    """LV-81: given an export from a logged-out instance, expect a client error and no bundle."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/id").write_bytes(ID)
    (tmp_path / "cache/user").write_bytes(USER)
    match state:
        case "no user":
            (tmp_path / "cache/user").unlink()
        case "empty user":
            (tmp_path / "cache/user").write_bytes(b"")
        case "no id":
            (tmp_path / "cache/id").unlink()
        case "link":
            (tmp_path / "elsewhere").write_bytes(b"secret of somebody else")
            (tmp_path / "cache/user").unlink()
            (tmp_path / "cache/user").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleUnavailable) as caught:
        export_bundle(tmp_path, logged_in=state != "logged out")
    assert caught.value.code == "not_logged_in"


def test_export_and_restore_are_inverse(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    restore_bundle(Account(session_bundle=text_of(good())), one)
    (one / "cache/db").mkdir()
    (one / "cache/db/local.db").write_bytes(b"private")
    (one / "cache/quota").unlink()
    text = export_bundle(one, logged_in=True)
    assert export_bundle(one, logged_in=True) == text
    assert restore_bundle(Account(session_bundle=text), other) is Restored.RESTORED
    assert tree(other) == {"cache/id": ID, "cache/user": USER, "cache/config.json": b"{}"}


def test_export_is_bounded(tmp_path: Path) -> None:
    restore_bundle(Account(session_bundle=text_of(good())), tmp_path)
    for name in ("cache/quota", "cache/config.json"):
        (tmp_path / name).write_bytes(b"x" * (3 * 2**20))
    with pytest.raises(BundleUnavailable):
        export_bundle(tmp_path, logged_in=True)


def test_lv_82_inline_wins_over_file(tmp_path: Path) -> None:
    """LV-82: given LINGMA_SESSION_BUNDLE and LINGMA_SESSION_BUNDLE_FILE, expect the inline one used."""
    other = [member("cache/id", b"file"), member("cache/user", b"file")]
    (tmp_path / "bundle").write_text(text_of(other))
    account = Account("", "", text_of(good()), str(tmp_path / "bundle"))
    restore_bundle(account, tmp_path / "one")
    assert (tmp_path / "one/cache/user").read_bytes() == USER
    restore_bundle(Account("", "", "", str(tmp_path / "bundle")), tmp_path / "two")
    assert (tmp_path / "two/cache/user").read_bytes() == b"file"


def test_lv_83_line_breaks_and_missing_padding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """LV-83: given base64 with line breaks or missing padding, expect it accepted or a clear error, and the
    secret never in the log.
    """
    caplog.set_level(logging.DEBUG)
    text = text_of(good())
    for shape in (
        "\n".join(textwrap.wrap(text, 76)) + "\n",
        "\r\n".join(textwrap.wrap(text, 64)),
        text.rstrip("="),
        text.replace("+", "-").replace("/", "_"),
    ):
        assert read_bundle(shape)["cache/user"] == USER
    for broken in ("!" + text, text[:-9], "héllo", text[: len(text) // 2]):
        outcome = restore_bundle(Account(session_bundle=broken), tmp_path)
        assert outcome is Restored.REJECTED
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert text[:40] not in logged
    assert USER.decode() not in logged


NO_ARCHIVES = {
    "nothing": b"",
    "no gzip": b"not gzip",
    "empty gzip": gzip.compress(b""),
    "no tar": gzip.compress(b"not tar" * 100),
    "bomb": gzip.compress(b"\0" * 50_000_000),
}


@pytest.mark.parametrize("data", NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_archives_that_are_none(data: bytes) -> None:
    with pytest.raises(BundleRejected):
        read_bundle(base64.b64encode(data).decode())


@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_archives_are_rejected_or_hold_nothing_else(changes: list[tuple[int, int]]) -> None:
    data = bytearray(archive(good()))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        files = read_bundle(base64.b64encode(gzip.compress(bytes(data), 1)).decode())
    except BundleRejected:
        return
    assert set(files) <= set(bundle.FILES)


def test_oversized_text_is_not_even_decoded() -> None:
    with pytest.raises(BundleRejected, match="too large"):
        read_bundle("A" * (bundle.MAX_TEXT_BYTES + 1))


def test_archive_made_by_tar_itself() -> None:
    members = [
        member("./cache", kind=tarfile.DIRTYPE),
        member("./cache/id", ID),
        member("./cache/user", USER),
    ]
    assert read_bundle(text_of(members)) == {"cache/id": ID, "cache/user": USER}


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "large"])
def test_unusable_bundle_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bundle"
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "large":
            path.write_bytes(b"A" * (bundle.MAX_TEXT_BYTES + 1))
    account = Account(session_bundle_file=str(path))
    assert restore_bundle(account, tmp_path / "work") is Restored.REJECTED
    assert not (tmp_path / "work").exists()


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    assert restore_bundle(Account(session_bundle=text_of(good())), tmp_path) is Restored.REJECTED
    assert tree(tmp_path) == {}


def test_account_without_a_bundle(tmp_path: Path) -> None:
    assert restore_bundle(Account("ann", "p"), tmp_path) is Restored.NO_BUNDLE


def test_an_account_is_told_by_its_user_else_by_its_bundle(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_text("AAAA\nBBBB\n")
    assert identity(Account("ann", "p", "AAAA")) == identity(Account("ann", "q"))
    assert identity(Account("ann")) != identity(Account("bob"))
    assert identity(Account(session_bundle="AAAABBBB")) == identity(Account(session_bundle_file=str(path)))
    assert identity(Account(session_bundle="AAAABBBB")) != identity(Account(session_bundle="CCCC"))
    assert identity(Account(session_bundle="ann")) != identity(Account("ann"))
    gone = [Account(session_bundle_file=str(tmp_path / name)) for name in ("x", "y")]
    assert identity(gone[0]) != identity(gone[1])


def test_a_login_on_disk_is_seen(tmp_path: Path) -> None:
    assert not has_login(tmp_path)
    restore_bundle(Account(session_bundle=text_of(good())), tmp_path)
    assert has_login(tmp_path)
    (tmp_path / "cache" / "user").write_bytes(b"")
    assert not has_login(tmp_path)
