"""The Dockerfile and what is sent along with it, by reading them; nothing is built here."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.environ import leaves
from gateway.health import GATEWAY_NAMES, WORKER_NAMES
from gateway.settings import GatewaySettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
OF_PYTHON_AND_PIP = re.compile(r"PIP_|PYTHON|PATH$|HOME$")


class Stage(NamedTuple):
    name: str
    base: str
    steps: list[tuple[str, str]]

    def of(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]

    def variables(self) -> list[str]:
        return [word.partition("=")[0] for rest in self.of("ENV") for word in shlex.split(rest)]


def stages() -> list[Stage]:
    """In the order of the file. What precedes the first FROM is left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    text = re.sub(r"\\\n\s*", "", text)
    found: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(name, base, []))
        elif found:
            found[-1].steps.append((instruction, rest.strip()))
    return found


def stage(name: str) -> Stage:
    return next(stage for stage in stages() if stage.name == name)


def test_a_base_given_by_an_argument_and_the_gateway_by_default() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "\nARG BASE_IMAGE=python:3.11-slim\n" in text.partition("\nFROM ")[0] + "\n"
    assert [(one.name, one.base) for one in stages()] == [
        ("builder", "${BASE_IMAGE}"),
        ("runtime", "${BASE_IMAGE}"),
        ("worker", "runtime"),
        ("gateway", "runtime"),
    ]


def test_dependencies_come_from_the_lock_file_by_hash_and_stay_behind_but_for_the_venv() -> None:
    installs = [step for step in stage("builder").of("RUN") if "pip install" in step]
    assert "--require-hashes -r requirements.lock" in installs[0]
    assert "--no-index --no-deps --no-build-isolation ." in installs[1]
    copied = [rest for one in stages()[1:] for rest in one.of("COPY")]
    assert copied == ["--from=builder /app/.venv /app/.venv"]


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_the_last_user_is_10001(name: str) -> None:
    steps = stage("runtime").steps + stage(name).steps
    assert [rest for instruction, rest in steps if instruction == "USER"][-1] == "10001:10001"


@pytest.mark.parametrize(("name", "names"), [("gateway", GATEWAY_NAMES), ("worker", WORKER_NAMES)])
def test_the_port_is_that_of_the_settings(
    name: str, names: tuple[tuple[str, ...], tuple[str, ...], int]
) -> None:
    assert stage(name).of("EXPOSE") == [str(names[2])]


def test_commands_are_words_and_not_lines_of_a_shell() -> None:
    """A shell would be process 1 and keep signals to itself."""
    told = [rest for one in stages() for name in ("ENTRYPOINT", "CMD") for rest in one.of(name)]
    assert told == ['["lingma-gateway"]', '["work"]', '["serve"]']
    checks = [rest for one in stages() for rest in one.of("HEALTHCHECK")]
    assert len(checks) == 2
    assert all(re.search(r'--timeout=5s .* CMD \["python", "-m", "gateway\.health"', rest) for rest in checks)


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {
        name for root in (GatewaySettings, WorkerSettings) for leaf in leaves(root) for name in leaf.names
    }
    given = {name for one in stages() for name in one.variables()}
    assert {name for name in given if not OF_PYTHON_AND_PIP.match(name)} - known == set()


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert stage("runtime").of("ARG") == [f"VERSION={project['version']}"]
    assert f'licenses="{project["license"]}"' in stage("runtime").of("LABEL")[0]


def test_only_what_is_named_is_sent_to_a_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {word.removeprefix("./") for rest in stage("builder").of("COPY") for word in rest.split()[:-1]}
    assert allowed == copied
    assert all((ROOT / name).exists() for name in allowed)
    assert {"data", "secrets", ".env", ".git", "tests"} & allowed == set()


def test_no_file_for_containers_names_a_registry_of_packages() -> None:
    places = [
        "Dockerfile",
        ".dockerignore",
        "docker-compose.yml",
        "deploy/compose",
        "docs/howto/containers.md",
    ]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *places]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    named = re.compile(r"index-url\s*=|trusted-host|find-links|://[^/\s]*(?:pypi|registry|artifact|debian)")
    assert [name for name in listed if named.search((ROOT / name).read_text(encoding="utf-8"))] == []
