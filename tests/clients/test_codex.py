"""Codex CLI, the version of today and the oldest that is supported: real turns through a live gateway."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Gateway
from tests.clients.harness import Cli, Run
from tests.clients.tap import Seen, Tap

EXAMPLE = Path(__file__).parents[2] / "examples" / "codex" / "config.toml"
EXEC = ("codex", "exec", "--skip-git-repo-check", "--json")

pytestmark = pytest.mark.clients

both = pytest.mark.parametrize("version", ["codex", "codex-0.130"])

NO_METADATA = "Model metadata for "
"""Codex says so of every model it does not know, unless its key comes from a command."""
KEY_IN_ENV = (
    '[model_providers.gateway.auth]\ncommand = "sh"\nargs = ["-c", "printf %s \\"$GATEWAY_KEY\\""]\n',
    'env_key = "GATEWAY_KEY"\n',
)


def codex(
    version: str,
    directory: Path,
    url: str,
    *changes: tuple[str, str],
    key: str = "any",
    provider: str = "OpenAI",
) -> Cli:
    """A Codex with the example's settings, changed in places."""
    config = EXAMPLE.read_text()
    name = ('name = "lingma-gateway"', f'name = "{provider}"')
    for old, new in (("http://127.0.0.1:8317", url), name, *changes):
        assert old in config
        config = config.replace(old, new)
    client = Cli(version, directory, GATEWAY_KEY=key)
    home = client.home / ".codex"
    home.mkdir()
    (home / "config.toml").write_text(config)
    return client


OF_NO_INTEREST = re.compile(r"^Reading additional input|failed to load models cache: EOF")
"""What Codex logs of itself: the cache of models is empty when the run before ended while it wrote it."""


def said(run: Run, *, knows_model: bool = True, upgrade_refused: bool = False) -> str:
    """The answer of a turn that went well and without a complaint."""
    assert run.code == 0, run.all
    items = [event["item"] for event in run.events if event["type"] == "item.completed"]
    complaints = [item["message"] for item in items if item["type"] == "error"]
    if not knows_model:
        assert complaints.pop(0).startswith(NO_METADATA), run.all
    assert complaints == [], run.all
    assert [event for event in run.events if event["type"] in ("error", "turn.failed")] == [], run.all
    assert [item for item in items if item["type"] not in ("error", "agent_message")] == [], run.all
    logged = [line for line in run.err.splitlines() if line and not OF_NO_INTEREST.search(line)]
    # The log tells of a refused WebSocket; the turn does not.
    assert ["failed to connect" in line for line in logged] == [True] * upgrade_refused, run.all
    messages: list[str] = [item["text"] for item in items if item["type"] == "agent_message"]
    assert len(messages) == 1, run.all
    return messages[0]


def usage(run: Run) -> dict[str, Any]:
    counts: dict[str, Any] = run.events[-1]["usage"]
    return counts


