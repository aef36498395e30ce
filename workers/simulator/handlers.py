"""What each method answers. What is not here is unknown, the other dialect (session/*) included."""

import uuid
from typing import Any

from workers.simulator.ask import Ask
from workers.simulator.catalog import default_models
from workers.simulator.service import INVALID_PARAMS, Call, Handler, NoReply, RpcError
from workers.simulator.sessions import describe

VERSION = "2.11.1"


def _initialize(call: Call) -> object:
    call.connection.initialized = True
    if not call.params.get("rootUri") and not call.params.get("workspaceFolders"):
        call.service.shared.journal.line("get mtree failed: workspacePath is empty", level="ERROR")
    return {"capabilities": {}, "serverInfo": {"name": "lingma", "version": VERSION}}


def _null(call: Call) -> object:
    return None


def _empty(call: Call) -> object:
    return {}


def _success(call: Call) -> object:
    return {"success": True}


def _exit(call: Call) -> object:
    call.service.leave()
    return None


# -- chat -------------------------------------------------------------------------------------------------


def _chat_ask(call: Call) -> object:
    call.record()
    prompt = _prompt(call.params)
    if not prompt.strip():
        raise RpcError(INVALID_PARAMS, "questionText is empty")
    knobs = call.knobs
    refusal = _refusal(call)
    if refusal is not None and call.is_request:
        return refusal
    ask = Ask(call.service.shared, call.connection, call.params, knobs, prompt)
    if refusal is not None:
        # A notification has no response that could say no: the finish does.
        ask.refused = str(refusal["errorMessage"])
    call.service.asks.append(ask)
    call.afterwards.append(call.service.run_ask(ask))
    if knobs.ask_reply == "no":
        raise NoReply
    if knobs.ask_reply == "is_success":
        return {"isSuccess": True, "requestId": ask.request_id, "status": "success"}
    return {"success": True, "errorCode": "", "errorMessage": ""}


def _prompt(params: dict[str, Any]) -> str:
    context = params.get("chatContext")
    nested = context.get("text") if isinstance(context, dict) else None
    for value in (params.get("questionText"), params.get("text"), params.get("content"), nested):
        if isinstance(value, str) and value:
            return value
    return ""


def _refusal(call: Call) -> dict[str, Any] | None:
    knobs = call.knobs
    if not call.service.account.logged_in():
        return {"success": False, "errorCode": "401", "errorMessage": "not logged in"}
    if knobs.ask_reply == "error":
        return {"success": False, "errorCode": knobs.ask_error_code, "errorMessage": knobs.ask_error_message}
    if knobs.ask_reply == "rpc_error":
        raise RpcError(-32603, knobs.ask_error_message)
    return None


def _chat_stop(call: Call) -> object:
    call.record()
    request_id = call.params.get("requestId")
    for ask in call.service.asks:
        if ask.request_id == request_id:
            ask.stop()
    return {}


def _chat_stop_session(call: Call) -> object:
    call.record()
    session_id = call.params.get("sessionId")
    for ask in call.service.asks:
        if session_id in {ask.shown_session_id, ask.session.id if ask.session else None}:
            ask.stop()
    return {}


def _image_upload(call: Call) -> object:
    request_id = call.params.get("requestId", "")
    if not str(call.params.get("imageUri", "")).startswith("data:image/"):
        return {"requestId": request_id, "errorCode": "400", "errorMessage": "not an image", "result": None}
    url = f"http://127.0.0.1:{call.service.http_port}/static/{uuid.uuid4().hex}"
    result = {"result": {"requestId": request_id, "imageUrl": url}}
    notice = {"method": "image/uploadResultNotification", "params": result}
    call.afterwards.append(call.connection.raw(notice))
    return {"requestId": request_id, "errorCode": "", "errorMessage": "", "result": {"success": True}}


# -- sessions ---------------------------------------------------------------------------------------------


def _list_sessions(call: Call) -> object:
    return [describe(session) for session in call.service.shared.sessions.all()]


def _get_session(call: Call) -> object:
    session = call.service.shared.sessions.get(str(call.params.get("sessionId", "")))
    return describe(session) if session is not None else None


def _current_session(call: Call) -> object:
    session = call.service.shared.sessions.current
    return describe(session) if session is not None else None


def _delete_session(call: Call) -> object:
    session_id = call.params.get("sessionId") or call.params.get("id")
    return {"success": call.service.shared.sessions.delete(str(session_id))}


def _clear_sessions(call: Call) -> object:
    call.service.shared.sessions.clear()
    return {"success": True}


def _delete_chat(call: Call) -> object:
    session = call.service.shared.sessions.get(str(call.params.get("sessionId", "")))
    if session is None:
        return {"success": False}
    kept = [record for record in session.records if record.request_id != call.params.get("requestId")]
    found = len(kept) < len(session.records)
    session.records = kept
    return {"success": found}


