"""Record what a Responses upstream streams: tests/cassettes/codex/*.sse and their index.

    PYTHONPATH=. python scripts/record_codex_cassettes.py [NAME...]

Every scenario asks the strict fake of the tests, which says the same every time. A cassette is a comment with
where it comes from, and then the stream, byte for byte.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.kernel.json import JsonObject, dumps
from tests.fakes.codex_brain import Answer, CallTool, Raw, Refuse, Say, Think
from tests.fakes.codex_server import REASONING_MODEL, CodexServer

CASSETTES = Path(__file__).resolve().parents[1] / "tests" / "cassettes" / "codex"
INDEX = "index.json"
SOURCE = "strict fake 1"
DATE = "2026-11-21"

UNICODE = (
    'Grüße, 灵码! 👩\u200d👩\u200d👧 e\u0301 \u2028 \u00a0 𝔘𝔫𝔦 <b>&amp;</b> \\ " \' data: x "response":{} '
)
SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}


@dataclass(frozen=True, slots=True)
class Scenario:
    about: str
    answer: Answer | None = None
    """None for what the prompt asks for."""
    prompt: str = "x"
    request: JsonObject = field(default_factory=dict)
    done_line: bool = False
    offers: tuple[str, ...] = ()


def _tools(*names: str) -> list[Any]:
    return [
        {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
        for name in names
    ]


_CUSTOM: Any = {"type": "custom", "name": "exec", "description": "runs"}

SCENARIOS: dict[str, Scenario] = {
    "text": Scenario("a short answer in a few deltas", Answer(pieces=(Say("Hello from the other side."),))),
    "reasoning": Scenario("a thought, sealed, and then an answer", prompt="think about it, then say done"),
    "silent_reasoning": Scenario(
        "a sealed thought without a summary", Answer(pieces=(Think(""), Say("done")))
    ),
    "many_deltas": Scenario("two hundred deltas", prompt="count from 1 to 200"),
    "unicode": Scenario(
        "characters of every width, and what looks like framing",
        Answer(pieces=(Say(UNICODE, tuple(UNICODE[at : at + 5] for at in range(0, len(UNICODE), 5))),)),
    ),
    "refusal": Scenario("a refusal", Answer(pieces=(Refuse(),))),
    "tool_call": Scenario(
        "a function call", prompt='call find {"q":"needle in a haystack"}', request={"tools": _tools("find")}
    ),
    "tool_calls": Scenario(
        "two calls after a few words",
        Answer(pieces=(Think(), Say("I look."), CallTool("find", '{"q":1}'), CallTool("now"))),
        request={"tools": _tools("find", "now")},
    ),
    "interleaved": Scenario(
        "items that are open side by side, and done in reverse",
        Answer(
            pieces=(Think(), CallTool("find", '{"q":"a"}'), CallTool("find", '{"q":"b"}'), Say("both")),
            interleaved=True,
        ),
        request={"tools": _tools("find")},
    ),
    "custom_tool": Scenario(
        "a call of a custom tool",
        Answer(pieces=(Think(), CallTool("exec", "ls -l\nls", custom=True))),
        request={"tools": [_CUSTOM]},
    ),
    "hosted_tool": Scenario(
        "an item of a tool that the upstream runs itself",
        Answer(pieces=(Raw(SEARCH), Say("found"))),
    ),
    "unknown_events": Scenario(
        "greetings, and events that nobody knows",
        Answer(
            pieces=(Say("hi"),),
            before=(
                {"type": "codex.rate_limits", "rate_limits": {"primary": {"used_percent": 1.5}}},
                {"type": "response.hologram.delta", "delta": {"x": [1, 2.50]}},
                {"type": "keepalive"},
            ),
        ),
    ),
    "empty_output": Scenario(
        "a terminal event whose output is empty",
        Answer(pieces=(Think(), Say("hi"), CallTool("find")), output="empty"),
        request={"tools": _tools("find")},
    ),
    "output_without_ids": Scenario(
        "a terminal event whose items lack their ids",
        Answer(pieces=(Think(), Say("hi")), output="without_ids"),
    ),
    "nothing": Scenario("an answer without any item", Answer()),
    "done_line": Scenario("a stream that ends with [DONE]", Answer(pieces=(Say("hi"),)), done_line=True),
    "length": Scenario(
        "an answer that was cut at its limit",
        Answer(pieces=(Think(), Say("as far as it")), end="max_output_tokens"),
    ),
    "filtered": Scenario(
        "an answer that a filter stopped", Answer(pieces=(Say("half"),), end="content_filter")
    ),
    "failed": Scenario(
        "a failure in the middle of a text",
        Answer(pieces=(Say("one two three four"),), end="failed", stop_after=6),
    ),
    "failed_at_once": Scenario(
        "a failure before anything was said",
        Answer(end="failed", error={"code": "rate_limit_exceeded", "message": "Please try again in 2s."}),
    ),
    "error_event": Scenario(
        "an error event in place of an end", Answer(pieces=(Say("one two"),), end="error", stop_after=6)
    ),
    "cut": Scenario(
        "a connection that is lost in the middle of a call",
        Answer(pieces=(Think(), CallTool("find", '{"q":"a long one"}')), end="cut", stop_after=16),
        request={"tools": _tools("find")},
    ),
    "compaction": Scenario(
        "a conversation that was compacted",
        request={"input": [{"role": "user", "content": "x"}, {"type": "compaction_trigger"}]},
    ),
}


async def record(name: str) -> bytes:
    """The cassette as a file holds it."""
    scenario = SCENARIOS[name]
    server = CodexServer(done_line=scenario.done_line)
    if scenario.answer is not None:
        server.queue.append(scenario.answer)
    body: JsonObject = {
        "model": REASONING_MODEL,
        "input": scenario.prompt,
        "stream": True,
        **scenario.request,
    }
    header = {"cassette": name, "about": scenario.about, "upstream": "codex", "source": SOURCE, "date": DATE}
    return b": %b\n\n" % dumps({**header, "request": body}) + await _streamed(server, body)


async def _streamed(server: CodexServer, body: JsonObject) -> bytes:
    pieces: list[bytes] = []
    sent = [{"type": "http.request", "body": dumps(body), "more_body": False}]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/responses",
        "headers": [(b"authorization", b"Bearer sk-one"), (b"content-type", b"application/json")],
    }

    async def receive() -> Any:
        if sent:
            return sent.pop()
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        else:
            pieces.append(message["body"])

    await server(scope, receive, send)
    return b"".join(pieces)


async def main(names: list[str]) -> None:
    CASSETTES.mkdir(parents=True, exist_ok=True)
    for name in names or SCENARIOS:
        (CASSETTES / f"{name}.sse").write_bytes(await record(name))
    index = {name: scenario.about for name, scenario in sorted(SCENARIOS.items())}
    lines = ",\n".join(f"  {dumps(name).decode()}: {dumps(about).decode()}" for name, about in index.items())
    (CASSETTES / INDEX).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
