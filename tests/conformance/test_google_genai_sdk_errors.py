"""The official Google SDK against `lingma-gateway up`: what is refused, and what it makes of that."""

import asyncio
from typing import Any

import httpx2
import pytest
from google.genai import types
from google.genai.errors import APIError, ClientError

from tests.conformance.test_google_genai_sdk import MODEL, client_of
from tests.support.clients import until
from tests.support.processes import Service, get_json, wait_for

pytestmark = [
    pytest.mark.conformance,
    # The SDK makes a class out of one of aiohttp's, which aiohttp would rather it did not.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]


def idle(service: Service) -> bool:
    health = get_json(f"{service.url}/healthz")
    return all(instance["in_flight"] == 0 for instance in health["instances"])


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"candidate_count": 2}, "generationConfig.candidateCount"),
        ({"max_output_tokens": -1}, "generationConfig.maxOutputTokens"),
        ({"top_k": 1.5}, "generationConfig.topK"),
        ({"cached_content": "cachedContents/x"}, "cachedContent"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_fields_are_named(live: Service, config: Any, field: str, stream: bool) -> None:
    with client_of(live) as client, pytest.raises(ClientError) as caught:
        asked = types.GenerateContentConfig(**config)
        if stream:
            list(client.models.generate_content_stream(model=MODEL, contents="x", config=asked))
        else:
            client.models.generate_content(model=MODEL, contents="x", config=asked)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    error = caught.value.details["error"]
    assert field in error["message"]
    (violation,) = error["details"][1]["fieldViolations"]
    assert violation["field"] == field


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("models/:generateContent", {"contents": "x"}, "model"),
        ("models/m:generateContent", {}, "contents"),
        ("models/m:generateContent", {"contents": []}, "contents"),
        ("models/m:generateContent", {"contents": [{"role": "robot"}]}, "contents.0.role"),
        (
            "models/m:streamGenerateContent",
            {"contents": [{"parts": [{"text": 7}]}]},
            "contents.0.parts.0.text",
        ),
        ("models/m:countTokens", {"contents": 7}, "contents"),
    ],
)
def test_bad_fields_that_the_sdk_would_not_send(live: Service, path: str, body: Any, field: str) -> None:
    answer = httpx2.post(f"{live.url}/v1beta/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][1]["fieldViolations"][0]["field"] == field


def test_embeddings_are_not_there(live: Service) -> None:
    with client_of(live) as client, pytest.raises(APIError) as caught:
        client.models.embed_content(model=MODEL, contents="x")
    assert (caught.value.code, caught.value.status) == (501, "UNIMPLEMENTED")


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_refused(narrow: Service, stream: bool) -> None:
    with client_of(narrow, key="bad") as client, pytest.raises(ClientError) as caught:
        if stream:
            list(client.models.generate_content_stream(model=MODEL, contents="x"))
        else:
            client.models.generate_content(model=MODEL, contents="x")
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")
    assert caught.value.message == "Incorrect API key provided"


async def test_a_full_gateway_is_resource_exhausted_and_a_client_that_leaves_makes_room(
    narrow: Service,
) -> None:
    wait_for(lambda: idle(narrow), "an idle gateway")
    async with client_of(narrow, key="good-key").aio as client:
        async with client_of(narrow, key="good-key").aio as leaving:
            stream = await leaving.models.generate_content_stream(
                model=MODEL, contents="count slowly from 1 to 2000"
            )
            async for chunk in stream:
                if chunk.text:
                    break
            with pytest.raises(ClientError) as whole:
                await client.models.generate_content(model=MODEL, contents="say x")
            with pytest.raises(ClientError) as streamed:
                async for _ in await client.models.generate_content_stream(model=MODEL, contents="say x"):
                    pytest.fail("nothing was to be said")
        for caught in (whole, streamed):
            assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
            assert caught.value.response.headers["retry-after"] >= "1"
            details = caught.value.details["error"]["details"]
            assert "RetryInfo" in [detail["@type"].rpartition(".")[2] for detail in details]
        await until(lambda: asyncio.to_thread(idle, narrow), "the slot to be free", 5)
        answer = await client.models.generate_content(model=MODEL, contents="say free")
    assert answer.text == "free"


async def test_the_sdk_waits_and_asks_again_when_it_is_told_to(narrow: Service) -> None:
    """With its own retries on, a full gateway is no error at all."""
    retry = types.HttpRetryOptions(attempts=8, initial_delay=0.2, max_delay=1.0)
    async with client_of(narrow, key="good-key", retry_options=retry).aio as client:
        answers = await asyncio.gather(
            *(
                client.models.generate_content(model=MODEL, contents=f"wait 0.5 s then say {n}")
                for n in range(3)
            )
        )
    assert [answer.text for answer in answers] == ["0", "1", "2"]
