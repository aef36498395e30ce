"""The Gemini protocol through the application, and the official SDK against it on a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError, ServerError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.keys import ApiKey, KeyRing
from gateway.access.tiers import Tiers
from gateway.app import build_app
from gateway.kernel.errors import ErrorKind, GatewayError, ModelNotFound, QueueTimeout, UpstreamUnavailable
from gateway.kernel.json import loads
from gateway.protocols.http import EdgeLimits
from gateway.turn.events import (
    ErrorInfo,
    ItemDone,
    ItemStarted,
    TextDelta,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
)
from gateway.turn.frame import Burst, Frame
from gateway.turn.items import Dialect, ToolCall
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter
from tests.support.edge import (
    STARTED,
    Driver,
    FakeDeps,
    FakeEngine,
    Reply,
    burst,
    call,
    saying,
    serving,
    text_events,
)

# The SDK makes a class out of one of aiohttp's, which aiohttp would rather it did not.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")

FAILED = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut off", retryable=True))


BODY = b'{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}'


async def post(deps: FakeDeps, path: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(build_app(deps), "POST", path, body=BODY, headers=named)


def failing(error: GatewayError) -> FakeEngine:
    async def script(_: Turn) -> AsyncIterator[Burst]:
        raise error
        yield []

    return FakeEngine(script)


def cut_off() -> FakeDeps:
    """A turn that says something and fails."""

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield burst(STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "a"))
        yield burst(FAILED)

    return FakeDeps(FakeEngine(script))


def events(reply: Reply) -> list[Any]:
    return [loads(event.data) for event in SseSplitter().feed(reply.body) if event.data is not None]


# -- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/org_auto", "org_auto"),
        ("/v1/models/org_auto", "org_auto"),
        ("/v1beta/models/models/org_auto", "org_auto"),
        ("/v1beta/models/vendor/coder:free", "vendor/coder:free"),
        ("/v1/models/vendor/coder:free", "vendor/coder:free"),
        ("/v1beta/tunedModels/mine", "tunedModels/mine"),
        ("/v1beta1/publishers/google/models/gemini-x", "gemini-x"),
        ("/v1beta1/projects/p/locations/l/publishers/google/models/gemini-x", "gemini-x"),
    ],
)
async def test_the_model_is_in_the_address(path: str, model: str) -> None:
    deps = FakeDeps()
    reply = await post(deps, f"{path}:generateContent")
    assert reply.status == 200
    assert reply.json["modelVersion"] == model
    assert [turn.model for turn in deps.engine.turns] == [model]


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1beta/models/m:foo", 404, "NOT_FOUND"),
        ("/v1beta/models/m:generateContent/x", 405, "UNIMPLEMENTED"),
        ("/v1beta/corpora/m:generateContent", 404, "NOT_FOUND"),
        ("/v1beta/files", 404, "NOT_FOUND"),
        ("/v1beta/models/m:embedContent", 501, "UNIMPLEMENTED"),
        ("/v1beta/models/m:batchEmbedContents", 501, "UNIMPLEMENTED"),
        ("/v1/models/m:embedContent", 501, "UNIMPLEMENTED"),
        ("/v1beta/models/m", 405, "UNIMPLEMENTED"),
        ("/v1beta/models/:generateContent", 400, "INVALID_ARGUMENT"),
    ],
)
async def test_methods_that_are_not_there_are_told_in_googles_envelope(
    path: str, status: int, word: str
) -> None:
    reply = await post(FakeDeps(), path)
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["status"]) == (
        status,
        status,
        word,
    )


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/files/x:y", 404, "unknown_url"),
        ("/v1/models/m:generateContent", 405, "UNIMPLEMENTED"),
        ("/v1beta/files/x:y", 404, "NOT_FOUND"),
    ],
)
async def test_a_colon_makes_no_page_of_ours(path: str, status: int, code: str) -> None:
    reply = await call(build_app(FakeDeps()), "PATCH", path, headers={"x-goog-api-key": "any"})
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert code in (reply.json["error"]["code"], reply.json["error"].get("status"))


async def test_googles_clients_find_every_model_at_v1_too() -> None:
    for name in ("tunedModels/mine", "publishers/google/models/x"):
        path = f"/v1/{name}:generateContent"
        assert (await post(FakeDeps(), path, x_goog_api_client="google-genai-sdk/3")).status == 200
        assert "param" in (await post(FakeDeps(), path)).json["error"], "OpenAI's envelope"


async def test_openais_models_are_not_disturbed() -> None:
    app = build_app(FakeDeps())
    assert (await call(app, "GET", "/v1/models")).json["object"] == "list"
    for method, path in (("GET", "/v1/models/a:b"), ("POST", "/v1/models/m")):
        assert "param" in (await call(app, method, path)).json["error"], "OpenAI's envelope"


@pytest.mark.parametrize(
    ("path", "headers", "passes"),
    [
        ("", {"x_goog_api_key": "k1"}, True),
        ("?key=k1", {}, True),
        ("?alt=json&key=k2", {}, True),
        ("", {"authorization": "Bearer k2"}, True),
        ("", {"x_goog_api_key": "wrong", "authorization": "Bearer k1"}, True),
        ("", {}, False),
        ("", {"x_goog_api_key": "wrong"}, False),
        ("?key=wrong", {}, False),
        ("", {"x_api_key": "k1"}, False),
    ],
)
async def test_keys(path: str, headers: dict[str, str], passes: bool) -> None:
    reply = await post(FakeDeps(keys="k1,k2"), f"/v1beta/models/m:generateContent{path}", **headers)
    if passes:
        assert reply.status == 200
    else:
        assert (reply.status, reply.json["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_a_key_may_be_bound_to_models() -> None:
    deps = FakeDeps()
    deps.tiers = Tiers(KeyRing([msgspec.structs.replace(ApiKey.of("k"), models=("mine",))]))
    for method in ("generateContent", "streamGenerateContent", "countTokens"):
        assert (await post(deps, f"/v1beta/models/mine:{method}?key=k")).status == 200
        assert (await post(deps, f"/v1beta/models/other:{method}?key=k")).status == 404


# -- forms of a stream ------------------------------------------------------------------------------------


async def test_events_when_asked_for_and_an_array_else() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("a", "b"))))
    path = "/v1beta/models/m:streamGenerateContent"
    for query in ("?alt=sse", "?alt=SSE&x=1", "?$alt=sse"):
        reply = await post(deps, path + query)
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert len(events(reply)) == 3
    for query in ("", "?alt=json", "?alt="):
        reply = await post(deps, path + query)
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        assert reply.body.startswith(b"[{")
        assert len(reply.json) == 3


def whole(raw: bytes, *events: TurnEvent, dialect: Dialect = "gemini") -> FakeDeps:
    """An upstream's answer that was not streamed."""

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield [Frame(events or tuple(text_events("a")), raw=raw, dialect=dialect, whole=True)]

    return FakeDeps(FakeEngine(script))


