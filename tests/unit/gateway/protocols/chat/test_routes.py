"""The Chat protocol through the application, and the official SDK against it on a real server."""

import contextlib
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from gateway.app import build_app
from gateway.kernel.errors import ErrorKind, QueueTimeout
from gateway.protocols.chat.routes import CHAT
from gateway.protocols.http import EdgeLimits
from gateway.protocols.models import ModelEntry
from gateway.turn.events import ErrorInfo, ItemStarted, TextDelta, TurnFailed
from gateway.turn.usage import Usage
from tests.support.edge import (
    STARTED,
    FakeCatalog,
    FakeDeps,
    FakeEngine,
    call,
    chat,
    chat_body,
    saying,
    serving,
    text_events,
)

USER = [{"role": "user", "content": "hello"}]


@contextlib.asynccontextmanager
async def sdk(deps: FakeDeps, key: str = "any") -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(build_app(deps)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10) as client,
    ):
        yield client


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
async def test_both_paths_are_served(path: str) -> None:
    assert (await call(build_app(FakeDeps()), "POST", path, body=chat_body())).status == 200


async def test_the_usage_chunk_comes_when_asked_for() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("a", usage=Usage(input_tokens=1, output_tokens=2)))))
    asked = await chat(deps, stream=True, stream_options={"include_usage": True})
    assert b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}' in asked.body
    assert b'"usage"' not in (await chat(deps, stream=True)).body


async def test_the_envelope_is_openais() -> None:
    answer = CHAT.error(ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message="m"), status=405)
    assert answer.status == 405
    assert answer.body.startswith(b'{"error":{"message":"m"')


async def test_the_sdk_reads_whole_answers_streams_and_models() -> None:
    deps = FakeDeps(
        FakeEngine(saying(*text_events("A", "B", usage=Usage(input_tokens=1, output_tokens=2)))),
        catalog=FakeCatalog(ModelEntry(id="org_auto", display_name="Auto")),
    )
    async with sdk(deps) as client:
        answer = await client.chat.completions.create(model="gpt-x", messages=USER)  # type: ignore[call-overload]
        assert answer.choices[0].message.content == "AB"
        assert answer.model == "gpt-x"
        assert answer.usage.total_tokens == 3
        assert answer._request_id

        text = ""
        stream = await client.chat.completions.create(model="m", messages=USER, stream=True)  # type: ignore[call-overload]
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        assert text == "AB"

        assert [model.id async for model in await client.models.list()] == ["org_auto"]
        assert (await client.models.retrieve("org_auto")).id == "org_auto"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nope")


async def test_the_sdk_raises_when_a_stream_fails_in_its_middle() -> None:
    failed = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut off", param="p"))
    script = saying(STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "a"), failed)
    async with sdk(FakeDeps(FakeEngine(script))) as client:
        stream = await client.chat.completions.create(model="m", messages=USER, stream=True)  # type: ignore[call-overload]
        seen = []
        with pytest.raises(openai.APIError) as caught:
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content)
        assert seen == ["", "a"]
        assert (caught.value.message, caught.value.code, caught.value.param) == (
            "cut off",
            "upstream_eof",
            "p",
        )


async def test_the_sdk_raises_its_own_classes_for_our_statuses() -> None:
    deps = FakeDeps(keys="good", limits=EdgeLimits(max_body_bytes=2000))
    async with sdk(deps, key="bad") as client:
        with pytest.raises(openai.AuthenticationError) as denied:
            await client.chat.completions.create(model="m", messages=USER)  # type: ignore[call-overload]
        assert denied.value.code == "invalid_api_key"
    async with sdk(deps, key="good") as client:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="", messages=USER)  # type: ignore[call-overload]
        assert bad.value.param == "model"
        long = [{"role": "user", "content": "x" * 5000}]
        with pytest.raises(openai.APIStatusError) as large:
            await client.chat.completions.create(model="m", messages=long)  # type: ignore[call-overload]
        assert large.value.status_code == 413

    async def full(_: object) -> AsyncIterator[list[object]]:
        raise QueueTimeout("Too many in-flight requests", retry_after_s=1)
        yield []

    async with sdk(FakeDeps(FakeEngine(full))) as client:  # type: ignore[arg-type]
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="m", messages=USER, stream=True)  # type: ignore[call-overload]
        assert limited.value.response.headers["retry-after"] == "1"


async def test_a_body_far_over_the_limit_is_told_so_on_a_real_server() -> None:
    """The answer is out before the body is: the client must be able to read it all the same."""
    async with sdk(FakeDeps(limits=EdgeLimits(max_body_bytes=1000))) as client:
        long = [{"role": "user", "content": "x" * 30_000_000}]
        with pytest.raises(openai.APIStatusError) as large:
            await client.chat.completions.create(model="m", messages=long)  # type: ignore[call-overload]
        assert large.value.status_code == 413
        assert large.value.code == "request_too_large"
