"""Play a list of pushes literally instead of an answer: transcripts, odd orders, malformed events.

A step is a push `{"method", "params", "after_ms"?, "id"?, "notify"?}`, a pause `{"wait_ms"}`, or a wait for
the client `{"wait": "approve" | "result", "toolCallId"}`. requestId and sessionId are filled in where absent;
a null removes them. Nothing is added: a script without chat/finish leaves the client waiting.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from workers.simulator.toolcalls import ToolCall

if TYPE_CHECKING:
    from workers.simulator.ask import Ask

Step = dict[str, Any]


async def play(ask: "Ask", steps: list[Step]) -> None:
    """Run a script; a wait that is not answered within tool_timeout_ms ends it."""
    calls = _expected_calls(ask, steps)
    for call in calls.values():
        ask.shared.tools.add(call)
    try:
        for step in steps:
            await _play_step(ask, step, calls)
    except TimeoutError:
        ask.shared.journal.line("script ended: the client did not answer", level="WARN")
    finally:
        for call in calls.values():
            ask.shared.tools.remove(call)


def _expected_calls(ask: "Ask", steps: list[Step]) -> dict[str, ToolCall]:
    """Calls are open from the start, so that an answer may come before the script waits for it."""
    ids = dict.fromkeys(str(step["toolCallId"]) for step in steps if "wait" in step and "toolCallId" in step)
    return {call_id: ToolCall(call_id, ask.request_id, ask.shown_session_id, "", {}) for call_id in ids}


async def _play_step(ask: "Ask", step: Step, calls: dict[str, ToolCall]) -> None:
    if "wait_ms" in step:
        await asyncio.sleep(float(step["wait_ms"]) / 1000)
        return
    if "wait" in step:
        call = calls[str(step.get("toolCallId"))]
        async with asyncio.timeout(ask.knobs.tool_timeout_ms / 1000):
            await (call.approval if step["wait"] == "approve" else call.result)
        return
    method = str(step.get("method", ""))
    default_ms = ask.knobs.delta_gap_ms if method == "chat/answer" else 0.0
    await asyncio.sleep(float(step.get("after_ms", default_ms)) / 1000)
    params = _filled(ask, step.get("params") or {})
    _listen(ask, method, params)
    if "id" in step:
        await ask.connection.raw({"id": step["id"], "method": method, "params": params})
    elif step.get("notify"):
        await ask.connection.raw({"method": method, "params": params})
    else:
        await ask.push([(method, params)])


def _filled(ask: "Ask", given: dict[str, Any]) -> dict[str, Any]:
    params = {"requestId": ask.request_id, "sessionId": ask.shown_session_id, **given}
    for key in ("requestId", "sessionId"):
        if params[key] is None:
            del params[key]
    return params


def _listen(ask: "Ask", method: str, params: dict[str, Any]) -> None:
    """Keep what was said and under which id the session goes on."""
    if method == "chat/answer":
        if params.get("overwrite"):
            ask.said.clear()
        ask.said.append(str(params.get("text") or ""))
    elif method == "chat/finish" and ask.session is not None:
        ask.shared.sessions.alias(ask.session, str(params.get("sessionId") or ""))
        ask.remember()
