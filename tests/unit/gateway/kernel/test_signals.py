import asyncio
import os
import signal

import pytest

from gateway.kernel.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_and_the_others_are_told_apart(number: signal.Signals) -> None:
    heard: list[str] = []
    came = asyncio.Event()

    def hear(word: str) -> None:
        heard.append(word)
        came.set()

    before = signal.getsignal(number)
    with stop_signals(lambda: hear("first"), lambda: hear("again")):
        for _ in range(3):
            came.clear()
            os.kill(os.getpid(), number)
            await asyncio.wait_for(came.wait(), 5)
    assert heard == ["first", "again", "again"]
    assert signal.getsignal(number) == before
