"""Attempts that are over are gone with all that they have read: garbage is looked for rarely."""

import contextlib

import pytest

from gateway.turn.ports import AttemptFailed
from gateway.upstreams.antigravity import executor as antigravity
from gateway.upstreams.codex import executor as codex
from tests.fakes.antigravity_brain import OVERLOADED, Reply, text
from tests.fakes.antigravity_server import AntigravityServer
from tests.fakes.codex_brain import Answer, Say
from tests.fakes.codex_server import SERVER_ERROR
from tests.support import antigravity as gemini_bench
from tests.support import codex as codex_bench
from tests.support.garbage import all_freed
from tests.support.signature_chains import user

ENDS = ["well", "refused", "cut"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_of_a_gemini_upstream(monkeypatch: pytest.MonkeyPatch, stream: bool, end: str) -> None:
    server = AntigravityServer()
    if end == "refused":
        server.queue.append(OVERLOADED)
    if end == "cut":
        server.queue.append(Reply(text("half of it"), cut=True))
    turn = gemini_bench.gemini_turn({"contents": [user("say hi")]}, stream=stream)
    async with server.running(), gemini_bench.bench(gemini_bench.config_for(server)) as on:
        with all_freed(monkeypatch, antigravity, "AntigravityLane"), contextlib.suppress(AttemptFailed):
            async for _ in on.executor.attempt(gemini_bench.call_of(turn, on.clock)):
                pass


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_of_a_responses_upstream(monkeypatch: pytest.MonkeyPatch, stream: bool, end: str) -> None:
    async with codex_bench.bench() as on:
        if end == "refused":
            on.server.queue.append(SERVER_ERROR)
        if end == "cut":
            on.server.queue.append(Answer(pieces=(Say("half of it"),), end="cut"))
        with all_freed(monkeypatch, codex, "CodexLane"), contextlib.suppress(AttemptFailed):
            await on.ask(codex_bench.messages({"role": "user", "content": "say hi"}, stream=stream))