@both
def test_cv_1_two_turns_of_one_session(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """Given a provider over HTTP; expect each turn to succeed with its text, the second knowing the first.

    CV-3 as well: Codex shows nothing but what response.output_item.done holds.
    """
    client = codex(version, tmp_path, gateway.url)
    first = client.run(*EXEC, "say alpha")
    assert said(first) == "alpha"
    assert usage(first)["input_tokens"] > 100
    assert usage(first)["output_tokens"] > 0
    second = said(client.run(*EXEC, "resume", "--last", "report"))
    assert "previous=say alpha" in second
    assert "turns=3 " in second, "the environment counts as a message of the user's"
    assert [turn["dialect"] for turn in gateway.turns(2)] == ["responses", "responses"]


@both
def test_cv_26_a_refused_upgrade_is_answered_over_http_at_once(
    version: str, tmp_path: Path, plain_gateway: Gateway
) -> None:
    """Given a gateway with WebSockets switched off, and a provider with them switched on; expect 426, then
    HTTP at once, and no warning.
    """
    with Tap(plain_gateway.port) as tap:
        client = codex(
            version, tmp_path, tap.url, ("supports_websockets = false", "supports_websockets = true")
        )
        first, second = client.run(*EXEC, "say alpha"), client.run(*EXEC, "resume", "--last", "report")
    assert said(first, upgrade_refused=True) == "alpha"
    assert "previous=say alpha" in said(second, upgrade_refused=True)
    asked = [seen for seen in tap.seen if seen.path == "/v1/responses"]
    assert [str(seen) for seen in asked] == ["GET /v1/responses 426", "POST /v1/responses 200"] * 2
    assert asked[1].at_s - asked[0].at_s < 2
    plain_gateway.turns(2)


@both
def test_cv_12_an_alias_is_not_told_as_a_reroute(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """Given a model name that means another; expect no openai-model header, and no warning of a reroute."""
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url)
        run = client.run(*EXEC, "-m", "gpt-5.2-codex", "say alpha")
    assert said(run, knows_model=version == "codex-0.130") == "alpha"
    (turn,) = tap.turns("/responses")
    assert turn.json["model"] == "gpt-5.2-codex"
    assert "openai-model" not in turn.answer_headers
    gateway.turns(1)


def test_cv_8_a_catalog_model_sends_its_tools_among_the_input(tmp_path: Path, gateway: Gateway) -> None:
    """Given a model of Codex's own catalog; it sends an additional_tools item in place of tools."""
    with Tap(gateway.port) as tap:
        client = codex("codex", tmp_path, tap.url)
        assert said(client.run(*EXEC, "-m", "gpt-5.6-sol", "say alpha")) == "alpha"
        assert "previous=say alpha" in said(
            client.run(*EXEC, "-m", "gpt-5.6-sol", "resume", "--last", "report")
        )
    for turn in tap.turns("/responses"):
        assert "tools" not in turn.json
        assert "additional_tools" in [item["type"] for item in turn.json["input"]]
    gateway.turns(2)


@both
def test_an_agent_that_offers_tools_is_answered_in_text(
    version: str, tmp_path: Path, gateway: Gateway
) -> None:
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url)
        answer = said(client.run(*EXEC, "Which files are here?"))
    (turn,) = tap.turns("/responses")
    assert {tool.get("name") for tool in turn.json["tools"]} >= {"exec_command", "view_image"}
    assert answer.startswith("You said: Which files are here?")
    gateway.turns(1)


@both
def test_cv_62_the_list_of_models_is_understood(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """Given a provider that gets its key from a command; it asks for /models and takes what it reads there.

    CV-63 as well: without an x-models-etag on answers it does not ask again because of them.
    """
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url, key="secret")
        assert said(client.run(*EXEC, "say alpha")) == "alpha"
        listed = [seen for seen in tap.seen if seen.method == "GET"]
        said(client.run(*EXEC, "resume", "--last", "report"))
    assert {seen.path for seen in listed} == {"/v1/models"}
    assert {seen.status for seen in listed} == {200}
    assert all("x-models-etag" not in seen.answer_headers for seen in tap.turns("/responses"))
    assert all(seen.headers["authorization"] == "Bearer secret" for seen in tap.seen)
    assert tap.seen.index(listed[-1]) < tap.seen.index(tap.turns("/responses")[0])
    gateway.turns(2)


@both
def test_a_key_from_the_environment_will_do(version: str, tmp_path: Path, gateway: Gateway) -> None:
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url, KEY_IN_ENV, key="secret")
        run = client.run(*EXEC, "say alpha")
    assert said(run, knows_model=version == "codex-0.130") == "alpha"
    assert [str(seen) for seen in tap.seen] == ["POST /v1/responses 200"]
    assert tap.seen[0].headers["authorization"] == "Bearer secret"
    gateway.turns(1)


