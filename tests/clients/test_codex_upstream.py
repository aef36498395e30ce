"""Codex, Claude Code and Gemini CLI on a gateway with a strict Responses upstream behind it.

The upstream demands its sealed reasoning back: Codex carries it itself, the others never show it, and the
gateway remembers it for them. Tools are really run.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.harness import Run
from tests.clients.test_claude_code import STREAM, claude
from tests.clients.test_codex import EXEC, codex
from tests.clients.test_gemini_cli import STREAM as GEMINI_STREAM
from tests.clients.test_gemini_cli import gemini
from tests.fakes.codex_brain import Answer, CallTool, Think
from tests.fakes.codex_server import REASONING_MODEL, CodexServer
from tests.support.edge import serving
from tests.support.house import codex_upstream, route, write_upstreams
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, up

pytestmark = pytest.mark.clients

both = pytest.mark.parametrize("version", ["codex", "codex-0.130"])
MODEL = "behind"


@contextlib.contextmanager
def in_thread(server: CodexServer, port: int) -> Iterator[None]:
    """Serves beside the test, which waits for processes."""
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(server, port=port):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


class Behind:
    def __init__(self, service: Service, server: CodexServer) -> None:
        self.url = service.url
        self.port = service.port
        self.server = server


@contextlib.contextmanager
def running_behind(tmp_path: Path, **env: str) -> Iterator[Behind]:
    port = free_port()
    upstreams = [codex_upstream("openai", port, compaction=True)]
    file = write_upstreams(
        tmp_path, upstreams, [route(MODEL, {"upstream": "openai", "model": REASONING_MODEL})]
    )
    server = CodexServer()
    env |= {"UPSTREAMS_FILE": file, "METRICS_PUBLIC": "true"}
    with in_thread(server, port), up(tmp_path / "up", **env) as service:
        yield Behind(service.ready("/healthz", pool_ready(1)), server)


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    with running_behind(tmp_path) as behind:
        yield behind


def messages(run: Run) -> list[str]:
    assert run.code == 0, run.all
    items = [event["item"] for event in run.events if event["type"] == "item.completed"]
    assert [event for event in run.events if event["type"] in ("error", "turn.failed")] == [], run.all
    return [item["text"] for item in items if item["type"] == "agent_message"]


@both
def test_codex_carries_its_reasoning(version: str, tmp_path: Path, behind: Behind) -> None:
    client = codex(version, tmp_path / "client", behind.url)
    assert messages(client.run(*EXEC, "-m", MODEL, "say alpha")) == ["alpha"]
    assert messages(client.run(*EXEC, "-m", MODEL, "resume", "--last", "say beta")) == ["beta"]
    assert [len(request.blobs) for request in behind.server.answered] == [0, 1]


@both
def test_codex_runs_its_tools(version: str, tmp_path: Path, behind: Behind) -> None:
    client = codex(version, tmp_path / "client", behind.url)
    (said,) = messages(client.run(*EXEC, "-m", MODEL, 'call exec_command {"cmd":"echo from the tool"}'))
    assert "from the tool" in said
    first, second = behind.server.answered
    assert {tool["name"] for tool in first.body["tools"] if "name" in tool} >= {"exec_command", "view_image"}
    assert len(second.blobs) == 1
    for request in (first, second):
        assert request.headers["user-agent"].startswith("lingma-gateway/")
        assert request.headers["originator"] == "codex_exec"


@pytest.mark.parametrize(
    ("version", "path", "trigger"),
    [
        ("codex", "/v1/responses", "compaction_trigger"),
        ("codex-0.130", "/v1/responses/compact", None),
    ],
)
def test_codex_has_its_conversation_compacted(
    version: str, path: str, trigger: str | None, tmp_path: Path, behind: Behind
) -> None:
    limit = ('model = "org_auto"', f'model = "{MODEL}"\nmodel_auto_compact_token_limit = 50')
    client = codex(version, tmp_path / "client", behind.url, limit)
    assert messages(client.run(*EXEC, "say alpha")) == ["alpha"]
    assert messages(client.run(*EXEC, "resume", "--last", "say beta")) == ["beta"]
    first, compaction, after = behind.server.answered[:3]
    assert compaction.path == path
    if trigger is not None:
        assert compaction.items[-1] == {"type": trigger}
    tokens = [item for item in after.items if item.get("type") == "compaction"]
    assert len(tokens) == 1
    assert "encrypted_content" in tokens[0]
    assert first.missing == 0


def test_claude_code_runs_its_tools(tmp_path: Path, behind: Behind) -> None:
    client = claude(tmp_path / "client", behind.url)
    called = CallTool("Bash", '{"command":"echo from the tool","description":"d"}')
    behind.server.queue.append(Answer(pieces=(Think(), called)))
    run = client.run("claude", "-p", "x", "--model", MODEL, "--allowedTools", "Bash", *STREAM)
    assert run.code == 0, run.all
    assert "from the tool" in run.events[-1]["result"], run.all
    first, second = behind.server.answered
    assert {tool["name"] for tool in first.body["tools"]} >= {"Bash", "Read", "Edit"}
    assert (len(second.blobs), second.missing) == (1, 0)


def test_gemini_cli_runs_its_tools(tmp_path: Path, behind: Behind) -> None:
    client = gemini(tmp_path / "client", behind.url)
    behind.server.queue.append(
        Answer(pieces=(Think(), CallTool("run_shell_command", '{"command":"echo from the tool"}')))
    )
    run = client.run("gemini", "-m", MODEL, "-y", "-p", "x", *GEMINI_STREAM)
    assert run.code == 0, run.all
    assert run.events[-1]["stats"]["tool_calls"] == 1, run.all
    said = "".join(event["content"] for event in run.events if event.get("role") == "assistant")
    assert "from the tool" in said
    assert [(len(request.blobs), request.missing) for request in behind.server.answered] == [(0, 0), (1, 0)]
