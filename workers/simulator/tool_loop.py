"""The model uses one of the binary's own tools: announce, wait for approval, invoke, wait for the result.

The order is the plugin's: sync PENDING, approve, sync RUNNING, invoke, result, sync FINISHED.
"""

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

from workers.simulator.connection import Answer
from workers.simulator.toolcalls import ToolCall

if TYPE_CHECKING:
    from workers.simulator.ask import Ask


async def run_tools(ask: "Ask", wanted: list[dict[str, Any]]) -> str:
    """Run the calls one after the other; the result is what the model says about them."""
    told = []
    for entry in wanted:
        call = ToolCall(
            id=str(entry.get("id") or f"call-{secrets.token_hex(4)}"),
            request_id=ask.request_id,
            session_id=ask.shown_session_id,
            name=str(entry.get("name") or "tool"),
            parameters=entry.get("parameters") or {},
        )
        ask.shared.tools.add(call)
        try:
            told.append(f"{call.name} {await _run(ask, call, entry)}")
        finally:
            ask.shared.tools.remove(call)
    return "; ".join(told) + "\n"


async def _run(ask: "Ask", call: ToolCall, entry: dict[str, Any]) -> str:
    timeout_s = ask.knobs.tool_timeout_ms / 1000
    named = entry.get("name_in_sync", True) is not False
    try:
        async with asyncio.timeout(timeout_s):
            await _sync(ask, call, "PENDING", named=named, card=entry.get("card") is True)
            if not await call.approval:
                await _sync(ask, call, "CANCELLED", named=named)
                return "was rejected"
            await _sync(ask, call, "RUNNING", named=named)
            result = await _invoke(ask, call, is_async=entry.get("async", True) is not False)
    except TimeoutError:
        await _sync(ask, call, "ERROR", named=named, error="tool call timed out")
        return "timed out"
    if result.get("success") is False:
        message = str(result.get("errorMessage") or "tool failed")
        await _sync(ask, call, "ERROR", named=named, error=message)
        return f"failed: {message}"
    given = result.get("result")
    call.results = [given if isinstance(given, dict) else {"result": given}]
    await _sync(ask, call, "FINISHED", named=named, card=entry.get("card") is True)
    return f"returned {json.dumps(given, ensure_ascii=False)}"


async def _sync(
    ask: "Ask", call: ToolCall, status: str, *, named: bool, error: str = "", card: bool = False
) -> None:
    call.status = status
    pushes = [("tool/call/sync", call.sync(with_name=named, error=error))]
    if card:
        pushes.append(ask.delta(f"\n```toolCall::{call.name}::{call.id}::{status}\n```\n"))
    await ask.push(pushes)


async def _invoke(ask: "Ask", call: ToolCall, *, is_async: bool) -> dict[str, Any]:
    params = {
        "requestId": call.request_id,
        "toolCallId": call.id,
        "name": call.name,
        "parameters": call.parameters,
        "async": is_async,
    }
    answer = await ask.connection.ask_back(ask.knobs, "tool/invoke", params)
    if not is_async:
        answer.add_done_callback(lambda done: _direct_result(call, done))
    return await call.result


def _direct_result(call: ToolCall, answer: Answer) -> None:
    """A response that holds a result object stands for tool/invokeResult; a plain ack does not."""
    response = None if answer.cancelled() else answer.result()
    if response is None:
        return
    if "error" in response:
        call.tell({"success": False, "errorMessage": str(response["error"])})
    elif response.get("result") is not None:
        call.tell({"success": True, "result": response["result"]})
