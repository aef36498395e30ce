"""One chat/ask from acceptance to chat/finish: steps, title, thoughts, deltas, faults.

What is said is brain.py's business, native tool calls are tool_loop.py's, scripted pushes script.py's.
"""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.simulator.brain import Known, NativeCall, Plan, filler, plan, split
from workers.simulator.catalog import DEFAULT_MODEL
from workers.simulator.connection import ClientGone, Connection, Push
from workers.simulator.journal import Journal, flood_stderr
from workers.simulator.limiter import Limiter, LimitReached
from workers.simulator.options import Knobs
from workers.simulator.prompts import read_prompt
from workers.simulator.script import play
from workers.simulator.sessions import Session, Sessions, UnknownSession
from workers.simulator.tool_loop import run_tools
from workers.simulator.toolcalls import ToolDesk

# These happen in the middle of an answer, after fail_after deltas.
_FAULTS = frozenset({"crash_after_n", "hang_after_n", "close_ws", "finish_408"})
_FLOOD_BYTES = 5 * 1024 * 1024
_BREATH = 16
"""Without pauses, give way to other tasks after this many groups: chat/stop must get through."""


@dataclass(slots=True)
class Shared:
    """What all asks of the process share."""

    journal: Journal
    sessions: Sessions
    tools: ToolDesk
    limiter: Limiter = field(default_factory=Limiter)


