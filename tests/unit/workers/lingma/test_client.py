import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.messages import LOGIN_REMEDY
from gateway.kernel.aio import background
from gateway.kernel.errors import InvalidRequest
from tests.fakes.lingma_server import LOGGED_IN, MODELS, SILENT, FakeLingma, fake_lingma
from workers.lingma.client import ClientState, LingmaClient
from workers.lingma.config import InstanceConfig
from workers.lingma.errors import AskRefused, LingmaDisconnected, LingmaNotReady, LingmaStartFailed, RpcError
from workers.lingma.process import LingmaProcess


class FakeProcess(LingmaProcess):
    """A process that is the fake server in this one."""

    def __init__(self, config: InstanceConfig, port: int) -> None:
        super().__init__(config)
        self.port = port
        self.starts = 0
        self.running = False
        self.problem = ""

    @property
    def alive(self) -> bool:
        return self.running

    @property
    def pid(self) -> int:
        return 4711 if self.running else 0

    async def start(self) -> int:
        self.starts += 1
        if self.problem:
            raise LingmaStartFailed(self.problem)
        self.running = True
        return self.port

    async def stop(self) -> None:
        self.running = False


@dataclasses.dataclass
class Rig:
    fake: FakeLingma
    process: FakeProcess
    client: LingmaClient

    async def push(self, method: str, push_id: Any = None, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        await self.fake.push(message if push_id is None else {**message, "id": push_id})

    async def ask(self, request_id: str = "r", **params: Any) -> Any:
        return await self.client.ask(json.dumps({"requestId": request_id, **params}).encode(), request_id)


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def rig(tmp_path: Path, *, ready: bool = True, problem: str = "", **options: Any) -> AsyncIterator[Rig]:
    settings: dict[str, Any] = {"backoff_s": 0.02, "max_backoff_s": 0.05, "rpc_timeout_s": 5.0, **options}
    config = InstanceConfig(work_dir=tmp_path, **settings)
    async with fake_lingma() as fake:
        process = FakeProcess(config, fake.port)
        process.problem = problem
        client = LingmaClient(config, process)
        try:
            async with background(client.run(), client.watch()):
                if ready:
                    await client.ensure_ready(5)
                yield Rig(fake, process, client)
        finally:
            await client.aclose()


# -- coming up --------------------------------------------------------------------------------------------


async def test_lv_6_7_initialize_is_the_first_message_and_initialized_is_never_sent(tmp_path: Path) -> None:
    """LV-6, LV-7: given a subprocess that wants initialize first and knows no `initialized`, expect
    auth/status only after the answer to initialize, and no `initialized`.
    """
    async with rig(tmp_path) as r:
        await until(lambda: r.client.models)
        methods = [message["method"] for message in r.fake.messages]
        assert methods[:2] == ["initialize", "auth/status"]
        assert "initialized" not in methods
        params = r.fake.calls("initialize")[0]["params"]
        assert params["rootUri"] == params["workspaceFolders"][0]["uri"] == tmp_path.as_uri()
        assert r.client.state is ClientState.READY
        assert r.client.pid == 4711


async def test_state_before_and_after(tmp_path: Path) -> None:
    async with rig(tmp_path, ready=False, problem="no binary") as r:
        assert r.client.state is ClientState.STOPPED
        await until(lambda: r.process.starts >= 2)
        assert r.client.state in (ClientState.FAILED, ClientState.STARTING)
        r.process.problem = ""
        await r.client.ensure_ready(5)
        assert r.client.restarts >= 2
    assert r.client.state is ClientState.CLOSED
    assert not r.process.running


async def test_ensure_ready_gives_up_with_the_reason(tmp_path: Path) -> None:
    async with rig(tmp_path, ready=False, problem="no binary") as r:
        with pytest.raises(LingmaNotReady, match="inst-0 is not ready: no binary"):
            await r.client.ensure_ready(0.05)
        with pytest.raises(LingmaNotReady):
            await r.ask()


async def test_wake_cuts_the_pause_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.lingma.client.MIN_PAUSE_S", 0.01)
    async with rig(tmp_path, ready=False, problem="no binary", backoff_s=60, max_backoff_s=60) as r:
        await until(lambda: r.client.state is ClientState.FAILED)
        r.process.problem = ""
        await r.client.ensure_ready(5)


async def test_initialize_refused_is_tried_again(tmp_path: Path) -> None:
    async with rig(tmp_path, ready=False) as r:
        r.fake.handlers["initialize"] = lambda _: {"error": {"code": -32603, "message": "busy"}}
        await until(lambda: len(r.fake.calls("initialize")) >= 2)
        assert not r.client.ready
        r.fake.handlers["initialize"] = lambda _: {}
        await r.client.ensure_ready(5)


# -- staying up -------------------------------------------------------------------------------------------


async def test_lost_connection_to_a_living_process_is_made_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.fake.drop()
        await until(lambda: not r.client.ready)
        assert r.client.state is ClientState.RECONNECTING
        await r.client.ensure_ready(5)
        assert (r.process.starts, r.client.restarts) == (1, 0)


async def test_dead_process_is_started_anew(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.process.running = False
        await r.fake.drop()
        await until(lambda: r.process.starts == 2)
        await r.client.ensure_ready(5)
        assert r.client.restarts == 1


async def test_living_process_that_cannot_be_spoken_to_is_replaced(tmp_path: Path) -> None:
    async with rig(tmp_path, rpc_timeout_s=0.05) as r:
        r.fake.handlers["initialize"] = lambda _: SILENT
        await r.fake.drop()
        await until(lambda: r.process.starts == 2)
        assert r.process.running


# -- login and models -------------------------------------------------------------------------------------


async def test_login_is_known_without_its_secrets(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        assert (r.client.login_state, r.client.logged_in) == ("logged_in", True)
        assert r.client.login is not None
        assert len(r.client.login.account) == 12
        assert "pt-SECRET" not in repr(r.client.login)
        assert "dev-17" not in repr(r.client.login)


async def test_logged_out_instance_is_ready_and_says_login_required(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path, ready=False) as r:
        r.fake.handlers["auth/status"] = lambda _: {"status": 1, "token": ""}
        await r.client.ensure_ready(5)
        assert (r.client.ready, r.client.login_state) == (True, "login_required")
        await until(lambda: r.fake.calls("auth/status")[1:])
        assert r.fake.calls("config/queryModels") == []
        [told] = [record for record in caplog.records if record.getMessage() == "lingma.login_required"]
        assert vars(told)["remedy"] == LOGIN_REMEDY
        r.fake.handlers["auth/status"] = lambda _: LOGGED_IN
        await r.push("auth/report", push_id=1, status=2)
        await until(lambda: r.client.logged_in and r.client.models)


async def test_login_is_looked_at_again_by_itself(tmp_path: Path) -> None:
    async with rig(tmp_path, refresh_interval_s=0.03) as r:
        r.fake.handlers["auth/status"] = lambda _: {"status": 0}
        await until(lambda: r.client.login_state == "login_required")


async def test_models_are_cached_and_stale_ones_outlive_an_error(tmp_path: Path) -> None:
    async with rig(tmp_path, refresh_interval_s=0.02) as r:
        await until(lambda: r.client.models)
        looks = len(r.fake.calls("auth/status"))
        await until(lambda: len(r.fake.calls("auth/status")) >= looks + 3)
        assert len(r.fake.calls("config/queryModels")) == 1
        r.fake.handlers["config/queryModels"] = lambda _: {"error": {"code": -32603, "message": "HTTP 500"}}
        await r.push("config/refreshModels", push_id=1)
        await until(lambda: len(r.fake.calls("config/queryModels")) >= 2)
        assert [model.key for model in r.client.models] == ["org_auto", "kmodel"]
        r.fake.handlers["config/queryModels"] = lambda _: {"chat": [{"key": "new"}]}
        await until(lambda: [model.key for model in r.client.models] == ["new"])


async def test_models_age(tmp_path: Path) -> None:
    async with rig(tmp_path, refresh_interval_s=0.02, models_ttl_s=0.05) as r:
        await until(lambda: len(r.fake.calls("config/queryModels")) >= 3)


async def test_questions_of_operators(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        assert json.loads(await r.client.query_models()) == MODELS
        assert (await r.client.auth_status()).logged_in
        r.fake.handlers["login/generateUrl"] = lambda _: {"loginUrl": "https://login", "success": True}
        assert await r.client.login_url() == "https://login"
        r.fake.handlers["login/generateUrl"] = lambda _: {"success": False}
        with pytest.raises(RpcError):
            await r.client.login_url()


# -- asks -------------------------------------------------------------------------------------------------


async def test_ask_is_sent_as_given_and_its_pushes_come_as_they_are(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        answer = await r.client.ask(b'{"requestId":"r",  "x":1.50}', "r")
        assert r.client.in_flight == 1
        await r.fake.wait_for(lambda: r.fake.calls("chat/ask"))
        assert r.fake.calls("chat/ask")[0]["params"] == {"requestId": "r", "x": 1.5}
        await r.push("chat/answer", push_id=1, requestId="r", sessionId="s", text="Ja")
        await r.push("chat/answer", push_id=2, requestId="other", sessionId="s", text="no")
        await r.push("chat/finish", push_id=3, requestId="r", sessionId="s", statusCode=200)
        bodies: list[bytes] = []
        while not answer.ended or bodies == []:
            bodies += await answer.next(5)
        bodies += await answer.next(0)
        assert [json.loads(body)["method"] for body in bodies] == ["chat/answer", "chat/finish"]
        assert await answer.next(5) == []
        assert r.client.in_flight == 0
        assert answer.session_id == "s"
        await r.fake.wait_for(lambda: len(r.fake.acks) == 3)


async def test_lv_11_answer_to_the_request_is_not_waited_for(tmp_path: Path) -> None:
    """LV-11: given a chat/ask whose response never comes, expect the first delta at once."""
    async with rig(tmp_path) as r:
        r.fake.handlers["chat/ask"] = lambda _: SILENT
        await until(lambda: r.client.models)
        answer = await r.ask()
        await r.push("chat/answer", requestId="r", text="Ja")
        async with asyncio.timeout(0.5):
            assert len(await answer.next(5)) == 1
        answer.close()
        assert r.client._connection is not None
        assert r.client._connection._pending == {}


@pytest.mark.parametrize(
    ("reply", "message", "code"),
    [
        ({"success": False, "errorCode": "Q1", "errorMessage": "quota"}, "quota", "Q1"),
        ({"isSuccess": False, "errorMsg": "quota"}, "quota", None),
        ({"success": False}, "no reason given", None),
        ({"error": {"code": -32602, "message": "questionText empty"}}, "questionText empty", None),
    ],
)
async def test_lv_12_refused_ask_ends_at_once(
    tmp_path: Path, reply: dict[str, Any], message: str, code: str | None
) -> None:
    """LV-12: given `{"success":false,"errorCode":"Q1","errorMessage":"quota"}`, expect an error at once."""
    async with rig(tmp_path) as r:
        r.fake.handlers["chat/ask"] = lambda _: reply
        answer = await r.ask()
        async with asyncio.timeout(2):
            with pytest.raises(AskRefused, match=message) as caught:
                await answer.next(60)
        assert caught.value.code == code
        assert r.client.in_flight == 0


@pytest.mark.parametrize("reply", [{"isSuccess": True, "status": "success"}, None, [], {"success": True}])
async def test_every_other_reply_lets_the_ask_go_on(tmp_path: Path, reply: Any) -> None:
    async with rig(tmp_path) as r:
        r.fake.handlers["chat/ask"] = lambda _: reply
        answer = await r.ask()
        await r.fake.wait_for(lambda: r.fake.calls("chat/ask"))
        await r.push("chat/answer", requestId="r")
        assert len(await answer.next(5)) == 1
        assert not answer.ended


async def test_lv_13_push_for_an_unknown_request_is_dropped_and_acked(tmp_path: Path) -> None:
    """LV-13: given a push for unknown requestId `zz`, expect it ignored, no exception, acked."""
    async with rig(tmp_path) as r:
        await r.push("chat/answer", push_id=9, requestId="zz", text="x")
        await r.fake.wait_for(lambda: r.fake.acks)
        assert r.fake.acks == [{"jsonrpc": "2.0", "id": 9, "result": None}]
        assert r.client.ready


async def test_ask_as_a_notification(tmp_path: Path) -> None:
    async with rig(tmp_path, ask_style="notify") as r:
        await r.ask()
        await r.fake.wait_for(lambda: r.fake.calls("chat/ask"))
        assert "id" not in r.fake.calls("chat/ask")[0]


async def test_disconnect_ends_every_ask(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        answers = [await r.ask("r1"), await r.ask("r2")]
        await r.push("chat/answer", requestId="r1", text="Ja")
        await until(lambda: answers[0]._bodies)
        await r.fake.drop()
        assert len(await answers[0].next(5)) == 1
        for answer in answers:
            with pytest.raises(LingmaDisconnected):
                await answer.next(5)
        assert r.client.in_flight == 0


async def test_two_asks_cannot_share_an_id(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        first = await r.ask("r")
        with pytest.raises(InvalidRequest):
            await r.ask("r")
        first.close()
        await r.ask("r")


async def test_ask_too_long_leaves_nothing_registered(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(InvalidRequest):
            await r.client.ask(b'"' + b"x" * (64 * 2**20) + b'"', "r")
        assert r.client.in_flight == 0


async def test_stop_waits_for_its_confirmation(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        r.fake.handlers["chat/stop"] = lambda _: {}
        await r.client.stop("r", "s")
        assert r.fake.calls("chat/stop")[0]["params"] == {"requestId": "r", "sessionId": "s"}
        r.fake.handlers["chat/stop"] = lambda _: {"error": {"code": 1, "message": "no"}}
        with pytest.raises(RpcError):
            await r.client.stop("r", "s")


async def test_round_trip_of_a_tool(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.client.approve_tool(request_id="r", session_id="s", tool_call_id="t-1", approval=True)
        await r.client.send_tool_result(request_id="r", tool_call_id="t-1", name="find", result={"n": 1})
        await r.fake.wait_for(lambda: r.fake.calls("tool/invokeResult"))
        assert r.fake.calls("tool/call/approve")[0]["params"] == {
            "type": "tool_call",
            "sessionId": "s",
            "requestId": "r",
            "toolCallId": "t-1",
            "approval": True,
        }
        result = r.fake.calls("tool/invokeResult")[0]
        assert "id" not in result
        assert result["params"] == {
            "requestId": "r",
            "toolCallId": "t-1",
            "name": "find",
            "success": True,
            "errorMessage": "",
            "result": {"n": 1},
        }


async def test_closed_client_says_so(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        answer = await r.ask()
        await r.client.aclose()
        with pytest.raises(LingmaDisconnected):
            await answer.next(5)
        for call in (r.client.stop("r", "s"), r.client.auth_status(), r.ask("q")):
            with pytest.raises(LingmaNotReady):
                await call
