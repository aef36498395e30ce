"""Lingma among HTTP upstreams on one route: the last resort, and the first choice."""

import json
from contextlib import AsyncExitStack

import httpx2
import pytest

from tests.e2e.conftest import Fleet, Pair
from tests.fakes.codex_server import UNAUTHORISED
from tests.support.dialects import SPOKEN, Said, ask
from tests.support.house import GOOGLE_KEYS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_turns_go_from_upstream_to_upstream_and_to_lingma(fleet: Fleet, pair: Pair) -> None:
    fleet.start(workers=1, UPSTREAMS_FILE=pair.file, GATEWAY_QUEUE_TIMEOUT_SEC="1")
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
            return len(pair.codex.answered), len(pair.gemini.requests), len(fleet.asks())

        await say("hello codex", pair.LINGMA_LAST)
        await say("hello lingma", pair.LINGMA_FIRST)
        assert asked() == (8, 0, 8)

        (journal,) = fleet.directory.rglob("sim-asks.jsonl")
        knobs = journal.parent / "sim.json"
        for trouble in ({"ask_reply": "error"}, {"fail": "empty"}):
            knobs.write_text(json.dumps(trouble))
            await say(f"no {trouble}", pair.LINGMA_FIRST)
        knobs.unlink()
        assert asked() == (24, 0, 24)

        pair.codex.faults = dict.fromkeys(pair.codex.keys, UNAUTHORISED)
        await say("hello gemini", pair.LINGMA_LAST)
        assert asked() == (24, 8, 24)
        pair.gemini.forbidden = set(GOOGLE_KEYS)
        await say("lingma at last", pair.LINGMA_LAST)
        assert asked()[2] == 32


async def test_without_a_worker_the_next_is_asked(fleet: Fleet, pair: Pair) -> None:
    fleet.start(replicas=1, workers=0, UPSTREAMS_FILE=pair.file, GATEWAY_QUEUE_TIMEOUT_SEC="0.2")
    async with httpx2.AsyncClient(base_url=fleet.urls[0], timeout=60, verify=False) as replica:
        for spoken in SPOKEN:
            said = [Said("user", "say hello")]
            assert await ask(replica, spoken, said, stream=True, model=pair.LINGMA_FIRST) == "hello"
    assert len(pair.codex.answered) == len(SPOKEN)
