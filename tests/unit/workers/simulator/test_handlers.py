"""Methods beside chat/ask."""

from typing import Any

import pytest

from tests.unit.workers.simulator.harness import Client, Simulator
from workers.simulator.handlers import HANDLERS


async def test_sessions_can_be_listed_read_and_deleted(peer: Client) -> None:
    await peer.result("chat/clearAllSessions")
    request_id = await peer.ask("say hello", sessionId="s-list")
    await peer.finish(request_id)
    (listed,) = await peer.result("chat/listAllSessions", {"projectUri": ""})
    assert (listed["sessionId"], listed["sessionTitle"]) == ("s-list", "say hello")
    assert listed["chatRecords"] == [{"requestId": request_id, "question": "say hello", "answer": "hello"}]
    assert (await peer.result("session/getCurrent"))["sessionId"] == "s-list"
    delete = {"sessionId": "s-list", "requestId": request_id}
    assert await peer.result("chat/deleteChatById", delete) == {"success": True}
    assert await peer.result("chat/deleteChatById", delete) == {"success": False}
    assert await peer.result("chat/deleteSessionById", {"id": "s-list"}) == {"success": True}
    assert await peer.result("chat/getSessionById", {"sessionId": "s-list"}) is None
    assert await peer.result("chat/deleteChatById", delete) == {"success": False}
    assert await peer.result("chat/listSessions") == []


async def test_models_are_listed_by_scene_and_only_when_logged_in(sim: Simulator, peer: Client) -> None:
    models = await peer.result("config/queryModels")
    assert [model["key"] for model in models["chat"]][:2] == ["org_auto", "kmodel"]
    assert {"chat", "assistant", "developer", "inline", "quest"} == models.keys()
    sim.turn(models={"chat": [{"key": "only"}]})
    assert await peer.result("config/queryModels") == {"chat": [{"key": "only"}]}
    sim.turn(login="out")
    assert await peer.result("config/queryModels") == {}


async def test_device_login_writes_the_files_and_logout_takes_the_user(sim: Simulator, peer: Client) -> None:
    sim.turn(login="auto", logged_in=False)
    assert (await peer.result("auth/status")) == {
        "status": 1,
        "token": "",
        "refreshToken": "",
        "accountId": "",
    }
    refused = await peer.result("auth/device_login", {"token": ""})
    assert refused["success"] is False
    params = {"token": "pt-x", "refreshToken": "rt-x", "userId": "42", "username": "ann", "expireTime": None}
    assert (await peer.result("auth/device_login", params))["success"] is True
    status = await peer.result("auth/status")
    assert (status["status"], status["name"], status["accountId"], status["token"]) == (
        2,
        "ann",
        "42",
        "pt-x",
    )
    cache = sim.work_dir / "cache"
    assert all((cache / name).stat().st_size for name in ("id", "user", "quota", "config.json"))
    assert (cache / "user").stat().st_mode & 0o777 == 0o600
    assert await peer.result("auth/logout") == {"success": True}
    assert (await peer.result("auth/status"))["status"] == 1
    sim.wait_log("Deleted user info file.")


async def test_user_info_can_be_synced(sim: Simulator, peer: Client) -> None:
    assert (await peer.result("auth/syncUserInfo", {}))["success"] is False
    synced = await peer.result("auth/syncUserInfo", {"securityOauthToken": "t", "tokenExpireTime": None})
    assert (synced["success"], synced["uid"]) == (True, "600100200300")
    await peer.result("auth/logout")


async def test_an_ask_while_logged_out_is_refused(sim: Simulator, peer: Client) -> None:
    sim.turn(login="out")
    refused = await peer.result("chat/ask", {"requestId": "r-out", "questionText": "x"})
    assert refused == {"success": False, "errorCode": "401", "errorMessage": "not logged in"}
    await peer.notify("chat/ask", {"requestId": "r-out", "questionText": "x"})
    assert (await peer.finish("r-out"))["reason"] == "not logged in"


async def test_the_endpoint_can_be_changed(sim: Simulator, peer: Client) -> None:
    assert await peer.result("config/updateEndpoint", {"endpoint": "https://x.invalid"}) == {"success": True}
    assert await peer.result("config/getEndpoint") == {"endpoint": "https://x.invalid"}
    await peer.until(lambda: peer.pushes, "config/changeEndpoint")
    assert peer.pushes[0]["params"] == {"endpoint": "https://x.invalid"}


async def test_an_image_is_taken_and_its_address_told(peer: Client) -> None:
    image = {"imageUri": "data:image/png;base64,AAAA", "requestId": "r-img"}
    taken = await peer.result("image/upload", image)
    assert taken["result"] == {"success": True}
    await peer.until(lambda: peer.pushes, "image/uploadResultNotification")
    push = peer.pushes[0]
    assert "id" not in push
    assert push["params"]["result"]["requestId"] == "r-img"
    assert (await peer.result("image/upload", {"imageUri": "x"}))["errorCode"] == "400"


async def test_the_plan_is_an_upstream_error(peer: Client) -> None:
    assert (await peer.call("user/plan"))["error"]["code"] == -32603


@pytest.mark.parametrize("method", ["shutdown", "chat/like", "auth/stop_polling"])
async def test_small_methods_answer(peer: Client, method: str) -> None:
    assert "result" in await peer.call(method)


def test_only_methods_of_the_classic_dialect_are_served() -> None:
    names: list[Any] = [name for name in HANDLERS if name.startswith("session/")]
    assert names == ["session/getCurrent"]
