"""Upstreams that fail, before content and after it: who is asked next, and what clients are told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Both, CodexSlot, GeminiSlot
from tests.fakes.antigravity_brain import OVERLOADED as NO_ROOM
from tests.fakes.antigravity_brain import Reply, text
from tests.fakes.codex_brain import Answer, Say, Think
from tests.fakes.codex_server import (
    BAD_GATEWAY,
    NO_QUOTA,
    OVERLOADED,
    RATE_LIMITED,
    SERVER_ERROR,
    UNAUTHORISED,
    USAGE_LIMIT,
    CodexServer,
    Fault,
)
from tests.support.clients import until
from tests.support.dialects import SPOKEN, DialectStream, Said, Spoken, ask
from tests.support.edge import serving
from tests.support.house import House, Slot

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

KEY = "alice-1"


def said(words: str, conversation: str = "") -> list[Said]:
    system = [Said("system", conversation)] if conversation else []
    return [*system, Said("user", f"say {words}")]


@pytest.fixture
async def replicas(house: House) -> AsyncIterator[list[httpx2.AsyncClient]]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=url, timeout=60, headers=headers, verify=False)
            )
            for url in house.urls
        ]


# -- before content ---------------------------------------------------------------------------------------

BEFORE_CONTENT: dict[str, Answer | Fault] = {
    "refused": UNAUTHORISED,
    "no quota": NO_QUOTA,
    "limited": RATE_LIMITED,
    "used up": USAGE_LIMIT,
    "error": SERVER_ERROR,
    "overloaded": OVERLOADED,
    "proxy": BAD_GATEWAY,
    "cut at once": Answer(end="cut", stop_after=0),
    "cut": Answer(pieces=(Think(),), end="cut", stop_after=2),
    "failed": Answer(end="failed"),
    "error event": Answer(end="error"),
}


@pytest.mark.parametrize("failure", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
async def test_who_fails_before_content_is_followed_by_the_next_rank(
    both: Both, replicas: list[httpx2.AsyncClient], failure: Answer | Fault
) -> None:
    only_streamed = isinstance(failure, Answer) and failure.end == "error"
    for spoken in SPOKEN:
        for stream in (True,) if only_streamed else (True, False):
            both.codex.queue = [failure] * 2
            words = f"{spoken.name} {stream}"
            answer = await ask(replicas[stream], spoken, said(words), stream=stream, model=both.slot.ranked)
            assert answer == words
    assert both.codex.requests
    assert len(both.antigravity.requests) == len(SPOKEN) * (1 if only_streamed else 2)


async def test_a_higher_rank_is_not_asked_while_the_lower_answers(
    both: Both, replicas: list[httpx2.AsyncClient]
) -> None:
    for number in range(12):
        words = said("hello", f"conversation {number}")
        assert await ask(replicas[number % 2], SPOKEN[number % 4], words, stream=True, model=both.slot.ranked)
    assert len(both.codex.answered) == 12
    assert both.antigravity.requests == []


async def test_an_upstream_where_nobody_listens_is_followed_by_the_next_rank(
    gemini: GeminiSlot, slot: Slot, replicas: list[httpx2.AsyncClient]
) -> None:
    for spoken in SPOKEN:
        for replica in replicas:
            assert await ask(replica, spoken, said("hello"), stream=True, model=slot.ranked) == "hello"
    assert len(gemini.server.requests) == 2 * len(SPOKEN)


async def test_conversations_are_shared_by_weight_and_stay_where_they_are(
    both: Both, replicas: list[httpx2.AsyncClient]
) -> None:
    """60 conversations, 3 to 1; each has a turn on either replica."""
    served = {0: [0] * 60, 1: [0] * 60}
    for number in range(60):
        for replica, client in enumerate(replicas):
            before = len(both.codex.requests)
            words = said("hello", f"conversation {number}")
            assert await ask(client, SPOKEN[number % 4], words, stream=True, model=both.slot.weighted)
            served[replica][number] = len(both.codex.requests) - before
    assert served[0] == served[1], "the replicas do not agree"
    assert 30 < sum(served[0]) < 60
    assert len(both.antigravity.requests) == 2 * (60 - sum(served[0]))


# -- after content ----------------------------------------------------------------------------------------

SAID = Say("one two three four", ("one ", "two ", "three ", "four"))
TWO_WORDS = 6
"""Events until two of them are said."""
AFTER_CONTENT = {
    "cut": Answer(pieces=(SAID,), gate_after=TWO_WORDS, stop_after=TWO_WORDS + 1, end="cut"),
    "cut before its end": Answer(pieces=(SAID,), gate_after=TWO_WORDS, end="cut"),
    "failed": Answer(pieces=(SAID,), gate_after=TWO_WORDS, end="failed"),
    "error event": Answer(pieces=(SAID,), gate_after=TWO_WORDS, end="error"),
}


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: spoken.name)
@pytest.mark.parametrize("failure", AFTER_CONTENT.values(), ids=AFTER_CONTENT)
async def test_a_failure_after_content_is_told_and_nothing_is_asked_again(
    both: Both, replicas: list[httpx2.AsyncClient], failure: Answer, spoken: Spoken
) -> None:
    both.codex.queue = [failure]
    stream = DialectStream(replicas[0], spoken, said("anything"), model=both.slot.ranked)
    await until(lambda: stream.text == "one two ", "two words")
    both.codex.gate.set()
    await stream.done(10)
    assert (stream.status, stream.end) == (200, "error")
    assert len(both.codex.requests) == 1
    assert both.antigravity.requests == []


async def test_who_failed_is_asked_behind_other_ranks(both: Both, replicas: list[httpx2.AsyncClient]) -> None:
    """Every credential of the first rank has failed lately: the second rank is asked before them."""
    both.codex.faults = dict.fromkeys(both.codex.keys, BAD_GATEWAY)
    for _ in range(2):
        assert await ask(replicas[0], SPOKEN[0], said("hello"), stream=False, model=both.slot.ranked)
    assert len(both.codex.requests) == 2, "each of its credentials once"
    assert len(both.antigravity.requests) == 2


LATE_FAILURES = {"cut": Reply(finish=None, cut=True), "error": replace(NO_ROOM, finish=None)}


@pytest.mark.parametrize("failure", LATE_FAILURES.values(), ids=LATE_FAILURES)
async def test_a_failure_of_a_gemini_upstream_after_content_is_told(
    gemini: GeminiSlot, replicas: list[httpx2.AsyncClient], failure: Reply
) -> None:
    for count, spoken in enumerate(SPOKEN, 1):
        gate = asyncio.Event()
        gemini.server.queue = [replace(failure, status=200, chunks=text("one two"), gate=gate)]
        stream = DialectStream(replicas[1], spoken, said("anything"), model=gemini.model)
        await until(lambda stream=stream: stream.text == "one two", "two words")
        gate.set()
        await stream.done(10)
        assert (stream.status, stream.end) == (200, "error"), spoken.name
        assert len(gemini.server.requests) == count


async def test_an_upstream_that_dies_ends_its_streams_and_is_followed_by_the_next(
    gemini: GeminiSlot, slot: Slot, replicas: list[httpx2.AsyncClient], house: House
) -> None:
    upstream = CodexServer()
    upstream.queue = [Answer(pieces=(SAID,), end="hang")] * len(SPOKEN)
    async with serving(upstream, port=slot.codex_port):
        streams = [
            DialectStream(replicas[number % 2], spoken, said("anything"), model=slot.ranked)
            for number, spoken in enumerate(SPOKEN)
        ]
        await until(lambda: all(stream.text == SAID.text for stream in streams), "all streams to talk")
    for stream in streams:
        await stream.done(5)
        assert (stream.status, stream.end) == (200, "error"), stream.spoken.name
    for spoken in SPOKEN:
        assert await ask(replicas[0], spoken, said("alive"), stream=False, model=slot.ranked) == "alive"
    await until(lambda: house.leases() == 0, "every lease to be free", 2)


# -- who rests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: spoken.name)
async def test_when_all_credentials_rest_clients_are_told_for_how_long(
    codex: CodexSlot, replicas: list[httpx2.AsyncClient], spoken: Spoken
) -> None:
    codex.server.faults = dict.fromkeys(codex.server.keys, USAGE_LIMIT)
    first, second = [
        await DialectStream(replicas[0], spoken, said("hello"), model=codex.model).done() for _ in range(2)
    ]
    assert len(codex.server.requests) == 2, "each credential once"
    assert (first.status, first.headers["retry-after"]) == (429, "90")
    assert second.status == 429
    assert 80 <= int(second.headers["retry-after"]) <= 90
    assert "limit" in str(second.refusal)


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: spoken.name)
async def test_a_refused_credential_is_not_the_clients(
    codex: CodexSlot, replicas: list[httpx2.AsyncClient], spoken: Spoken
) -> None:
    codex.server.faults = dict.fromkeys(codex.server.keys, UNAUTHORISED)
    for stream in (True, False):
        path, body = spoken.request(said("hello"), stream=stream, model=codex.model)
        answer = await replicas[0].post(path, json=body)
        assert answer.status_code in (503, 529)
        assert "sk-" not in answer.text
    assert len(codex.server.requests) == 2


async def test_a_rest_is_known_to_the_other_replica_within_a_second_or_so(
    codex: CodexSlot, replicas: list[httpx2.AsyncClient], house: House
) -> None:
    server, conversation = codex.server, said("hello", "one conversation")
    await ask(replicas[0], SPOKEN[0], conversation, stream=True, model=codex.model)
    preferred = server.requests[0].key
    server.faults[preferred] = UNAUTHORISED
    await ask(replicas[0], SPOKEN[0], conversation, stream=True, model=codex.model)
    assert [request.status for request in server.requests] == [200, 401, 200]
    await asyncio.to_thread(cooldowns_read, house, len(replicas))
    del server.faults[preferred]
    for replica in (replicas[1], replicas[0]):
        await ask(replica, SPOKEN[0], conversation, stream=True, model=codex.model)
    assert [request.key == preferred for request in server.requests] == [True, True, False, False, False]


def cooldowns_read(house: House, replicas: int) -> None:
    """Until every replica has asked the store which credentials rest."""
    seen: set[str] = set()
    deadline = time.monotonic() + 3
    with house.redis.client() as client, client.monitor() as monitor:
        while len(seen) < replicas:
            command = monitor.next_command()
            assert time.monotonic() < deadline, "a replica does not look who rests"
            if command["command"].startswith("MGET lg:v1:cooldown:"):
                seen.add(f"{command['client_address']}:{command['client_port']}")


# -- clients that leave -----------------------------------------------------------------------------------


async def has_left(task: asyncio.Task[Any], gone: Callable[[], bool], house: House) -> None:
    assert house.leases() == 1
    task.cancel()
    await until(gone, "the upstream to be left", 1)
    await until(lambda: house.leases() == 0, "the lease to be free", 1)


async def test_a_client_that_leaves_its_stream_closes_the_upstream_and_frees_its_lease(
    codex: CodexSlot, replicas: list[httpx2.AsyncClient], house: House
) -> None:
    for number, spoken in enumerate(SPOKEN):
        codex.server.queue = [Answer(pieces=(SAID,), end="hang")]
        reading = DialectStream(replicas[number % 2], spoken, said("anything"), model=codex.model)
        await until(lambda reading=reading: reading.text == SAID.text, "the stream to talk")
        asked = codex.server.requests[number]
        await has_left(reading.task, lambda asked=asked: asked.gone, house)


async def test_a_client_that_leaves_before_its_answer_closes_the_upstream_and_frees_its_lease(
    codex: CodexSlot, replicas: list[httpx2.AsyncClient], house: House
) -> None:
    for number, spoken in enumerate(SPOKEN):
        codex.server.queue = [Answer(pieces=(SAID,), end="hang")]
        path, body = spoken.request(said("anything"), stream=False, model=codex.model)
        task = asyncio.create_task(replicas[number % 2].post(path, json=body))
        await until(lambda number=number: len(codex.server.requests) == number + 1, "the upstream")
        asked = codex.server.requests[number]
        await has_left(task, lambda asked=asked: asked.gone, house)


async def test_a_client_that_leaves_closes_a_gemini_upstream_too(
    gemini: GeminiSlot, replicas: list[httpx2.AsyncClient], house: House
) -> None:
    server = gemini.server
    for number, spoken in enumerate(SPOKEN):
        server.queue = [Reply(text("one two"), finish=None, hangs=True)]
        reading = DialectStream(replicas[number % 2], spoken, said("anything"), model=gemini.model)
        await until(lambda reading=reading: reading.text == "one two", "the stream to talk")
        await has_left(reading.task, lambda number=number: server.left_early == number + 1, house)
