"""Every script under examples/ against one live gateway: it ends well and prints what it says it prints.

A script says so in lines that begin with `# prints: `; the rest of each must be in the output, in that order.
A script without such lines must print something. Those for a command-line client of somebody else's are run
where that client is installed, by tests/clients.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Service, get_json, pool_ready, up, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
NEED_A_CLIENT = {"claude-code", "codex", "gemini-cli"}
MARK = "# prints: "
KEY = "key-of-the-examples"

SCRIPTS = sorted(
    path
    for pattern in ("*/*.sh", "*/*.py")
    for path in EXAMPLES.glob(pattern)
    if path.parent.name not in NEED_A_CLIENT
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With a key, so that an example that forgets to send it fails."""
    with up(tmp_path_factory.mktemp("examples"), HOST="127.0.0.1", API_KEYS=KEY) as service:
        service.ready("/healthz", pool_ready(1))
        yield service


def name_of(path: Path) -> str:
    return path.relative_to(EXAMPLES).as_posix()


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_an_example_does_what_it_says(path: Path, gateway: Service, tmp_path: Path) -> None:
    interpreter = [sys.executable] if path.suffix == ".py" else []
    done = subprocess.run(
        [*interpreter, str(path)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "GATEWAY_URL": gateway.url,
            "GATEWAY_KEY": KEY,
            "NO_PROXY": "127.0.0.1",
        },
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    at = 0
    for words in promised(path):
        found = done.stdout.find(words, at)
        assert found >= 0, f"{words!r} is not in what is left of the output:\n{done.stdout[at:]}"
        at = found + len(words)


def promised(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]


def test_the_gateway_of_the_examples_wants_its_key(gateway: Service) -> None:
    assert get_json(f"{gateway.url}/v1/models")["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("folder", sorted(path for path in EXAMPLES.iterdir() if path.is_dir()), ids=name_of)
def test_a_folder_has_a_readme_and_something_to_run(folder: Path) -> None:
    assert (folder / "README.md").is_file()
    assert [path for path in folder.iterdir() if path.suffix in (".sh", ".py")]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.sh")), ids=name_of)
def test_a_shell_script_can_be_run_as_it_is(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("example", "command"), [("claude-code", "claude"), ("codex", "codex"), ("gemini-cli", "gemini")]
)
def test_a_stopped_trial_takes_its_home_away(
    example: str, command: str, stop: signal.Signals, tmp_path: Path
) -> None:
    """The client is a stand-in that runs until it is stopped with the script, as a terminal would."""
    homes, commands, began = tmp_path / "homes", tmp_path / "bin", tmp_path / "began"
    homes.mkdir()
    commands.mkdir()
    client = commands / command
    client.write_text(f"#!/bin/sh\n: >'{began}'\nexec sleep 60\n")
    client.chmod(0o755)
    script = subprocess.Popen(
        [str(EXAMPLES / example / "run.sh")],
        env={"PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(tmp_path), "TMPDIR": str(homes)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # A shell that runs tests in the background ignores SIGINT, and so would the script.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(began.exists, "the client")
        assert list(homes.iterdir())
        os.killpg(script.pid, stop)
        assert script.wait(20) == 128 + stop
    finally:
        script.kill()
    assert list(homes.iterdir()) == []
