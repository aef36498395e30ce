import gzip
from pathlib import Path

import pytest

from gateway.kernel.clock import SystemClock
from tests.fakes.gallery import Gallery
from workers.bootstrap.errors import BootstrapFailed
from workers.bootstrap.marketplace import Limits, download, package_url

PLENTY = Limits(10_000, SystemClock().monotonic() + 3600)


def test_address_of_the_newest_package() -> None:
    assert package_url("Alibaba-Cloud", "tongyi-lingma") == (
        "https://marketplace.visualstudio.com/_apis/public/gallery/publishers/Alibaba-Cloud"
        "/vsextensions/tongyi-lingma/latest/vspackage"
    )
    assert package_url("a/b", "c?d", "http://mirror/").startswith("http://mirror/_apis")
    assert "a%2Fb" in package_url("a/b", "c")


def test_package_is_fetched_with_its_etag(tmp_path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/p", b"PK content", ETag='"1"')
    target = tmp_path / "package"
    assert download(url, target, PLENTY) == '"1"'
    assert target.read_bytes() == b"PK content"
    assert download(url, target, PLENTY, '"1"') is None
    assert download(url, target, PLENTY, '"0"') == '"1"'


def test_gzip_around_a_package_is_taken_off(tmp_path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/p", gzip.compress(b"PK content"))
    download(url, tmp_path / "package", PLENTY)
    assert (tmp_path / "package").read_bytes() == b"PK content"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_redirect_is_followed(tmp_path: Path, gallery: Gallery) -> None:
    gallery.serve("/there", b"PK content")
    url = gallery.serve("/here", status=302, Location="/there")
    download(url, tmp_path / "package", PLENTY)
    assert (tmp_path / "package").read_bytes() == b"PK content"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirect_away_from_the_web_is_not(tmp_path: Path, gallery: Gallery, location: str) -> None:
    url = gallery.serve("/here", status=302, Location=location)
    with pytest.raises(BootstrapFailed):
        download(url, tmp_path / "package", PLENTY)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "ftp://x/y"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BootstrapFailed, match="http"):
        download(url, tmp_path / "package", PLENTY)


def test_refusal_names_host_and_status_only(tmp_path: Path, gallery: Gallery) -> None:
    with pytest.raises(BootstrapFailed, match=r"^127\.0\.0\.1 answered with status 404$"):
        download(gallery.url + "/absent?token=secret", tmp_path / "package", PLENTY)


def test_nobody_there(tmp_path: Path, free_tcp_port: int) -> None:
    with pytest.raises(BootstrapFailed, match="could not be fetched"):
        download(f"http://127.0.0.1:{free_tcp_port}/p", tmp_path / "package", PLENTY)


def test_answer_cut_short(tmp_path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/p", b"PK", **{"Content-Length": "100"})
    with pytest.raises(BootstrapFailed):
        download(url, tmp_path / "package", PLENTY)


def test_limits(tmp_path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/p", b"x" * 20_000)
    bomb = gallery.serve("/bomb", gzip.compress(b"\0" * 20_000))
    late = gallery.serve("/late", b"x")
    with pytest.raises(BootstrapFailed, match="too large"):
        download(url, tmp_path / "package", PLENTY)
    with pytest.raises(BootstrapFailed, match="too large"):
        download(bomb, tmp_path / "package", PLENTY)
    with pytest.raises(BootstrapFailed, match="too long"):
        download(late, tmp_path / "package", Limits(10_000, 0.0))


def test_damaged_gzip(tmp_path: Path, gallery: Gallery) -> None:
    url = gallery.serve("/p", gzip.compress(b"PK content")[:-6])
    with pytest.raises(BootstrapFailed, match="damaged"):
        download(url, tmp_path / "package", PLENTY)
