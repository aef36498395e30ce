import hashlib
import stat
import struct
from pathlib import Path

import pytest

from tests.fakes.vsix import BINARY, LINUX, USUAL_PATH, package
from workers.bootstrap.errors import BootstrapFailed
from workers.bootstrap.vsix import extract_binary, this_platform


def extract(tmp_path: Path, data: bytes, *, min_bytes: int = 1, max_bytes: int = 1000) -> bytes:
    (tmp_path / "package").write_bytes(data)
    target = tmp_path / "binary"
    digest = extract_binary(tmp_path / "package", target, LINUX, min_bytes=min_bytes, max_bytes=max_bytes)
    content = target.read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    return content


def test_binary_of_the_platform_is_found(tmp_path: Path) -> None:
    assert extract(tmp_path, package()) == BINARY


def test_binary_in_a_nested_archive_named_by_platform(tmp_path: Path) -> None:
    inner = package({"bin/Lingma": BINARY})
    other = package({"bin/Lingma": b"the wrong one"})
    outer = package(
        {"extension/aarch64_linux.zip": other, f"extension/{LINUX}.zip": inner, "x.zip": b"no zip"}
    )
    assert extract(tmp_path, outer) == BINARY


def test_binary_in_a_nested_archive_with_the_usual_tree(tmp_path: Path) -> None:
    assert extract(tmp_path, package({"extension/bin.ZIP": package()})) == BINARY


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"extension/bin/aarch64_linux/Lingma": BINARY},
        {f"extension/bin/{LINUX}/LingmaLocal": BINARY},
        {f"extension/bin/{LINUX}-musl/Lingma": BINARY},
        {f"extension/bin/{LINUX}/Lingma/readme": BINARY},
    ],
)
def test_package_without_it(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(BootstrapFailed, match="holds no Lingma for x86_64_linux"):
        extract(tmp_path, package(members))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_link_in_its_place_is_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(BootstrapFailed, match="regular file"):
        extract(tmp_path, package({USUAL_PATH: b"/bin/sh"}, {USUAL_PATH: kind | 0o777}))


def test_package_without_modes_is_fine(tmp_path: Path) -> None:
    assert extract(tmp_path, package({USUAL_PATH: BINARY}, {USUAL_PATH: 0})) == BINARY


@pytest.mark.parametrize(("min_bytes", "max_bytes"), [(100, 1000), (1, 5)])
def test_odd_size_is_refused(tmp_path: Path, min_bytes: int, max_bytes: int) -> None:
    with pytest.raises(BootstrapFailed, match="odd size"):
        extract(tmp_path, package(), min_bytes=min_bytes, max_bytes=max_bytes)


def test_no_zip_and_a_damaged_one(tmp_path: Path) -> None:
    whole = package({USUAL_PATH: bytes(range(256)) * 3})
    damaged = bytearray(whole)
    damaged[len(USUAL_PATH) + 34] ^= 0xFF
    for data in (b"", b"<html>", whole[:-30], bytes(damaged)):
        with pytest.raises(BootstrapFailed, match="readable zip"):
            extract(tmp_path, data)


def test_encrypted_package(tmp_path: Path) -> None:
    data = bytearray(package({USUAL_PATH: BINARY}))
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.index(signature) + offset
        data[at : at + 2] = struct.pack("<H", 1)
    with pytest.raises(BootstrapFailed):
        extract(tmp_path, bytes(data))


def test_platform_names_follow_the_tree_of_the_product() -> None:
    arch, _, system = this_platform().rpartition("_")
    assert arch in {"x86_64", "aarch64"}
    assert system in {"linux", "darwin"}
