"""Where extension packages are, and fetching one. Blocking: install.py runs it in a thread.

The address form is the public gallery's: `latest` gives the newest package, a zip that may come wrapped in
gzip.
"""

import gzip
import shutil
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from gateway.kernel.clock import SystemClock
from workers.bootstrap.errors import BootstrapFailed

GALLERY = "https://marketplace.visualstudio.com"
SOCKET_TIMEOUT_S = 30.0
CHUNK_BYTES = 1024 * 1024
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Limits:
    max_bytes: int
    """Of the package, as downloaded and as unwrapped."""
    until: float
    """On the monotonic clock."""


def package_url(publisher: str, extension: str, base: str = GALLERY) -> str:
    names = f"{quote(publisher, safe='')}/vsextensions/{quote(extension, safe='')}"
    return f"{base.rstrip('/')}/_apis/public/gallery/publishers/{names}/latest/vspackage"


def download(url: str, target: Path, limits: Limits, etag: str = "") -> str | None:
    """Fetch a package into target and return its ETag; None when it is still the one with that etag.

    Raises BootstrapFailed.
    """
    host = urlsplit(url).hostname or "?"
    if urlsplit(url).scheme not in {"http", "https"}:
        raise BootstrapFailed("a package address must begin with http:// or https://")
    headers = {"User-Agent": "lingma-gateway", "Accept": "*/*"} | ({"If-None-Match": etag} if etag else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked above
    try:
        with _opener().open(request, timeout=SOCKET_TIMEOUT_S) as response:
            with target.open("wb") as file:
                _copy(response, file, limits)
                size = file.tell()
            # Read in pieces, a short answer looks like a complete one.
            if response.headers.get("Content-Length", str(size)) != str(size):
                raise BootstrapFailed(f"{host} ended in mid-package")
            new_etag = response.headers.get("ETag") or ""
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304:
            return None
        raise BootstrapFailed(f"{host} answered with status {error.code}") from error
    except (OSError, HTTPException) as error:
        raise BootstrapFailed(f"the package could not be fetched from {host}") from error
    _unwrap(target, limits)
    return new_etag


def _opener() -> urllib.request.OpenerDirector:
    """The standard one without file: and ftp:, so that no redirect leads there; proxies as usual."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], limits: Limits) -> None:
    left = limits.max_bytes
    while chunk := source.read(CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise BootstrapFailed("the package is too large")
        if SystemClock().monotonic() > limits.until:
            raise BootstrapFailed("the download took too long")
        target.write(chunk)


def _unwrap(path: Path, limits: Limits) -> None:
    with path.open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            return
    unwrapped = path.with_suffix(".unwrapped")
    try:
        with gzip.open(path) as source, unwrapped.open("wb") as target:
            _copy(source, target, limits)
        shutil.move(unwrapped, path)
    except (OSError, EOFError, zlib.error) as error:
        raise BootstrapFailed("the package is a damaged gzip file") from error
    finally:
        unwrapped.unlink(missing_ok=True)
