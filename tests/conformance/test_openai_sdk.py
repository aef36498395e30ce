"""The official OpenAI SDK against `lingma-gateway up`: what a person who has only that SDK sees."""

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.support.processes import Service, asks_of, get_json, wait_for

pytestmark = pytest.mark.conformance


def sync_client(live: Service) -> OpenAI:
    return OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0, timeout=60)


def async_client(live: Service) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0, timeout=60)


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_a_completion(live: Service) -> None:
    with sync_client(live) as client:
        answer = client.chat.completions.create(model="org_auto", messages=user("say hello"))
    assert isinstance(answer, ChatCompletion)
    assert answer.choices[0].message.content == "hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "org_auto"
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream(live: Service) -> None:
    with sync_client(live) as client:
        chunks = list(
            client.chat.completions.create(
                model="org_auto",
                messages=user("count from 1 to 5"),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert [int(word) for word in text.replace(",", " ").split()] == [1, 2, 3, 4, 5]
    assert chunks[0].choices[0].delta.role == "assistant"
    finishes = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert finishes == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_async_client(live: Service) -> None:
    async with async_client(live) as client:
        answer = await client.chat.completions.create(model="org_auto", messages=user("say hi"))
        assert answer.choices[0].message.content == "hi"
        text = ""
        async with client.chat.completions.stream(model="org_auto", messages=user("say ho")) as stream:
            async for event in stream:
                if event.type == "content.delta":
                    text += event.delta
            final = await stream.get_final_completion()
    assert text == "ho"
    assert final.choices[0].message.content == "ho"


def test_reasoning_is_apart_from_the_answer(live: Service) -> None:
    with sync_client(live) as client:
        message = (
            client.chat.completions.create(model="org_auto", messages=user("think about 7, then say done"))
            .choices[0]
            .message
        )
    assert "<think>" not in (message.content or "")
    assert (message.model_extra or {}).get("reasoning_content")


def test_a_conversation_keeps_one_session(live: Service) -> None:
    history: list[ChatCompletionMessageParam] = user("say alpha")
    with sync_client(live) as client:
        for word in ("beta", "gamma"):
            reply = client.chat.completions.create(model="org_auto", messages=history).choices[0].message
            history += [{"role": "assistant", "content": reply.content}, *user(f"report {word}")]
        last = client.chat.completions.create(model="org_auto", messages=history).choices[0].message.content
    assert last is not None
    assert "turns=3 isReply=true" in last


def test_unknown_models_are_served_and_told(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=user("say x"))
    assert raw.parse().model == "gpt-4o"
    assert "model:served-by-org_auto" in raw.headers["x-gateway-losses"]


def test_images_become_placeholders_and_are_told(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="org_auto",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "say seen"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ],
                }
            ],
        )
    assert "messages.0.content.1" in raw.headers["x-gateway-losses"]
    asked = [ask["params"]["questionText"] for ask in asks_of(live.directory)]
    assert "say seen\n[image]" in asked


def test_the_request_id_comes_back(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="org_auto", messages=user("say x"), extra_headers={"x-request-id": "mine-1"}
        )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.request_id == "mine-1"


def test_models_are_listed_and_found(live: Service) -> None:
    with sync_client(live) as client:
        ids = [model.id for model in client.models.list()]
        assert "org_auto" in ids
        assert client.models.retrieve(ids[-1]).id == ids[-1]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("no-such-model")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "", "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": 7, "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": "hi"}, "messages"),
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}, "temperature"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
    ],
)
def test_bad_fields_are_named(live: Service, body: dict[str, object], param: str) -> None:
    with sync_client(live) as client, pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


async def test_leaving_a_stream_stops_the_work(live: Service) -> None:
    async with async_client(live) as client:
        stream = await client.chat.completions.create(
            model="org_auto", messages=user("count slowly from 1 to 2000"), stream=True
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()

    def idle() -> bool:
        health = get_json(f"{live.url}/healthz")
        return all(instance["in_flight"] == 0 for instance in health["instances"])

    wait_for(idle, "the slot to be free", 5)
