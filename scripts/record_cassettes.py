"""Record what Lingma pushes for an ask: tests/cassettes/lingma/*.jsonl and their index.

    python scripts/record_cassettes.py [NAME...]

Every scenario runs on a simulator of its own, started as a real subprocess, through the worker's own client,
with the ask that the gateway would build. Frames are kept as they came; only their time stamps are replaced,
so that recording again gives the same files. A cassette is its header line, one frame a line and, where no
chat/finish ended the answer, a last line that says what did.
"""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from gateway.jobs.messages import Submit
from gateway.kernel.aio import background
from gateway.kernel.errors import UpstreamError
from gateway.kernel.ids import TurnId, derived_uuid
from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.turn.items import Message, TextPart
from gateway.turn.request import RawRequest, Turn
from gateway.upstreams.lingma.request import build_ask
from workers import pushes
from workers.lingma.client import LingmaClient
from workers.lingma.config import InstanceConfig, child_environment
from workers.lingma.errors import AskRefused
from workers.lingma.subscriptions import Subscription
from workers.simulator.handlers import VERSION
from workers.tools import ToolDesk

CASSETTES = Path(__file__).resolve().parents[1] / "tests" / "cassettes" / "lingma"
INDEX = "index.json"
SILENCE_S = 20.0
FIRST_TIMESTAMP_MS = 1_790_000_000_000
_TIMESTAMP = re.compile(rb'"timestamp":\d+')


@dataclass(frozen=True, slots=True)
class Scenario:
    about: str
    prompt: str
    knobs: Mapping[str, Json] = field(default_factory=dict)
    """Of the simulator, as in its sim.json."""
    is_reply: bool = False


def _answer(text: Json, **more: Json) -> Json:
    return {"method": "chat/answer", "params": {"text": text, "timestamp": 0, **more}}


def _think(text: str) -> Json:
    return {"method": "chat/think", "params": {"text": text, "timestamp": 0}}


def _push(method: str, **params: Json) -> Json:
    return {"method": method, "params": params}


def _finish(full: str = "", *, status: int = 200, reason: str = "success") -> Json:
    return _push("chat/finish", reason=reason, statusCode=status, fullAnswer=full)


def _played(*steps: Json) -> dict[str, Json]:
    return {"script": list(steps)}


UNICODE = (
    "Grüße, 灵码! 👩\u200d👩\u200d👧 e\u0301 \u2028 \u2029 \u00a0 𝔘𝔫𝔦"
    " <b>&amp;</b> \\ \" ' \t| data: x\n\nevent: y\r\n"
)

