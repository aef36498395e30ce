"""The Messages protocol through the application, and the official SDK against it on a real server."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from gateway.app import build_app
from gateway.kernel.errors import ErrorKind, GatewayError, ModelNotFound, QueueTimeout, UpstreamUnavailable
from gateway.kernel.json import Json, dumps
from gateway.protocols.http import EdgeLimits
from gateway.turn.events import ErrorInfo, ItemStarted, TextDelta, TurnFailed
from gateway.turn.frame import Burst
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from tests.support.edge import (
    STARTED,
    FakeDeps,
    FakeEngine,
    Reply,
    call,
    saying,
    serving,
    text_events,
)

USER: Any = [{"role": "user", "content": "hello"}]


def body_of(stream: bool = False, **fields: Json) -> bytes:
    return dumps({"model": "m", "max_tokens": 9, "messages": USER, "stream": stream, **fields})


async def ask(deps: FakeDeps, stream: bool = False, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(build_app(deps), "POST", "/v1/messages", body=body_of(stream), headers=named)


def failing(error: GatewayError) -> FakeEngine:
    async def script(_: Turn) -> AsyncIterator[Burst]:
        raise error
        yield []

    return FakeEngine(script)


@contextlib.asynccontextmanager
async def sdk(deps: FakeDeps, **options: Any) -> AsyncIterator[AsyncAnthropic]:
    options = {"api_key": "any", **options}
    async with (
        serving(build_app(deps)) as url,
        AsyncAnthropic(base_url=url, max_retries=0, timeout=10, **options) as client,
    ):
        yield client


# -- paths and keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true"])
async def test_every_way_to_write_the_path_is_served(path: str) -> None:
    assert (await call(build_app(FakeDeps()), "POST", path, body=body_of())).status == 200


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"x_api_key": "k1"}, True),
        ({"authorization": "Bearer k2"}, True),
        ({"x_api_key": "k2", "authorization": "Bearer wrong"}, True),
        ({}, False),
        ({"x_api_key": "wrong"}, False),
        ({"authorization": "Basic k1"}, False),
    ],
)
async def test_lv_85_either_key_passes_and_none_is_refused(headers: dict[str, str], passes: bool) -> None:
    """Given /v1/messages with x-api-key k1 or Bearer k2: expect it to pass. Given none: expect 401
    authentication_error.
    """
    reply = await ask(FakeDeps(keys="k1,k2"), **headers)
    assert reply.status == (200 if passes else 401)
    if not passes:
        assert reply.json["type"] == "error"
        assert reply.json["error"]["type"] == "authentication_error"


async def test_lv_48_one_right_key_of_two_is_enough() -> None:
    """Given x-api-key wrong + Bearer right on /v1/messages: expect it accepted, as either may match."""
    assert (await ask(FakeDeps(keys="good"), x_api_key="bad", authorization="Bearer good")).status == 200


async def test_another_method_is_405_in_the_envelope() -> None:
    reply = await call(build_app(FakeDeps()), "GET", "/v1/messages")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert reply.json["error"]["type"] == "invalid_request_error"


async def test_an_unknown_path_below_is_404_in_the_envelope() -> None:
    reply = await call(build_app(FakeDeps()), "POST", "/v1/messages/batches", body=b"{}")
    assert reply.status == 404
    assert reply.json["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("version", "status"), [("2023-06-01", 200), ("2031-01-01", 200), (None, 200), ("newest", 400)]
)
async def test_any_version_that_is_a_date_will_do(version: str | None, status: int) -> None:
    headers = {} if version is None else {"anthropic_version": version}
    assert (await ask(FakeDeps(), **headers)).status == status


# -- errors -----------------------------------------------------------------------------------------------


async def test_lv_44_a_full_queue_is_429_in_the_envelope() -> None:
    """Given max 1, queue 0.05 s, slot busy: expect 429, `Retry-After` >= 1 and the Anthropic envelope."""
    deps = FakeDeps(failing(QueueTimeout("Too many in-flight requests", retry_after_s=1)))
    for stream in (False, True):
        reply = await ask(deps, stream=stream)
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert reply.json == {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": "Too many in-flight requests"},
        }


async def test_errors_of_our_own_server_are_told_in_the_envelope() -> None:
    large = await ask(FakeDeps(limits=EdgeLimits(max_body_bytes=10)))
    assert (large.status, large.json["error"]["type"]) == (413, "request_too_large")


# -- the SDK ----------------------------------------------------------------------------------------------


async def test_the_sdk_reads_whole_answers_streams_and_counts() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("A", "B", usage=Usage(input_tokens=1, output_tokens=2)))))
    async with sdk(deps) as client:
        answer = await client.messages.create(model="claude-x", max_tokens=9, messages=USER)
        assert answer.content[0].type == "text"
        assert answer.content[0].text == "AB"
        assert (answer.model, answer.stop_reason) == ("claude-x", "end_turn")
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (1, 2)
        assert answer._request_id

        async with client.messages.stream(model="m", max_tokens=9, messages=USER) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert text == "AB"
        assert final.usage.output_tokens == 2
        assert final.id.startswith("msg_")

        counted = await client.messages.count_tokens(model="m", messages=USER)
        assert counted.input_tokens > 0


async def test_the_sdk_raises_when_a_stream_fails_in_its_middle() -> None:
    failed = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_UNAVAILABLE, message="cut off"))
    script = saying(STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "a"), failed)
    async with sdk(FakeDeps(FakeEngine(script))) as client:
        seen = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for event in await client.messages.create(
                model="m", max_tokens=9, messages=USER, stream=True
            ):
                seen.append(event.type)
        assert seen == ["message_start", "content_block_start", "content_block_delta"]
        assert caught.value.body == {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "cut off"},
        }


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (QueueTimeout("full", retry_after_s=1), anthropic.RateLimitError),
        (ModelNotFound("no such model"), anthropic.NotFoundError),
        (UpstreamUnavailable("nobody there"), anthropic.APIStatusError),
    ],
)
async def test_the_sdk_raises_its_own_classes_for_our_statuses(
    error: GatewayError, raised: type[anthropic.APIStatusError]
) -> None:
    async with sdk(FakeDeps(failing(error))) as client:
        with pytest.raises(raised) as caught:
            await client.messages.create(model="m", max_tokens=9, messages=USER)
        assert error.message in str(caught.value)


async def test_the_sdk_takes_a_key_in_either_form() -> None:
    async with sdk(FakeDeps(keys="good"), api_key=None, auth_token="good") as client:
        assert (await client.messages.create(model="m", max_tokens=9, messages=USER)).content
    async with sdk(FakeDeps(keys="good"), api_key="bad") as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="m", max_tokens=9, messages=USER)
