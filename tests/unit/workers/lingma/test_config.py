import sys
from pathlib import Path
from typing import Any

import pytest

from workers.lingma.config import InstanceConfig, arguments, child_environment, program


def words(**options: Any) -> list[str]:
    return arguments(InstanceConfig(work_dir=Path("/w"), **options), 1, 2)


STANDARD = ["--workDir", "/w", "--socketPort", "1", "--httpPort", "2"]


def test_start_is_the_first_word() -> None:
    assert words() == ["start", *STANDARD]


def test_enterprise_endpoint() -> None:
    assert words(endpoint="https://e") == ["start", *STANDARD, "--endpoint", "https://e"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("", STANDARD),
        ("run --transportType 'web socket'", ["run", "--transportType", "web socket", *STANDARD]),
        ("start --workDir={work_dir} -p {socket_port}", ["start", "--workDir=/w", "-p", "1"]),
        ("{http_port} {endpoint} {other}", ["2", "https://e", "{other}"]),
    ],
)
def test_override_replaces_the_first_words_or_everything(override: str, expected: list[str]) -> None:
    endpoint = "https://e" if "{endpoint}" in override else ""
    assert words(arguments=override, endpoint=endpoint) == expected


def test_program_is_a_path_or_the_bundled_simulator() -> None:
    assert program(InstanceConfig(work_dir=Path("/w"), binary="/bin/Lingma")) == ["/bin/Lingma"]
    assert program(InstanceConfig(work_dir=Path("/w"))) == [sys.executable, "-m", "workers.simulator"]


def test_environment_of_the_child_has_no_secrets() -> None:
    passed_on = {
        "PATH": "p",
        "HOME": "h",
        "LC_ALL": "C",
        "HTTPS_PROXY": "x",
        "LINGMA_SIM_TTFT": "1",
        "GOGC": "5",
    }
    names = ("API_KEYS", "ADMIN_TOKEN", "REDIS_URL", "LINGMA_ACCOUNTS", "LINGMA_SESSION_BUNDLE")
    secret = dict.fromkeys(names, "secret")
    assert child_environment(passed_on | secret) == passed_on
