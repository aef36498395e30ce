"""The command as a person meets it: banner, help, mistakes, Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from openai import APIError, OpenAI

from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, up, wait_for

pytestmark = pytest.mark.e2e


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_URL", "LINGMA_", "API_KEYS"))}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=clean | {"PYTHONPATH": str(Path.cwd())} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_the_commands() -> None:
    result = run("--help")
    assert result.returncode == 0
    for word in ("up", "serve", "work", "check-config"):
        assert word in result.stdout


def test_the_banner_has_a_curl_that_works(tmp_path: Path) -> None:
    with up(tmp_path) as live:
        live.ready("/healthz", pool_ready(1))
        banner = wait_for(lambda: live.log if "Ctrl-C" in live.log else "", "the banner")
        assert f"http://127.0.0.1:{live.port}/v1" in banner
        assert "no key needed, send any" in banner
        assert "simulator" in banner
        lines = banner.splitlines()
        start = next(n for n, line in enumerate(lines) if line.strip().startswith("curl "))
        command = " ".join(line.rstrip().removesuffix("\\") for line in lines[start : start + 3])
        answer = subprocess.run(
            ["bash", "-c", f"{command} -sS"], capture_output=True, text=True, timeout=30, check=False
        )
        assert '"content":"hello"' in answer.stdout, answer


def test_a_key_is_asked_for_and_never_printed(tmp_path: Path) -> None:
    key = "sk-very-secret-key"
    with up(tmp_path, API_KEYS=key, HOST="127.0.0.1") as live:
        live.ready("/healthz", pool_ready(1))
        wait_for(lambda: "Ctrl-C" in live.log, "the banner")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{live.url}/v1/models", timeout=10)
        assert caught.value.code == 401
        caught.value.close()
        request = urllib.request.Request(f"{live.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200
        assert key not in live.log


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("up", PORT=str(port), LINGMA_WORK_DIR=str(tmp_path / "w"))
    assert result.returncode == 1
    assert f"port {port}" in result.stderr
    assert "in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_workers_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(
            "work",
            REDIS_URL=f"redis://127.0.0.1:{free_port()}",
            WORKER_PORT=str(port),
            LINGMA_BIN="simulator",
            LINGMA_WORK_DIR=str(tmp_path / "w"),
        )
    assert result.returncode == 1
    assert f"port {port}" in result.stderr
    assert "WORKER_PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_binary_is_named(tmp_path: Path) -> None:
    result = run("up", PORT=str(free_port()), LINGMA_BIN=str(tmp_path / "nowhere" / "Lingma"))
    assert result.returncode != 0
    assert "nowhere/Lingma" in result.stderr
    assert "LINGMA_BIN=simulator" in result.stderr
    assert "Traceback" not in result.stderr


def test_serve_and_work_refuse_a_store_of_their_own() -> None:
    for command in ("serve", "work"):
        result = run(command, LINGMA_BIN="simulator")
        assert result.returncode == 2
        assert "REDIS_URL" in result.stderr
        assert "Traceback" not in result.stderr


def test_settings_that_make_no_sense_are_named() -> None:
    result = run("check-config", PORT="many", GATEWAY_QUEUE_TIMEOUT_SEC="-1")
    assert result.returncode == 2
    assert "PORT" in result.stderr
    assert "GATEWAY_QUEUE_TIMEOUT_SEC" in result.stderr
    assert run("check-config").returncode == 0


def test_a_misspelt_setting_is_warned_about() -> None:
    result = run("check-config", GATEWAY_QUEUE_TIMEOUT_SECS="5")
    assert "GATEWAY_QUEUE_TIMEOUT_SEC" in result.stderr


def test_check_config_looks_at_upstreams_and_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_text(
        "upstreams: [{name: openai, kind: codex, base_url: 'https://api.example.com/v1', models: [gpt],"
        " credentials: [{id: team, api_key_env: TEAM_KEY}]}]\n"
        "routes: [{models: [best], candidates: [{upstream: openai, model: gpt-9}]}]\n"
    )
    result = run("check-config", UPSTREAMS_FILE=str(file))
    assert result.returncode == 2
    assert "upstream openai (codex): credentials team; models gpt" in result.stdout
    assert "credential team: the variable TEAM_KEY holds no key" in result.stderr
    assert "upstream openai lists no model 'gpt-9'" in result.stderr
    file.write_text(file.read_text().replace("gpt-9", "gpt"))
    result = run("check-config", UPSTREAMS_FILE=str(file), TEAM_KEY="secret-value")
    assert (result.returncode, result.stderr) == (0, "")
    assert "secret-value" not in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_everything_quickly(tmp_path: Path, number: int) -> None:
    with up(tmp_path) as live:
        live.ready("/healthz", pool_ready(1))
        children = live.children()
        assert children
        live.send(number)
        assert live.process is not None
        assert live.process.wait(10) == 0
        assert not any(child.is_running() for child in children)
        assert "Traceback" not in live.log


def test_a_second_signal_cuts_the_drain_short_and_clients_are_told(tmp_path: Path) -> None:
    with up(tmp_path) as live:
        live.ready("/healthz", pool_ready(1))
        with OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as client:
            stream = client.chat.completions.create(
                model="org_auto",
                messages=[{"role": "user", "content": "count slowly from 1 to 3000"}],
                stream=True,
            )
            chunks = iter(stream)
            while not next(chunks).choices[0].delta.content:
                pass
            live.send(signal.SIGINT)
            wait_for(lambda: "Ctrl-C again" in live.log, "the word that it waits")
            live.send(signal.SIGINT)
            with pytest.raises(APIError, match="shutting down"):
                list(chunks)
        assert live.process is not None
        assert live.process.wait(10) == 130
        assert "Traceback" not in live.log


def test_two_of_them_share_no_directory(tmp_path: Path) -> None:
    """Each with the stand-in, started from the same place without a word about directories."""
    with up(tmp_path / "a", LINGMA_WORK_DIR="") as one, up(tmp_path / "b", LINGMA_WORK_DIR="") as other:
        for live in (one, other):
            live.ready("/healthz", pool_ready(1))


def test_check_config_names_the_faults_of_both_halves_at_once() -> None:
    result = run("check-config", PORT="many", LINGMA_ASK_STYLE="sing", LOG_LEVEL="loud")
    assert result.returncode == 2
    assert "LINGMA_ASK_STYLE: " in result.stderr
    assert [result.stderr.count(f"{name}: ") for name in ("PORT", "LOG_LEVEL")] == [1, 1]


def test_check_config_says_once_what_is_doubtful_in_either_half() -> None:
    result = run("check-config", LINGMA_COALESCE_FRAMES="perhaps", GATEWAY_QUEUE_TIMEOUT_SECS="5")
    assert result.returncode == 0
    assert "warning: LINGMA_COALESCE_FRAMES: neither true nor false" in result.stderr
    assert result.stderr.count("GATEWAY_QUEUE_TIMEOUT_SECS") == 1


def test_check_config_reads_the_worker_half_too() -> None:
    result = run("check-config", LINGMA_ASK_STYLE="sing")
    assert result.returncode == 2
    assert "LINGMA_ASK_STYLE" in result.stderr


def test_the_version_is_told() -> None:
    assert run("--version").stdout.startswith("lingma-gateway ")


def test_up_answers_on_any_free_port(tmp_path: Path) -> None:
    service: Service = up(tmp_path, PORT="0")
    with service:
        wait_for(lambda: "Ctrl-C" in service.log, "the banner", 40)
        assert "http://127.0.0.1:0" not in service.log
