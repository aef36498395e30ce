"""The command line."""

import json
from pathlib import Path

import pytest

from tests.unit.workers.simulator.harness import Simulator, client, simulator
from workers.simulator.cli import main
from workers.simulator.server import StartOptions


@pytest.fixture(autouse=True)
def no_knobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINGMA_SIM_LOGGED_IN", raising=False)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == "version: 2.11.1\n"


def test_status_of_a_work_directory(work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["status", "-o", "json", "--workDir", str(work_dir)]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"logged_in": False, "version": "2.11.1"}
    (work_dir / "cache").mkdir(parents=True)
    (work_dir / "cache" / "user").write_text('{"username": "ann"}')
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {
        "logged_in": True,
        "version": "2.11.1",
        "username": "ann",
        "user_type": "personal_standard",
    }


def test_machine_info_stays_the_same(work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["machine-info", "--workDir", str(work_dir)]) == 0
    first = capsys.readouterr().out
    assert main(["machine-info", "--workDir", str(work_dir)]) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("machineToken: sim-")
    assert first.endswith("machineType: simulator\n")


def test_a_start_needs_a_work_directory(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["start"])
    assert ending.value.code == 2
    assert "--workDir is required" in capsys.readouterr().err


async def test_flags_of_other_versions_are_no_error(work_dir: Path) -> None:
    flags = [
        "--endpoint",
        "https://x.invalid",
        "--transportType",
        "ws",
        "--copyDataDir",
        "/x",
        "--novel",
        "1",
    ]
    with simulator(work_dir, *flags) as sim:
        async with client(sim) as peer:
            assert await peer.result("config/getEndpoint") == {"endpoint": "https://x.invalid"}


def test_start_may_be_left_out(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StartOptions] = []

    async def run(options: StartOptions, environ: object) -> int:
        seen.append(options)
        return 7

    monkeypatch.setattr("workers.simulator.cli.run", run)
    assert main(["--workDir", str(work_dir)]) == 7
    assert main(["start", "--workDir", str(work_dir), "--socketPort", "0"]) == 7
    assert [(option.socket_port, option.http_port) for option in seen] == [(36510, 37510), (0, 37510)]


def test_a_module_is_the_executable(shared_process: Simulator) -> None:
    """The fixture starts `python -m workers.simulator start`; here it runs."""
    assert shared_process.process.poll() is None
