"""What a collector of spans shows of a turn: one trace through all processes, and nothing that was said."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.kernel.json import loads
from tests.e2e.conftest import Pair
from tests.e2e.tracing.conftest import CLIENT_SPAN, KEY, Asked, Site, begin_trace, names
from tests.fakes.codex_server import REASONING_MODEL, SERVER_ERROR, Fault
from tests.support.house import GOOGLE_KEYS
from tests.support.processes import pool_ready, serve, up
from tests.support.traces import Jaeger, Trace, Traces

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SECRET = "a-secret-word"
CHAT = "/v1/chat/completions"
LINGMA = "chat org_auto"
CODEX = f"chat {REASONING_MODEL}"
OF_A_LINGMA_TURN = (f"POST {CHAT}", LINGMA, "submit", "run w0/inst-0", "ask")

Complete = Callable[..., Trace]


def a_turn(model: str, said: str = f"say {SECRET}", *, stream: bool = True) -> dict[str, object]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": said}]}


@pytest.fixture(autouse=True)
def nothing_said(traces: Traces) -> Iterator[None]:
    """After each test: no prompt, no answer and no key in all that can be seen."""
    yield
    shown = traces.everything()
    assert "/v1/" in shown, "spans of requests are seen"
    for hidden in (SECRET, KEY, *GOOGLE_KEYS, "sk-one", "sk-two"):
        assert hidden not in shown


async def test_a_lingma_turn_is_one_trace_through_replica_and_worker(
    replicas: list[httpx2.AsyncClient], asked: Asked, complete: Complete
) -> None:
    answer = await replicas[0].post(CHAT, json=a_turn("org_auto"), headers=asked.headers)
    assert answer.status_code == 200, answer.text
    trace = complete(asked.id, *OF_A_LINGMA_TURN)

    (server,) = trace.below(CLIENT_SPAN)
    assert (server.name, server.kind, server.service) == (f"POST {CHAT}", "server", "lingma-gateway")
    assert server.attributes["http.status_code"] == 200
    assert names(trace.below(server)) == ["admission", LINGMA, "route"]
    attempt = trace.one(LINGMA)
    assert names(trace.below(attempt)) == ["place", "run w0/inst-0", "session.claim", "submit"]
    submit, run, ask = (trace.one(name) for name in ("submit", "run w0/inst-0", "ask"))
    assert (submit.kind, submit.instance) == ("producer", "g0")
    assert (trace.below(submit), trace.below(run), trace.below(ask)) == ([], [ask], [])
    assert run.linked_to == {submit.id}
    assert (run.service, run.instance, run.kind) == ("lingma-gateway-worker", "w0", "consumer")
    assert len(trace.spans) == 9, "and no span for each chunk"
    assert not any(span.failed for span in trace.spans)

    told = attempt.attributes
    turn_id = answer.headers["x-turn-id"]
    assert {name: told[name] for name in told if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lingma",
        "gen_ai.request.model": "org_auto",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": '["stop"]',
        "gen_ai.response.time_to_first_chunk": told["gen_ai.response.time_to_first_chunk"],
        "gen_ai.usage.input_tokens": told["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": told["gen_ai.usage.output_tokens"],
    }
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["gen_ai.response.time_to_first_chunk"] > 0
    assert (told["gateway.turn.id"], told["gateway.outcome"]) == (turn_id, "completed")
    assert (run.attributes["gateway.turn.id"], run.attributes["gateway.outcome"]) == (turn_id, "completed")
    assert answer.headers["x-trace-id"] == asked.id
    assert answer.headers["traceparent"].split("-")[1:3] == [asked.id, server.id]


async def test_one_process_makes_the_same_trace(
    traces: Traces, asked: Asked, complete: Complete, tmp_path: Path
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with up(tmp_path, WORKER_ID="w0", **env) as service:
        service.ready("/healthz", pool_ready(1))
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as client:
            await client.post(CHAT, json=a_turn("org_auto"), headers=asked.headers)
        trace = complete(asked.id, *OF_A_LINGMA_TURN)
    assert trace.one("run w0/inst-0").parent == trace.one(LINGMA).id
    assert {span.service for span in trace.spans} == {"lingma-gateway", "lingma-gateway-worker"}


async def test_what_a_client_does_on_two_replicas_is_one_trace(
    replicas: list[httpx2.AsyncClient], asked: Asked, complete: Complete
) -> None:
    for replica in replicas:
        await replica.post(CHAT, json=a_turn("org_auto", stream=False), headers=asked.headers)
    trace = complete(asked.id, *OF_A_LINGMA_TURN * 2)
    assert sorted(span.instance for span in trace.below(CLIENT_SPAN)) == ["g0", "g1"]
    attempts = {span.id: span.instance for span in trace.named(LINGMA)}
    submits = {span.id: span.instance for span in trace.named("submit")}
    runs = trace.named("run w0/inst-0")
    assert sorted(attempts[run.parent] for run in runs) == ["g0", "g1"]
    for run in runs:
        assert [submits[link] for link in run.linked_to] == [attempts[run.parent]]


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
async def test_a_turn_that_fails_over_shows_both_attempts(
    replicas: list[httpx2.AsyncClient],
    codex: Pair,
    asked: Asked,
    complete: Complete,
    traces: Traces,
    path: str,
) -> None:
    codex.codex.queue.append(SERVER_ERROR)
    body = a_turn(codex.THINKER)
    if path != CHAT:
        body["input"] = body.pop("messages")
    answer = await replicas[0].post(path, json=body, headers=asked.headers)
    assert answer.status_code == 200, answer.text
    trace = complete(asked.id, f"POST {path}", CODEX, CODEX, "POST", "POST")

    (server,) = trace.below(CLIENT_SPAN)
    first, second = sorted(trace.named(CODEX), key=lambda span: span.attributes["gateway.attempt"])
    assert {first.parent, second.parent} == {server.id}
    assert (first.failed, second.failed, server.failed) == (True, False, False)
    assert first.attributes["gateway.outcome"] == "failed"
    assert first.attributes["error.type"] == "upstream_protocol"
    assert "gen_ai.usage.output_tokens" not in first.attributes
    assert second.attributes["gateway.outcome"] == "completed"
    assert second.attributes["gen_ai.usage.output_tokens"] > 0
    for attempt, status in ((first, 500), (second, 200)):
        assert attempt.attributes["gen_ai.provider.name"] == "c1"
        (post,) = (span for span in trace.below(attempt) if span.name == "POST")
        assert (post.kind, post.attributes["http.response.status_code"]) == ("client", status)
        assert post.failed is (status == 500)
        assert post.attributes.get("gateway.outcome") == ("failed" if status == 500 else None)
    if isinstance(traces, Jaeger):  # as the howto of slow turns searches
        assert asked.id in traces.found_by("lingma-gateway", {"gateway.outcome": "failed"})
        turn_id = str(first.attributes["gateway.turn.id"])
        assert traces.found_by("lingma-gateway", {"gateway.turn.id": turn_id}) == {asked.id}


async def test_from_an_http_upstream_to_lingma_is_one_trace(
    replicas: list[httpx2.AsyncClient], codex: Pair, asked: Asked, complete: Complete
) -> None:
    """Codex fails twice, Gemini has nobody there, and Lingma answers, in another process."""
    codex.codex.queue.extend([SERVER_ERROR] * 2)
    body = a_turn(codex.LINGMA_LAST)
    answer = await replicas[1].post(CHAT, json=body, headers=asked.headers)
    assert answer.status_code == 200, answer.text
    trace = complete(asked.id, f"POST {CHAT}", CODEX, "submit", "run w0/inst-0", "ask")
    attempts = [span for span in trace.spans if span.name.startswith("chat ")]
    attempts.sort(key=lambda span: span.attributes["gateway.attempt"])
    assert [span.failed for span in attempts] == [True] * (len(attempts) - 1) + [False]
    assert (attempts[0].name, trace.one("submit").parent) == (CODEX, attempts[-1].id)


async def test_what_an_upstream_quotes_of_the_request_is_not_shown(
    replicas: list[httpx2.AsyncClient], codex: Pair, asked: Asked, complete: Complete
) -> None:
    quoting = Fault(status=400, error={"message": f"Invalid input: 'say {SECRET}'", "code": "invalid_value"})
    codex.codex.queue.append(quoting)
    answer = await replicas[0].post(CHAT, json=a_turn(codex.THINKER), headers=asked.headers)
    assert answer.status_code == 400
    attempt = complete(asked.id, f"POST {CHAT}", CODEX).one(CODEX)
    assert (attempt.failed, attempt.attributes["error.type"]) == (True, "invalid_request")


async def test_a_client_that_leaves_is_seen_in_both_processes(
    replicas: list[httpx2.AsyncClient], asked: Asked, complete: Complete
) -> None:
    body = a_turn("org_auto", f"count slowly to 500, {SECRET}")
    async with replicas[0].stream("POST", CHAT, json=body, headers=asked.headers) as answer:
        async for _ in answer.aiter_raw():
            break
    trace = complete(asked.id, *OF_A_LINGMA_TURN)
    for name in (LINGMA, "run w0/inst-0", "ask"):
        span = trace.one(name)
        assert (span.attributes["gateway.outcome"], span.failed) == ("cancelled", False), name


async def test_the_sampler_of_the_environment_decides_for_workers_too(
    site: Site, replicas: list[httpx2.AsyncClient], asked: Asked, complete: Complete
) -> None:
    """A replica that samples nothing, whatever its client asks for; the worker would sample everything."""
    env = site.env | {"OTEL_TRACES_SAMPLER": "always_off"}
    with serve(site.fleet.directory, site.fleet.redis.url, "silent", **env) as silent:
        silent.ready("/healthz", lambda answer: answer["ok"])
        async with httpx2.AsyncClient(base_url=silent.url, timeout=60) as replica:
            answer = await replica.post(CHAT, json=a_turn("org_auto"), headers=asked.headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["traceparent"].startswith(f"00-{asked.id}-")
        assert not int(answer.headers["traceparent"][-2:], 16) & 1
        assert silent.stop() == 0, "with it goes what was not exported yet"
    other = begin_trace()
    await replicas[0].post(CHAT, json=a_turn("org_auto"), headers=other.headers)
    complete(other.id, *OF_A_LINGMA_TURN)  # the worker exports in order, so nothing is on its way any more
    assert site.traces.trace(asked.id).spans == []


async def test_what_is_said_is_there_once_it_is_opted_in(
    site: Site, codex: Pair, asked: Asked, complete: Complete
) -> None:
    env = site.env | {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
    with serve(site.fleet.directory, site.fleet.redis.url, "telling", **env) as telling:
        telling.ready("/healthz", lambda answer: answer["ok"])
        assert "tracing.content_recorded" in telling.log
        async with httpx2.AsyncClient(base_url=telling.url, timeout=60) as replica:
            # A word of its own: what the other tests said is still not to be found.
            for model in ("org_auto", codex.THINKER):
                body = a_turn(model, "say told-word", stream=model == "org_auto")
                await replica.post(CHAT, json=body, headers=asked.headers)
    trace = complete(asked.id, LINGMA, CODEX, "run w0/inst-0")
    for name in (LINGMA, CODEX):
        told = trace.one(name).attributes
        assert loads(told["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "say told-word"}]}
        ]
        (output,) = loads(told["gen_ai.output.messages"])
        assert output["parts"][-1] == {"type": "text", "content": "told-word"}
        assert output["finish_reason"] == "stop"
    told_by = {span.name for span in trace.spans if "told-word" in str(span.attributes)}
    assert told_by == {LINGMA, CODEX}