async def test_a_whole_answer_of_geminis_own_goes_out_byte_for_byte_but_for_the_models_name() -> None:
    raw = b'{ "candidates": [ {"finishReason": "STOP", "new": 1.0} ], "modelVersion": "gemini-x" }'
    renamed = raw.replace(b"gemini-x", b"asked")
    reply = await post(whole(raw), "/v1beta/models/asked:generateContent")
    assert reply.body == renamed
    reply = await post(whole(raw), "/v1beta/models/asked:streamGenerateContent")
    assert (reply.body.strip(b"[]\n"), reply.json) == (renamed, [loads(renamed)]), "a stream of one"
    reply = await post(whole(raw, dialect="responses"), "/v1beta/models/asked:generateContent")
    assert reply.json["responseId"], "made here"
    reply = await post(whole(raw, STARTED, FAILED), "/v1beta/models/asked:generateContent")
    assert reply.status == 502


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_a_failure_in_a_stream_is_its_last_word(query: str) -> None:
    reply = await post(cut_off(), f"/v1beta/models/m:streamGenerateContent{query}")
    assert reply.status == 200
    said, error = events(reply) if query else reply.json
    assert said["candidates"][0]["content"]["parts"] == [{"text": "a"}]
    assert error["error"]["message"] == "cut off"
    assert error["error"].keys() == {"code", "message", "status", "details"}


async def test_sdks_get_a_failure_as_google_sends_it() -> None:
    reply = await post(
        cut_off(),
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        x_goog_api_client="google-genai-sdk/1.0 gl-node/v20",
    )
    error: Any = loads(reply.body.split(b"\n\n")[1])
    assert error["error"]["message"] == "cut off"


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_a_failure_before_the_stream_has_its_status(query: str) -> None:
    deps = FakeDeps(failing(QueueTimeout("Too many in-flight requests", retry_after_s=2)))
    reply = await post(deps, f"/v1beta/models/m:streamGenerateContent{query}")
    assert reply.status == 429
    assert reply.headers["retry-after"] == "2"
    assert reply.json["error"]["details"][1]["retryDelay"] == "2s"


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_keepalives_disturb_neither_form(query: str) -> None:
    waited = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield burst(STARTED)
        await waited.wait()
        yield burst(*text_events("a")[1:])

    deps = FakeDeps(FakeEngine(script), limits=EdgeLimits(first_byte_hold_s=0.01, keepalive_s=0.01))
    path = f"/v1beta/models/m:streamGenerateContent{query}"
    driver = Driver(build_app(deps), "POST", path, body=BODY)
    driver.on_send = lambda _: waited.set() if len(driver.reply.bodies) >= 3 else None
    reply = await driver.run()
    assert len(reply.bodies) > 3
    chunks = events(reply) if query else reply.json
    assert [chunk["candidates"][0]["content"]["parts"] for chunk in chunks] == [
        [{"text": "a"}],
        [{"text": ""}],
    ]


