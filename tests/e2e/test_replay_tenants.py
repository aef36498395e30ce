"""Whose reasoning it is: tenants with equal session ids, keys of one tenant, shared fleets; sealed state."""

import base64
import contextlib
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from tests.e2e import test_replay_signatures
from tests.e2e.conftest import CodexSlot, Fleet, GeminiSlot, Pair
from tests.e2e.test_replay import AGENTS, answer_of, complete, said_as_told, work
from tests.e2e.test_replay_signatures import Placed
from tests.fakes.codex_server import CodexServer
from tests.support.agents import Agent, ChatAgent, ClaudeAgent, GeminiAgent, ResponsesAgent
from tests.support.house import write_keys
from tests.support.network import zstd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SESSION = "5e55-30"
NAMED: dict[str, Callable[..., Agent]] = {
    f"{one.name} in a session": partial(one, session=SESSION) for one in (ClaudeAgent, ChatAgent, GeminiAgent)
}
ALL = {**NAMED, "chat": ChatAgent, "gemini": GeminiAgent}
RESPONSES = {"responses": ResponsesAgent, "responses in a session": partial(ResponsesAgent, session=SESSION)}


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


@pytest.mark.parametrize("agent_of", {**ALL, **RESPONSES}.values(), ids={**ALL, **RESPONSES})
async def test_a_tenant_sees_no_signature_of_another_and_its_keys_share(
    gemini: GeminiSlot, agent_of: Callable[..., Agent]
) -> None:
    server = gemini.server
    server.sentinel = True
    async with aclosing(agent_of(gemini.urls, gemini.model)) as agent:
        for turn, key in enumerate(["alice-1", "alice-2", "bob-1", "bob-1", "alice-1"]):
            agent.use_key(key)
            await agent.say(f"say {turn}")
    minted = server.signatures.given_out
    given = [test_replay_signatures.places_of(request) for request in server.requests]
    known: list[list[int]] = [[], [0], [], [2], [0, 1]]
    assert given == [[Placed(minted[turn], turn, 0) for turn in turns] for turns in known]
    omitted = [[minted[turn] for turn in turns] for turns in ([], [], [0, 1], [0, 1], [2, 3])]
    assert [request.omitted for request in server.requests] == omitted


async def test_a_fleet_that_shares_knows_no_tenants(fleet: Fleet, pair: Pair, tmp_path: Path) -> None:
    fleet.start(workers=0, UPSTREAMS_FILE=pair.file, KEY_FILE=write_keys(tmp_path), REPLAY_ISOLATION="shared")
    for name, agent_of in NAMED.items():
        server = pair.codex
        server.requests.clear()
        given = await blobs_by_key(
            server, agent_of(fleet.urls, pair.THINKER), ["alice-1", "bob-1", "alice-2"]
        )
        assert given == [[], sealed(server, 0), sealed(server, 0, 1)], name


@pytest.mark.parametrize("ring", ["", "2026"])
async def test_with_a_ring_of_keys_reasoning_is_replayed_and_cannot_be_read(
    fleet: Fleet, pair: Pair, ring: str
) -> None:
    env = {"STATE_KEYS": f"{ring}:{base64.b64encode(bytes(32)).decode()}"} if ring else {}
    fleet.start(workers=0, UPSTREAMS_FILE=pair.file, **env)
    server = pair.codex
    for agent_of in AGENTS.values():
        server.requests.clear()
        server.queue += [answer_of(turn) for turn in range(8)]
        async with aclosing(agent_of(fleet.urls, pair.THINKER)) as agent:
            async for turn, answer in work(agent, 8):
                said_as_told(answer, answer_of(turn))
        complete(server.answered, 8)
        kept = fleet.redis.everything()
        blobs = sealed(server, *range(8))
        assert [is_readable(kept, blob) for blob in blobs] == [not ring] * len(blobs)
    assert fleet.redis.command("KEYS", "cpa:codex:reasoning-replay:*")

    for agent_of in test_replay_signatures.AGENTS.values():
        pair.gemini.queue += [test_replay_signatures.reply_of(turn) for turn in range(8)]
        async with aclosing(agent_of(fleet.urls, pair.SIGNER)) as agent:
            async for turn, answer in work(agent, 8):
                test_replay_signatures.said_as_told(answer, test_replay_signatures.reply_of(turn))
        minted = pair.gemini.signatures.given_out[-8:]
        given = test_replay_signatures.places_of(pair.gemini.requests[-1])
        assert given == test_replay_signatures.places(minted, range(7))
        kept = fleet.redis.everything()
        assert [is_readable(kept, one) for one in minted] == [not ring] * 8
    assert fleet.redis.command("KEYS", "cpa:antigravity:reasoning-replay:*")


def is_readable(kept: Sequence[bytes], text: str) -> bool:
    """As it is, packed, or in base64, wherever in it the text begins."""
    words = [text.encode()]
    words += [base64.b64encode(bytes(shift) + text.encode())[4:-4] for shift in range(3)]
    return any(word in value for value in map(unpacked, kept) for word in words)


def unpacked(dumped: bytes) -> bytes:
    """With what a packed value in it holds."""
    begins = dumped.find(b"\x28\xb5\x2f\xfd")
    if begins < 0:
        return dumped
    with contextlib.suppress(zstd.ZstdError):
        dumped += zstd.ZstdDecompressor().decompress(dumped[begins:])
    return dumped
