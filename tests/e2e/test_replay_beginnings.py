"""Conversations of one tenant that begin alike and name no session: whose signatures are whose."""

from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

import pytest

from tests.e2e.conftest import GeminiSlot
from tests.e2e.test_replay_signatures import places_of
from tests.fakes.antigravity_brain import Reply, text
from tests.support.agents import Agent, ChatAgent, GeminiAgent, ResponsesAgent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

AGENTS: list[Callable[..., Agent]] = [ChatAgent, GeminiAgent, ResponsesAgent]


def signed(words: str) -> Reply:
    return Reply((*text(words), ({"text": "", "sign": True},)))


@pytest.mark.parametrize("agent_of", AGENTS)
async def test_nothing_of_one_goes_into_the_other(gemini: GeminiSlot, agent_of: Callable[..., Agent]) -> None:
    """Both get the same short answers to other questions, in turns. A signature is given back only behind
    the very words that it was given out behind; what the other one has overwritten is not given back at all.
    """
    server = gemini.server
    asked = {"one": ["start", "paint it red", "and now"], "two": ["start", "paint it blue", "what next"]}
    behind: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        agents = {
            name: await stack.enter_async_context(
                aclosing(agent_of(gemini.urls, gemini.model, key="alice-1"))
            )
            for name in asked
        }
        for turn in range(3):
            for name, agent in agents.items():
                server.queue.append(signed("Done."))
                assert (await agent.say(asked[name][turn])).text == "Done."
                behind[server.signatures.given_out[-1]] = " / ".join(asked[name][: turn + 1])
                for placed in places_of(server.requests[-1]):
                    said = " / ".join(asked[name][: placed.turn + 1])
                    assert behind[placed.signature] == said, f"{name}, turn {turn}"
    assert server.refusals == []
    assert any(places_of(request) for request in server.requests), "nothing was replayed: nothing was tested"


@pytest.mark.parametrize("agent_of", AGENTS)
async def test_one_alone_keeps_all_of_its_signatures(
    gemini: GeminiSlot, agent_of: Callable[..., Agent]
) -> None:
    server = gemini.server
    async with aclosing(agent_of(gemini.urls, gemini.model, key="alice-1")) as agent:
        for turn in range(4):
            server.queue.append(signed("Done."))
            await agent.say(f"do {turn}")
            assert [placed.turn for placed in places_of(server.requests[-1])] == list(range(turn))
    assert server.omitted == []
