"""Agents that forget their model's reasoning, on upstreams that demand it back: nobody notices anything.

Two replicas take turns, a credential fails half-way, and every request that an upstream takes carries all
the reasoning that it ever handed out, each in its place, byte for byte: the fakes refuse anything else.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial

import pytest

from tests.e2e.conftest import CodexSlot
from tests.fakes.codex_blobs import Findings
from tests.fakes.codex_brain import Answer, CallTool, Say, Think
from tests.fakes.codex_server import OVERLOADED, RATE_LIMITED, SERVER_ERROR, UNAUTHORISED, Fault, Recorded
from tests.support.agents import TOOL, Agent, Answered, ChatAgent, ClaudeAgent, GeminiAgent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TURNS = 20
FAULTS = {"401": UNAUTHORISED, "429": RATE_LIMITED, "500": SERVER_ERROR, "503": OVERLOADED}


def call(step: int) -> CallTool:
    return CallTool(TOOL, f'{{"step":{step}}}')


def answer_of(turn: int) -> Answer:
    """Every shape that an agent meets: a call, words and a call, two calls, words alone."""
    match turn % 4:
        case 0:
            return Answer(pieces=(Think(f"Look {turn} up."), call(turn)))
        case 1:
            return Answer(
                pieces=(Think(f"First {turn}."), Think(f"Then {turn}."), Say(f"Trying {turn}."), call(turn))
            )
        case 2:
            return Answer(pieces=(Think(), call(turn), call(-turn)))
        case _:
            return Answer(pieces=(Think(), Say(f"Done with {turn}.")))


async def work(agent: Agent, turns: int) -> AsyncIterator[tuple[int, Answered]]:
    """An agent's loop: it does what it is told to, and is told to go on when it stops."""
    answer = Answered("")
    for turn in range(turns):
        if answer.calls:
            answer = await agent.give([f"result {turn} of {one.arguments['step']}" for one in answer.calls])
        else:
            answer = await agent.say(f"Please go on with {turn}")
        yield turn, answer


def said_as_told(answer: Answered, told: Answer) -> None:
    assert answer.text == "".join(piece.text for piece in told.pieces if isinstance(piece, Say))
    steps = [piece.arguments for piece in told.pieces if isinstance(piece, CallTool)]
    assert [f'{{"step":{one.arguments["step"]}}}' for one in answer.calls] == steps
    assert answer.reasoned


def complete(requests: Sequence[Recorded], turns: int) -> None:
    """Every answered request had every blob of the answers before it; none was answered twice."""
    assert len(requests) == turns
    sealed: list[str] = []
    for turn, request in enumerate(requests):
        assert request.found == Findings()
        assert request.blobs == sealed, f"turn {turn}"
        assert request.body["store"] is False
        assert "reasoning.encrypted_content" in request.body["include"]
        sealed = [*request.blobs, *request.sealed]


AGENTS: dict[str, Callable[..., Agent]] = {
    "messages": partial(ClaudeAgent, session="5e55-10"),
    "chat": ChatAgent,
    "gemini": GeminiAgent,
}
"""Those of Chat and Gemini say nothing of a session, as most do."""


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("agent_of", AGENTS.values(), ids=AGENTS)
async def test_a_loop_of_twenty_turns_keeps_its_reasoning_through_a_failing_credential(
    codex: CodexSlot, agent_of: Callable[..., Agent], fault: Fault
) -> None:
    server = codex.server
    server.queue += [answer_of(turn) for turn in range(TURNS)]
    failing = ""
    async with aclosing(agent_of(codex.urls, codex.model, key="alice-1")) as agent:
        async for turn, answer in work(agent, TURNS):
            said_as_told(answer, answer_of(turn))
            if turn == TURNS // 2:
                failing = server.requests[-1].key
                server.faults[failing] = fault
    complete(server.answered, TURNS)
    keys = [request.key for request in server.answered]
    assert failing not in keys[TURNS // 2 + 1 :]
    failed = [request for request in server.requests if request.status != 200]
    assert failed, "nothing failed: the test has not tested anything"
    assert {(request.key, request.status) for request in failed} == {(failing, fault.status)}
    assert all(request.found == Findings() for request in failed)
