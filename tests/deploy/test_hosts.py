"""What docs/howto/hosts.md has operators type and write, tried as it stands there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto" / "hosts.md").read_text(encoding="utf-8")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def block(kind: str) -> str:
    found = re.search(rf"(?ms)^```{kind}\n(.*?)^```$", PAGE)
    assert found is not None
    return found[1]


def test_the_configuration_for_haproxy_is_sound(tmp_path: Path) -> None:
    if shutil.which("haproxy", path=PATH) is None:
        pytest.skip("no haproxy on the PATH (Debian: haproxy)")
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    run = subprocess.run(
        ["bash", "-e", "-c", block("bash")],
        cwd=tmp_path,
        env={**os.environ, "PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    written = (tmp_path / "haproxy.cfg").read_text(encoding="utf-8")
    assert "resolvers" not in written
    assert re.findall(r"(?m)^    server (\S+)", written) == ["a", "b"]


def test_the_configuration_for_prometheus_is_sound(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool on the PATH (Debian: prometheus)")
    (tmp_path / "token").touch()
    config = tmp_path / "prometheus.yml"
    text = block("yaml").replace("/etc/prometheus/metrics_token", str(tmp_path / "token"))
    config.write_text(text, encoding="utf-8")
    run = subprocess.run(
        ["promtool", "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
