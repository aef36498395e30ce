"""What people read when the gateway refuses them: a wrong key, a model it has not, no room.

Most are told to give up early here; how long they would go on otherwise is their own affair.
"""

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import Gateway
from tests.clients.harness import Run
from tests.clients.test_claude_code import claude
from tests.clients.test_codex import EXEC, codex
from tests.clients.test_gemini_cli import gemini
from tests.support.processes import Service, pool_ready, up, wait_for

pytestmark = pytest.mark.clients

KEY = "sk-right"
ONCE = ('wire_api = "responses"', 'wire_api = "responses"\nrequest_max_retries = 0\nstream_max_retries = 0')


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It wants a key and names it knows, and has room for one turn."""
    settings = {
        "HOST": "127.0.0.1",
        "API_KEYS": KEY,
        "MODEL_FALLBACK": "strict",
        "LINGMA_INSTANCE_MAX_IN_FLIGHT": "1",
        "GATEWAY_QUEUE_TIMEOUT_SEC": "0.2",
    }
    with up(tmp_path_factory.mktemp("strict"), **settings) as service:
        yield service.ready("/healthz", pool_ready(1))


def ask(
    client: str, directory: Path, url: str, *, key: str = KEY, model: str = "org_auto", patient: bool = False
) -> Run:
    """One turn that is given up soon, or not so soon."""
    match client:
        case "claude-code":
            settings = {"ANTHROPIC_AUTH_TOKEN": key, "ANTHROPIC_MODEL": model}
            if not patient:
                settings["CLAUDE_CODE_MAX_RETRIES"] = "0"
            return claude(directory, url, **settings).run("claude", "-p", "say alpha")
        case "gemini-cli":
            attempts = 10 if patient else 1
            return gemini(directory, url, key=key, attempts=attempts).run(
                "gemini", "-m", model, "-p", "say alpha"
            )
        case _:
            changes = () if patient else (ONCE,)
            return codex(client, directory, url, *changes, key=key).run(*EXEC, "-m", model, "say alpha")


@contextlib.contextmanager
def no_room(service: Service, until: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Somebody else's turn in the only place there is, which goes when `until` holds, or at the end."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    body = {"model": "org_auto", "stream": True, "messages": [{"role": "user", "content": "wait 60 s"}]}
    log = Gateway(service).look()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {KEY}"})
    over = threading.Event()

    def leave() -> None:
        while not until() and not over.wait(0.05):
            pass
        connection.close()

    guest = threading.Thread(target=leave)
    try:
        (turn,) = wait_for(lambda: log.logged("turn.accepted"), "the turn that takes the room")
        guest.start()
        yield
    finally:
        over.set()
        guest.join(5)
        wait_for(
            lambda: turn["turn_id"] in [ended["turn_id"] for ended in log.logged("turn.finished")],
            "the end of the turn that took the room",
        )


every = pytest.mark.parametrize("client", ["codex", "codex-0.130", "claude-code", "gemini-cli"])


@every
def test_a_right_key_is_let_in(client: str, tmp_path: Path, strict: Service) -> None:
    run = ask(client, tmp_path, strict.url)
    assert run.code == 0, run.all
    assert "alpha" in run.out


@every
def test_a_wrong_key_is_told_as_such(client: str, tmp_path: Path, strict: Service) -> None:
    run = ask(client, tmp_path, strict.url, key="sk-wrong")
    assert run.code != 0, run.all
    assert "Incorrect API key provided" in run.out + run.err, run.all


@every
def test_cv_13_an_unknown_model_is_named_after_one_request(
    client: str, tmp_path: Path, strict: Service
) -> None:
    """Given a 400 with an error of the client's dialect; expect one request, and the message to be read."""
    gateway = Gateway(strict).look()
    run = ask(client, tmp_path, strict.url, model="no-such-model")
    assert run.code != 0, run.all
    assert "no-such-model" in run.out + run.err, run.all
    # Anthropic's status for it is 404, after which Claude Code asks once more, without streaming.
    assert len(gateway.logged("turn.finished")) == (2 if client == "claude-code" else 1)


@every
def test_no_room_is_told_as_such(client: str, tmp_path: Path, strict: Service) -> None:
    with no_room(strict):
        run = ask(client, tmp_path, strict.url)
    assert run.code != 0, run.all
    assert "Too many in-flight requests" in run.out + run.err, run.all


@every
def test_a_client_that_found_no_room_comes_again(client: str, tmp_path: Path, strict: Service) -> None:
    gateway = Gateway(strict).look()

    def refused() -> bool:
        return any(turn["outcome"] == "failed" for turn in gateway.logged("turn.finished"))

    with no_room(strict, until=refused):
        run = ask(client, tmp_path, strict.url, patient=True)
    assert run.code == 0, run.all
    assert "alpha" in run.out, run.all
    outcomes = [turn["outcome"] for turn in gateway.logged("turn.finished")]
    assert outcomes.count("completed") == 1, outcomes
