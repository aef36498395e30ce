"""How long the simulator itself takes to its first content, asked over its own socket: what `ttft` subtracts.

A timer that rings late and a simulator that is busy would otherwise count as the gateway's.
"""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

from gateway.kernel.json import dumps
from workers.lingma.rpc import Incoming, RpcConnection

ANSWER = "chat/answer"
FINISH = "chat/finish"
LIMIT_S = 60.0


def first_content_ms(port: int, *, streams: int, turns: int, over_s: float) -> list[float]:
    """Milliseconds from an ask to its first content, one for each turn. The load generator's rhythm."""
    return asyncio.run(_ask_all(port, streams, turns, over_s))


async def _ask_all(port: int, streams: int, turns: int, over_s: float) -> list[float]:
    found: list[float] = []
    waiting: dict[str, tuple[float, asyncio.Future[None]]] = {}
    spoken: set[str] = set()

    def on_push(message: Incoming, _: bytes) -> bool:
        request_id = message.params.requestId if message.params else ""
        if request_id not in waiting:
            return False
        began, ended = waiting[request_id]
        if message.method == ANSWER and request_id not in spoken:
            spoken.add(request_id)
            found.append((time.perf_counter() - began) * 1000)
        elif message.method == FINISH:
            del waiting[request_id]
            ended.set_result(None)
        return False

    connection = RpcConnection(port, on_push)
    await connection.open()
    try:
        async with asyncio.timeout(LIMIT_S):
            await connection.request("initialize", {}, timeout_s=10)
            await _in_rhythm(lambda: _turn(connection, waiting), streams, turns, over_s)
    finally:
        await connection.aclose()
    return found


async def _in_rhythm(
    turn: Callable[[], asyncio.Future[None]], streams: int, turns: int, over_s: float
) -> None:
    left = turns

    async def stream() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await turn()

    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            if over_s and number:
                await asyncio.sleep(over_s / streams)
            group.create_task(stream())


def _turn(
    connection: RpcConnection, waiting: dict[str, tuple[float, asyncio.Future[None]]]
) -> asyncio.Future[None]:
    request_id = str(uuid4())
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting[request_id] = time.perf_counter(), ended
    params = {
        "requestId": request_id,
        "sessionId": str(uuid4()),
        "questionText": "say something",
        "isReply": False,
    }
    connection.call("chat/ask", dumps(params), None)
    return ended
