"""The Responses protocol through the application, and the official SDK against it on a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from gateway.app import build_app
from gateway.kernel.errors import ErrorKind, QueueTimeout, UpstreamUnavailable
from gateway.kernel.json import dumps
from gateway.protocols.http import EdgeLimits
from gateway.turn.events import ErrorInfo, ItemStarted, TextDelta, TurnCompleted, TurnFailed
from gateway.turn.frame import Burst, Frame
from gateway.turn.items import ToolCall
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from tests.support.edge import (
    STARTED,
    FakeDeps,
    FakeEngine,
    Reply,
    Script,
    burst,
    call,
    saying,
    serving,
    text_events,
)
from tests.support.responses import called, said, thought
from tests.support.responses_schema import validate_response, validate_stream

USAGE = Usage(input_tokens=1, output_tokens=2)
CODEX = {"user-agent": "codex_cli_rs/0.130.0 (Linux)"}


def body(stream: bool = False, **fields: Any) -> bytes:
    return dumps({"model": "m", "input": "hello", "stream": stream, **fields})


async def ask(deps: FakeDeps, *, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    return await call(build_app(deps), "POST", "/v1/responses", body=body(**fields), headers=headers or {})


@contextlib.asynccontextmanager
async def sdk(deps: FakeDeps, key: str = "any") -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(build_app(deps)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10) as client,
    ):
        yield client


def refusing(error: Exception) -> FakeEngine:
    async def script(_: object) -> AsyncIterator[list[Any]]:
        raise error
        yield []

    return FakeEngine(script)


def failing(error: ErrorInfo) -> Script:
    return saying(STARTED, TurnFailed(error))


# -- paths and methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_both_paths_are_served(path: str) -> None:
    reply = await call(build_app(FakeDeps()), "POST", path, body=body())
    assert reply.status == 200
    validate_response(reply.json)


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_cv_64_other_methods_are_refused_in_the_envelope(path: str) -> None:
    """CV-64. Given HEAD and GET on the path, as `codex doctor` sends them: 405, no error of the server."""
    async with serving(build_app(FakeDeps(keys="secret"))) as url, httpx2.AsyncClient() as client:
        got = await client.get(f"{url}{path}")
        assert got.status_code == 405
        assert got.json()["error"]["code"] == "method_not_allowed"
        assert got.headers["allow"] == "POST"
        head = await client.head(f"{url}{path}")
        assert (head.status_code, head.content) == (405, b"")


# -- answers ----------------------------------------------------------------------------------------------


async def test_a_stream_and_a_whole_answer_say_the_same() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("A", "B", usage=USAGE))))
    whole = await ask(deps)
    assert whole.json["output_text"] == "AB"
    streamed = await ask(deps, stream=True)
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    response = validate_stream(streamed.body).response
    assert response["usage"] == whole.json["usage"]
    assert response["output"][0]["content"] == whole.json["output"][0]["content"]


async def test_an_upstreams_own_response_is_the_answer_but_for_the_models_name() -> None:
    raw = b'{ "id":"resp_up", "model":"gpt-2026", "status":"completed", "odd": 1.0, "output":[] }'

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield [Frame((STARTED, TurnCompleted("stop")), raw, "responses", 1, whole=True)]

    reply = await ask(FakeDeps(FakeEngine(script)))
    assert reply.body == raw.replace(b"gpt-2026", b"m")


async def test_cv_12_no_answer_names_another_model() -> None:
    """CV-12. Given a model that is not the upstream's: no `openai-model` header, and `model` is the one asked
    for, or Codex warns its user of a reroute.
    """
    for stream in (False, True):
        reply = await ask(FakeDeps(), headers=CODEX, stream=stream)
        assert "openai-model" not in reply.headers
        assert b'"model":"m"' in reply.body
        assert b"upstream-model" not in reply.body


async def test_the_setting_for_early_ends_reaches_the_stream() -> None:
    cut = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut off"))
    deps = FakeDeps(FakeEngine(saying(STARTED, *said("A")[:-1], *said("A")[-1:], cut)))
    for wanted in ("failed", "incomplete", "completed"):
        deps.responses_on_eof = wanted
        assert validate_stream((await ask(deps, stream=True)).body).response["status"] == wanted


async def test_the_sdk_reads_whole_answers_and_streams() -> None:
    events = [STARTED, *thought("hmm"), *said("A", "B", index=1), TurnCompleted("stop", USAGE)]
    async with sdk(FakeDeps(FakeEngine(saying(*events)))) as client:
        answer = await client.responses.create(model="gpt-x", input="hi")
        assert (answer.output_text, answer.model, answer.status) == ("AB", "gpt-x", "completed")
        assert answer.usage is not None
        assert answer.usage.total_tokens == 3
        reasoning = answer.output[0]
        assert reasoning.type == "reasoning"
        assert reasoning.summary[0].text == "hmm"

        text = ""
        async for event in await client.responses.create(model="m", input="hi", stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
        assert text == "AB"

        async with client.responses.stream(model="m", input="hi") as helper:
            thoughts = [e.delta async for e in helper if e.type == "response.reasoning_summary_text.delta"]
            final = await helper.get_final_response()
        assert (thoughts, final.output_text) == (["hmm"], "AB")


async def test_the_sdk_reads_tool_calls_and_structured_answers() -> None:
    class Person(BaseModel):
        name: str

    made = ToolCall(call_id="c1", name="find", arguments='{"q": 1}')
    events = [STARTED, *said('{"name":', '"Ada"}'), *called(made, index=1), TurnCompleted("tool_calls")]
    async with sdk(FakeDeps(FakeEngine(saying(*events)))) as client:
        answer = await client.responses.parse(model="m", input="hi", text_format=Person)
        assert answer.output_parsed == Person(name="Ada")
        assert answer.output[1].type == "function_call"
        async with client.responses.stream(model="m", input="hi", text_format=Person) as helper:
            arguments = [e async for e in helper if e.type == "response.function_call_arguments.delta"]
            final = await helper.get_final_response()
        assert arguments[-1].snapshot == '{"q": 1}'
        assert final.output_parsed == Person(name="Ada")


async def test_the_sdk_takes_keep_alives_before_and_between_events() -> None:
    release = asyncio.Event()

    async def slow(_: object) -> AsyncIterator[list[Any]]:
        await release.wait()
        yield burst(STARTED, *said("A"), TurnCompleted("stop"))

    deps = FakeDeps(FakeEngine(slow), limits=EdgeLimits(first_byte_hold_s=0.01, keepalive_s=0.02))
    async with sdk(deps) as client, client.responses.stream(model="m", input="hi") as helper:
        types = []
        async for event in helper:
            types.append(str(event.type))
            if types.count("keepalive") == 2:
                release.set()
        final = await helper.get_final_response()
    assert types[:4] == ["response.created", "response.in_progress", "keepalive", "keepalive"]
    assert final.output_text == "A"


# -- failures ---------------------------------------------------------------------------------------------


async def test_the_sdk_raises_its_own_classes_for_our_statuses() -> None:
    deps = FakeDeps(keys="good", limits=EdgeLimits(max_body_bytes=2000))
    async with sdk(deps, key="bad") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.responses.create(model="m", input="hi")
    async with sdk(deps, key="good") as client:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.responses.create(model="m", input="hi", previous_response_id="resp_1")
        assert (bad.value.param, bad.value.code) == ("previous_response_id", "previous_response_not_found")
        with pytest.raises(openai.APIStatusError) as large:
            await client.responses.create(model="m", input="x" * 5000)
        assert large.value.status_code == 413
    full = QueueTimeout("Too many in-flight requests", retry_after_s=1)
    async with sdk(FakeDeps(refusing(full))) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            await client.responses.create(model="m", input="hi", stream=True)
        assert limited.value.response.headers["retry-after"] == "1"


async def test_a_stream_that_fails_in_its_middle_says_so() -> None:
    failed = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_PROTOCOL, message="broken", retryable=True))
    script = saying(STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "a"), *said("a")[-1:], failed)
    async with sdk(FakeDeps(FakeEngine(script))) as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == ("server_error", "broken")


async def test_an_early_failure_has_its_status() -> None:
    deps = FakeDeps(FakeEngine(failing(ErrorInfo(kind=ErrorKind.WORKER_LOST, message="gone"))))
    for stream in (False, True):
        reply = await ask(deps, stream=stream)
        assert (reply.status, reply.json["error"]["code"]) == (502, "worker_lost")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (QueueTimeout("No slot", retry_after_s=1.5), "rate_limit_exceeded", "try again in 1.5s"),
        (UpstreamUnavailable("No login"), "server_error", "No login"),
    ],
)
async def test_codex_is_told_an_early_failure_inside_a_stream(error: Exception, code: str, says: str) -> None:
    reply = await ask(FakeDeps(refusing(error)), headers=CODEX, stream=True)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    found = validate_stream(reply.body)
    assert found.types == ["response.created", "response.in_progress", "response.failed"]
    assert found.response["error"]["code"] == code
    assert says in found.response["error"]["message"]


async def test_codex_is_told_its_own_mistakes_by_status() -> None:
    wrong = ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message="bad tool", param="tools")
    deps = FakeDeps(FakeEngine(failing(wrong)))
    assert (await ask(deps, headers=CODEX, stream=True)).status == 400
    assert (await ask(deps, headers=CODEX, stream=True, model="")).json["error"]["param"] == "model"


async def test_an_upstreams_word_for_the_conversation_is_translated() -> None:
    empty = ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message="There is no text", param="messages")
    assert (await ask(FakeDeps(FakeEngine(failing(empty))))).json["error"]["param"] == "input"


async def test_codex_without_a_stream_gets_statuses() -> None:
    deps = FakeDeps(refusing(QueueTimeout("No slot", retry_after_s=1)))
    assert (await ask(deps, headers=CODEX)).status == 429


async def test_cv_13_an_error_reads_well_as_it_is() -> None:
    """CV-13. Given a 400: its body is shown to the user as it is, so its message is a sentence that names the
    field and the remedy.
    """
    reply = await ask(FakeDeps(), input=[{"type": "item_reference", "id": "msg_9"}])
    assert reply.status == 400
    assert reply.json == {
        "error": {
            "message": "Item 'msg_9' is not in the input, and this gateway does not store items; please send "
            "the item itself",
            "type": "invalid_request_error",
            "param": "input.0.id",
            "code": "item_not_found",
        }
    }
