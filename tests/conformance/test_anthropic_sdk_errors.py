"""The official Anthropic SDK against `lingma-gateway up`: what is refused, and what it makes of that."""

import asyncio
from typing import Any

import anthropic
import pytest

from tests.conformance.test_anthropic_sdk import MODEL, async_client, sync_client, text_of, user
from tests.support.clients import until
from tests.support.processes import Service, get_json, wait_for

pytestmark = pytest.mark.conformance


def idle(service: Service) -> bool:
    health = get_json(f"{service.url}/healthz")
    return all(instance["in_flight"] == 0 for instance in health["instances"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"name": 7}]}, "tools.0.name"),
        ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
    ],
)
def test_bad_fields_are_named(live: Service, change: dict[str, Any], named: str) -> None:
    body = {"model": MODEL, "max_tokens": 64, "messages": user("x")} | change
    body = {name: value for name, value in body.items() if value is not None}
    with sync_client(live) as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages", body=body, cast_to=object)
    error: Any = caught.value.body
    assert error["error"]["type"] == "invalid_request_error"
    assert f"'{named}'" in error["error"]["message"]


def test_a_wrong_key_is_refused_and_either_form_of_the_right_one_passes(narrow: Service) -> None:
    for options in ({"api_key": "bad"}, {"api_key": None, "auth_token": "bad"}):
        with sync_client(narrow, **options) as client, pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(model=MODEL, max_tokens=64, messages=user("say x"))
        error: Any = caught.value.body
        assert (error["type"], error["error"]["type"]) == ("error", "authentication_error")
    for options in ({"api_key": "good-key"}, {"api_key": None, "auth_token": "good-key"}):
        with sync_client(narrow, **options) as client:
            assert text_of(client.messages.create(model=MODEL, max_tokens=64, messages=user("say x"))) == "x"


async def test_a_full_gateway_is_a_rate_limit_and_a_client_that_leaves_makes_room(narrow: Service) -> None:
    async with async_client(narrow, api_key="good-key") as client:
        wait_for(lambda: idle(narrow), "an idle gateway")
        stream = await client.messages.create(
            model=MODEL, max_tokens=64, messages=user("count slowly from 1 to 2000"), stream=True
        )
        async for event in stream:
            if event.type == "content_block_delta":
                break
        for streamed in (False, True):
            with pytest.raises(anthropic.RateLimitError) as caught:
                await client.messages.create(
                    model=MODEL, max_tokens=64, messages=user("say x"), stream=streamed
                )
            error: Any = caught.value.body
            assert error["error"]["type"] == "rate_limit_error"
            assert int(caught.value.response.headers["retry-after"]) >= 1
        await stream.close()
        await until(lambda: asyncio.to_thread(idle, narrow), "the slot to be free", 5)
        message = await client.messages.create(model=MODEL, max_tokens=64, messages=user("say free"))
        assert text_of(message) == "free"


async def test_the_sdk_waits_and_asks_again_by_itself(narrow: Service) -> None:
    """With its own retries on, a full gateway is no error at all."""
    async with async_client(narrow, api_key="good-key", max_retries=6) as client:
        answers = await asyncio.gather(
            *(
                client.messages.create(model=MODEL, max_tokens=64, messages=user(f"wait 0.5 s then say {n}"))
                for n in range(3)
            )
        )
    assert [text_of(answer) for answer in answers] == ["0", "1", "2"]
