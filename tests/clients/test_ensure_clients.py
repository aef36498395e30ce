"""Installing the clients, and saying why that cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.ensure_clients import PACKAGES, names
from tests.clients.harness import need
from tests.support.ports import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "ensure_clients.py"

pytestmark = pytest.mark.clients


def ensure(directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"CLIENTS_DIR": str(directory / "clients")} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def reason(directory: Path) -> str:
    return (directory / "clients" / "unavailable.txt").read_text()


def test_without_npm_the_reason_is_left_behind(tmp_path: Path) -> None:
    done = ensure(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "node 20 or newer and npm" in reason(tmp_path)


def test_an_old_node_is_told_as_such(tmp_path: Path) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v18.20.4\n")
        (tmp_path / name).chmod(0o755)
    assert ensure(tmp_path, PATH=str(tmp_path)).returncode == 0
    assert "this is v18.20.4" in reason(tmp_path)


def test_without_a_registry_the_reason_is_left_behind_and_nothing_else(tmp_path: Path) -> None:
    need("codex")
    nobody = f"http://127.0.0.1:{free_port()}/"
    done = ensure(tmp_path, npm_config_registry=nobody, npm_config_cache=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "cannot get claude-code from its registry (ECONNREFUSED)" in reason(tmp_path)
    assert sorted(path.name for path in (tmp_path / "clients").iterdir()) == ["lock", "unavailable.txt"]


def test_a_lock_file_that_is_broken_is_no_reason_to_skip(tmp_path: Path) -> None:
    for name, text in {"node": "echo v20.0.0", "npm": "echo npm error code EINTEGRITY >&2; exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = ensure(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "EINTEGRITY" in done.stderr
    assert not (tmp_path / "clients" / "unavailable.txt").exists()


@pytest.mark.parametrize("name", names())
def test_everything_is_locked_by_version_and_hash_and_no_registry_is_named(name: str) -> None:
    wanted = json.loads((PACKAGES / name / "package.json").read_text())["dependencies"]
    text = (PACKAGES / name / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert packages.pop("")["dependencies"] == wanted
    for package, version in wanted.items():
        assert packages[f"node_modules/{package}"]["version"] == version
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert "resolved" not in text
    assert "://" not in text
