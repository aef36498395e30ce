"""One connected trace for a turn: what is a span below what, what it says, and that it holds no prompt."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import container
from gateway.settings import load
from gateway.telemetry.setup import Tracing, traced_by
from tests.fakes.codex_server import REASONING_MODEL, SERVER_ERROR, CodexServer
from tests.support.edge import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

PROMPT = "say a-secret-word"


class Spans:
    """What was exported, by name."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def below(self, parent: ReadableSpan) -> list[str]:
        return [
            span.name
            for span in self.all
            if span.parent is not None and span.parent.span_id == parent.context.span_id
        ]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    exporter = InMemorySpanExporter()

    def tracing(*_: object, **__: object) -> Tracing:
        return traced_by(SimpleSpanProcessor(exporter))

    monkeypatch.setattr(container, "start_tracing", tracing)
    yield Spans(exporter)


@pytest.fixture
async def upstream() -> CodexServer:
    return CodexServer()


@pytest.fixture
async def client(spans: Spans, upstream: CodexServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(upstream) as url:
        settings, _ = load(
            {
                "REDIS_URL": "memory://",
                "CODEX_BASE_URL": f"{url}/v1",
                "CODEX_API_KEYS": "sk-one,sk-two",
                "CODEX_MODELS": REASONING_MODEL,
                "METRICS_PUBLIC": "true",
            }
        )
        async with (
            container.open_deps(settings) as deps,
            serving(deps.asgi) as base,
            httpx2.AsyncClient(base_url=base, timeout=20) as http,
        ):
            yield http


async def test_what_became_of_remembered_reasoning_is_counted(
    client: httpx2.AsyncClient, spans: Spans
) -> None:
    said: list[Any] = [{"role": "user", "content": "say one"}]
    for answer in ("one", "two"):
        body: Any = {"model": REASONING_MODEL, "messages": said}
        told = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        assert told["content"] == answer
        said += [{"role": "assistant", "content": answer}, {"role": "user", "content": "say two"}]
    reads = [(span.attributes or {})["gateway.replay.items"] for span in spans.named("replay.read")]
    assert reads == [0, 1]
    metrics = (await client.get("/metrics")).text
    for event, count in (("missed", 1), ("injected", 1), ("kept", 2)):
        assert f'gateway_replay_total{{event="{event}",upstream="codex"}} {count}.0' in metrics


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_fails_over_is_one_trace(
    client: httpx2.AsyncClient, upstream: CodexServer, spans: Spans, stream: bool
) -> None:
    upstream.queue.append(SERVER_ERROR)
    body: Any = {
        "model": REASONING_MODEL,
        "stream": stream,
        "messages": [{"role": "user", "content": PROMPT}],
    }
    answer = await client.post("/v1/chat/completions", json=body)
    assert "a-secret-word" in answer.text

    (server,) = spans.named("POST /v1/chat/completions")
    assert answer.headers["x-trace-id"] == f"{server.context.trace_id:032x}"
    assert {span.context.trace_id for span in spans.all} == {server.context.trace_id}
    first, second = spans.named(f"chat {REASONING_MODEL}")
    assert spans.below(server) == ["route", "admission", first.name, second.name]
    assert spans.below(first) == ["replay.read", "POST"]
    assert spans.below(second) == ["replay.read", "replay.keep", "POST"]
    failed, asked = [span.attributes or {} for span in spans.named("POST")]
    assert (failed["http.response.status_code"], asked["http.response.status_code"]) == (500, 200)
    assert asked["server.address"] == "127.0.0.1"
    assert (first.attributes or {})["gateway.attempt"] == 1
    told = second.attributes or {}
    assert (told["gateway.attempt"], told["gateway.outcome"]) == (2, "completed")
    assert told["gen_ai.usage.output_tokens"]
    assert all("sk-" not in span.to_json() for span in spans.all)
    assert all("a-secret-word" not in span.to_json() for span in spans.all), "no prompt and no answer"


async def test_a_trace_of_the_client_s_goes_on_here(
    client: httpx2.AsyncClient, upstream: CodexServer, spans: Spans
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body: Any = {"model": REASONING_MODEL, "messages": [{"role": "user", "content": PROMPT}]}
    answer = await client.post("/v1/chat/completions", json=body, headers={"traceparent": parent})
    assert answer.headers["x-trace-id"] == "0af7651916cd43dd8448eb211c80319c"
    (server,) = spans.named("POST /v1/chat/completions")
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    assert "traceparent" not in upstream.requests[-1].headers, "the vendor is told of no trace of ours"
