"""Agents that forget thought signatures, on a Gemini upstream inside the envelope of Code Assist.

The loop of test_replay_signatures.py, where responses come under the model's role, ids of requests and
sessions have their forms, and models are asked for streams only.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.e2e.conftest import Fleet
from tests.e2e.test_replay import work
from tests.e2e.test_replay_signatures import AGENTS, places, places_of, reply_of, said_as_told
from tests.fakes.antigravity_brain import FORBIDDEN
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.house import GEMINI_MODEL, GOOGLE_KEYS, antigravity_upstream, route, write_upstreams
from tests.support.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TURNS = 12


@pytest.fixture
async def assist(fleet: Fleet, tmp_path: Path) -> AsyncIterator[AntigravityServer]:
    """With two replicas in front of it."""
    server, port = AntigravityServer(envelope=True, keys=GOOGLE_KEYS, sentinel=False), free_port()
    credentials = [{"id": key, "api_key": key, "project": server.project} for key in GOOGLE_KEYS]
    upstream = antigravity_upstream("a1", port, envelope="code_assist", credentials=credentials)
    routes = [route(name, {"upstream": "a1", "model": GEMINI_MODEL}) for name in AGENTS]
    fleet.start(workers=0, UPSTREAMS_FILE=write_upstreams(tmp_path, [upstream], routes))
    async with server.running(port):
        yield server


async def test_a_loop_of_agents_keeps_its_signatures_through_a_failing_credential(
    fleet: Fleet, assist: AntigravityServer
) -> None:
    for name, agent_of in AGENTS.items():
        assist.requests.clear()
        assist.by_key.clear()
        assist.queue += [reply_of(turn) for turn in range(TURNS)]
        answered, failing = [], ""
        async with aclosing(agent_of(fleet.urls, name)) as agent:
            async for turn, answer in work(agent, TURNS):
                said_as_told(answer, reply_of(turn))
                answered.append(assist.requests[-1])
                if turn == TURNS // 2 and name == "messages":
                    failing = answered[-1].key
                    assist.by_key[failing] = [FORBIDDEN] * TURNS
        assert (assist.refusals, assist.omitted) == ([], []), name
        minted = assist.signatures.given_out[-TURNS:]
        for turn, request in enumerate(answered):
            assert places_of(request) == places(minted, range(turn)), (name, turn)
        bodies = [request.body for request in answered]
        assert len({body["requestId"] for body in bodies}) == TURNS, name
        assert len({body["request"]["sessionId"] for body in bodies}) == 1, name
        failed = [request.key for request in assist.requests if request not in answered]
        assert set(failed) == ({failing} if failing else set()), name
