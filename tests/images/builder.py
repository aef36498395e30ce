"""Images built for real, without a daemon and without a registry of images, and what is in them.

The base image is made of Debian packages; buildah runs the Dockerfile with chroot isolation. What the host's
pip is told of its registry goes into the build as a secret and must not be found in what comes out.
"""

import ast
import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
"""The Debian whose Python is 3.11, as the Dockerfile's own base has it."""
PACKAGES = "python3,python3-venv,ca-certificates"
TOOLS = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "unshare": "util-linux"}
BASE = "localhost/base"
BASE_TAR = "IMAGES_BASE_TAR"
"""A variable that names a tar file of the base image; it is made when it is not there."""
LIMIT_S = 1500
CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries")


def need(tools: Mapping[str, str]) -> None:
    """Install what is missing where that is possible; else skip, saying what is missing.

    tools: programs and the Debian packages they are in.
    """
    missing = [tool for tool in tools if which(tool) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = sorted({tools[tool] for tool in missing})
        # Whatever has a service to start with its package is not to start it.
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=env, check=False, capture_output=True, timeout=600)
        missing = [tool for tool in tools if which(tool) is None]
    if missing:
        pytest.skip(f"this takes {', '.join(missing)}, which cannot be installed here")


def which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def need_builder() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("building images takes root on Linux")
    need(TOOLS)


def run(*command: str | Path, **options: Any) -> str:
    """What a command prints; its last words when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        **{"capture_output": True, "text": True, "timeout": LIMIT_S, "check": False, **options},
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return str(done.stdout)


class Image(NamedTuple):
    """What an image says of itself, and its files."""

    config: dict[str, Any]
    history: list[dict[str, Any]]
    tree: Path
    size: int

    @property
    def env(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.config["Env"])

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return next((self.tree / "app/.venv/lib").glob("python3.*/site-packages"))


class Builder:
    """A store of images of its own, below a directory that close() leaves removable."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.canary = f"canary-{secrets.token_hex(16)}"
        """A word in the secrets of the build."""
        self.driver = next((d for d in ("overlay", "vfs") if self._works(d)), "")
        if not self.driver:
            pytest.skip("buildah cannot keep images here: neither with overlay nor with vfs")

    def buildah(self, *arguments: str | Path) -> str:
        return self._buildah(self.driver, *arguments).strip()

    def import_base(self) -> None:
        """Make the base image, of nothing but Debian's packages."""
        tar = Path(os.environ.get(BASE_TAR) or self._directory / "base.tar")
        if not tar.exists():
            run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, tar)
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, tar, "/")
        self.buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self, target: str, **build_args: str) -> Image:
        """The image of a target, mounted."""
        name = f"localhost/{target}"
        given = {"BASE_IMAGE": BASE, **build_args}
        self.buildah(
            *("bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--identity-label=false"),
            # With vfs every layer is a copy of the whole tree: a cache of them costs more than it saves.
            f"--layers={str(self.driver != 'vfs').lower()}",
            *(word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")),
            *self._secrets(),
            *("--target", target, "--tag", name, ROOT),
        )
        told = json.loads(self.buildah("inspect", "--type", "image", name))
        size = json.loads(self.buildah("images", "--json", name))[0]["size"]
        tree = Path(self.buildah("mount", self.buildah("from", "--pull-never", name)))
        return Image(told["Docker"]["config"], told["OCIv1"]["history"], tree, _bytes(size))

    def close(self) -> None:
        for command in (["umount", "--all"], ["rm", "--all"], ["rmi", "--all", "--force"]):
            with contextlib.suppress(AssertionError):
                self.buildah(*command)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _secrets(self) -> Iterator[str]:
        lines = ["[global]", f"; {self.canary}", "cert = /run/secrets/ca.pem"]
        lines += [f"{name} = {value}" for name, value in pip_settings().items() if name in PASSED_ON]
        conf = self._directory / "pip.conf"
        conf.write_text("\n".join(lines) + "\n")
        yield from ("--secret", f"id=pip.conf,src={conf}", "--secret", f"id=ca.pem,src={_certificates()}")

    def _works(self, driver: str) -> bool:
        try:
            container = self._buildah(driver, "from", "scratch").strip()
            self._buildah(driver, "mount", container)
            self._buildah(driver, "rm", container)
        except AssertionError:
            return False
        return True

    def _buildah(self, driver: str, *arguments: str | Path) -> str:
        store = self._directory / driver
        places = ("--root", store / "store", "--runroot", store / "run", "--storage-driver", driver)
        return run("buildah", *places, *arguments)


def pip_settings() -> dict[str, str]:
    """What pip is told here, by files and by variables, without the names of the sections."""
    listed = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    found = {}
    for line in listed:
        name, _, value = line.partition("=")
        text = ast.literal_eval(value) if value[:1] in "'\"" else value
        found[name.rpartition(".")[2]] = " ".join(str(text).split())
    return found


def registry_words() -> set[str]:
    """Hosts and logins of the registries that pip asks here, but for the hosts that everybody knows."""
    text = " ".join(pip_settings().values())
    hosts = set(re.findall(r"://(?:[^/@\s]*@)?([^/\s]+)", text))
    logins = set(re.findall(r"://([^/@\s]+)@", text))
    return {word for word in hosts | logins if word not in ("pypi.org", "files.pythonhosted.org")}


def _certificates() -> Path:
    named = [os.environ.get(name) or "" for name in CERTIFICATES]
    system = "/etc/ssl/certs/ca-certificates.crt"
    return next(
        path for text in (pip_settings().get("cert", ""), *named, system) if (path := Path(text)).is_file()
    )


def _bytes(size: str) -> int:
    number, unit = size.split()
    return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])
