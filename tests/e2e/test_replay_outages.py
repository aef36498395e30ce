"""Redis goes away in the middle of a conversation: turns go on without replay, and replay comes back."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from anthropic import APIStatusError

from tests.e2e import test_replay, test_replay_signatures
from tests.e2e.conftest import Fleet, Pair
from tests.e2e.test_replay import work
from tests.support.agents import Agent, Refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FIRST, AWAY, TURNS = 6, 3, 15
"""Turns before the outage, during it, and altogether."""


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def agents_on(
    fleet: Fleet, stack: AsyncExitStack, model: str, agents: Mapping[str, Callable[..., Agent]]
) -> list[Agent]:
    made = [agent_of(fleet.urls, model) for agent_of in agents.values()]
    for agent in made:
        await stack.enter_async_context(aclosing(agent))
    return made


def away(fleet: Fleet, how: str) -> None:
    if how == "hangs":
        fleet.redis.pause()  # noticed by the first who asks
        return
    if how == "is full":
        fleet.redis.command("CONFIG", "SET", "maxmemory", "1")
    else:
        fleet.redis.kill()
    for replica in fleet.replicas:
        replica.ready("/readyz", lambda answer: answer["ready"] is False)


def back(fleet: Fleet, how: str) -> None:
    if how == "hangs":
        fleet.redis.resume()
    elif how == "is full":
        fleet.redis.command("CONFIG", "SET", "maxmemory", "0")
    else:
        fleet.redis.start()
    for replica in fleet.replicas:
        replica.ready("/readyz", lambda answer: answer["ready"] is True)


def demand(pair: Pair, wanted: bool) -> None:
    """Whether the upstreams insist on what was said to be theirs."""
    pair.codex.vault.demand = wanted
    pair.gemini.sentinel = not wanted


def remembered(turn: int, how: str) -> list[int]:
    """Of which turns a request has the reasoning."""
    if turn < FIRST:
        return list(range(turn))
    if turn < FIRST + AWAY:
        return list(range(FIRST)) if how == "is full" else []
    lost = range(FIRST + AWAY) if how == "restarts empty" else range(FIRST, FIRST + AWAY)
    return [earlier for earlier in range(turn) if earlier not in lost]


@pytest.mark.parametrize("how", ["hangs", "restarts empty", "is full"])
@pytest.mark.parametrize("client", ["messages", "gemini"])
async def test_turns_go_on_without_replay_and_replay_comes_back(
    fleet: Fleet, pair: Pair, stack: AsyncExitStack, client: str, how: str
) -> None:
    pair.codex.queue += [test_replay.answer_of(turn) for turn in range(TURNS)]
    pair.gemini.queue += [test_replay_signatures.reply_of(turn) for turn in range(TURNS)]
    fleet.start(workers=0, UPSTREAMS_FILE=pair.file)
    one = {client: test_replay.AGENTS[client]}
    (thinker,) = await agents_on(fleet, stack, pair.THINKER, one)
    (signer,) = await agents_on(fleet, stack, pair.SIGNER, one)
    async with aclosing(work(signer, TURNS)) as signing:
        async for turn, answer in work(thinker, TURNS):
            test_replay.said_as_told(answer, test_replay.answer_of(turn))
            _, answer = await anext(signing)
            test_replay_signatures.said_as_told(answer, test_replay_signatures.reply_of(turn))
            if turn == FIRST - 1:
                demand(pair, False)
                away(fleet, how)
            elif turn == FIRST + AWAY - 1:
                back(fleet, how)
    assert len(pair.codex.requests) == len(pair.gemini.requests) == TURNS, "something was asked twice"
    sealed = [request.sealed for request in pair.codex.answered]
    minted = pair.gemini.signatures.given_out
    for turn in range(TURNS):
        known = remembered(turn, how)
        assert pair.codex.answered[turn].blobs == [blob for one in known for blob in sealed[one]], turn
        asked = pair.gemini.requests[turn]
        assert test_replay_signatures.places_of(asked) == test_replay_signatures.places(minted, known), turn
        # Calls go out under other ids then, by which the upstream does not know them.
        texts = {minted[one] for one in range(3, turn, 4) if one not in known}
        assert texts <= set(asked.omitted) <= set(minted) - {minted[one] for one in known}, turn


async def test_strict_replay_fails_turns_while_the_store_is_away(
    fleet: Fleet, pair: Pair, stack: AsyncExitStack
) -> None:
    fleet.start(workers=0, UPSTREAMS_FILE=pair.file, REPLAY_STRICT="true")
    agents = [
        *await agents_on(fleet, stack, pair.THINKER, test_replay.AGENTS),
        *await agents_on(fleet, stack, pair.SIGNER, test_replay_signatures.AGENTS),
    ]
    thinkers, signers = len(test_replay.AGENTS), len(test_replay_signatures.AGENTS)

    def asked() -> tuple[int, int]:
        return len(pair.codex.requests), len(pair.gemini.requests)

    for agent in agents:
        assert (await agent.say(f"say {agent.name} one")).text == f"{agent.name} one"
    away(fleet, "restarts empty")
    for agent in agents:
        for _ in range(AWAY):
            with pytest.raises((APIStatusError, Refused)) as failed:
                await agent.say("say two")
            assert_told(agent.name, failed.value)
    assert asked() == (thinkers, signers), "a turn was asked without what it needs"
    back(fleet, "restarts empty")
    demand(pair, False)  # of what the store has forgotten
    for words in ("three", "four"):
        for agent in agents:
            assert (await agent.say(f"say {words}")).text == words
    assert asked() == (3 * thinkers, 3 * signers)
    blobs = [len(request.blobs) for request in pair.codex.requests]
    assert blobs == [0] * 2 * thinkers + [1] * thinkers


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
        case "gemini":
            assert isinstance(error, Refused)
            assert (error.status, told["code"], told["status"]) == (503, 503, "UNAVAILABLE")
        case _:
            assert isinstance(error, Refused)
            assert (error.status, told["type"], told["code"]) == (503, "server_error", "store_unavailable")
