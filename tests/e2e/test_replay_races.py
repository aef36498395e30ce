"""Many turns of one session at once over two replicas, and upstreams that refuse what they are given back."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from gateway.replay.scope import scope_of
from gateway.replay.turns import fence_of, turns_of
from gateway.replay.values import decode_items
from tests.e2e.conftest import CodexSlot
from tests.e2e.test_replay import answer_of, said_as_told, work
from tests.fakes.codex_brain import Answer, Say, Think
from tests.fakes.codex_server import REASONING_MODEL, UNAUTHORISED, Fault, Recorded
from tests.support.agents import ChatAgent, ClaudeAgent, Refused
from tests.support.clients import until
from tests.support.house import House
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

KEY, TENANT = "alice-1", "alice"
REJECTED = Fault(
    status=400,
    error={
        "message": "The encrypted content gAAA...x8A= could not be verified. Reason: Encrypted content could "
        "not be decrypted or parsed.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_encrypted_content",
    },
)


class Kept:
    """What the store holds for one session."""

    def __init__(self, redis: RedisServer, session: str) -> None:
        self._redis = redis
        scope = scope_of("codex", REASONING_MODEL, session, tenant=TENANT)
        assert scope is not None
        self._key = scope.key

    def items(self) -> list[bytes]:
        value = self._redis.command("GET", self._key)
        return [] if value is None else decode_items(value)

    def turns(self) -> list[bytes]:
        """The items of each."""
        return [b"".join(turn.items) for turn in turns_of(self.items())]

    @property
    def fenced(self) -> bool:
        return bool(fence_of(self.items()))


def holds(turns: Sequence[bytes], requests: Sequence[Recorded]) -> bool:
    """Exactly what these requests were answered, in whichever order."""
    answers = [[blob.encode() for blob in request.sealed] for request in requests]
    return len(turns) == len(answers) and all(
        any(all(blob in turn for blob in answer) for turn in turns) for answer in answers
    )


class Talks:
    """Conversations of one session, each with a client of its own; the replicas have half of them each."""

    def __init__(self, codex: CodexSlot, session: str, count: int) -> None:
        self._codex = codex
        urls = codex.urls
        self.agents = [
            ChatAgent([urls[number % len(urls)]], codex.model, session=session, key=KEY)
            for number in range(count)
        ]

    async def say(self, what: str, numbers: Sequence[int]) -> list[Recorded]:
        """All at once; the requests that were answered, in the order of the agents."""
        await asyncio.gather(*(self.agents[number].say(f"say {what} {number}") for number in numbers))
        return [self._asked(what, number) for number in numbers]

    def _asked(self, what: str, number: int) -> Recorded:
        (found,) = [
            request
            for request in self._codex.server.answered
            if last_words(request) == f"say {what} {number}"
        ]
        return found

    async def aclose(self) -> None:
        for agent in self.agents:
            await agent.aclose()


def last_words(request: Recorded) -> str:
    content = request.items[-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


async def test_fifty_turns_of_one_session_at_once_lose_nothing(house: House, codex: CodexSlot) -> None:
    server, kept = codex.server, Kept(house.redis, "session-id:fifty")
    everybody = range(50)
    for number in everybody:
        text = f"first {number}"
        server.by_prompt[f"say {text}"] = Answer(pieces=(Think(text), Say(text)), gate_after=3)
    async with aclosing(Talks(codex, "fifty", 50)) as talks:
        saying = asyncio.create_task(talks.say("first", everybody))
        await until(lambda: len(server.requests) == 50, "all fifty to be asked")
        server.gate.set()
        first = await saying
        assert holds(kept.turns(), first)
        second = await talks.say("second", everybody)
    for before, after in zip(first, second, strict=True):
        assert after.blobs == before.sealed
    assert holds(kept.turns(), [*first, *second])


async def test_a_purge_holds_against_turns_that_were_under_way(house: House, codex: CodexSlot) -> None:
    """Ten turns have read the entry when the reasoning of five others is refused, all at once."""
    server, kept = codex.server, Kept(house.redis, "session-id:purged")
    under_way, refused = range(10), range(10, 15)
    for number in under_way:
        text = f"again {number}"
        server.by_prompt[f"say {text}"] = Answer(pieces=(Think(text), Say(text)), gate_after=3)
    async with aclosing(Talks(codex, "purged", 15)) as talks:
        first = await talks.say("first", range(15))
        assert holds(kept.turns(), first)
        asking = asyncio.create_task(talks.say("again", under_way))
        await until(lambda: len(server.answered) == 25, "ten to be asked again")

        server.vault.demand = False  # what cannot be opened need not come back
        server.vault.spoiled = {blob for number in refused for blob in first[number].sealed}
        anew = await talks.say("anew", refused)
        assert [request.blobs for request in anew] == [[]] * 5
        assert holds(kept.turns(), anew)
        assert kept.fenced

        server.gate.set()
        again = await asking
        assert [request.blobs for request in again] == [one.sealed for one in first[:10]]
        assert holds(kept.turns(), anew), "a turn from before the purge was kept after it"

        third = await talks.say("third", range(15))
    assert [request.blobs for request in third] == [[]] * 10 + [one.sealed for one in anew]
    refusals = sum(request.status == 400 for request in server.requests)
    assert 1 <= refusals <= 5, "whoever reads behind the first purge is not refused"
    assert len(server.requests) == 15 + 10 + 5 + refusals + 15, "once more, and no more"


async def test_refused_reasoning_is_left_out_once_and_forgotten(house: House, codex: CodexSlot) -> None:
    server, kept = codex.server, Kept(house.redis, "claude:5e55-20:agent:main")
    server.queue += [answer_of(turn) for turn in range(8)]
    async with aclosing(ClaudeAgent(codex.urls, codex.model, session="5e55-20", key=KEY)) as agent:
        async for turn, answer in work(agent, 8):
            said_as_told(answer, answer_of(turn))
            if turn == 3:
                server.vault.spoiled = {blob for request in server.answered for blob in request.sealed}
                server.vault.demand = False
                server.queue.insert(0, answer_of(turn + 1))  # the refused request takes one
    asked = server.requests
    assert [request.status for request in asked] == [200] * 4 + [400] + [200] * 4
    assert asked[4].blobs == [blob for request in asked[:4] for blob in request.sealed]
    assert asked[5].blobs == []
    assert asked[5].items == [item for item in asked[4].items if item["type"] != "reasoning"]
    assert asked[8].blobs == [blob for request in asked[5:8] for blob in request.sealed]
    assert holds(kept.turns(), asked[5:])
    assert kept.fenced


async def test_reasoning_that_a_client_kept_is_left_out_when_it_is_refused(codex: CodexSlot) -> None:
    server = codex.server
    agent = ClaudeAgent(codex.urls, codex.model, session="5e55-21", key=KEY, keeps_reasoning=True)
    async with aclosing(agent):
        await agent.say("say one")
        assert (await agent.say("say two")).text == "two"
        server.vault.stale, server.vault.demand = True, False
        assert (await agent.say("say three")).text == "three"
    assert [request.status for request in server.requests] == [200, 200, 400, 200]
    assert [len(request.blobs) for request in server.requests] == [0, 1, 2, 0]


async def test_an_upstream_that_refuses_even_so_is_believed(codex: CodexSlot) -> None:
    server = codex.server
    async with aclosing(ChatAgent(codex.urls, codex.model, key=KEY)) as agent:
        await agent.say("say one")
        server.queue += [REJECTED, REJECTED]
        with pytest.raises(Refused) as refused:
            await agent.say("say two")
    assert refused.value.status == 400
    assert refused.value.body["error"]["code"] == "thinking_signature_invalid"
    assert [request.status for request in server.requests] == [200, 400, 400]


async def test_an_account_that_cannot_open_the_reasoning_of_another_goes_on_without(codex: CodexSlot) -> None:
    """The credentials belong to different organisations, and the first is refused half-way."""
    server = codex.server
    server.keys = {"sk-one": "org-one", "sk-two": "org-two"}
    server.queue += [answer_of(turn) for turn in range(12)]
    agent = ClaudeAgent(codex.urls, codex.model, session="5e55-22", key=KEY)
    async with aclosing(agent):
        async for turn, answer in work(agent, 12):
            said_as_told(answer, answer_of(turn))
            if turn == 5:
                server.faults[server.requests[-1].key] = UNAUTHORISED
                server.queue.insert(0, answer_of(turn + 1))  # the refused request takes one
    assert len(server.answered) == 12
    assert [request.status for request in server.requests].count(400) == 1
    later = server.answered[6:]
    assert later[0].blobs == []
    assert later[-1].blobs == [blob for request in later[:-1] for blob in request.sealed]
