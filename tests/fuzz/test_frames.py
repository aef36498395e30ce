"""Bad messages and what is no WebSocket at all, over real sockets to `lingma-gateway up`.

FUZZ_SEED=anything make test-fuzz               other messages than always
"""

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateway.kernel.json import JsonError, dumps, loads
from tests.fuzz.breaking import broken_bytes
from tests.fuzz.house import KEY
from tests.fuzz.making import make
from tests.fuzz.test_live import SEED, live, unharmed
from tests.fuzz.values import Dice, anything
from tests.support.processes import Service
from tests.support.responses_schema import TERMINAL
from tests.support.sockets import LIMIT, Answer, Talk, talking

__all__ = ["live", "unharmed"]  # fixtures

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MESSAGES = 400
A_CONNECTION = 25
GARBAGE = 150


def message(dice: Dice, name: str, known: list[str]) -> bytes:
    """A request that is broken in some way, as a message that perhaps is, too."""
    body = make(name, "responses", KEY).body
    try:
        value: Any = loads(body)
    except JsonError:
        return body
    if not isinstance(value, dict):
        return body
    frame: dict[str, Any] = {"type": "response.create", **value}
    if dice.random() < 0.4 and known:
        frame["previous_response_id"] = dice.choice(known)
    if dice.random() < 0.2:
        frame["generate"] = False
    if dice.random() < 0.2:
        name = dice.choice(
            ("type", "previous_response_id", "generate", "stream_id", "client_metadata", "input", "model")
        )
        frame[name] = anything(dice)
    with contextlib.suppress(TypeError):
        body = dumps(frame)
    return broken_bytes(body, dice) if dice.random() < 0.1 else body


def judged(answer: Answer) -> list[str]:
    """What is wrong with it."""
    last = answer.last
    if last["type"] == "error":
        error = last["error"]
        sound = 400 <= last["status"] < 600 and error["message"] and error["type"]
        return [] if sound and len(answer.frames) == 1 else [f"an error of no form: {answer.frames}"]
    numbers = [event["sequence_number"] for event in answer.events if event["type"] != "keepalive"]
    return [] if numbers == list(range(len(numbers))) else [f"numbers {numbers}"]


async def say(on: Talk, data: bytes) -> Answer | None:
    """The answer; None for a message that wants none."""
    dice_says_text = data.decode("utf-8", "strict") if _is_text(data) else data
    await on.socket.send(dice_says_text)
    with contextlib.suppress(JsonError):
        value = loads(data)
        if isinstance(value, dict) and value.get("type") == "response.processed":
            return None
    return await on.answer()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


async def test_bad_messages_are_answered_one_by_one(unharmed: Service) -> None:
    ends: Counter[str] = Counter()
    problems: list[str] = []
    number = 0
    while number < MESSAGES:
        known: list[str] = []
        async with talking(unharmed.url, key=KEY) as on:
            for _ in range(A_CONNECTION):
                number += 1
                name = f"{SEED}/frame-{number}"
                answer = await say(on, message(random.Random(name), name, known))
                if answer is None:
                    continue
                ends[answer.last["type"]] += 1
                problems += [f"{name}: {problem}" for problem in judged(answer)]
                if answer.last["type"] in TERMINAL:
                    known.append(answer.response["id"])
                elif answer.last["error"]["code"] == LIMIT:
                    assert (await on.closed())[0] == 1000
                    break
    assert not problems, "\n".join(problems[:10])
    assert ends["response.completed"] > MESSAGES // 10
    assert ends["error"] > MESSAGES // 10


HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"authorization: Bearer %b\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n"
    b"%b\r\n"
)
DEFLATE = b"sec-websocket-extensions: permessage-deflate\r\n"


async def test_what_is_no_websocket_harms_nobody(unharmed: Service) -> None:
    """Random bytes behind a handshake: the connection is closed, or waits for more, until we leave."""
    codes: Counter[str] = Counter()
    for number in range(GARBAGE):
        dice = random.Random(f"{SEED}/garbage-{number}")
        head = HANDSHAKE % (KEY.encode(), DEFLATE if dice.random() < 0.5 else b"")
        data = bytearray(dice.randbytes(dice.choice((1, 2, 6, 20, 200, 5000))))
        if dice.random() < 0.7:  # something that begins like a frame
            data[0] = dice.choice((0x81, 0x82, 0x88, 0x89, 0xC1, 0x01, 0x80))
        if dice.random() < 0.5 and len(data) > 6:
            data[1] = 0x80 | min(125, len(data) - 6)
        reader, writer = await asyncio.open_connection("127.0.0.1", unharmed.port)
        writer.write(head + data)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(10):
                await reader.readuntil(b"\r\n\r\n")
                writer.write_eof()
                rest = await reader.read()
                codes["closed" if rest else "silent"] += 1
        writer.close()
    assert codes.total() > GARBAGE * 9 // 10


async def test_a_message_of_fifty_megabytes_is_not_kept(unharmed: Service) -> None:
    async with talking(unharmed.url, key=KEY) as on:
        answer = await on.ask("x" * 50_000_000)
        assert answer.error == (400, "request_too_large", None)
        assert (await on.ask("hello", model="org_auto")).last["type"] == "response.completed"
        with contextlib.suppress(ConnectionClosed):
            await on.socket.close()