@dataclass(slots=True, eq=False)
class Ask:
    """A running ask. `stop()` makes it finish as cancelled."""

    shared: Shared
    connection: Connection
    params: dict[str, Any]
    knobs: Knobs
    prompt: str
    request_id: str = ""
    is_reply: bool = False
    model: str = DEFAULT_MODEL
    session: Session | None = None
    shown_session_id: str = ""
    """The session id that pushes carry; the finish may say another."""
    said: list[str] = field(default_factory=list)
    refused: str = ""
    """Finish at once with this reason instead of answering."""
    _task: "asyncio.Task[None] | None" = None
    _stopped: bool = False
    _mute: bool = False
    _finished: bool = False

    def __post_init__(self) -> None:
        self.request_id = str(self.params.get("requestId") or "")
        self.is_reply = self.params.get("isReply") is True
        self.model = _model(self.params)
        self.shown_session_id = str(self.params.get("sessionId") or "")

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Answer, and end with a finish whatever happens but a lost client or a fault that forbids it."""
        self._task = asyncio.current_task()
        try:
            if self._stopped:
                await self._cancelled()
            else:
                await self._run_logged()
        except ClientGone:
            line = f"Client {self.connection.number} is closed, ignore request"
            self.shared.journal.line(line, level="WARN")

    async def _run_logged(self) -> None:
        started = time.monotonic()
        line = self.shared.journal.line
        kind, mode = self.params.get("sessionType", ""), self.params.get("mode", "")
        line(f"doAsk params.SessionType: {kind}, ChatMode: {mode}")
        line(f"Async chat, request id: {self.request_id}")
        try:
            await self._run_limited()
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            await self._cancelled()
        sent, received = len(self.prompt) // 4, len(self.said)
        line(
            f'[TOKEN_USAGE]: {{"completion_tokens":{received},"prompt_tokens":{sent},'
            f'"request_id":"{self.request_id}","total_tokens":{sent + received}}}'
        )
        line(f"finish chat answer requestId: {self.request_id} cost: {time.monotonic() - started:.1f}s")

    def stop(self) -> None:
        """Finish as cancelled, at once."""
        if self._stopped:
            return
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    def drop(self) -> None:
        """Say nothing any more: the client is gone."""
        self._mute = True
        self.stop()

    async def _cancelled(self) -> None:
        if not self._mute and not self._finished:
            await self.finish("cancelled", hold=False)

    async def _run_limited(self) -> None:
        knobs = self.knobs
        if self.refused:
            await self.finish(self.refused, 500)
            return
        try:
            async with self.shared.limiter.slot(knobs.concurrency, wait=knobs.over_limit == "queue"):
                await self._answer()
        except LimitReached:
            await self.finish("too many concurrent requests", 500)
        except UnknownSession:
            await self.finish("session not found", 500)

    # -- answer -------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        knobs = self.knobs
        due = asyncio.get_running_loop().time() + knobs.ttft_ms / 1000
        if knobs.fail == "hang":
            self._mute = True
            await asyncio.get_running_loop().create_future()
        known = self._enter_session()
        if knobs.script is not None:
            await play(self, knobs.script)
        else:
            if knobs.fail == "stderr_flood":
                await self._flood()
            await self._opening()
            answer = self._plan(known)
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()) + answer.wait_s)
            await self._think(answer.thoughts)
            await self._use_tools(answer.native)
            if knobs.fail != "empty":
                gap_ms = knobs.slow_gap_ms if answer.slow else knobs.delta_gap_ms
                await self._stream(answer.deltas, gap_ms / 1000)
            if knobs.fail in _FAULTS:
                await self._fault()
            else:
                await self.finish()

    def _enter_session(self) -> Known:
        knobs, asked_id = self.knobs, self.shown_session_id
        prompt = read_prompt(self.prompt, follow_up=self.is_reply)
        session = self.shared.sessions.begin(
            asked_id,
            is_reply=self.is_reply,
            users=prompt.users,
            request_id=self.request_id,
            unknown="new" if knobs.unknown_session == "new_late" else knobs.unknown_session,
        )
        late = knobs.unknown_session == "new_late" and asked_id
        self.session, self.shown_session_id = session, asked_id if late else session.id
        if knobs.finish_session:
            self.shared.sessions.alias(session, knobs.finish_session)
        return Known(
            text=prompt.last,
            earlier=tuple(session.users[:-1]),
            is_reply=self.is_reply,
            session_id=self._finish_session_id(),
            model=self.model,
            tool_result=prompt.tool_result,
            turns=len(session.users),
        )

    def _finish_session_id(self) -> str:
        if self.knobs.finish_session:
            return self.knobs.finish_session
        return self.session.id if self.session is not None else self.shown_session_id

    def _plan(self, known: Known) -> Plan:
        knobs = self.knobs
        if knobs.tokens:
            return Plan(deltas=filler(knobs.tokens))
        if not knobs.answer:
            return plan(known)
        text = knobs.answer.replace("{text}", known.text).replace("{report}", known.report())
        return Plan(deltas=split(text))

    async def _opening(self) -> None:
        pushes = [self.step("step_start"), self.step("step_end")]
        if self.session is not None and not self.session.title:
            self.session.title = " ".join(self.session.users[-1][:200].split())[:40]
            title = {"sessionId": self.shown_session_id, "sessionTitle": self.session.title}
            pushes.append(("session/title/update", title))
        await self.push(pushes)

    async def _think(self, thoughts: Sequence[str]) -> None:
        if not thoughts:
            return
        if self.knobs.thinking == "push":
            for text in thoughts:
                await self.push([self.thought(text, "start")])
            await self.push([self.thought("", "done")])
            return
        opening, closing = (
            ("<think>", "</think>") if self.knobs.thinking == "inline" else ("```think::\n", "\n```\n")
        )
        await self._stream([opening, *thoughts, closing], self.knobs.delta_gap_ms / 1000)

    async def _use_tools(self, wanted: NativeCall | None) -> None:
        calls = list(self.knobs.tools or [])
        if wanted is not None:
            calls.append({"name": wanted.name, "parameters": wanted.parameters})
        if calls:
            outcome = await run_tools(self, calls)
            await self._stream(split(outcome), self.knobs.delta_gap_ms / 1000)

    async def _stream(self, deltas: Sequence[str], gap_s: float) -> None:
        """Push deltas at a steady pace, `burst` of them per WebSocket message."""
        if self.knobs.fail in _FAULTS:
            deltas = deltas[: max(0, self.knobs.fail_after - len(self.said))]
        loop = asyncio.get_running_loop()
        group = max(1, self.knobs.burst)
        due = loop.time()
        for count, start in enumerate(range(0, len(deltas), group)):
            if count and gap_s > 0:
                # A late group does not push the next ones back, a long hold is not caught up with.
                due = max(due + gap_s, loop.time())
                await asyncio.sleep(due - loop.time())
            elif count % _BREATH == 0:
                await asyncio.sleep(0)
            texts = deltas[start : start + group]
            await self.push([self.delta(text) for text in texts])
            self.said.extend(texts)

    async def finish(self, reason: str = "success", status: int = 200, *, hold: bool = True) -> None:
        params = {
            "requestId": self.request_id,
            "sessionId": self._finish_session_id(),
            "reason": reason,
            "statusCode": status,
            "fullAnswer": "".join(self.said),
        }
        self._finished = True
        self.remember()
        await self.push([("chat/finish", params)], hold=hold)

    def remember(self) -> None:
        """Keep the answer; before the finish is sent, so that a follow-up or a restart finds it."""
        records = self.session.records if self.session is not None else []
        for record in records:
            if record.request_id == self.request_id:
                record.answer = "".join(self.said)
        if self.knobs.persist:
            self.shared.sessions.save()

    # -- faults -------------------------------------------------------------------------------------------

    async def _fault(self) -> None:
        match self.knobs.fail:
            case "crash_after_n":
                # What was sent must have left: a crash loses what is to come, not what was said.
                await asyncio.sleep(0.02)
                os.kill(os.getpid(), signal.SIGKILL)
            case "close_ws":
                await self.connection.close(1011, "internal error")
            case "finish_408":
                await self.finish("timeout", 408)
            case _:
                await asyncio.get_running_loop().create_future()

    async def _flood(self) -> None:
        await asyncio.wrap_future(flood_stderr(_FLOOD_BYTES))

    # -- pushes -------------------------------------------------------------------------------------------

    async def push(self, pushes: Sequence[Push], *, hold: bool = True) -> None:
        await self.connection.push(self.knobs, pushes, hold=hold)

    def step(self, step: str) -> Push:
        return "chat/process_step_callback", {
            "requestId": self.request_id,
            "sessionId": self.shown_session_id,
            "step": step,
            "description": "",
            "status": "done",
            "result": "",
            "message": "",
        }

    def thought(self, text: str, step: str) -> Push:
        return "chat/think", {
            "requestId": self.request_id,
            "sessionId": self.shown_session_id,
            "text": text,
            "step": step,
            "timestamp": _now_ms(),
        }

    def delta(self, text: str) -> Push:
        return "chat/answer", {
            "requestId": self.request_id,
            "sessionId": self.shown_session_id,
            "text": text,
            "overwrite": False,
            "isFiltered": False,
            "timestamp": _now_ms(),
            "extra": {"sessionType": "chat"},
        }


def _model(params: dict[str, Any]) -> str:
    custom, extra = params.get("customModel"), params.get("extra")
    if isinstance(custom, dict) and custom.get("model"):
        return str(custom["model"])
    config = extra.get("modelConfig") if isinstance(extra, dict) else None
    key = config.get("key") if isinstance(config, dict) else None
    return str(key) if key else DEFAULT_MODEL


def _now_ms() -> int:
    return int(time.time() * 1000)
