"""Agents that forget thought signatures, on a Gemini upstream that demands them: nobody notices anything.

The counterpart of test_replay.py: the same agents and replicas, and a credential that fails half-way.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

import pytest

from tests.e2e.conftest import GeminiSlot
from tests.e2e.test_replay import work
from tests.fakes.antigravity_brain import FORBIDDEN, OVERLOADED, Reply, limited
from tests.fakes.antigravity_history import SKIPS
from tests.fakes.antigravity_server import WRONG_KEY, Recorded
from tests.support.agents import TOOL, Agent, Answered, ChatAgent, ClaudeAgent, GeminiAgent, ResponsesAgent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TURNS = 20
FAULTS = {"bad key": WRONG_KEY, "forbidden": FORBIDDEN, "429": limited(delay="2s"), "503": OVERLOADED}
AGENTS: dict[str, Callable[..., Agent]] = {
    "messages": partial(ClaudeAgent, session="5e55-40"),
    "chat": ChatAgent,
    "responses": ResponsesAgent,
    "gemini": GeminiAgent,
}


def call(step: int, *, sign: bool) -> dict[str, object]:
    return {"functionCall": {"name": TOOL, "args": {"step": step}}, "sign": sign}


def reply_of(turn: int) -> Reply:
    """As test_replay.answer_of(). Each has one signature: on its first call, or at the end of its words."""
    thought = {"text": f"I think about {turn}.", "thought": True}
    match turn % 4:
        case 0:
            return Reply(((thought,), (call(turn, sign=True),)))
        case 1:
            return Reply(((thought,), ({"text": f"Trying {turn}."},), (call(turn, sign=True),)))
        case 2:
            return Reply(((thought,), (call(turn, sign=True), call(-turn, sign=False))))
        case _:
            return Reply(
                (
                    (thought,),
                    ({"text": "Done "},),
                    ({"text": f"with {turn}."},),
                    ({"text": "", "sign": True},),
                )
            )


def said_as_told(answer: Answered, told: Reply) -> None:
    parts = [part for chunk in told.chunks for part in chunk]
    assert answer.text == "".join(part.get("text", "") for part in parts if not part.get("thought"))
    calls = [part["functionCall"]["args"] for part in parts if "functionCall" in part]
    assert [one.arguments for one in answer.calls] == calls
    assert answer.reasoned


class Placed(NamedTuple):
    """A signature, and the part that it is on."""

    signature: str
    turn: int
    """Whose answer the content is."""
    part: int


def places_of(request: Recorded) -> list[Placed]:
    """Without the words that skip the check."""
    answers = [
        content["parts"]
        for content in request.request["contents"]
        if content["role"] == "model" and "functionResponse" not in content["parts"][0]
    ]
    return [
        Placed(part["thoughtSignature"], turn, number)
        for turn, parts in enumerate(answers)
        for number, part in enumerate(parts)
        if part.get("thoughtSignature", "") not in {"", *SKIPS}
    ]


def places(minted: Sequence[str], turns: Iterable[int]) -> list[Placed]:
    """Where the signatures of these turns belong, of which reply_of() tells one each."""
    return [Placed(minted[turn], turn, int(turn % 4 == 1)) for turn in turns]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("agent_of", AGENTS.values(), ids=AGENTS)
async def test_a_loop_of_twenty_turns_keeps_its_signatures_through_a_failing_credential(
    gemini: GeminiSlot, agent_of: Callable[..., Agent], fault: Reply
) -> None:
    server = gemini.server
    server.queue += [reply_of(turn) for turn in range(TURNS)]
    answered: list[Recorded] = []
    failing = ""
    async with aclosing(agent_of(gemini.urls, gemini.model, key="alice-1")) as agent:
        async for turn, answer in work(agent, TURNS):
            said_as_told(answer, reply_of(turn))
            answered.append(server.requests[-1])
            if turn == TURNS // 2:
                failing = answered[-1].key
                server.by_key[failing] = [fault] * TURNS
    assert server.refusals == []
    minted = server.signatures.given_out
    assert len(minted) == TURNS
    for turn, request in enumerate(answered):
        assert places_of(request) == places(minted, range(turn)), f"turn {turn}"
    assert server.omitted == []
    assert {request.key for request in answered[TURNS // 2 + 1 :]} == set(server.keys) - {failing}
    failed = [request for request in server.requests if request not in answered]
    assert failed, "nothing failed: the test has not tested anything"
    assert {request.key for request in failed} == {failing}


@pytest.mark.parametrize("agent_of", AGENTS.values(), ids=AGENTS)
async def test_refused_signatures_are_left_out_once_and_forgotten(
    gemini: GeminiSlot, agent_of: Callable[..., Agent]
) -> None:
    server = gemini.server
    server.queue += [reply_of(turn) for turn in range(8)]
    async with aclosing(agent_of(gemini.urls, gemini.model, key="alice-1")) as agent:
        async for turn, answer in work(agent, 8):
            said_as_told(answer, reply_of(turn))
            if turn == 3:
                server.signatures.forget()
                server.sentinel = True  # for what is left out then
    minted = server.signatures.given_out
    assert server.refusals == [(400, "Invalid thought signature.")]
    given = [places_of(request) for request in server.requests]
    assert given[4] == places(minted, range(4)), "refused"
    assert given[5:] == [places(minted, range(4, turn)) for turn in range(4, 8)]
    assert server.omitted == []
