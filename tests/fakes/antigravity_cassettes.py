"""Record what the fake Gemini upstream answers: tests/cassettes/antigravity/*.sse and their index.

    python -m tests.fakes.antigravity_cassettes [NAME...]

Every scenario runs on an upstream of its own, so that recording again gives the same files. A cassette is a
comment with its header, and then the stream byte for byte as it came over the socket; where an answer can be
had whole, a file beside it holds that one.
"""

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.kernel.errors import UpstreamError
from gateway.kernel.json import JsonObject, dumps, loads
from gateway.upstreams.http import UpstreamHttp, UpstreamRequest
from tests.fakes.antigravity_brain import OVERLOADED, Part, Reply, limited, text
from tests.fakes.antigravity_server import AntigravityServer

CASSETTES = Path(__file__).resolve().parents[1] / "cassettes" / "antigravity"
INDEX = "index.json"
SOURCE = "fake upstream 1"
DATE = "2026-11-21"

THINKS: Mapping[str, Any] = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}


@dataclass(frozen=True)
class Scenario:
    about: str
    prompt: str = "hi"
    body: Mapping[str, Any] = field(default_factory=dict)
    reply: Reply | None = None
    envelope: bool = False
    ids: bool = True
    whole: bool = True
    """The same answer can be had without a stream."""


def _parts(*chunks: tuple[Part, ...], finish: str | None = "STOP", **more: Any) -> Reply:
    return Reply(chunks, finish, **more)


_GROUNDED = {
    "groundingMetadata": {
        "groundingChunks": [{"web": {"uri": "https://example.com/a", "title": "A page"}}],
        "groundingSupports": [
            {
                "segment": {"startIndex": 7, "endIndex": 13, "text": "灵码"},
                "groundingChunkIndices": [0],
            }
        ],
        "webSearchQueries": ["lingma"],
    }
}

SCENARIOS: dict[str, Scenario] = {
    "plain_text": Scenario("a text in pieces", "say Hello there, world"),
    "thoughts": Scenario("thoughts before a text", "think let me see then say Hello", THINKS),
    "one_call": Scenario("a call, signed", 'call read {"path": "a<b", "n": 1}'),
    "parallel_calls": Scenario("two calls, of which the first is signed", 'call read {"p": 1} and list {}'),
    "calls_without_ids": Scenario("calls of an upstream that knows no ids", 'call read {"p": 1}', ids=False),
    "thoughts_text_and_call": Scenario(
        "all three in one answer",
        reply=_parts(
            ({"text": "hm", "thought": True},),
            ({"text": "Let me look. "},),
            ({"functionCall": {"name": "read", "args": {"p": 1}}, "sign": True},),
        ),
    ),
    "signed_text": Scenario(
        "a text whose signature comes behind it",
        reply=_parts(({"text": "so "},), ({"text": "it is"},), ({"text": "", "sign": True},)),
    ),
    "unicode": Scenario("characters that break lines", 'say 灵码\u2028\u0085 “quoted” \\ " 🙂 end'),
    "many_pieces": Scenario("two hundred pieces", "long 200"),
    "code_execution": Scenario(
        "code that the upstream ran",
        reply=_parts(
            ({"text": "Running: "},),
            ({"executableCode": {"language": "PYTHON", "code": "print(6*7)"}},),
            ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}},),
            ({"text": "It is 42."},),
        ),
    ),
    "picture": Scenario("a picture behind a text", "draw"),
    "unknown_part": Scenario(
        "a part of a kind that nobody knows", reply=_parts(({"text": "a"},), ({"hologram": {"n": 1}},))
    ),
    "grounded": Scenario(
        "a text with its sources",
        reply=_parts(({"text": "It is "},), ({"text": " 灵码."},), candidate=_GROUNDED),
    ),
    "cut_short": Scenario("the limit of tokens", reply=_parts(({"text": "and so"},), finish="MAX_TOKENS")),
    "unsafe": Scenario("a filter in the middle", reply=_parts(({"text": "well"},), finish="SAFETY")),
    "blocked": Scenario("a prompt that was blocked", reply=Reply(finish=None, blocked="PROHIBITED_CONTENT")),
    "empty": Scenario("an answer that says nothing", reply=_parts(())),
    "malformed_call": Scenario(
        "a call that the model did not get right",
        reply=_parts((), finish="MALFORMED_FUNCTION_CALL", message="Malformed function call: read("),
    ),
    "late_end": Scenario(
        "the finish reason and the usage in chunks of their own",
        reply=Reply(text("Hello there"), ends_late=True),
    ),
    "error_in_stream": Scenario(
        "an error behind content",
        reply=Reply(text("Hello there"), finish=None, error=OVERLOADED.error),
        whole=False,
    ),
    "limit_in_stream": Scenario(
        "an error as the first chunk",
        reply=Reply(finish=None, error=limited(delay="20s").error, chunks=((),)),
        whole=False,
    ),
    "died": Scenario(
        "a connection that broke off", reply=Reply(text("Hello there"), finish=None, cut=True), whole=False
    ),
    "ended_without_a_reason": Scenario(
        "a stream that just ended", reply=Reply(text("Hello there"), finish=None), whole=False
    ),
    "enveloped_text": Scenario(
        "thoughts and a text inside Code Assist's envelope",
        "think hm then say Hello there",
        THINKS,
        envelope=True,
    ),
    "enveloped_call": Scenario("a call inside Code Assist's envelope", 'call read {"p": 1}', envelope=True),
    "enveloped_error": Scenario(
        "an error inside a stream of Code Assist",
        reply=Reply(text("Hello"), finish=None, error=limited(reason="QUOTA_EXHAUSTED").error),
        envelope=True,
        whole=False,
    ),
}


