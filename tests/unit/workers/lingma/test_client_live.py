"""The client on real subprocesses: the bundled simulator, killed, silenced and flooded."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.kernel.aio import background
from workers.lingma.client import ClientState, LingmaClient
from workers.lingma.config import InstanceConfig, child_environment
from workers.lingma.errors import LingmaDisconnected
from workers.lingma.subscriptions import Subscription


@contextlib.asynccontextmanager
async def simulated(
    work_dir: Path, options: dict[str, Any] | None = None, **knobs: Any
) -> AsyncIterator[LingmaClient]:
    environment = child_environment(os.environ) | {"LINGMA_SIM_LOGGED_IN": "1"}
    environment |= {f"LINGMA_SIM_{name.upper()}": str(value) for name, value in knobs.items()}
    settings: dict[str, Any] = {"startup_timeout_s": 20, **(options or {})}
    client = LingmaClient(InstanceConfig(work_dir=work_dir, environment=environment, **settings))
    try:
        async with background(client.run(), client.watch()):
            await client.ensure_ready(20)
            yield client
    finally:
        await client.aclose()


async def ask(client: LingmaClient, text: str) -> Subscription:
    request_id = uuid.uuid4().hex
    params = {
        "requestId": request_id,
        "sessionId": uuid.uuid4().hex,
        "sessionType": "chat",
        "chatTask": "FREE_INPUT",
        "mode": "chat",
        "stream": True,
        "source": 1,
        "isReply": False,
        "taskDefinitionType": "system",
        "questionText": text,
        "chatContext": {"text": text},
        "extra": {"modelConfig": {"key": "org_auto"}},
    }
    return await client.ask(json.dumps(params).encode(), request_id)


async def read_all(answer: Subscription) -> list[dict[str, Any]]:
    pushes: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not pushes or pushes[-1]["method"] != "chat/finish":
            pushes += [json.loads(body) for body in await answer.next(5)]
    return pushes


def said(pushes: list[dict[str, Any]]) -> str:
    return "".join(push["params"]["text"] for push in pushes if push["method"] == "chat/answer")


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"fragment": "random", "ws_type": "random"},
        {"fragment": "byte"},
        {"ids": "dup-id"},
        {"ids": "off", "ask_reply": "no"},
        {"burst": 8, "info_format": "json"},
    ],
)
async def test_answers_come_whole_in_every_style_of_the_wire(tmp_path: Path, knobs: dict[str, Any]) -> None:
    async with simulated(tmp_path, answer="grüße 灵码 {text}", delta_gap=0, **knobs) as client:
        answers = [await ask(client, f"question {n}") for n in range(3)]
        for n, answer in enumerate(answers):
            pushes = await read_all(answer)
            assert said(pushes) == f"grüße 灵码 question {n}"
            assert pushes[-1]["params"]["statusCode"] == 200
        await until(lambda: client.models)
        assert client.login_state == "logged_in"
        assert client.in_flight == 0


async def test_lv_9_strict_subprocess_gets_its_acks_in_time(tmp_path: Path) -> None:
    """LV-9: given `strict` pushes and a client that acks, expect all deltas less than 100 ms apart."""
    async with simulated(tmp_path, ids="strict", tokens=20, delta_gap=0, ack_timeout=2000) as client:
        answer = await ask(client, "x")
        loop = asyncio.get_running_loop()
        times: list[float] = []
        while not answer.ended:
            await answer.next(5)
            times.append(loop.time())
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert len(times) >= 20
        # The median, so that one hiccup of a busy machine is none of ours; a lost ack costs 2 s each.
        assert sorted(gaps)[len(gaps) // 2] < 0.1
        assert max(gaps) < 1.5


async def test_lv_14_large_prompt_and_answer(tmp_path: Path) -> None:
    """LV-14: given a 3 MiB prompt and a fullAnswer of as much, expect no size-limit disconnect."""
    async with simulated(tmp_path, answer="{text}", delta_gap=0) as client:
        pushes = await read_all(await ask(client, "x" * (3 * 2**20)))
        assert len(pushes[-1]["params"]["fullAnswer"]) == 3 * 2**20


async def test_lv_18_killed_while_idle_comes_back_with_a_new_pid(tmp_path: Path) -> None:
    """LV-18: given kill -9 of the idle child, expect ready, reconnecting, ready with a new pid; no zombie."""
    async with simulated(tmp_path) as client:
        pid = client.pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not client.ready)
        assert client.state is ClientState.RECONNECTING
        await client.ensure_ready(10)
        assert client.pid not in (0, pid)
        assert client.restarts == 1
        assert not psutil.pid_exists(pid)
        assert said(await read_all(await ask(client, "hello")))
    lingmas = [c for c in psutil.Process().children() if "redis-server" not in c.name()]
    assert lingmas == [], "a zombie, or a child that was left behind"


async def test_lv_19_killed_in_mid_stream_ends_the_ask_within_a_second(tmp_path: Path) -> None:
    """LV-19: given kill -9 in mid-stream after 2 deltas, expect an error within 1 s and nothing in flight."""
    async with simulated(tmp_path, fail="crash_after_2", delta_gap=10, tokens=50) as client:
        pid = client.pid
        answer = await ask(client, "x")
        await until(lambda: client.pid != pid)
        async with asyncio.timeout(1):
            with pytest.raises(LingmaDisconnected):
                while True:
                    await answer.next(5)
        assert client.in_flight == 0
        await client.ensure_ready(10)


async def test_closed_connection_is_made_again_to_the_same_process(tmp_path: Path) -> None:
    async with simulated(tmp_path, fail="close_ws", fail_after=1, tokens=50) as client:
        pid = client.pid
        answer = await ask(client, "x")
        with pytest.raises(LingmaDisconnected):
            async with asyncio.timeout(10):
                while True:
                    await answer.next(5)
        await client.ensure_ready(10)
        assert (client.pid, client.restarts) == (pid, 0)


async def test_stop_ends_a_running_answer(tmp_path: Path) -> None:
    async with simulated(tmp_path, tokens=5000, delta_gap=20) as client:
        answer = await ask(client, "x")
        await answer.next(5)
        await client.stop(answer.request_id, answer.session_id)
        finish = (await read_all(answer))[-1]
        assert finish["params"]["reason"] == "cancelled"


async def test_frozen_process_is_replaced(tmp_path: Path) -> None:
    hasty = {"ping_interval_s": 0.1, "handshake_timeout_s": 0.1, "stop_grace_s": 0.1, "backoff_s": 0.05}
    async with simulated(tmp_path, hasty) as client:
        pid = client.pid
        answer = await ask(client, "count slowly to 500")
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(LingmaDisconnected):
            async with asyncio.timeout(10):
                while True:
                    await answer.next(5)
        await client.ensure_ready(10)
        assert client.pid not in (0, pid)
        assert not psutil.pid_exists(pid)
