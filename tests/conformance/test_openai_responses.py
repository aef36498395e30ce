"""The official OpenAI SDK's Responses API against `lingma-gateway up`."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from tests.support.clients import until
from tests.support.processes import Service, asks_of, get_json
from tests.support.responses_schema import read_stream, validate_response, validate_stream

pytestmark = pytest.mark.conformance


def sync_client(live: Service, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0, timeout=60)


def async_client(live: Service, key: str = "any") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0, timeout=60)


def idle(live: Service) -> bool:
    health = get_json(f"{live.url}/healthz")
    return all(instance["in_flight"] == 0 for instance in health["instances"])


def post(live: Service, **body: Any) -> httpx2.Response:
    with httpx2.Client(timeout=60) as client:
        return client.post(f"{live.url}/v1/responses", json={"model": "org_auto", **body})


# -- answers ----------------------------------------------------------------------------------------------


def test_a_response(live: Service) -> None:
    with sync_client(live) as client:
        answer = client.responses.create(model="org_auto", input="say hello")
    assert isinstance(answer, Response)
    assert (answer.output_text, answer.status, answer.model) == ("hello", "completed", "org_auto")
    assert answer.id.startswith("resp_")
    assert answer.store is False
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_a_stream(live: Service) -> None:
    with sync_client(live) as client:
        events = list(client.responses.create(model="org_auto", input="count from 1 to 5", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [int(word) for word in "".join(deltas).replace(",", " ").split()] == [1, 2, 3, 4, 5]
    assert len(deltas) > 1
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "".join(deltas)
    assert last.response.usage is not None


def test_what_goes_over_the_wire_keeps_to_the_schema(live: Service) -> None:
    whole = post(live, input="think about 7, then say done", instructions="Be brief.")
    assert whole.json()["output_text"] == "done"
    validate_response(whole.json())
    streamed = post(live, input="think about 7, then say done", stream=True)
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = validate_stream(streamed.content)
    assert [item["type"] for item in found.items] == ["reasoning", "message"]
    assert found.text == "done"


async def test_the_async_client_and_the_stream_helper(live: Service) -> None:
    async with async_client(live) as client:
        answer = await client.responses.create(model="org_auto", input="say hi")
        assert answer.output_text == "hi"
        text = thoughts = ""
        async with client.responses.stream(model="org_auto", input="think about 7, then say ho") as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    text += event.delta
                elif event.type == "response.reasoning_summary_text.delta":
                    thoughts += event.delta
            final = await stream.get_final_response()
    assert text == final.output_text == "ho"
    assert thoughts
    reasoning = final.output[0]
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == thoughts


def test_a_structured_answer(live: Service) -> None:
    class Greeting(BaseModel):
        word: str

    with sync_client(live) as client:
        answer = client.responses.parse(model="org_auto", input="say hello", text_format=Greeting)
        assert answer.output_parsed == Greeting(word="hello")
        with client.responses.stream(model="org_auto", input="say hi", text_format=Greeting) as stream:
            final = stream.get_final_response()
        assert final.output_parsed == Greeting(word="hi")


# -- conversations ----------------------------------------------------------------------------------------


def test_the_output_sent_back_continues_the_session(live: Service) -> None:
    history: list[Any] = [{"role": "user", "content": "think about 7, then say alpha"}]
    with sync_client(live) as client:
        for turns in (2, 3):
            history += client.responses.create(model="org_auto", input=history, instructions="Brief.").output
            history.append({"role": "user", "content": "report"})
            answer = client.responses.create(model="org_auto", input=history, instructions="Brief.")
            assert f"turns={turns} isReply=true" in answer.output_text
            history.pop()
            history.append({"role": "user", "content": f"say turn {turns}"})


def test_a_streamed_conversation_continues_the_session_too(live: Service) -> None:
    history: list[Any] = [{"role": "user", "content": "say streamed"}]
    with sync_client(live) as client:
        with client.responses.stream(model="org_auto", input=history) as stream:
            history += stream.get_final_response().output
        history.append({"role": "user", "content": "report"})
        answer = client.responses.create(model="org_auto", input=history)
    assert "turns=2 isReply=true" in answer.output_text


def test_instructions_and_developer_messages_reach_the_model(live: Service) -> None:
    with sync_client(live) as client:
        client.responses.create(
            model="org_auto",
            instructions="instructed-1",
            input=[{"role": "developer", "content": "developed-1"}, {"role": "user", "content": "say x"}],
        )
    asked = [ask["params"]["questionText"] for ask in asks_of(live.directory)]
    assert "system: instructed-1\n\ndeveloper: developed-1\n\nuser: say x" in asked


def test_images_become_placeholders_and_are_told(live: Service) -> None:
    content: list[Any] = [
        {"type": "input_text", "text": "say seen-by-responses"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
    ]
    with sync_client(live) as client:
        raw = client.responses.with_raw_response.create(
            model="org_auto", input=[{"role": "user", "content": content}]
        )
    assert ".content.1" in raw.headers["x-gateway-losses"]
    asked = [ask["params"]["questionText"] for ask in asks_of(live.directory)]
    assert "say seen-by-responses\n[image]" in asked


def test_tools_are_offered_and_their_results_understood(live: Service) -> None:
    tools: list[Any] = [
        {"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": False}
    ]
    history: list[Any] = [
        {"role": "user", "content": "find it"},
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "found-by-responses"},
    ]
    with sync_client(live) as client:
        answer = client.responses.create(model="org_auto", input=history, tools=tools)
    assert "found-by-responses" in answer.output_text
    assert answer.tools[0].type == "function"


def test_unknown_models_are_served_and_told(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.responses.with_raw_response.create(model="gpt-5", input="say x", store=True)
    assert raw.parse().model == "gpt-5"
    assert "model:served-by-org_auto" in raw.headers["x-gateway-losses"]
    assert "store:not-stored" in raw.headers["x-gateway-losses"]
    assert "openai-model" not in raw.headers


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "", "input": "x"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": 5}, "input"),
        ({"model": "m", "input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input.0.content.0.text",
        ),
        ({"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.id"),
        ({"model": "m", "input": ["x", {"type": "compaction_trigger"}]}, "input.1"),
        ({"model": "m", "input": "x", "temperature": "hot"}, "temperature"),
        ({"model": "m", "input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"model": "m", "input": "x", "conversation": "conv_1"}, "conversation"),
        ({"model": "m", "input": "x", "background": True}, "background"),
        ({"model": "m", "input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "tools.0.name"),
        ({"model": "m", "input": "x", "tool_choice": "perhaps"}, "tool_choice"),
    ],
)
def test_bad_fields_are_named(live: Service, body: dict[str, object], param: str) -> None:
    with sync_client(live) as client, pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_a_wrong_key_is_refused(narrow: Service) -> None:
    with sync_client(narrow, "bad-key") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.responses.create(model="org_auto", input="say x")
    assert caught.value.code == "invalid_api_key"


async def test_a_full_gateway_asks_to_come_again(narrow: Service) -> None:
    async with async_client(narrow, "good-key") as client:
        first = await client.responses.create(
            model="org_auto", input="count slowly from 1 to 2000", stream=True
        )
        async for event in first:
            if event.type == "response.output_text.delta":
                break
        with pytest.raises(openai.RateLimitError) as full:
            await client.responses.create(model="org_auto", input="say x", stream=True)
        assert int(full.value.response.headers["retry-after"]) >= 1

        codex = client.with_options(default_headers={"user-agent": "codex_exec/0.130.0"})
        told = [event async for event in await codex.responses.create(model="m", input="say x", stream=True)]
        last = told[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.code == "rate_limit_exceeded"
        assert "try again in" in last.response.error.message
        await first.close()
        await until(lambda: asyncio.to_thread(idle, narrow), "the slot to be free")
        assert (await client.responses.create(model="org_auto", input="say room")).output_text == "room"


# -- leaving ----------------------------------------------------------------------------------------------


async def test_leaving_a_stream_early_frees_its_slot(live: Service) -> None:
    async with async_client(live) as client:
        stream = await client.responses.create(
            model="org_auto", input="count slowly from 1 to 2000", stream=True
        )
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        await until(lambda: asyncio.to_thread(idle, live), "the slot to be free", within_s=5)
        again = await client.responses.create(model="org_auto", input="say free")
    assert again.output_text == "free"


async def test_many_streams_at_once_do_not_mix(live: Service) -> None:
    async with async_client(live) as client:

        async def ask(number: int) -> str:
            stream = await client.responses.create(
                model="org_auto", input=f"repeat word{number} 20 times", stream=True
            )
            return "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])

        texts = await asyncio.gather(*(ask(number) for number in range(8)))
    for number, text in enumerate(texts):
        assert text.count(f"word{number}") == 20


def test_a_stream_read_by_hand_ends_with_done(live: Service) -> None:
    reply = post(live, input="say x", stream=True)
    assert reply.content.endswith(b"data: [DONE]\n\n")
    assert read_stream(reply.content).types[-1] == "response.completed"
