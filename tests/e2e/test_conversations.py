"""Sessions over replicas and workers: reused where the history is the same, and never where it is not."""

import asyncio
import base64
from typing import Any

import pytest

from tests.e2e.conftest import Fleet
from tests.support.clients import openai_client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Messages = list[dict[str, Any]]


class RoundRobin:
    """A client behind a load balancer that gives every request to the next replica."""

    def __init__(self, fleet: Fleet) -> None:
        self._clients = [openai_client(replica.url) for replica in fleet.replicas]
        self._turn = 0

    async def ask(self, messages: Messages, *, stream: bool = False) -> str:
        client = self._clients[self._turn % len(self._clients)]
        self._turn += 1
        if not stream:
            answer = await client.chat.completions.create(model="org_auto", messages=messages)  # type: ignore[arg-type]
            return answer.choices[0].message.content or ""
        chunks = await client.chat.completions.create(model="org_auto", messages=messages, stream=True)  # type: ignore[arg-type]
        return "".join([c.choices[0].delta.content or "" async for c in chunks if c.choices])

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


@pytest.mark.parametrize("stream", [False, True])
async def test_ten_turns_over_alternating_replicas_keep_one_session(fleet: Fleet, stream: bool) -> None:
    fleet.start()
    client = RoundRobin(fleet)
    messages: Messages = [said("system", "Be brief")]
    for number in range(1, 11):
        messages.append(said("user", f"report {number}"))
        answer = await client.ask(messages, stream=stream)
        assert f"turns={number} isReply={str(number > 1).lower()}" in answer
        messages.append(said("assistant", answer))
    await client.close()
    asks = [ask["params"] for ask in fleet.asks()]
    assert [ask["isReply"] for ask in asks] == [False] + [True] * 9
    assert len({ask["journal"] for ask in fleet.asks()}) == 1
    assert len({ask["sessionId"] for ask in asks}) == 1
    assert [ask["questionText"] for ask in asks[1:]] == [f"report {n}" for n in range(2, 11)]


async def test_regenerated_edited_and_concurrent_turns_never_meet_another_history(fleet: Fleet) -> None:
    fleet.start()
    client = RoundRobin(fleet)
    start: Messages = [said("user", "report one")]
    first = await client.ask(start)
    history = [*start, said("assistant", first)]
    second = await client.ask([*history, said("user", "report two")])
    assert "turns=2 isReply=true" in second

    regenerated = await client.ask([*history, said("user", "report two")])
    assert "turns=2 isReply=false" in regenerated, "the session already holds the first answer"

    edited = await client.ask(
        [said("user", "report uno"), said("assistant", first), said("user", "report x")]
    )
    assert "isReply=false" in edited

    longer = [*history, said("user", "report two"), said("assistant", second)]
    both = await asyncio.gather(
        client.ask([*longer, said("user", "report left")]),
        client.ask([*longer, said("user", "report right")]),
    )
    assert sorted("isReply=true" in answer for answer in both) == [False, True]
    assert all("turns=3" in answer for answer in both)
    await client.close()


async def test_a_reply_that_a_client_reformats_is_still_the_same_conversation(fleet: Fleet) -> None:
    """LV-34b, through the whole path: space and line ends make no difference, another meaning does."""
    fleet.start(replicas=1, workers=1)
    client = RoundRobin(fleet)
    first = await client.ask([said("user", "report one")])
    trimmed = [said("user", "report one"), said("assistant", f"  {first}\r\n"), said("user", "report two")]
    assert "isReply=true" in await client.ask(trimmed)
    other = [said("user", "report one"), said("assistant", "something else"), said("user", "report two")]
    assert "isReply=false" in await client.ask(other)
    await client.close()


async def test_lv_38_a_session_that_lingma_forgot_is_answered_with_the_full_history(fleet: Fleet) -> None:
    """Given a Lingma that lost its sessions; expect one ask as a reply, then one with the full history."""
    fleet.start(replicas=1, workers=1)
    client = RoundRobin(fleet)
    first = await client.ask([said("user", "report one")])
    child = next(c for c in fleet.workers[0].children() if "workers.simulator" in " ".join(c.cmdline()))
    child.kill()
    replica = fleet.replicas[0]
    replica.ready(
        "/healthz", lambda health: [i["restarts"] for i in health["instances"] if i["ready"]] == [1]
    )
    answer = await client.ask(
        [said("user", "report one"), said("assistant", first), said("user", "report two")]
    )
    assert "turns=2 isReply=false" in answer
    assert [ask["params"]["isReply"] for ask in fleet.asks()] == [False, True, False]
    await client.close()


async def test_with_a_ring_of_keys_redis_holds_no_word_of_a_conversation(fleet: Fleet) -> None:
    key = base64.b64encode(bytes(32)).decode()
    fleet.start(STATE_KEYS=f"2026:{key}")
    client = RoundRobin(fleet)
    messages: Messages = [said("user", "say first-marigold"), said("assistant", "first-marigold")]
    messages.append(said("user", "say " + "second-marigold " * 5000))
    assert "second-marigold" in await client.ask(messages, stream=True)
    await client.close()
    kept = fleet.redis.everything()
    assert kept
    assert not any(b"marigold" in value for value in kept)
