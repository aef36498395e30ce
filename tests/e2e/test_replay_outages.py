"""Redis goes away in the middle of a conversation: turns go on without replay, and replay comes back."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from anthropic import APIStatusError

from tests.e2e.conftest import Fleet, Thinker
from tests.e2e.test_replay import AGENTS, answer_of, said_as_told, work
from tests.fakes.codex_server import CodexServer
from tests.support.agents import Agent, Refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FIRST, AWAY, TURNS = 6, 3, 15
"""Turns before the outage, during it, and altogether."""


def away(fleet: Fleet, how: str) -> None:
    if how == "hangs":
        fleet.redis.pause()  # noticed by the first who asks
        return
    fleet.redis.kill()
    for replica in fleet.replicas:
        replica.ready("/readyz", lambda answer: answer["ready"] is False)


def back(fleet: Fleet, how: str) -> None:
    if how == "hangs":
        fleet.redis.resume()
    else:
        fleet.redis.start()
    for replica in fleet.replicas:
        replica.ready("/readyz", lambda answer: answer["ready"] is True)


def agent_on(fleet: Fleet, agent_of: Callable[..., Agent]) -> Agent:
    return agent_of(fleet.urls, Thinker.MODEL)


def sealed_in(server: CodexServer, turns: Sequence[int]) -> list[str]:
    return [blob for turn in turns for blob in server.answered[turn].sealed]


@pytest.mark.parametrize("how", ["hangs", "restarts empty"])
async def test_turns_go_on_without_replay_and_replay_comes_back(
    fleet: Fleet, thinker: Thinker, how: str
) -> None:
    server = thinker.server
    server.queue += [answer_of(turn) for turn in range(TURNS)]
    fleet.start(workers=0, UPSTREAMS_FILE=thinker.file)
    async with aclosing(agent_on(fleet, AGENTS["messages"])) as agent:
        async for turn, answer in work(agent, TURNS):
            said_as_told(answer, answer_of(turn))
            if turn == FIRST - 1:
                server.vault.demand = False
                away(fleet, how)
            elif turn == FIRST + AWAY - 1:
                back(fleet, how)
    assert len(server.requests) == TURNS, "something was asked twice"
    lost = range(FIRST, FIRST + AWAY) if how == "hangs" else range(FIRST + AWAY)
    for turn, request in enumerate(server.answered):
        if turn < FIRST:
            remembered = list(range(turn))
        elif turn < FIRST + AWAY:
            remembered = []
        else:
            remembered = [earlier for earlier in range(turn) if earlier not in lost]
        assert request.blobs == sealed_in(server, remembered), f"turn {turn}"


async def test_strict_replay_fails_turns_while_the_store_is_away(fleet: Fleet, thinker: Thinker) -> None:
    server = thinker.server
    fleet.start(workers=0, UPSTREAMS_FILE=thinker.file, REPLAY_STRICT="true")
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(aclosing(agent_on(fleet, one))) for one in AGENTS.values()]
        for agent in agents:
            assert (await agent.say(f"say {agent.name} one")).text == f"{agent.name} one"
        away(fleet, "restarts empty")
        for agent in agents:
            for _ in range(AWAY):
                with pytest.raises((APIStatusError, Refused)) as failed:
                    await agent.say("say two")
                assert_told(agent.name, failed.value)
        assert len(server.requests) == len(agents), "a turn was asked without what it needs"
        back(fleet, "restarts empty")
        server.vault.demand = False  # of what the store has forgotten
        for agent in agents:
            assert (await agent.say("say three")).text == "three"
        assert [request.blobs for request in server.answered[-3:]] == [[]] * 3
        for agent in agents:
            assert (await agent.say("say four")).text == "four"
        assert [len(request.blobs) for request in server.answered[-3:]] == [1] * 3


def assert_told(dialect: str, error: BaseException) -> None:
    """In the envelope of the client's own protocol."""
    assert isinstance(error, APIStatusError | Refused)
    body: Any = error.body
    told = body["error"]
    assert told["message"] == "the store cannot be reached"
    match dialect:
        case "messages":
            assert isinstance(error, APIStatusError)
            assert (error.status_code, body["type"], told["type"]) == (529, "error", "overloaded_error")
        case "chat":
            assert isinstance(error, Refused)
            assert (error.status, told["type"], told["code"]) == (503, "server_error", "store_unavailable")
        case _:
            assert isinstance(error, Refused)
            assert (error.status, told["code"], told["status"]) == (503, 503, "UNAVAILABLE")
