"""Lingma among HTTP upstreams on one route: the last resort, and the first choice."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import Fleet
from tests.fakes.antigravity_server import AntigravityServer
from tests.fakes.codex_server import REASONING_MODEL, UNAUTHORISED, CodexServer
from tests.support.dialects import SPOKEN, Said, ask
from tests.support.edge import serving
from tests.support.house import (
    GEMINI_MODEL,
    GOOGLE_KEYS,
    antigravity_upstream,
    codex_upstream,
    route,
    write_upstreams,
)
from tests.support.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Mixed:
    """Two strict upstreams, and routes over them and Lingma: `last` and `first` say where it stands."""

    def __init__(self, directory: Path) -> None:
        self.codex, self.codex_port = CodexServer(), free_port()
        self.gemini, self.gemini_port = AntigravityServer(keys=GOOGLE_KEYS), free_port()
        upstreams = [codex_upstream("c1", self.codex_port), antigravity_upstream("a1", self.gemini_port)]
        codex = {"upstream": "c1", "model": REASONING_MODEL}
        gemini = {"upstream": "a1", "model": GEMINI_MODEL, "rank": 1}
        last = route("last", codex, gemini, {"upstream": "lingma", "rank": 2})
        first = route("first", {"upstream": "lingma"}, {**codex, "rank": 1})
        self.file = write_upstreams(directory, upstreams, [last, first])


@pytest.fixture
async def mixed(tmp_path: Path) -> AsyncIterator[Mixed]:
    mixed = Mixed(tmp_path)
    async with serving(mixed.codex, port=mixed.codex_port), mixed.gemini.running(mixed.gemini_port):
        yield mixed


async def test_turns_go_from_upstream_to_upstream_and_to_lingma(fleet: Fleet, mixed: Mixed) -> None:
    fleet.start(workers=1, UPSTREAMS_FILE=mixed.file, GATEWAY_QUEUE_TIMEOUT_SEC="1")
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=60, verify=False))
            for url in fleet.urls
        ]

        async def say(words: str, model: str) -> None:
            for number, spoken in enumerate(SPOKEN):
                for stream in (True, False):
                    said = [Said("user", f"say {words}")]
                    assert await ask(replicas[number % 2], spoken, said, stream=stream, model=model) == words

        def asked() -> tuple[int, int, int]:
            return len(mixed.codex.answered), len(mixed.gemini.requests), len(fleet.asks())

        await say("hello codex", "last")
        await say("hello lingma", "first")
        assert asked() == (8, 0, 8)

        (journal,) = fleet.directory.rglob("sim-asks.jsonl")
        knobs = journal.parent / "sim.json"
        for trouble in ({"ask_reply": "error"}, {"fail": "empty"}):
            knobs.write_text(json.dumps(trouble))
            await say(f"no {trouble}", "first")
        knobs.unlink()
        assert asked() == (24, 0, 24)

        mixed.codex.faults = dict.fromkeys(mixed.codex.keys, UNAUTHORISED)
        await say("hello gemini", "last")
        assert asked() == (24, 8, 24)
        mixed.gemini.forbidden = set(GOOGLE_KEYS)
        await say("lingma at last", "last")
        assert asked()[2] == 32


async def test_without_a_worker_the_next_is_asked(fleet: Fleet, mixed: Mixed) -> None:
    fleet.start(replicas=1, workers=0, UPSTREAMS_FILE=mixed.file, GATEWAY_QUEUE_TIMEOUT_SEC="0.2")
    async with httpx2.AsyncClient(base_url=fleet.urls[0], timeout=60, verify=False) as replica:
        for spoken in SPOKEN:
            assert (
                await ask(replica, spoken, [Said("user", "say hello")], stream=True, model="first") == "hello"
            )
    assert len(mixed.codex.answered) == len(SPOKEN)