# -- tools ------------------------------------------------------------------------------------------------


def _approve(call: Call) -> object:
    call.record()
    wanted = call.service.shared.tools.find(call.params.get("toolCallId"), call.params.get("requestId"))
    if wanted is not None:
        wanted.approve(call.params.get("approval") is True)
    return {}


def _invoke_result(call: Call) -> object:
    call.record()
    wanted = call.service.shared.tools.find(call.params.get("toolCallId"), call.params.get("requestId"))
    if wanted is not None:
        wanted.tell(call.params)
    return {"errorCode": None, "errorMessage": None}


def _tool_results(call: Call) -> object:
    session_id = call.params.get("sessionId")
    calls = [tool.sync(with_name=True) for tool in call.service.shared.tools.of_session(session_id)]
    return {"toolCalls": calls, "sessionId": session_id, "totalCount": len(calls)}


# -- login and configuration ------------------------------------------------------------------------------


def _auth_status(call: Call) -> object:
    return call.service.account.status()


def _generate_url(call: Call) -> object:
    return call.service.account.start_login(call.service.http_port)


def _auth_login(call: Call) -> object:
    login = call.service.account.start_login(call.service.http_port)
    return {"url": login["loginUrl"], "success": True}


def _device_login(call: Call) -> object:
    if not call.params.get("token"):
        return {"success": False, "errorCode": "400", "errorMsg": "token is empty"}
    call.service.account.log_in(call.params)
    call.afterwards.append(call.service.announce_login())
    return {"success": True, "errorCode": "", "errorMsg": ""}


def _sync_user_info(call: Call) -> object:
    token = call.params.get("securityOauthToken")
    if not token:
        return {"success": False, "uid": "", "name": "", "tokenExpireTime": 0}
    call.service.account.log_in(
        {
            "token": token,
            "refreshToken": call.params.get("refreshToken"),
            "expireTime": call.params.get("tokenExpireTime"),
        }
    )
    call.afterwards.append(call.service.announce_login())
    status = call.service.account.status()
    return {
        "success": status["status"] == 2,
        "uid": status["accountId"],
        "name": status.get("name", ""),
        "tokenExpireTime": status.get("expireTime", 0),
    }


def _logout(call: Call) -> object:
    call.service.account.log_out()
    call.afterwards.append(call.service.announce_login())
    return {"success": True}


def _profile_url(call: Call) -> object:
    state = uuid.uuid4().hex
    return {"url": f"http://127.0.0.1:{call.service.http_port}/profile?state={state}"}


def _query_models(call: Call) -> object:
    if not call.service.account.logged_in():
        return {}
    return default_models() if call.knobs.models is None else call.knobs.models


def _get_endpoint(call: Call) -> object:
    return {"endpoint": call.service.endpoint}


def _update_endpoint(call: Call) -> object:
    call.service.endpoint = str(call.params.get("endpoint", ""))
    endpoint = {"endpoint": call.service.endpoint}
    call.afterwards.append(call.service.broadcast("config/changeEndpoint", endpoint))
    return {"success": True}


def _user_plan(call: Call) -> object:
    raise RpcError(-32603, "failed to get user plan info: HTTP status 404")


HANDLERS: dict[str, Handler] = {
    "initialize": _initialize,
    "shutdown": _null,
    "exit": _exit,
    "ping": _success,
    "chat/ask": _chat_ask,
    "chat/stop": _chat_stop,
    "chat/stopSession": _chat_stop_session,
    "chat/like": _empty,
    "chat/systemEvent": _empty,
    "image/upload": _image_upload,
    "chat/listAllSessions": _list_sessions,
    "chat/listSessions": _list_sessions,
    "chat/getSessionById": _get_session,
    "chat/deleteSessionById": _delete_session,
    "chat/clearAllSessions": _clear_sessions,
    "chat/deleteChatById": _delete_chat,
    "session/getCurrent": _current_session,
    "tool/call/approve": _approve,
    "tool/invokeResult": _invoke_result,
    "tool/call/results": _tool_results,
    "auth/status": _auth_status,
    "auth/login": _auth_login,
    "auth/device_login": _device_login,
    "auth/refreshToken": _device_login,
    "auth/syncUserInfo": _sync_user_info,
    "auth/logout": _logout,
    "auth/stop_polling": _success,
    "auth/profile/getUrl": _profile_url,
    "login/generateUrl": _generate_url,
    "config/queryModels": _query_models,
    "config/getEndpoint": _get_endpoint,
    "config/updateEndpoint": _update_endpoint,
    "user/plan": _user_plan,
}