# -- the official SDK -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def sdk(
    deps: FakeDeps,
    *,
    key: str = "any",
    version: str = "v1beta",
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> AsyncIterator[Any]:
    async with serving(wrap(build_app(deps))) as url:
        options = types.HttpOptions(base_url=url, api_version=version, timeout=10_000)
        client = genai.Client(api_key=key, http_options=options)
        async with client.aio as aio:
            yield aio.models
        client.close()


@pytest.mark.parametrize("version", ["v1beta", "v1"])
async def test_the_sdk_reads_answers_and_streams(version: str) -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("a", "b", usage=Usage(input_tokens=3, output_tokens=2)))))
    async with sdk(deps, version=version) as models:
        answer = await models.generate_content(model="m", contents="hello")
        assert (answer.text, answer.model_version) == ("ab", "m")
        assert answer.candidates[0].finish_reason is types.FinishReason.STOP
        assert answer.usage_metadata.total_token_count == 5
        chunks = [chunk async for chunk in await models.generate_content_stream(model="m", contents="hello")]
        assert [chunk.text for chunk in chunks] == ["a", "b", ""]
        assert chunks[-1].usage_metadata.total_token_count == 5


async def test_the_sdk_reads_odd_characters() -> None:
    odd = 'data: x\n\nevent: y\r\n\u2028\u2029\x00\x85 灵码 "\\'
    async with sdk(FakeDeps(FakeEngine(saying(*text_events(odd, odd))))) as models:
        chunks = [chunk async for chunk in await models.generate_content_stream(model="m", contents="a")]
    assert "".join(chunk.text for chunk in chunks) == odd + odd


async def test_the_sdk_reads_calls() -> None:
    found = ToolCall(call_id="c1", name="find", arguments='{"q":"x"}')
    events_ = (
        STARTED,
        ItemStarted(0, "tool_call", "t", "find", "c1"),
        ItemDone(0, found),
        TurnCompleted("tool_calls"),
    )
    async with sdk(FakeDeps(FakeEngine(saying(*events_)))) as models:
        answer = await models.generate_content(model="m", contents="a")
        chunks = [chunk async for chunk in await models.generate_content_stream(model="m", contents="a")]
    for calls in (answer.function_calls, chunks[0].function_calls):
        assert [(called.id, called.name, called.args) for called in calls] == [("c1", "find", {"q": "x"})]


@pytest.mark.parametrize("keepalives", [0, 3])
async def test_the_sdk_raises_what_ends_a_stream(keepalives: int) -> None:
    sent = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield burst(STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "a"))
        if keepalives:
            await sent.wait()
        yield burst(FAILED)

    def app(inner: ASGIApp) -> ASGIApp:
        """Lets the turn go on after so many keep-alives."""

        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            bodies = 0

            async def count(message: Message) -> None:
                nonlocal bodies
                bodies += message["type"] == "http.response.body"
                if bodies > keepalives:
                    sent.set()
                await send(message)

            await inner(scope, receive, count)

        return counting

    deps = FakeDeps(FakeEngine(script), limits=EdgeLimits(first_byte_hold_s=0.01, keepalive_s=0.01))
    async with sdk(deps, wrap=app) as models:
        seen = []
        with pytest.raises(ServerError) as caught:
            async for chunk in await models.generate_content_stream(model="m", contents="a"):
                seen.append(chunk.text)
    assert seen == ["a"]
    assert (caught.value.code, caught.value.status, caught.value.message) == (502, "UNAVAILABLE", "cut off")


@pytest.mark.parametrize(
    ("error", "raised", "code", "status"),
    [
        (QueueTimeout("full", retry_after_s=1), ClientError, 429, "RESOURCE_EXHAUSTED"),
        (UpstreamUnavailable("nobody"), ServerError, 503, "UNAVAILABLE"),
        (ModelNotFound("none", param="model"), ClientError, 404, "NOT_FOUND"),
    ],
)
async def test_the_sdk_raises_our_errors(
    error: GatewayError, raised: type[Exception], code: int, status: str
) -> None:
    async with sdk(FakeDeps(failing(error))) as models:
        with pytest.raises(raised) as whole:
            await models.generate_content(model="m", contents="a")
        with pytest.raises(raised) as streamed:
            async for _ in await models.generate_content_stream(model="m", contents="a"):
                pytest.fail("nothing was said")
    for caught in (whole, streamed):
        assert (caught.value.code, caught.value.status) == (code, status)  # type: ignore[attr-defined]


async def test_the_sdk_is_told_of_wrong_keys_and_large_bodies() -> None:
    deps = FakeDeps(keys="good", limits=EdgeLimits(max_body_bytes=2000))
    async with sdk(deps, key="bad") as models:
        with pytest.raises(ClientError) as denied:
            await models.generate_content(model="m", contents="a")
        assert (denied.value.code, denied.value.status) == (401, "UNAUTHENTICATED")
    async with sdk(deps, key="good") as models:
        with pytest.raises(ClientError) as large:
            await models.generate_content(model="m", contents="x" * 5000)
        assert large.value.code == 413
