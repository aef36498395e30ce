"""Helm for scripts and tests: the engine in the wheel helm-python-sdk, else the `helm` on the PATH.

Both are Helm itself; the wheel has no build for every machine. Nothing here talks to a cluster.
"""

import importlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import yaml

helm_python: Any
try:
    helm_python = importlib.import_module("helm_python")
except (ImportError, OSError):  # no wheel for this machine, or its library does not load
    helm_python = None

Json: TypeAlias = dict[str, Any]


class HelmError(Exception):
    """What Helm said."""


def binary() -> str | None:
    return shutil.which("helm")


def available() -> bool:
    return helm_python is not None or binary() is not None


def render(chart: Path, values: Json, *, name: str, namespace: str) -> list[Json]:
    """Every document but empty ones. Raises HelmError."""
    if helm_python is None:
        return render_by_binary(chart, values, name=name, namespace=namespace)
    return [
        document
        for path, text in _rendered(chart, values, name, namespace).items()
        if not path.endswith("NOTES.txt")
        for document in _documents(text)
    ]


def notes(chart: Path, values: Json, *, name: str, namespace: str) -> str | None:
    """What is told after an installation; None where only the command is there, which does not tell."""
    if helm_python is None:
        return None
    rendered = _rendered(chart, values, name, namespace)
    return next(text for path, text in rendered.items() if path.endswith("NOTES.txt"))


def _rendered(chart: Path, values: Json, name: str, namespace: str) -> dict[str, str]:
    with helm_python.Chart.load(chart) as loaded:
        try:
            loaded.validate_schema(values)
            rendered: dict[str, str] = loaded.render(values, name=name, namespace=namespace)
        except helm_python.HelmError as error:
            raise HelmError(str(error)) from None
    return rendered


def render_by_binary(chart: Path, values: Json, *, name: str, namespace: str) -> list[Json]:
    # A helm that somebody built by hand takes itself to face a cluster older than the chart asks for.
    cluster = ("--namespace", namespace, "--kube-version", "v1.34.0")
    out = _run("template", name, str(chart), *cluster, values=values)
    return list(_documents(out))


def lint(chart: Path, values: Json) -> list[str]:
    """Warnings and errors."""
    if helm_python is None:
        try:
            _run("lint", str(chart), "--strict", "--quiet", values=values)
        except HelmError as error:
            return [str(error)]
        return []
    report = helm_python.lint(chart, values, strict=True)
    return [f"{found['path']}: {found['error']}" for found in report["messages"] if found["severity"] > 1]


def _documents(text: str) -> Iterator[Json]:
    yield from (document for document in yaml.safe_load_all(text) if document)


def _run(*words: str, values: Json) -> str:
    command = binary()
    if command is None:
        raise HelmError("neither the wheel helm-python-sdk nor a helm on the PATH")
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        result = subprocess.run(
            [command, *words, "--values", file.name], capture_output=True, text=True, check=False
        )
    if result.returncode:
        raise HelmError(result.stderr or result.stdout)
    return result.stdout
