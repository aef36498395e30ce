"""The official SDKs against a gateway in this process, and a strict Gemini upstream behind: failures.

What each SDK makes of them, plain and inside Code Assist's envelope, and which are not told.
"""

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes.antigravity_brain import NO_CAPACITY, OVERLOADED, Reply, detail, error, limited, text
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.antigravity_sdks import each_envelope, serving
from tests.support.sdks import (
    ERRORS,
    by_chat,
    by_gemini,
    conformance,
    each_protocol,
    status_of,
    streamed_or_not,
    user,
)

pytestmark = conformance

WHOLE = "gemini-2.5-flash"
"""Code Assist, too, is asked for its whole answer."""


@each_protocol
@streamed_or_not
@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (error(400, "INVALID_ARGUMENT", "Google does not like it"), 400, "Google does not like it"),
        (error(403, "PERMISSION_DENIED", "secret reasons"), 503, "refused the gateway's credential"),
        (limited(delay="20s"), 429, "exceeded your current quota"),
        (OVERLOADED, 503, "overloaded"),
        (NO_CAPACITY, 503, "No capacity"),
        (error(500, "INTERNAL", "An internal error has occurred"), 502, "An internal error"),
    ],
    ids=["400", "403", "429", "503", "capacity", "500"],
)
@each_envelope
async def test_errors(ask: Any, stream: bool, envelope: bool, reply: Reply, status: int, words: str) -> None:
    async with serving(AntigravityServer(envelope=envelope)) as on:
        on.server.queue = [reply] * 2
        with pytest.raises(ERRORS) as caught:
            await ask(on, "hi", stream=stream)
        assert words in str(caught.value)
        assert "secret reasons" not in str(caught.value)
        if status_of(caught.value) is not None:
            told = {503: {503, 529}, 429: {429}, 502: {502, 500}}.get(status, {status})
            assert status_of(caught.value) in told
        if status == 429 and isinstance(caught.value, openai.APIStatusError | anthropic.APIStatusError):
            assert caught.value.response.headers["retry-after"] == "20"


async def test_a_wrong_model_is_told_as_such() -> None:
    async with serving(config={"models": ["gemini-9-none"]}) as on:
        with pytest.raises(openai.BadRequestError, match="does not offer this model"):
            await on.openai.chat.completions.create(model="gemini-9-none", messages=user("hi"))


@each_protocol
@each_envelope
async def test_a_stream_that_breaks_off_ends_with_an_error(ask: Any, envelope: bool) -> None:
    async with serving(AntigravityServer(envelope=envelope)) as on:
        on.server.queue = [Reply(text("one two"), finish=None, cut=True, pause_s=0.02)]
        with pytest.raises(ERRORS):
            await ask(on, "hi", stream=True)
        assert on.gate.recorder.figures[-1].outcome == "failed"


@each_protocol
@each_envelope
async def test_a_whole_answer_that_breaks_off_is_told_as_an_error(ask: Any, envelope: bool) -> None:
    """Nobody hangs, and nobody is shown half of it."""
    config = {"models": [WHOLE]}
    async with serving(AntigravityServer(envelope=envelope), config) as on:
        on.model = WHOLE
        on.server.queue = [Reply(text("one two"), cut=True)] * 3
        async with asyncio.timeout(10):
            with pytest.raises(ERRORS) as caught:
                await ask(on, "hi", stream=False)
        assert status_of(caught.value) in (500, 502, 503, 529)
        assert "one" not in str(caught.value)
        assert on.server.requests[0].path.endswith(":generateContent")
        assert on.gate.recorder.figures[-1].outcome == "failed"


@each_protocol
@each_envelope
async def test_an_error_inside_a_stream_is_told(ask: Any, envelope: bool) -> None:
    async with serving(AntigravityServer(envelope=envelope)) as on:
        on.server.queue = [Reply(text("one two"), finish=None, error=OVERLOADED.error, pause_s=0.02)]
        with pytest.raises(ERRORS, match=r"(?i)overloaded"):
            await ask(on, "hi", stream=True)


POISON = {
    "forbidden": error(403, "PERMISSION_DENIED", "The caller does not have permission"),
    "not there": error(404, "NOT_FOUND", "fileSearchStores/mine not found"),
    "nothing said": error(404, "NOT_FOUND", "Requested entity was not found."),
    "too large": error(
        *(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota"),
        detail(
            "QuotaFailure",
            violations=[
                {"quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier", "quotaValue": "20"}
            ],
        ),
        detail("RetryInfo", retryDelay="40s"),
    ),
    "a failure": error(500, "INTERNAL", "An internal error has occurred"),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
@each_envelope
async def test_one_clients_bad_request_takes_no_credential_from_others(envelope: bool, poison: Reply) -> None:
    """Every credential refuses it, again and again; what others ask is answered all the same."""
    server = AntigravityServer(envelope=envelope, keys=("one", "two"))
    project = {"project": server.project} if envelope else {}
    credentials = [{"id": name, "api_key": name, **project} for name in ("one", "two")]
    async with serving(server, {"credentials": credentials}) as on:
        for _ in range(2):
            on.server.queue = [poison] * 6
            with pytest.raises(ERRORS):
                await by_gemini(on, "long words " * 20, stream=False)
            on.server.queue = []
            assert await by_gemini(on, "say fine", stream=False) == "fine"
            assert await by_chat(on, "say fine too", stream=True) == "fine too"


# -- other credentials, other addresses -------------------------------------------------------------------


@each_protocol
@streamed_or_not
@pytest.mark.parametrize(
    "reply", [limited(delay="60s"), error(401, "UNAUTHENTICATED", "no"), OVERLOADED, Reply(finish=None)]
)
@each_envelope
async def test_another_credential_takes_over(ask: Any, stream: bool, envelope: bool, reply: Reply) -> None:
    server = AntigravityServer(envelope=envelope, keys=("one", "two"))
    project = {"project": server.project} if envelope else {}
    credentials = [{"id": name, "api_key": name, **project} for name in ("one", "two")]
    async with serving(server, {"credentials": credentials}) as on:
        on.server.queue = [reply]
        assert await ask(on, "say still here", stream=stream) == "still here"
        first, second = (asked.key for asked in on.server.requests)
        assert first != second
        assert await ask(on, "say and again", stream=stream) == "and again"
        assert on.server.requests[-1].key == second, "the other one rests"
