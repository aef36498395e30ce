import asyncio

import pytest

from gateway.kernel.errors import Overloaded
from gateway.kernel.waiting import WaitingRoom


class Capacity:
    def __init__(self, free: int) -> None:
        self.free = free
        self.order: list[str] = []

    def taker(self, name: str):
        async def attempt() -> str | None:
            if self.free <= 0:
                return None
            self.free -= 1
            self.order.append(name)
            return name

        return attempt


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_free_capacity_is_taken_at_once() -> None:
    capacity, room = Capacity(1), WaitingRoom(max_waiting=1)
    assert await room.wait_for(capacity.taker("a"), until=soon()) == "a"
    assert room.waiting == 0


async def test_nobody_gets_anything_after_the_time_is_over() -> None:
    capacity, room = Capacity(0), WaitingRoom(max_waiting=1)
    assert await room.wait_for(capacity.taker("a"), until=soon(0.02)) is None
    assert room.waiting == 0


async def test_releases_serve_in_order_of_arrival() -> None:
    capacity, room = Capacity(0), WaitingRoom(max_waiting=10, retry_s=60)
    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(room.wait_for(capacity.taker(name), until=soon()))
            await asyncio.sleep(0)
        while room.waiting < 4:
            await asyncio.sleep(0)
        for _ in range(4):
            capacity.free += 1
            room.announce()
            while capacity.free:
                await asyncio.sleep(0)
    assert capacity.order == list("abcd")


async def test_a_release_elsewhere_is_found_by_retrying() -> None:
    capacity, room = Capacity(0), WaitingRoom(max_waiting=1, retry_s=0.01)
    asyncio.get_running_loop().call_later(0.03, lambda: setattr(capacity, "free", 1))
    assert await room.wait_for(capacity.taker("a"), until=soon()) == "a"


async def test_a_full_room_turns_away_at_once() -> None:
    capacity, room = Capacity(0), WaitingRoom(max_waiting=1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(room.wait_for(capacity.taker("a"), until=soon()))
        while not room.waiting:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await room.wait_for(capacity.taker("b"), until=soon())
        assert caught.value.retry_after_s
        first.cancel()


async def test_who_leaves_makes_room_for_the_next() -> None:
    capacity, room = Capacity(0), WaitingRoom(max_waiting=2, retry_s=60)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(room.wait_for(capacity.taker("a"), until=soon()))
        while room.waiting < 1:
            await asyncio.sleep(0)
        second = group.create_task(room.wait_for(capacity.taker("b"), until=soon()))
        while room.waiting < 2:
            await asyncio.sleep(0)
        capacity.free = 1
        first.cancel()
        assert await second == "b"
    assert room.waiting == 0
