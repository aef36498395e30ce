import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gallery import Gallery
from tests.fakes.vsix import BINARY, LINUX, USUAL_PATH, package
from workers.bootstrap.errors import BootstrapFailed
from workers.bootstrap.install import BootstrapConfig, Installed, ensure_binary
from workers.bootstrap.marketplace import package_url

NEWER = b"\x7fELF the newer binary"
PACKAGE_PATH = package_url("Alibaba-Cloud", "tongyi-lingma", "")


def config(path: Path, gallery: Gallery, **options: Any) -> BootstrapConfig:
    return BootstrapConfig(
        binary=str(path),
        marketplace_url=gallery.url,
        **{"platform": LINUX, "min_binary_bytes": 1, **options},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bin" / "Lingma"


def left_over(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()} - {path.name, "Lingma.source.json"}


async def test_simulator_needs_nothing(gallery: Gallery) -> None:
    assert await ensure_binary(config(Path("simulator"), gallery, force=True)) is Installed.NOT_NEEDED
    assert gallery.asked == []


async def test_absent_binary_is_fetched(path: Path, gallery: Gallery) -> None:
    gallery.serve(PACKAGE_PATH, package())
    assert await ensure_binary(config(path, gallery)) is Installed.FETCHED
    assert path.read_bytes() == BINARY
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert left_over(path) == set()


async def test_next_start_refreshes_what_was_fetched(path: Path, gallery: Gallery) -> None:
    gallery.serve(PACKAGE_PATH, package(), ETag='"1"')
    await ensure_binary(config(path, gallery))
    assert await ensure_binary(config(path, gallery)) is Installed.KEPT
    assert gallery.asked[1][1]["If-None-Match"] == '"1"'
    gallery.serve(PACKAGE_PATH, package({USUAL_PATH: NEWER}), ETag='"2"')
    assert await ensure_binary(config(path, gallery)) is Installed.FETCHED
    assert path.read_bytes() == NEWER


async def test_without_always_nothing_is_asked(path: Path, gallery: Gallery) -> None:
    gallery.serve(PACKAGE_PATH, package())
    await ensure_binary(config(path, gallery))
    assert await ensure_binary(config(path, gallery, always=False)) is Installed.KEPT
    assert len(gallery.asked) == 1


async def test_force_fetches_the_same_again(path: Path, gallery: Gallery) -> None:
    gallery.serve(PACKAGE_PATH, package(), ETag='"1"')
    await ensure_binary(config(path, gallery))
    path.write_bytes(b"damaged")
    assert await ensure_binary(config(path, gallery, always=False, force=True)) is Installed.FETCHED
    assert path.read_bytes() == BINARY


async def test_binary_of_somebody_else_is_left_alone(path: Path, gallery: Gallery) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"#!/bin/sh")
    path.chmod(0o755)
    gallery.serve(PACKAGE_PATH, package())
    assert await ensure_binary(config(path, gallery)) is Installed.KEPT
    assert gallery.asked == []
    assert await ensure_binary(config(path, gallery, force=True)) is Installed.FETCHED


@pytest.mark.parametrize("kind", ["empty", "not executable", "directory"])
async def test_unusable_file_is_replaced_or_said_to_be_in_the_way(
    path: Path, gallery: Gallery, kind: str
) -> None:
    path.parent.mkdir(parents=True)
    if kind == "directory":
        (path / "inside").mkdir(parents=True)
    else:
        path.write_bytes(b"" if kind == "empty" else b"x")
        path.chmod(0o755 if kind == "empty" else 0o644)
    gallery.serve(PACKAGE_PATH, package())
    if kind == "directory":
        with pytest.raises(BootstrapFailed):
            await ensure_binary(config(path, gallery))
    else:
        assert await ensure_binary(config(path, gallery)) is Installed.FETCHED
    assert left_over(path) == set()


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (200, b"<html>"), (200, package({})), (200, package({USUAL_PATH: b""}))],
    ids=["refused", "no package", "empty package", "empty binary"],
)
async def test_refresh_that_fails_is_not_fatal(
    path: Path, gallery: Gallery, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gallery.serve(PACKAGE_PATH, package())
    await ensure_binary(config(path, gallery))
    gallery.serve(PACKAGE_PATH, body, status)
    assert await ensure_binary(config(path, gallery, force=True)) is Installed.STALE
    assert path.read_bytes() == BINARY
    assert os.access(path, os.X_OK)
    assert "bootstrap.binary_kept" in [record.message for record in caplog.records]
    assert left_over(path) == set()


async def test_no_binary_in_the_end_is_an_error_that_says_why(path: Path, gallery: Gallery) -> None:
    with pytest.raises(
        BootstrapFailed, match=r"there is no Lingma binary: 127\.0\.0\.1 answered with status 404"
    ):
        await ensure_binary(config(path, gallery))
    with pytest.raises(BootstrapFailed, match="set LINGMA_VSIX_URL"):
        await ensure_binary(config(path, gallery, source="vsix"))


async def test_vsix_address_is_the_fallback_of_the_marketplace(path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/my.vsix", package())
    assert await ensure_binary(config(path, gallery, vsix_url=url)) is Installed.FETCHED
    assert [asked for asked, _ in gallery.asked] == [PACKAGE_PATH, "/my.vsix"]


async def test_vsix_source_asks_nobody_else(path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/my.vsix", package())
    assert await ensure_binary(config(path, gallery, source="vsix", vsix_url=url)) is Installed.FETCHED
    assert [asked for asked, _ in gallery.asked] == ["/my.vsix"]


async def test_sha256_is_demanded(path: Path, gallery: Gallery) -> None:
    right = hashlib.sha256(BINARY).hexdigest()
    gallery.serve(PACKAGE_PATH, package())
    with pytest.raises(BootstrapFailed, match="sha256"):
        await ensure_binary(config(path, gallery, sha256="0" * 64))
    assert not path.exists()
    assert await ensure_binary(config(path, gallery, sha256=f" {right.upper()} ")) is Installed.FETCHED
    asked = len(gallery.asked)
    assert await ensure_binary(config(path, gallery, sha256=right)) is Installed.KEPT
    assert len(gallery.asked) == asked
    gallery.serve(PACKAGE_PATH, package({USUAL_PATH: NEWER}))
    newer = hashlib.sha256(NEWER).hexdigest()
    assert await ensure_binary(config(path, gallery, sha256=newer)) is Installed.FETCHED


async def test_damaged_memory_of_the_source_only_costs_a_download(path: Path, gallery: Gallery) -> None:
    gallery.serve(PACKAGE_PATH, package(), ETag='"1"')
    await ensure_binary(config(path, gallery))
    path.with_name("Lingma.source.json").write_text("{")
    assert await ensure_binary(config(path, gallery)) is Installed.FETCHED
