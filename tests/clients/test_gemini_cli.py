"""Gemini CLI: real turns through a live gateway."""

import json
import re
from pathlib import Path

import pytest

from tests.clients.conftest import Gateway
from tests.clients.harness import Cli, Run
from tests.clients.tap import Tap

EXAMPLE = Path(__file__).parents[2] / "examples" / "gemini-cli"
STREAM = ("--output-format", "stream-json")

pytestmark = pytest.mark.clients

HARMLESS = re.compile(r"^(Ripgrep is not available|\[STARTUP\] |$)")


def gemini(directory: Path, url: str, *, key: str = "any", attempts: int = 10) -> Cli:
    """A Gemini CLI with the example's settings; of its own accord it tries ten times."""
    client = Cli("gemini-cli", directory, GEMINI_CLI_TRUST_WORKSPACE="true")
    home = client.home / ".gemini"
    home.mkdir()
    settings = json.loads((EXAMPLE / "settings.json").read_text())
    settings["general"]["maxAttempts"] = attempts
    (home / "settings.json").write_text(json.dumps(settings))
    env = (EXAMPLE / "gateway.env").read_text()
    assert "http://127.0.0.1:8317" in env
    (home / ".env").write_text(env.replace("http://127.0.0.1:8317", url).replace("=any", f"={key}"))
    return client


def said(run: Run) -> str:
    """The answer of a turn that went well and without a complaint."""
    assert run.code == 0, run.all
    assert [line for line in run.err.splitlines() if not HARMLESS.match(line)] == [], run.all
    result = run.events[-1]
    assert (result["type"], result["status"]) == ("result", "success"), run.all
    assert result["stats"]["tool_calls"] == 0
    assert result["stats"]["input_tokens"] > 100
    assert result["stats"]["output_tokens"] > 0
    return "".join(event["content"] for event in run.events if event.get("role") == "assistant")


def test_two_turns_of_one_session(tmp_path: Path, gateway: Gateway) -> None:
    client = gemini(tmp_path, gateway.url)
    assert said(client.run("gemini", "-m", "org_auto", "-p", "say alpha", *STREAM)) == "alpha"
    second = said(client.run("gemini", "-m", "org_auto", "-p", "report", "--resume", "latest", *STREAM))
    assert "say alpha\nturns=2" in second.partition("previous=")[2]
    assert "model=org_auto" in second
    assert [turn["dialect"] for turn in gateway.turns(2)] == ["gemini", "gemini"]


def test_cv_71_the_router_gets_json_that_matches_its_schema(tmp_path: Path, gateway: Gateway) -> None:
    """Given the default model and its router call; expect JSON of the schema, then the answer."""
    with Tap(gateway.port) as tap:
        client = gemini(tmp_path, tap.url)
        run = client.run("gemini", "-p", "say alpha", *STREAM)
        assert said(client.run("gemini", "-p", "report", "--resume", "latest", *STREAM))
    assert said(run) == "alpha"
    router, turn, *_ = tap.seen
    assert router.json["generationConfig"]["responseMimeType"] == "application/json"
    assert "complexity_score" in router.json["generationConfig"]["responseJsonSchema"]["properties"]
    assert turn.target.endswith(":streamGenerateContent?alt=sse")
    assert [seen.status for seen in tap.seen] == [200] * 4
    assert turn.json["tools"], "an agent that offers tools is answered in text"
    gateway.turns(4)


def test_keep_alives_are_understood(tmp_path: Path, gateway: Gateway) -> None:
    with Tap(gateway.port) as tap:
        client = gemini(tmp_path, tap.url)
        run = client.run("gemini", "-m", "org_auto", "-p", "wait 2 s then say done", *STREAM)
    assert said(run) == "done"
    # Spaces inside an event: its SSE reader takes nothing else for silence.
    assert re.match(rb"data: {4,}\{", tap.seen[0].answer)
    gateway.turns(1)


def test_a_cut_stream_is_asked_again(tmp_path: Path, gateway: Gateway) -> None:
    with Tap(gateway.port, lambda seen: seen is tap.seen[0]) as tap:
        client = gemini(tmp_path, tap.url)
        run = client.run("gemini", "-m", "org_auto", "-p", "count slowly from 1 to 9", *STREAM)
    assert said(run) == "1 2 3 4 5 6 7 8 9"
    assert len(tap.seen) == 2