@both
def test_a_cut_stream_is_asked_again(version: str, tmp_path: Path, gateway: Gateway) -> None:
    def cut(seen: Seen) -> bool:
        return b"output_text.delta" in seen.raw_answer and seen in tap.turns("/responses")[:1]

    with Tap(gateway.port, cut) as tap:
        client = codex(version, tmp_path, tap.url)
        run = client.run(*EXEC, "count slowly from 1 to 9")
    assert run.code == 0, run.all
    assert '"text":"1 2 3 4 5 6 7 8 9"' in run.out, run.all
    first, second = tap.turns("/responses")
    assert first.json["input"] == second.json["input"]


@both
def test_cv_23_25_silence_is_no_reason_to_give_up(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """Given an idle limit of 2 s and an answer after 4 s; expect keep-alives that count, and one request."""
    limit = ('wire_api = "responses"', 'wire_api = "responses"\nstream_idle_timeout_ms = 2000')
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url, limit)
        assert said(client.run(*EXEC, "wait 4 s then say done")) == "done"
    (turn,) = tap.turns("/responses")
    assert turn.answer.count(b'"type":"keepalive"') > 2
    gateway.turns(1)


@both
def test_cv_61_a_long_session_is_compacted_by_codex_itself(
    version: str, tmp_path: Path, gateway: Gateway
) -> None:
    """Given a provider not named OpenAI; expect a turn that asks for a summary, and one that has it."""
    limit = ('model = "org_auto"', 'model = "org_auto"\nmodel_auto_compact_token_limit = 3000')
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url, limit, provider="lingma-gateway")
        assert said(client.run(*EXEC, "say alpha")) == "alpha"
        assert said(client.run(*EXEC, "resume", "--last", "say beta")) == "beta"
    _, summary, turn = (seen.json["input"] for seen in tap.turns("/responses"))
    assert "COMPACTION" in summary[-1]["content"][0]["text"]
    assert "produced a summary" in json.dumps(turn)
    gateway.turns(3)


@both
def test_an_answer_in_the_schema_that_was_asked_for(version: str, tmp_path: Path, gateway: Gateway) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    client = codex(version, tmp_path, gateway.url)
    (client.workspace / "schema.json").write_text(json.dumps(schema))
    answer = json.loads(said(client.run(*EXEC, "--output-schema", "schema.json", "Name a city")))
    assert {name: type(value) for name, value in answer.items()} == {"city": str, "people": int}
    gateway.turns(1)


@both
def test_the_built_in_provider_with_another_address(version: str, tmp_path: Path, gateway: Gateway) -> None:
    """Given no provider but openai_base_url and a key that was logged in; it wants a WebSocket first."""
    with Tap(gateway.port) as tap:
        client = codex(version, tmp_path, tap.url)
        config = client.home / ".codex" / "config.toml"
        _, _, quiet = config.read_text().partition("# Nobody but the gateway is called.\n")
        config.write_text(f'openai_base_url = "{tap.url}/v1"\n{quiet}')
        assert client.run("sh", "-c", "echo sk-any | codex login --with-api-key").code == 0
        assert said(client.run(*EXEC, "say alpha")) == "alpha"
    assert [str(seen) for seen in tap.seen] == ["GET /v1/responses 101"]
    assert tap.seen[0].headers["authorization"] == "Bearer sk-any"
    gateway.turns(1)


def test_cv_64_the_doctor_meets_no_server_error(tmp_path: Path, gateway: Gateway) -> None:
    """Given codex doctor: HEAD /responses, GET /models without a key, a bare handshake; expect no 5xx."""
    with Tap(gateway.port) as tap:
        client = codex(
            "codex", tmp_path, tap.url, ("supports_websockets = false", "supports_websockets = true")
        )
        run = client.run("codex", "doctor", asks_for=("CONNECT api.github.com:443 HTTP/1.1",))
    assert tap.seen, run.all
    assert [seen for seen in tap.seen if not 0 < seen.status < 500] == [], run.all
