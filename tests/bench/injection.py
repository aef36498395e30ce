"""Section `injection`: what it costs to put reasoning back into the request of a long conversation.

An agent of Claude's protocol with a hundred calls behind it asks once more: three hundred items for the
upstream, a hundred of which only the gateway remembers. Its request is made with them and, where nothing is
remembered, without; over a store in memory, in this process, with no network. And what a large conversation
on a Gemini model takes in the store.
"""

import asyncio
import base64
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.kernel.clock import SystemClock
from gateway.kernel.json import JsonObject, dumps, loads
from gateway.replay.antigravity import AntigravityReplay
from gateway.replay.antigravity_items import CallPart, Item, chain_value, encoded_items
from gateway.replay.codex import CodexReplay
from gateway.replay.values import decode_items
from gateway.store.kv_memory import MemoryKV
from gateway.turn.events import ItemDone
from gateway.turn.frame import Frame
from gateway.turn.items import ToolCall
from gateway.turn.ports import Call
from gateway.turn.request import Turn
from gateway.upstreams.antigravity.lane import AntigravityLane
from gateway.upstreams.antigravity.lane import LaneParts as AntigravityParts
from gateway.upstreams.codex.lane import CodexLane
from gateway.upstreams.codex.lane import LaneParts as CodexParts
from gateway.upstreams.pool import credentials_of
from tests.bench.measure import NotMeasured
from tests.bench.report import REPEATS, Samples, table
from tests.support import antigravity, codex
from tests.support.replay import signature
from tests.support.signature_chains import fc, gemini_signature

ROUNDS = 100
LARGE_BYTES = 9 * 2**20
SIGNATURE_BYTES = 1200
REQUESTS = 20
RESULT = "line of a file\n" * 20
TOOL = {"name": "read", "description": "Read a file", "input_schema": {"type": "object", "properties": {}}}
CLOCK = SystemClock()

MakeLane = Callable[[Turn], CodexLane | AntigravityLane]


def run() -> None:
    asyncio.run(_run())
    _sizes()


async def _run() -> None:
    rows = []
    for name, lanes, answer, count in (
        ("messages on codex", _codex_lanes, _codex_answer, _codex_count),
        ("messages on antigravity", _gemini_lanes, _gemini_answer, _gemini_count),
    ):
        replaying, forgetful = lanes(replay=True), lanes(replay=False)
        history = await _history(replaying, answer)
        samples = Samples()
        for repeat in range(REPEATS + 1):
            for kind, make in (("with", replaying), ("without", forgetful)):
                cpu_ms, body = await _asked(make, history)
                if count(body) != (ROUNDS if kind == "with" else 0):
                    raise NotMeasured(f"{name}: {count(body)} items were put back")
                if repeat:
                    samples.add(kind, cpu_ms)
        added = samples.median("with") - samples.median("without")
        rows.append((name, samples.text("with"), samples.text("without"), f"{added:.1f}"))
    table(
        f"injection: CPU of making a request with {3 * ROUNDS} items, {ROUNDS} of them put back, ms",
        ("", "with replay", "without", "added"),
        rows,
    )


def _sizes() -> None:
    """A conversation near the bound of a chain: an agent that writes files, these ones, over and over."""
    paths = sorted(Path("gateway").rglob("*.py"))
    files = [path.read_text(encoding="utf-8") for path in paths]
    dice = random.Random(1)
    items: list[Item] = []
    size = 0
    while size < LARGE_BYTES:
        number = len(items)
        args: JsonObject = {"path": str(paths[number % len(paths)]), "content": files[number % len(paths)]}
        sealed = base64.b64encode(dice.randbytes(SIGNATURE_BYTES)).decode()
        items.append(CallPart(name="write", args=args, call_id=f"call-{number}", signature=sealed))
        size += len(items[-1].encode())
    encoded = encoded_items(items)
    assert encoded is not None
    rows = []
    for form, packed in (("as HOME nodes have it", False), ("packed", True)):
        samples = Samples()
        value = b""
        for _ in range(REPEATS):
            began = time.process_time_ns()
            value = chain_value(encoded, "branch", packed=packed)
            written = time.process_time_ns()
            decode_items(value)
            samples.add("write", (written - began) / 1e6)
            samples.add("read", (time.process_time_ns() - written) / 1e6)
        rows.append((form, f"{len(value) / 2**20:.1f}", samples.text("write"), samples.text("read")))
    title = f"injection: a chain of {len(items)} calls that write files, {size / 2**20:.1f} MiB of items"
    table(title, ("", "value, MiB", "CPU to write, ms", "CPU to read, ms"), rows)


