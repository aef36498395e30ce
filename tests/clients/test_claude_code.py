"""Claude Code: real turns through a live gateway."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Gateway
from tests.clients.harness import Cli, Run
from tests.clients.tap import Seen, Tap

EXAMPLE = Path(__file__).parents[2] / "examples" / "claude-code" / "settings.json"
STREAM = ("--output-format", "stream-json", "--verbose")

pytestmark = pytest.mark.clients


def claude(directory: Path, url: str, **env: str) -> Cli:
    """A Claude Code with the example's settings, `env` added to or in place of them."""
    settings: dict[str, Any] = json.loads(EXAMPLE.read_text())
    settings["env"] |= {"ANTHROPIC_BASE_URL": url} | env
    client = Cli("claude-code", directory)
    home = client.home / ".claude"
    home.mkdir()
    (home / "settings.json").write_text(json.dumps(settings))
    return client


def said(run: Run) -> str:
    """The answer of a turn that went well and without a complaint."""
    assert run.code == 0, run.all
    assert run.err == "", run.all
    result = run.events[-1]
    assert (result["type"], result["subtype"], result["is_error"]) == ("result", "success", False), run.all
    assert result["num_turns"] == 1
    assert {event["type"] for event in run.events} == {"system", "assistant", "result"}, run.all
    assert result["usage"]["input_tokens"] > 100
    assert result["usage"]["output_tokens"] > 0
    text: str = result["result"]
    (message,) = [event["message"] for event in run.events if event["type"] == "assistant"]
    assert [part["text"] for part in message["content"]] == [text], run.all
    return text


def test_two_turns_of_one_session(tmp_path: Path, gateway: Gateway) -> None:
    client = claude(tmp_path, gateway.url)
    first = client.run("claude", "-p", "say alpha", *STREAM)
    assert said(first) == "alpha"
    second = client.run("claude", "-p", "report", "--continue", *STREAM)
    assert second.events[-1]["session_id"] == first.events[-1]["session_id"]
    previous = said(second).partition("previous=")[2]
    assert "say alpha\nturns=2" in previous
    assert [turn["dialect"] for turn in gateway.turns(2)] == ["messages", "messages"]


def test_a_session_resumed_by_its_id_with_a_model_of_the_gateways(tmp_path: Path, gateway: Gateway) -> None:
    client = claude(tmp_path, gateway.url, ANTHROPIC_MODEL="org_auto")
    first = client.run("claude", "-p", "say alpha", *STREAM)
    assert said(first) == "alpha"
    session = first.events[-1]["session_id"]
    third = said(client.run("claude", "-p", "report", "--resume", session, *STREAM))
    assert "say alpha\nturns=2" in third
    assert "model=org_auto" in third
    gateway.turns(2)


def test_cv_68_69_what_claude_code_sends_is_taken(tmp_path: Path, gateway: Gateway) -> None:
    """Given HEAD / and a body with system entries among its messages; expect 200 for both, and no retry."""
    with Tap(gateway.port) as tap:
        client = claude(tmp_path, tap.url)
        assert said(client.run("claude", "-p", "say alpha", *STREAM, proxied=False)) == "alpha"
    assert [str(seen) for seen in tap.seen] == ["HEAD / 200", "POST /v1/messages?beta=true 200"]
    body = tap.seen[1].json
    assert [message["role"] for message in body["messages"]] == ["user", "system"]
    assert body["stream"] is True
    assert len(body["tools"]) > 15, "an agent that offers tools is answered in text"
    gateway.turns(1)


def test_cv_70_after_a_cut_stream_it_gets_a_plain_answer(tmp_path: Path, gateway: Gateway) -> None:
    """Given a stream cut in its text; expect a second request without `stream`, whose JSON is the answer."""

    def cut(seen: Seen) -> bool:
        return b"content_block_delta" in seen.raw_answer

    with Tap(gateway.port, cut) as tap:
        client = claude(tmp_path, tap.url)
        run = client.run("claude", "-p", "count slowly from 1 to 20", *STREAM)
    assert run.code == 0, run.all
    assert run.events[-1]["result"] == " ".join(str(number) for number in range(1, 21)), run.all
    first, *_, last = tap.turns("/messages")
    assert first.json["stream"] is True
    assert "stream" not in last.json
    assert (last.status, last.answer_headers["content-type"]) == (200, "application/json")


def test_keep_alives_are_understood(tmp_path: Path, gateway: Gateway) -> None:
    with Tap(gateway.port) as tap:
        client = claude(tmp_path, tap.url)
        assert said(client.run("claude", "-p", "wait 2 s then say done", *STREAM)) == "done"
    (turn,) = tap.turns("/messages")
    assert turn.answer.count(b"event: ping\n") > 2
    gateway.turns(1)


def test_an_api_key_and_the_list_of_models(tmp_path: Path, gateway: Gateway) -> None:
    with Tap(gateway.port) as tap:
        client = claude(
            tmp_path,
            tap.url,
            ANTHROPIC_AUTH_TOKEN="",
            ANTHROPIC_API_KEY="sk-any",
            CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1",
        )
        assert said(client.run("claude", "-p", "say alpha", *STREAM)) == "alpha"
    (turn,) = tap.turns("/messages")
    assert turn.headers["x-api-key"] == "sk-any"
    assert {seen.status for seen in tap.seen} == {200}


def test_counting_and_compacting_a_session(tmp_path: Path, gateway: Gateway) -> None:
    with Tap(gateway.port) as tap:
        client = claude(tmp_path, tap.url)
        assert said(client.run("claude", "-p", "say alpha", *STREAM)) == "alpha"
        context = client.run("claude", "-p", "/context", "--continue")
        compacted = client.run("claude", "-p", "/compact", "--continue")
        assert said(client.run("claude", "-p", "say beta", "--continue", *STREAM)) == "beta"
    assert context.code == compacted.code == 0, context.all + compacted.all
    assert "## Context Usage" in context.out
    assert tap.turns("/count_tokens")
    assert {seen.status for seen in tap.seen} == {200}
    gateway.turns(3)
