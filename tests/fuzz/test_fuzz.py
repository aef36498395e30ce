"""Thousands of bad requests to a whole replica in this process: every answer is a legal one.

    FUZZ_SEED=anything make test-fuzz               other requests than always
    FUZZ_ONLY=chat:1234 make test-fuzz              one request, shown with its answer

A failure names the requests; each is made by its name alone, so the second line repeats it.
"""

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.fuzz.house import KEY, House, open_house
from tests.fuzz.judging import judge
from tests.fuzz.making import make
from tests.fuzz.requests import Request
from tests.fuzz.surfaces import surfaces
from tests.support.clients import until
from tests.support.edge import Reply

SEED = os.environ.get("FUZZ_SEED", "1")
ONLY = os.environ.get("FUZZ_ONLY", "")
PLAN = {"chat": 7000, "messages": 7000, "responses": 7000, "gemini": 7000, "other": 4000}
"""Requests for each surface."""
SHARD = 1000
TOGETHER = 16
MAX_GROWTH_BYTES = 96 * 1024 * 1024
SHOWN = 3

SHARDS = [(surface, start) for surface, count in PLAN.items() for start in range(0, count, SHARD)]


def test_the_plan_is_of_twenty_thousand_requests_and_more() -> None:
    assert set(PLAN) == {*surfaces(), "other"}
    assert len(SHARDS) * SHARD == sum(PLAN.values()) >= 20_000


@pytest.mark.timeout(400)
@pytest.mark.skipif(bool(ONLY), reason="one request was asked for")
@pytest.mark.parametrize(("surface", "start"), SHARDS, ids=[f"{name}-{start}" for name, start in SHARDS])
async def test_every_answer_to_a_bad_request_is_legal(surface: str, start: int) -> None:
    async with open_house() as house:
        tally = Tally(surface, iter(range(start, start + SHARD)))
        await tally.all_of_them(house)
        statuses, problems = tally.statuses, tally.problems
        await until(house.at_rest, "all slots and tasks to be given back")
        assert statuses.total() == SHARD
        assert not problems, _report(problems, surface)
        assert _memory() - tally.memory < MAX_GROWTH_BYTES
        if surface != "other":
            # Otherwise what is behind the parsers was not tested, or the parsers were not.
            assert statuses[200] > SHARD // 10
            assert statuses[400] > SHARD // 10


class Tally:
    """The requests of a shard, some of them at any time under way, and what came of them."""

    def __init__(self, surface: str, numbers: Iterator[int]) -> None:
        self._surface = surface
        self._numbers = numbers
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self.memory = 0
        """When half of the requests were answered."""

    async def all_of_them(self, house: House) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(self._some(house))

    async def _some(self, house: House) -> None:
        for number in self._numbers:
            name = f"{self._surface}:{number}"
            status, found = await _one(house, name)
            self.statuses[status] += 1
            self.problems += [f"{name}: {problem}" for problem in found]
            self.problems += [f"{name}: it or one at its time logged {text}" for text in house.errors.take()]
            if self.statuses.total() == SHARD // 2:
                self.memory = _memory()


async def _one(house: House, name: str) -> tuple[int, list[str]]:
    request = request_of(name)
    try:
        reply = await house.send(request)
    except TimeoutError:
        return 0, ["no answer in time"]
    except Exception as error:
        return 0, [f"the application raised {type(error).__name__}: {error}"]
    return reply.status, judge(request, reply)


def request_of(name: str) -> Request:
    return make(f"{SEED}/{name}", name.partition(":")[0], KEY)


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _report(problems: list[str], surface: str) -> str:
    names = dict.fromkeys(problem.partition(": ")[0] for problem in problems)
    shown = [f"{name}\n{request_of(name).shown()}" for name in list(names)[:SHOWN]]
    again = f"FUZZ_SEED={SEED} FUZZ_ONLY={next(iter(names))} make test-fuzz"
    return "\n".join([f"{len(problems)} problems of {surface}", *problems[:20], *shown, f"again: {again}"])


@pytest.mark.skipif(not ONLY, reason="FUZZ_ONLY names no request")
async def test_the_one_request_that_was_asked_for() -> None:
    request = request_of(ONLY)
    async with open_house() as house:
        reply: Reply = await house.send(request)
        print(f"\n{request.shown()}\n-> {reply.status} {reply.headers}\n{reply.body[:4000]!r}")
        assert judge(request, reply) == []
        assert house.errors.take() == []
