"""The official OpenAI SDK against `lingma-gateway up`: what a person who has only that SDK sees."""

import gzip
import sys
import zlib
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from pydantic import BaseModel

from gateway.kernel.json import dumps
from tests.support.processes import Service, asks_of, get_json, wait_for

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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
                        {"type": "text", "text": "say seen-by-chat"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ],
                }
            ],
        )
    assert "messages.0.content.1" in raw.headers["x-gateway-losses"]
    asked = [ask["params"]["questionText"] for ask in asks_of(live.directory)]
    assert "say seen-by-chat\n[image]" in asked


def test_the_request_id_comes_back(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="org_auto", messages=user("say x"), extra_headers={"x-request-id": "mine-1"}
        )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.request_id == "mine-1"


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
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 3}, "temperature"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "stop": ["a"] * 5}, "stop"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "logprobs": True}, "logprobs"),
        (
            {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream_options": {}},
            "stream_options",
        ),
    ],
)
def test_bad_fields_are_named(live: Service, body: dict[str, object], param: str) -> None:
    with sync_client(live) as client, pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_everything_openai_has_a_setting_for_is_served_and_told(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="org_auto",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "name": "ann", "content": [{"type": "text", "text": "say all"}]},
            ],
            n=1,
            seed=7,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=-2,
            frequency_penalty=2,
            max_completion_tokens=100,
            stop=["###"],
            logprobs=False,
            logit_bias={"50256": -100},
            modalities=["text"],
            response_format={"type": "text"},
            reasoning_effort="low",
            verbosity="low",
            service_tier="flex",
            store=True,
            metadata={"a": "b"},
            prediction={"type": "content", "content": "all"},
            web_search_options={"search_context_size": "low"},
            prompt_cache_key="k",
            safety_identifier="s",
            parallel_tool_calls=False,
        )
    completion = raw.parse()
    assert completion.choices[0].message.content == "all"
    assert completion.service_tier == "default"
    told = raw.headers["x-gateway-losses"]
    for lost in (
        "logit_bias",
        "verbosity",
        "service_tier",
        "store",
        "prediction",
        "web_search_options",
        "seed",
    ):
        assert lost in told


class Person(BaseModel):
    name: str
    age: int


def test_the_sdk_parses_structured_answers(live: Service) -> None:
    with sync_client(live) as client:
        asked = user('reply with exactly: {"name": "Ada", "age": 36}')
        whole = client.chat.completions.parse(model="org_auto", messages=asked, response_format=Person)
        with client.chat.completions.stream(
            model="org_auto", messages=asked, response_format=Person
        ) as stream:
            final = stream.get_final_completion()
    assert whole.choices[0].message.parsed == final.choices[0].message.parsed == Person(name="Ada", age=36)


def test_an_answer_is_valid_to_the_letter(live: Service) -> None:
    """The SDK reads what it gets without checking; its types, as models, do check."""
    with sync_client(live) as client:
        asked: dict[str, Any] = {"model": "org_auto", "messages": user("think about 7, then say done")}
        whole = client.chat.completions.with_raw_response.create(**asked)
        ChatCompletion.model_validate_json(whole.content, strict=True)
        with client.chat.completions.with_streaming_response.create(
            **asked, stream=True, stream_options={"include_usage": True}
        ) as streamed:
            lines = [line.removeprefix("data: ") for line in streamed.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    for line in lines:
        ChatCompletionChunk.model_validate_json(line, strict=True)


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)]
)
def test_compressed_requests_are_read(live: Service, coding: str, pack: Any) -> None:
    body = dumps({"model": "org_auto", "messages": [{"role": "user", "content": "say packed"}]})
    answer = httpx2.post(
        f"{live.url}/v1/chat/completions",
        content=pack(body),
        headers={"content-encoding": coding},
        timeout=60,
    )
    assert answer.json()["choices"][0]["message"]["content"] == "packed"


def test_a_coding_that_nobody_reads_is_told_in_the_envelope(live: Service) -> None:
    answer = httpx2.post(
        f"{live.url}/v1/chat/completions", content=b"x", headers={"content-encoding": "br"}, timeout=60
    )
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_content_encoding"
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


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
