import asyncio

import pytest

from gateway.kernel.errors import StoreRefused, StoreUnavailable
from gateway.store.calls import Call, ReplyFuture, gather, seen


async def test_gather_raises_the_first_error_after_all_have_ended() -> None:
    loop = asyncio.get_running_loop()
    good, bad, late = (loop.create_future() for _ in range(3))
    good.set_result(1)
    bad.set_exception(StoreRefused("ERR"))
    loop.call_soon(late.set_result, 2)
    with pytest.raises(StoreRefused, match="ERR"):
        await gather([good, bad, late])
    assert late.done()


async def test_a_call_fails_once_and_not_after_its_reply() -> None:
    future: ReplyFuture = asyncio.get_running_loop().create_future()
    call = Call(b"*1", future, 0.0, None, asking=False)
    call.fail("gone")
    call.fail("again")
    with pytest.raises(StoreUnavailable, match="gone"):
        await future


async def test_nobody_is_told_of_an_error_that_was_seen() -> None:
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    future: ReplyFuture = loop.create_future()
    future.add_done_callback(seen)
    future.set_exception(StoreUnavailable("gone"))
    await asyncio.sleep(0)
    del future
    assert told == []