SCENARIOS: dict[str, Scenario] = {
    "plain_text": Scenario("a short answer in a few deltas", "say hello from the other side"),
    "many_deltas": Scenario("two hundred deltas", "count from 1 to 200"),
    "one_character_a_delta": Scenario(
        "every character is a delta", "x", _played(*(_answer(c) for c in "one by one"), _finish("one by one"))
    ),
    "unicode": Scenario(
        "characters of every width, line ends and what looks like framing",
        "x",
        _played(*(_answer(UNICODE[at : at + 7]) for at in range(0, len(UNICODE), 7)), _finish(UNICODE)),
    ),
    "empty_deltas": Scenario(
        "deltas without text between deltas with text",
        "x",
        _played(
            _answer(""), _answer(None), _answer("a"), _answer(""), _answer("b"), _answer(None), _finish("ab")
        ),
    ),
    "content_instead_of_text": Scenario(
        "the text in the other field", "x", _played(_push("chat/answer", content="from content"), _finish())
    ),
    "full_answer_only": Scenario("no delta; the finish says all", "x", _played(_finish("all at once"))),
    "overwrite_that_extends": Scenario(
        "an overwrite that begins with what was said",
        "x",
        _played(
            _answer("one"), _answer("one two", overwrite=True), _answer(" three"), _finish("one two three")
        ),
    ),
    "overwrite_that_replaces": Scenario(
        "an overwrite that takes back what was said",
        "x",
        _played(_answer("wrong start"), _answer("right", overwrite=True), _finish("right")),
    ),
    "thinking": Scenario("thoughts, then an answer", "think about it, then say done"),
    "thinking_inline": Scenario(
        "thoughts in tags inside the answer", "think about it, then say done", {"thinking": "inline"}
    ),
    "thinking_fence": Scenario(
        "thoughts in a fence inside the answer", "think about it, then say done", {"thinking": "fence"}
    ),
    "thinking_between_answers": Scenario(
        "thoughts and text by turns",
        "x",
        _played(_think("first"), _answer("one"), _think("second"), _answer(" two"), _finish("one two")),
    ),
    "thinking_only": Scenario("thoughts and then no answer", "x", _played(_think("only this"), _finish())),
    "empty_answer": Scenario("a finish without any text", "x", {"fail": "empty"}),
    "native_tool": Scenario(
        "a native tool call, approved, with its result",
        "x",
        {"tools": [{"name": "read_file", "id": "call-1", "parameters": {"path": "a.txt"}}]},
    ),
    "native_tool_card": Scenario(
        "a native tool call that also shows its card in the text",
        "x",
        {"tools": [{"name": "read_file", "id": "call-1", "parameters": {"path": "a.txt"}, "card": True}]},
    ),
    "native_tool_unnamed": Scenario(
        "a native tool call that is named in its invocation only",
        "x",
        {"tools": [{"name": "list_dir", "id": "call-1", "parameters": {}, "name_in_sync": False}]},
    ),
    "tool_call_in_text": Scenario(
        "a tool call as the model writes it", 'call tool get_weather with {"city": "Ulm"}'
    ),
    "steps_and_unknown_pushes": Scenario(
        "progress, titles, context usage and pushes that nobody knows, between deltas",
        "x",
        _played(
            _push("chat/process_step_callback", step="step_start", status="doing"),
            _push("session/title/update", sessionTitle="a title"),
            _answer("a"),
            _push("context/usage/sync", used=10, total=100),
            _push("chat/references", references=[{"url": "https://example.com"}]),
            _answer("b"),
            _push("chat/process_step_callback", step="step_end", status="done"),
            _push("chat/fromTheFuture", anything={"nested": [1, None, True]}),
            _finish("ab"),
        ),
    ),
    "filtered": Scenario(
        "an answer that was filtered", "x", _played(_answer("a"), _answer("", isFiltered=True), _finish("a"))
    ),
    "filtered_before_any_text": Scenario(
        "filtered before anything was said", "x", _played(_push("chat/filterTimeout"), _finish())
    ),
    "finish_408": Scenario("a time-out in the middle", "count from 1 to 20", {"fail": "finish_408"}),
    "finish_500": Scenario(
        "an error in the middle", "x", _played(_answer("half"), _finish("half", status=500, reason="boom"))
    ),
    "finish_500_at_once": Scenario(
        "an error before any content", "x", {"unknown_session": "error"}, is_reply=True
    ),
    "finish_cancelled": Scenario(
        "somebody else stopped the answer",
        "x",
        _played(_answer("half"), _finish("half", reason="cancelled")),
    ),
    "error_notification": Scenario(
        "an error that is no finish",
        "x",
        _played(_answer("half"), _push("error/notificationError", errorMessage="quota")),
    ),
    "refused": Scenario("the ask is refused in its result", "x", {"ask_reply": "error"}),
    "refused_by_rpc": Scenario("the ask is refused as a call", "x", {"ask_reply": "rpc_error"}),
    "died": Scenario("the process dies in the middle", "count from 1 to 20", {"fail": "crash_after_3"}),
    "connection_lost": Scenario(
        "the connection is closed in the middle", "count from 1 to 20", {"fail": "close_ws"}
    ),
    "other_session": Scenario(
        "answered in another session than the one asked for", "say hi", {"finish_session": "session-2"}
    ),
    "huge_delta": Scenario("one delta of 64 KiB", "x" * 65536, {"answer": "{text}"}),
}


