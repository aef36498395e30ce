"""What a collector of spans shows of turns on a WebSocket: below one span of the connection, nothing said."""

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.tracing.conftest import CLIENT_SPAN, KEY, Asked, Site, names
from tests.fakes.codex_server import REASONING_MODEL, SERVER_ERROR
from tests.support.sockets import refusal, talking
from tests.support.traces import Trace, Traces

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SECRET = "quassel-socket-word"
SERVER = "GET /v1/responses"
LINGMA = "chat org_auto"
CODEX = f"chat {REASONING_MODEL}"

Complete = Callable[..., Trace]


@pytest.fixture(autouse=True)
def nothing_said(traces: Traces) -> Iterator[None]:
    """After each test: no prompt, no answer and no key in all that can be seen."""
    yield
    shown = traces.everything()
    assert "/v1/" in shown, "spans of requests are seen"
    assert SECRET not in shown
    assert KEY not in shown


async def test_every_turn_is_below_the_connection(
    site: Site, codex: Pair, asked: Asked, complete: Complete
) -> None:
    """Two turns on Lingma, one that fails over on another upstream, and a prewarm that asks nobody."""
    traceparent = asked.headers["traceparent"]
    async with talking(site.fleet.urls[0], "org_auto", key=KEY, traceparent=traceparent) as on:
        assert on.socket.response is not None
        told = on.socket.response.headers
        await on.turn(generate=False)
        answers = [await on.turn(f"say {SECRET}"), await on.turn("report")]
        codex.codex.queue.append(SERVER_ERROR)
        answers.append(await on.turn(f"say {SECRET} again", model=codex.THINKER))
        assert [answer.last["type"] for answer in answers] == ["response.completed"] * 3
        # Seen while the connection is open, all but its own span.
        complete(asked.id, LINGMA, LINGMA, "run w0/inst-0", "run w0/inst-0", CODEX, CODEX)
    trace = complete(asked.id, SERVER, *[LINGMA] * 2, *["submit", "run w0/inst-0", "ask"] * 2, *[CODEX] * 2)

    (server,) = trace.below(CLIENT_SPAN)
    assert (server.name, server.kind, server.service) == (SERVER, "server", "lingma-gateway")
    assert server.attributes["http.status_code"] == 101
    assert server.attributes["http.route"] == "/v1/responses"
    assert (told["x-trace-id"], told["traceparent"].split("-")[1:3]) == (asked.id, [asked.id, server.id])
    turns = ["admission", "route"] * 3
    assert names(trace.below(server)) == sorted([*turns, LINGMA, LINGMA, CODEX, CODEX])
    attempts = trace.named(LINGMA)
    runs = trace.named("run w0/inst-0")
    assert {run.parent for run in runs} == {attempt.id for attempt in attempts}
    ids = {attempt.attributes["gateway.turn.id"] for attempt in attempts}
    assert ids == {answer.response["id"].removeprefix("resp_") for answer in answers[:2]}
    for attempt in attempts:
        seen = attempt.attributes
        assert (seen["gateway.outcome"], seen["gen_ai.request.stream"]) == ("completed", True)
        assert seen["gen_ai.usage.output_tokens"] > 0
        assert seen["gateway.request.id"] == told["x-request-id"]
    assert sorted(span.failed for span in trace.named(CODEX)) == [False, True]
    posts = trace.named("POST")
    assert {post.parent for post in posts} == {span.id for span in trace.named(CODEX)}
    assert not server.failed


async def test_a_client_that_leaves_is_seen_in_both_processes(
    site: Site, asked: Asked, complete: Complete
) -> None:
    traceparent = asked.headers["traceparent"]
    async with talking(site.fleet.urls[0], "org_auto", key=KEY, traceparent=traceparent) as on:
        await on.create(f"count slowly to 500, {SECRET}")
        while "output_text.delta" not in str(await on.socket.recv()):
            pass
        on.socket.transport.abort()
    trace = complete(asked.id, SERVER, LINGMA, "run w0/inst-0", "ask")
    for name in (LINGMA, "run w0/inst-0", "ask"):
        span = trace.one(name)
        assert (span.attributes["gateway.outcome"], span.failed) == ("cancelled", False), name


async def test_a_websocket_that_is_refused_is_a_span(site: Site, asked: Asked, complete: Complete) -> None:
    status, _, headers = await refusal(
        site.fleet.urls[0], origin="https://evil.example", traceparent=asked.headers["traceparent"]
    )
    assert (status, headers["x-trace-id"]) == (403, asked.id)
    (span,) = complete(asked.id, SERVER).spans
    assert (span.parent, span.kind, span.attributes["http.status_code"]) == (CLIENT_SPAN, "server", 403)
