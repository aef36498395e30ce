"""Whose reasoning it is: tenants with equal session ids, keys of one tenant, shared fleets; sealed state."""

import base64
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import CodexSlot, Fleet, Thinker
from tests.e2e.test_replay import AGENTS, answer_of, complete, said_as_told, work
from tests.fakes.codex_server import CodexServer
from tests.support.agents import Agent, ChatAgent, ClaudeAgent, GeminiAgent
from tests.support.house import write_keys

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SESSION = "5e55-30"
NAMED: dict[str, Callable[..., Agent]] = {
    f"{one.name} in a session": partial(one, session=SESSION) for one in (ClaudeAgent, ChatAgent, GeminiAgent)
}
ALL = {**NAMED, "chat": ChatAgent, "gemini": GeminiAgent}


async def blobs_by_key(server: CodexServer, agent: Agent, keys: list[str]) -> list[list[str]]:
    """What the upstream is given with each turn of one conversation that these keys go on with."""
    server.vault.demand = False
    async with aclosing(agent):
        for turn, key in enumerate(keys):
            agent.use_key(key)
            await agent.say(f"say {turn}")
    assert len(server.requests) == len(keys)
    return [request.blobs for request in server.answered]


def sealed(server: CodexServer, *turns: int) -> list[str]:
    return [blob for turn in turns for blob in server.answered[turn].sealed]


@pytest.mark.parametrize("agent_of", ALL.values(), ids=ALL)
async def test_a_tenant_sees_nothing_of_another_and_its_keys_share(
    codex: CodexSlot, agent_of: Callable[..., Agent]
) -> None:
    """Bob has the session id, and even the whole conversation."""
    server = codex.server
    given = await blobs_by_key(
        server, agent_of(codex.urls, codex.model), ["alice-1", "alice-2", "bob-1", "bob-1", "alice-1"]
    )
    assert given == [
        [],
        sealed(server, 0),
        [],
        sealed(server, 2),
        sealed(server, 0, 1),
    ]


async def test_a_fleet_that_shares_knows_no_tenants(fleet: Fleet, thinker: Thinker, tmp_path: Path) -> None:
    fleet.start(
        workers=0, UPSTREAMS_FILE=thinker.file, KEY_FILE=write_keys(tmp_path), REPLAY_ISOLATION="shared"
    )
    for name, agent_of in NAMED.items():
        server = thinker.server
        server.requests.clear()
        given = await blobs_by_key(
            server, agent_of(fleet.urls, thinker.MODEL), ["alice-1", "bob-1", "alice-2"]
        )
        assert given == [[], sealed(server, 0), sealed(server, 0, 1)], name


@pytest.mark.parametrize("ring", ["", "2026"])
async def test_with_a_ring_of_keys_reasoning_is_replayed_and_cannot_be_read(
    fleet: Fleet, thinker: Thinker, ring: str
) -> None:
    env = {"STATE_KEYS": f"{ring}:{base64.b64encode(bytes(32)).decode()}"} if ring else {}
    fleet.start(workers=0, UPSTREAMS_FILE=thinker.file, **env)
    server = thinker.server
    for agent_of in AGENTS.values():
        server.requests.clear()
        server.queue += [answer_of(turn) for turn in range(8)]
        async with aclosing(agent_of(fleet.urls, thinker.MODEL)) as agent:
            async for turn, answer in work(agent, 8):
                said_as_told(answer, answer_of(turn))
        complete(server.answered, 8)
        kept = fleet.redis.everything()
        blobs = sealed(server, *range(8))
        assert [is_readable(kept, blob) for blob in blobs] == [not ring] * len(blobs)
    assert fleet.redis.command("KEYS", "cpa:codex:reasoning-replay:*")


def is_readable(kept: Sequence[bytes], text: str) -> bool:
    """As it is or in base64, wherever in it the text begins."""
    words = [text.encode()]
    words += [base64.b64encode(bytes(shift) + text.encode())[4:-4] for shift in range(3)]
    return any(word in value for value in kept for word in words)