async def _ask(scenario: Scenario, method: str) -> bytes:
    server = AntigravityServer(envelope=scenario.envelope, ids=scenario.ids)
    if scenario.reply is not None:
        server.queue = [scenario.reply]
    contents = [{"role": "user", "parts": [{"text": scenario.prompt}]}]
    request: Any = {"contents": contents, **scenario.body}
    body: Any = request
    if scenario.envelope:
        body = {
            "model": "gemini-3-pro",
            "userAgent": "recorder",
            "requestType": "agent",
            "project": "project-1",
            "requestId": f"agent-{UUID(int=1)}",
            "request": {**request, "sessionId": "-1"},
        }
    pieces: list[bytes] = []
    async with server.running(), UpstreamHttp().running() as http:
        path = "/v1internal" if scenario.envelope else "/v1beta/models/gemini-3-pro"
        key = {"authorization": "Bearer good-key"} if scenario.envelope else {"x-goog-api-key": "good-key"}
        asked = UpstreamRequest(
            upstream="fake",
            url=f"{server.url}{path}:{method}",
            body=dumps(body),
            headers={"content-type": "application/json", **key},
        )
        with contextlib.closing(await http.post(asked)) as answer:
            assert answer.status == 200, await answer.read_error()
            try:
                async for piece in answer.chunks():
                    pieces.append(piece)
            except UpstreamError:
                assert scenario.reply is not None
                assert scenario.reply.cut
    return b"".join(pieces)


async def record(name: str) -> tuple[bytes, bytes | None]:
    """The stream with its header, and the whole answer."""
    scenario = SCENARIOS[name]
    header: JsonObject = {
        "cassette": name,
        "about": scenario.about,
        "upstream": "antigravity",
        "envelope": "code_assist" if scenario.envelope else "plain",
        "source": SOURCE,
        "date": DATE,
    }
    stream = await _ask(scenario, "streamGenerateContent?alt=sse")
    whole = await _ask(scenario, "generateContent") if scenario.whole else None
    return b": %b\n\n%b" % (dumps(header), stream), whole


def read(name: str) -> tuple[JsonObject, bytes]:
    """Header and stream of a cassette."""
    head, _, stream = (CASSETTES / f"{name}.sse").read_bytes().partition(b"\n\n")
    header = loads(head.removeprefix(b": "))
    assert isinstance(header, dict)
    return header, stream


def read_whole(name: str) -> bytes | None:
    path = CASSETTES / f"{name}.json"
    return path.read_bytes() if path.exists() else None


async def main(names: Sequence[str]) -> None:
    CASSETTES.mkdir(parents=True, exist_ok=True)
    for name in names or SCENARIOS:
        stream, whole = await record(name)
        (CASSETTES / f"{name}.sse").write_bytes(stream)
        if whole is not None:
            (CASSETTES / f"{name}.json").write_bytes(whole)
    index = {name: scenario.about for name, scenario in SCENARIOS.items()}
    (CASSETTES / INDEX).write_bytes(dumps(index).replace(b'","', b'",\n"') + b"\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
