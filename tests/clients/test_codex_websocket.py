"""Codex CLI over WebSockets, today's and the oldest: with Lingma, and with a strict Responses upstream."""

import json
import re
import urllib.request
from pathlib import Path

import pytest

from tests.clients.conftest import Gateway
from tests.clients.tap import Tap
from tests.clients.test_codex import EXEC, codex, said
from tests.clients.test_codex_upstream import MODEL, Behind, messages, running_behind
from tests.clients.test_codex_upstream import behind as behind  # the fixture
from tests.support.processes import wait_for

pytestmark = pytest.mark.clients

both = pytest.mark.parametrize("version", ["codex", "codex-0.130"])
OVER_SOCKETS = ("supports_websockets = false", "supports_websockets = true")
V2 = ("plugins = false", "plugins = false\nremote_compaction_v2 = true")
TELLS = ("plugins = false", "plugins = false\nresponses_websocket_response_processed = true")


def processed(url: str) -> int:
    """Messages of that kind so far."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(r'gateway_websocket_messages_total\{kind="processed"\} (\d+)', text)
    return int(found[1]) if found else 0


@both
def test_cv_2_two_turns_of_one_session(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """CV-2. Given a provider with WebSockets; expect a prewarm and a turn on each connection, no request over
    HTTP, and no complaint. CV-3 as well: what is shown is what response.output_item.done holds.
    """
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url, OVER_SOCKETS)
        assert said(client.run(*EXEC, "say alpha")) == "alpha"
        assert "previous=say alpha" in said(client.run(*EXEC, "resume", "--last", "report"))
    asked = [str(seen) for seen in tap.seen if seen.path == "/v1/responses"]
    assert asked == ["GET /v1/responses 101"] * 2
    gateway.turns(2)
    wait_for(lambda: len(gateway.logged("websocket.closed")) == 2, "both connections to end")
    assert [closed["reason"] for closed in gateway.logged("websocket.closed")] == ["client"] * 2
    assert gateway.logged("websocket.refused") == []


@both
def test_cv_23_25_silence_is_no_reason_to_give_up(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """Given an idle limit of 2 s and an answer after 4 s; expect keep-alives that count, one connection."""
    limit = ('wire_api = "responses"', 'wire_api = "responses"\nstream_idle_timeout_ms = 2000')
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url, OVER_SOCKETS, limit)
        assert said(client.run(*EXEC, "wait 4 s then say done")) == "done"
    assert [str(seen) for seen in tap.seen if seen.path == "/v1/responses"] == ["GET /v1/responses 101"]
    gateway.turns(1)


def test_cv_40_41_43_processed_is_taken_without_a_word(tmp_path: Path, behind: Behind) -> None:
    """CV-40, CV-41, CV-43. Given the release that tells of each response it took in; expect every one
    counted, none answered, and the next request of the turn on the same connection.
    """
    with Tap(behind.port) as tap:
        client = codex("codex-0.130", tmp_path / "client", tap.url, OVER_SOCKETS, TELLS)
        run = client.run(*EXEC, "-m", MODEL, 'call exec_command {"cmd":"echo from the tool"}')
    assert "from the tool" in messages(run)[0]
    assert [str(seen) for seen in tap.seen if seen.path == "/v1/responses"] == ["GET /v1/responses 101"]
    assert processed(behind.url) == 2
    assert len(behind.server.answered) == 2


@both
def test_codex_runs_its_tools_on_one_connection(version: str, tmp_path: Path, behind: Behind) -> None:
    with Tap(behind.port) as tap:
        client = codex(version, tmp_path / "client", tap.url, OVER_SOCKETS)
        run = client.run(*EXEC, "-m", MODEL, 'call exec_command {"cmd":"echo from the tool"}')
    assert "from the tool" in messages(run)[0]
    assert [str(seen) for seen in tap.seen if seen.path == "/v1/responses"] == ["GET /v1/responses 101"]
    first, second = behind.server.answered
    assert second.items[: len(first.items)] == first.items
    assert (len(first.blobs), len(second.blobs), second.missing) == (0, 1, 0)
    kinds = [item["type"] for item in second.items[len(first.items) :]]
    assert kinds == ["reasoning", "function_call", "function_call_output"]


@pytest.mark.parametrize(
    ("version", "kind"), [("codex", "compaction"), ("codex-0.130", "context_compaction")]
)
def test_cv_44_45_a_long_session_is_compacted_on_the_socket(
    version: str, kind: str, tmp_path: Path, behind: Behind
) -> None:
    """CV-44, CV-45. Given the trigger of each release; expect its own word for the token, which is in the
    full request that follows.
    """
    limit = ('model = "org_auto"', f'model = "{MODEL}"\nmodel_auto_compact_token_limit = 50')
    changes = [OVER_SOCKETS, limit, *([V2] if version == "codex-0.130" else [])]
    with Tap(behind.port) as tap:
        client = codex(version, tmp_path / "client", tap.url, *changes)
        assert messages(client.run(*EXEC, "say alpha")) == ["alpha"]
        assert messages(client.run(*EXEC, "resume", "--last", "say beta")) == ["beta"]
    assert not tap.turns("/responses"), "nothing over HTTP"
    bodies = [request.body for request in behind.server.answered]
    tokens = [item for item in bodies[-1]["input"] if item.get("type") == kind]
    assert len(tokens) == 1, json.dumps(bodies)[:3000]
    assert tokens[0]["encrypted_content"]


@both
def test_cv_34_67_a_connection_that_is_closed_between_two_requests_is_not_noticed(
    version: str, tmp_path: Path
) -> None:
    """CV-34, CV-67. Given a connection that is too old when a tool has run; expect the turn to end as ever,
    its second request in full on a new connection.
    """
    with (
        running_behind(tmp_path, RESPONSES_WEBSOCKET_MAX_AGE_S="1") as behind,
        Tap(behind.port) as tap,
    ):
        client = codex(version, tmp_path / "client", tap.url, OVER_SOCKETS)
        run = client.run(*EXEC, "-m", MODEL, 'call exec_command {"cmd":"sleep 2; echo from the tool"}')
        assert "from the tool" in messages(run)[0]
        asked = [str(seen) for seen in tap.seen if seen.path == "/v1/responses"]
        assert len(asked) >= 2
        assert set(asked) == {"GET /v1/responses 101"}
        first, second = behind.server.answered
        assert second.items[: len(first.items)] == first.items