async def record(name: str) -> list[bytes]:
    """The lines of one cassette."""
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="cassette-") as directory:
        knobs = {"delta_gap_ms": 0, "ttft_ms": 0, **scenario.knobs}
        (Path(directory) / "sim.json").write_bytes(dumps({"login": "in", **knobs}))
        client = LingmaClient(
            InstanceConfig(work_dir=Path(directory), environment=child_environment(os.environ))
        )
        try:
            async with background(client.run()):
                await client.ensure_ready()
                frames, end = await _ask(client, name, scenario)
        finally:
            await client.aclose()
    header: JsonObject = {
        "cassette": name,
        "about": scenario.about,
        "upstream": "lingma",
        "source": f"simulator {VERSION}",
        "prompt": scenario.prompt if len(scenario.prompt) <= 200 else f"{len(scenario.prompt)} characters",
        "knobs": dict(scenario.knobs),
        "date": _recorded_on(name),
    }
    return [dumps(header), *_scrubbed(frames), *([dumps({"end": end})] if end else [])]


async def _ask(client: LingmaClient, name: str, scenario: Scenario) -> tuple[list[bytes], JsonObject | None]:
    turn = Turn(
        id=TurnId(f"cassette-{name}"),
        tenant="cassette",
        created_at_ms=FIRST_TIMESTAMP_MS,
        model="org_auto",
        items=(Message(role="user", parts=(TextPart(scenario.prompt),)),),
        raw=RawRequest("lingma", {}),
    )
    request_id = derived_uuid(turn.id, "ask", 1)
    ask = build_ask(
        turn,
        model=turn.model,
        mode="chat",
        request_id=request_id,
        session_id=derived_uuid(turn.id, "session", 1),
        is_reply=scenario.is_reply,
        tools=(),
    )
    submit = Submit(
        instance="inst-0",
        params=ask.params,
        upstream_request_id=request_id,
        session_id=ask.session_id,
        deadline_ms=0,
        tool_roundtrip="approve",
    )
    answer = await client.ask(ask.params, request_id)
    try:
        return await _read(answer, ToolDesk(client, submit), ask.session_id)
    finally:
        answer.close()


async def _read(
    answer: Subscription, tools: ToolDesk, session_id: str
) -> tuple[list[bytes], JsonObject | None]:
    """What a worker would read: up to the push that ends the answer, or to the error that does."""
    frames: list[bytes] = []
    while True:
        try:
            bodies = await answer.next(SILENCE_S)
        except UpstreamError as error:
            how = "refused" if isinstance(error, AskRefused) else "disconnected"
            return frames, {"how": how, "kind": str(error.kind), "message": error.message}
        if not bodies:
            raise SystemExit("the simulator fell silent")
        for body in bodies:
            frames.append(body)
            push = pushes.read(body)
            if push.method in (pushes.FINISH, pushes.ERROR):
                return frames, None
            if (tool := pushes.tool_ask(push)) is not None:
                await tools.ask(tool, session_id)


def _scrubbed(frames: Sequence[bytes]) -> list[bytes]:
    return [
        _TIMESTAMP.sub(b'"timestamp":%d' % (FIRST_TIMESTAMP_MS + number), frame)
        for number, frame in enumerate(frames)
    ]


def _recorded_on(name: str) -> str:
    """The date stays as long as the simulator's version does: what changes nothing changes no file."""
    path = CASSETTES / f"{name}.jsonl"
    if path.is_file():
        header = loads(path.read_bytes().splitlines()[0])
        if isinstance(header, dict) and header.get("source") == f"simulator {VERSION}":
            return str(header["date"])
    return date.today().isoformat()  # noqa: DTZ011 - a day, wherever it is recorded


async def main(names: Sequence[str]) -> None:
    CASSETTES.mkdir(parents=True, exist_ok=True)
    for name in names or SCENARIOS:
        lines = await record(name)
        (CASSETTES / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        print(f"{name}: {len(lines)} lines", file=sys.stderr)
    if not names:
        for path in CASSETTES.glob("*.jsonl"):
            if path.stem not in SCENARIOS:
                path.unlink()
    index = b",\n".join(b"  %b: %b" % (dumps(name), dumps(SCENARIOS[name].about)) for name in SCENARIOS)
    (CASSETTES / INDEX).write_bytes(b"{\n" + index + b"\n}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
