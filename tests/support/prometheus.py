"""A real Prometheus on loopback that scrapes what a test names, four times a second."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest
import yaml

from tests.support.ports import free_port
from tests.support.processes import wait_for

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus on the PATH (Debian's package: prometheus)"
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on the PATH (Debian's package: prometheus)"
)


class Target(NamedTuple):
    address: str
    labels: Mapping[str, str]
    token: str = ""


class Prometheus:
    """`with Prometheus(...) as prometheus`: it runs and has scraped every target several times."""

    def __init__(self, directory: Path, targets: list[Target], rules: Mapping[str, Any]) -> None:
        self._directory = directory
        self._targets = targets
        self._rules = rules
        self.url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the API; what it refuses is an AssertionError with its words."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def __enter__(self) -> Self:
        rules, config = self._directory / "rules.yml", self._directory / "prometheus.yml"
        rules.write_text(yaml.safe_dump(dict(self._rules)), encoding="utf-8")
        config.write_text(yaml.safe_dump(self._config(rules)), encoding="utf-8")
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
        ]
        log = self._directory / "prometheus.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            wait_for(self._has_scraped, f"Prometheus to scrape; its log is {log}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _config(self, rules: Path) -> dict[str, Any]:
        jobs = [
            {
                "job_name": f"target-{number}",
                "static_configs": [{"targets": [target.address], "labels": dict(target.labels)}],
                **({"authorization": {"credentials": target.token}} if target.token else {}),
            }
            for number, target in enumerate(self._targets)
        ]
        often = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
        return {"global": often, "rule_files": [str(rules)], "scrape_configs": jobs}

    def _has_scraped(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Prometheus ended"
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
        except OSError:
            return False
        return len(self.query("count_over_time(up[1h]) > 4")) == len(self._targets)
