"""Questions about a worker and the replies at their keys."""

import asyncio
from typing import Any

import pytest

from gateway.jobs.messages import Admin
from gateway.kernel import json
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import UpstreamUnavailable
from gateway.kernel.json import JsonObject
from gateway.store.kv_memory import MemoryKV
from tests.fakes.worker import Switch
from workers import admin as module
from workers.admin import AdminDesk

KEY = b"lg:v1:reply:1"


class Desk:
    def __init__(self, **actions: Any) -> None:
        self.clock = FakeClock()
        self.kv = MemoryKV(self.clock)
        self.switch: Any = Switch(self.kv, "kv_set")
        self.desk = AdminDesk(self.switch, actions)

    async def ask(self, action: str, key: bytes = KEY) -> Any:
        await self.desk.answer(Admin(action=action, instance="inst-0", reply_key=key))
        return await self.reply(key)

    async def reply(self, key: bytes = KEY) -> Any:
        value = await self.kv.kv_get(key)
        return None if value is None else json.loads(value)


async def test_a_reply_lives_for_a_minute() -> None:
    async def status(command: Admin) -> JsonObject:
        return {"name": command.instance}

    desk = Desk(status=status)
    assert await desk.ask("status") == {"ok": True, "result": {"name": "inst-0"}}
    desk.clock.advance(61)
    assert await desk.reply() is None


async def test_an_expected_error_is_passed_on() -> None:
    async def export(command: Admin) -> JsonObject:
        raise UpstreamUnavailable("not logged in")

    reply = await Desk(export=export).ask("export")
    assert reply == {"ok": False, "error": {"kind": "upstream_unavailable", "message": "not logged in"}}


async def test_an_action_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACTION_LIMIT_S", 0.01)

    async def hang(command: Admin) -> JsonObject:
        await asyncio.Event().wait()
        return {}

    assert (await Desk(hang=hang).ask("hang"))["error"]["kind"] == "upstream_timeout"


async def test_too_many_questions_at_once_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AT_ONCE", 1)
    release = asyncio.Event()

    async def wait(command: Admin) -> JsonObject:
        await release.wait()
        return {}

    desk = Desk(wait=wait)
    tasks = Tasks()
    first = tasks.spawn(desk.desk.answer(Admin(action="wait", reply_key=b"first")))
    await asyncio.sleep(0)
    assert (await desk.ask("wait"))["error"]["kind"] == "overloaded"
    release.set()
    await first
    assert (await desk.reply(b"first"))["ok"] is True
    assert (await desk.ask("wait"))["ok"] is True


async def test_a_reply_the_store_does_not_take_is_dropped() -> None:
    async def status(command: Admin) -> JsonObject:
        return {}

    desk = Desk(status=status)
    desk.switch.mode = "off"
    assert await desk.ask("status") is None