async def _history(make: MakeLane, answer: Callable[[int], bytes]) -> list[Any]:
    """The messages of the agent, whose reasoning has been remembered turn by turn."""
    said: list[Any] = [{"role": "user", "content": "Read it all"}]
    for number in range(ROUNDS):
        lane = make(_turn(said))
        await lane.request()
        call = _call_in(lane.feed_whole(answer(number)))
        await lane.conclude(None)
        used = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": loads(call.arguments)}
        result = {"type": "tool_result", "tool_use_id": call.call_id, "content": RESULT}
        said += [{"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    return said


def _turn(said: list[Any]) -> Turn:
    return codex.messages(*said, tools=[TOOL])


def _call_in(frame: Frame) -> ToolCall:
    for event in frame.events:
        if isinstance(event, ItemDone) and isinstance(event.item, ToolCall):
            return event.item
    raise NotMeasured("the answer has no call")


async def _asked(make: MakeLane, history: list[Any]) -> tuple[float, JsonObject]:
    """CPU of one request, and the request."""
    turn = _turn(history)
    began = time.process_time_ns()
    for _ in range(REQUESTS):
        request = await make(turn).request()
    cpu_ms = (time.process_time_ns() - began) / REQUESTS / 1e6
    body = loads(request.body)
    assert isinstance(body, dict)
    return cpu_ms, body


def _call(turn: Turn, model: str, account: str) -> Call:
    deadline_ms = CLOCK.now_ms() + 60_000
    return Call(turn=turn, model=model, account=account, attempt=1, deadline_ms=deadline_ms, queue_until=0)


# -- codex ------------------------------------------------------------------------------------------------


def _codex_lanes(*, replay: bool) -> MakeLane:
    config = codex.config_of("http://upstream.invalid")
    parts = CodexParts(
        config=config,
        credentials=credentials_of(config, {}),
        clock=CLOCK,
        replay=CodexReplay(MemoryKV(CLOCK)) if replay else None,
        isolation="tenant",
        all_clients=True,
    )
    return lambda turn: CodexLane(parts, _call(turn, codex.REASONING_MODEL, "one"))


def _codex_answer(number: int) -> bytes:
    output: list[Any] = [
        {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": signature(number)},
        {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": "read",
            "arguments": dumps({"path": f"src/file_{number}.py"}).decode(),
        },
    ]
    return dumps({"id": "resp_1", "object": "response", "status": "completed", "output": output})


def _codex_count(body: JsonObject) -> int:
    return sum('"reasoning"' in text for text in _items(body, "input"))


# -- antigravity ------------------------------------------------------------------------------------------


def _gemini_lanes(*, replay: bool) -> MakeLane:
    config = antigravity.config_for("http://upstream.invalid")
    parts = AntigravityParts(
        config=config,
        credentials=credentials_of(config, {}),
        clock=CLOCK,
        replay=AntigravityReplay(MemoryKV(CLOCK), packs=True) if replay else None,
        isolation="tenant",
    )

    def make(turn: Turn) -> AntigravityLane:
        call = _call(turn, antigravity.MODELS[0], "main")
        return AntigravityLane(parts, call, base_url=config.base_urls[0], last=True)

    return make


def _gemini_answer(number: int) -> bytes:
    part = fc("", {"path": f"src/file_{number}.py"}, gemini_signature(f"sig-{number}"))
    content: Any = {"role": "model", "parts": [part]}
    return dumps({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]})


def _gemini_count(body: JsonObject) -> int:
    # Calls without a signature of their own carry a word that stands for one.
    return sum('"thoughtSignature":"E' in text for text in _items(body, "contents"))


def _items(body: JsonObject, name: str) -> list[str]:
    items = body[name]
    assert isinstance(items, list)
    return [dumps(item).decode() for item in items]
