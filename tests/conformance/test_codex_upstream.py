"""The official SDKs against `lingma-gateway up` with a Responses upstream behind it, a strict one: answers.

Every test has a model, an upstream and credentials of its own, so that nothing that one wears out
(credentials that rest) is met by another. Reasoning, tools and failures have modules of their own.
"""

import base64
import contextlib
import itertools
from typing import Any

import httpx2
import openai
import pytest
from google.genai import types
from pydantic import BaseModel

from gateway.kernel.json import loads
from tests.fakes.codex_brain import Answer, Refuse, Say, Think
from tests.fakes.codex_server import (
    REASONING_MODEL,
    CodexServer,
)
from tests.support.clients import until
from tests.support.codex_gateway import Opener
from tests.support.responses_schema import validate_response, validate_stream
from tests.support.sdks import (
    PIXEL,
    PROTOCOLS,
    by_chat,
    conformance,
    each_protocol,
    streamed_or_not,
    user,
)

pytestmark = conformance


# -- answers ----------------------------------------------------------------------------------------------


@each_protocol
@streamed_or_not
async def test_every_sdk_is_answered(gateway: Opener, ask: Any, stream: bool) -> None:
    async with gateway() as gate:
        assert await ask(gate, "count from 1 to 12", stream=stream) == "".join(f"{n} " for n in range(1, 13))
        (request,) = gate.server.requests
        assert request.headers["user-agent"].startswith("lingma-gateway/")
        assert request.headers["authorization"] in ("Bearer sk-one", "Bearer sk-two")
        assert bool(request.body.get("stream")) is stream
        assert request.body["model"] == REASONING_MODEL


async def test_a_stream_in_the_upstreams_dialect_is_its_own(gateway: Opener) -> None:
    async with gateway() as gate:
        asked = {"model": gate.model, "input": "think about 7, then say done", "stream": True}
        async with httpx2.AsyncClient(timeout=30) as client:
            answer = await client.post(f"{gate.url}/v1/responses", json=asked)
        found = validate_stream(answer.content)
        assert [item["type"] for item in found.items] == ["reasoning", "message"]
        assert found.response["id"] == "resp_000001"
        assert found.response["model"] == gate.model
        assert answer.content.count(b'"obfuscation"') == len([e for e in found.events if "delta" in e])
        assert "x-gateway-losses" not in answer.headers


async def test_a_stream_that_is_slow_to_begin_is_kept_alive_and_begun_once(gateway: Opener) -> None:
    async with gateway() as gate:
        gate.server.queue.append(Answer(pieces=(Think(), Say("at last")), gate_after=0))
        asked = {"model": gate.model, "input": "x", "stream": True}
        received = b""
        async with (
            httpx2.AsyncClient(timeout=30) as client,
            client.stream("POST", f"{gate.url}/v1/responses", json=asked) as answer,
        ):
            async for data in answer.aiter_raw():
                received += data
                if b"event: keepalive" in received:
                    gate.server.gate.set()
        found = validate_stream(received)
        assert found.keepalives > 0
        assert (found.text, found.types.count("response.created")) == ("at last", 1)
        assert found.response["id"] == found.events[0]["response"]["id"] != "resp_000001"


async def test_a_whole_answer_in_the_upstreams_dialect_is_its_own(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai as client:
        answer = await client.responses.create(model=gate.model, input="say hi", metadata={"a": "b"})
        assert (answer.id, answer.model, answer.output_text) == ("resp_000001", gate.model, "hi")
        assert answer.metadata == {"a": "b"}
        assert gate.last["metadata"] == {"a": "b"}


async def test_an_upstream_that_only_streams_answers_those_who_do_not(gateway: Opener) -> None:
    async with gateway("stream", CodexServer(stream_only=True)) as gate:
        for ask in PROTOCOLS.values():
            assert await ask(gate, "say hi", stream=False) == "hi"
        async with gate.openai as client:
            answer = await client.responses.with_raw_response.create(model=gate.model, input="say hi")
        validate_response(loads(answer.content))  # type: ignore[arg-type]


async def test_structured_answers(gateway: Opener) -> None:
    class Found(BaseModel):
        q: str

    async with gateway() as gate, gate.openai as client:
        for _ in range(2):
            gate.server.queue.append(Answer(pieces=(Think(), Say('{"q":"needle"}'))))
        parsed = await client.chat.completions.parse(
            model=gate.model, messages=user("x"), response_format=Found
        )
        assert parsed.choices[0].message.parsed == Found(q="needle")
        assert gate.last["text"]["format"]["strict"] is True
        answer = await client.responses.parse(model=gate.model, input="x", text_format=Found)
        assert answer.output_parsed == Found(q="needle")


async def test_refusals(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai as client, gate.claude as claude:
        for _ in range(3):
            gate.server.queue.append(Answer(pieces=(Refuse("no"),)))
        completion = await client.chat.completions.create(model=gate.model, messages=user("x"))
        assert completion.choices[0].message.refusal == "no"
        response = await client.responses.create(model=gate.model, input="x")
        assert response.output[0].content[0].type == "refusal"  # type: ignore[union-attr,index]
        message = await claude.messages.create(model=gate.model, max_tokens=50, messages=user("x"))
        assert message.content[0].text == "no"  # type: ignore[union-attr]


async def test_images_reach_the_upstream(gateway: Opener) -> None:
    url = f"data:image/png;base64,{PIXEL}"
    async with gateway() as gate, gate.openai as client, gate.claude as claude:
        seen: list[Any] = []
        await client.chat.completions.create(
            model=gate.model,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
                    ],
                }
            ],
        )
        seen.append(gate.last["input"][0]["content"][1])
        source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        await claude.messages.create(
            model=gate.model,
            max_tokens=50,
            messages=[{"role": "user", "content": [{"type": "image", "source": source}]}],
        )
        seen.append(gate.last["input"][0]["content"][0])
        google = gate.google
        image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
        await google.models.generate_content(model=gate.model, contents=["look", image])
        seen.append(gate.last["input"][0]["content"][1])
        given: Any = {"type": "input_image", "image_url": url, "detail": "high"}
        await client.responses.create(model=gate.model, input=user([given]))
        seen.append(gate.last["input"][0]["content"][0])
        async with client.responses.stream(model=gate.model, input=user([given])) as events:
            await events.get_final_response()
        seen.append(gate.last["input"][0]["content"][0])
        assert [part["image_url"] for part in seen] == [url] * 5
        assert [part["detail"] for part in seen] == ["low", "auto", "auto", "high", "high"]


# -- leaving ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": user("x"), "stream": True}),
        ("/v1/chat/completions", {"messages": user("x")}),
        ("/v1/responses", {"input": "x", "stream": True}),
        ("/v1/messages", {"messages": user("x"), "max_tokens": 100, "stream": True}),
    ],
    ids=["chat-stream", "chat-whole", "responses", "messages"],
)
async def test_who_leaves_stops_the_upstream(gateway: Opener, path: str, body: dict[str, Any]) -> None:
    """The upstream's connection is closed within a second."""
    async with gateway() as gate:
        gate.server.queue.append(Answer(pieces=(Say("one two three"),), end="hang", stop_after=6))
        async with httpx2.AsyncClient(timeout=30) as client:
            request = client.build_request("POST", gate.url + path, json={"model": gate.model, **body})
            if body.get("stream"):
                answer = await client.send(request, stream=True)
                await anext(answer.aiter_raw())
                await answer.aclose()
            else:
                with contextlib.suppress(httpx2.TimeoutException):
                    await client.post(gate.url + path, json={"model": gate.model, **body}, timeout=0.5)
        await until(
            lambda: gate.server.requests and gate.server.requests[0].gone, "the upstream to be left", 1.0
        )


# -- compaction -------------------------------------------------------------------------------------------


async def test_rp_97_a_conversation_is_compacted_by_its_endpoint(gateway: Opener) -> None:
    """RP-97. Given `"stream":true`: 400. Given `"stream":false`: forwarded without `stream`. Given an
    upstream that answers 404: returned, and the credential stays available.
    """
    async with gateway() as gate, gate.openai as client:
        compacted = await client.responses.compact(model=gate.model, input=user("say hi"))
        assert [item.type for item in compacted.output][-1] == "compaction"
        async with httpx2.AsyncClient(base_url=gate.url, timeout=30) as http:
            body = {"model": gate.model, "input": "x"}
            refused = await http.post("/v1/responses/compact", json={**body, "stream": True})
            assert refused.status_code == 400
            assert (await http.post("/responses/compact", json={**body, "stream": False})).status_code == 200
            assert "stream" not in gate.last
        token = compacted.output[-1].model_dump(exclude_none=True)
        history: Any = [token, {"role": "user", "content": "say more"}]
        answer = await client.responses.create(model=gate.model, input=history)
        assert answer.output_text == "more"
        assert gate.last["input"][0] == token
    async with gateway(server=CodexServer(compaction=False)) as gate, gate.openai as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.compact(model=gate.model, input="x")
        assert (await client.responses.create(model=gate.model, input="say hi")).output_text == "hi"


async def test_an_upstream_that_does_not_compact_is_not_asked_to(gateway: Opener) -> None:
    async with gateway("lone") as gate, gate.openai as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.compact(model=gate.model, input="x")
        assert caught.value.code == "compaction_unsupported"
        trigger: Any = [*user("x"), {"type": "compaction_trigger"}]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model=gate.model, input=trigger)
        assert refused.value.param == "input.1"
        assert gate.server.requests == []


async def test_a_wish_to_compact_is_passed_on_and_answered_whole(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai as client:
        trigger: Any = [*user("x"), {"type": "compaction_trigger"}]
        events = [
            e async for e in await client.responses.create(model=gate.model, input=trigger, stream=True)
        ]
        done = [event.item for event in events if event.type == "response.output_item.done"]
        assert [item.type for item in done] == ["compaction"]
        assert gate.last["input"][-1] == {"type": "compaction_trigger"}


# -- what goes where --------------------------------------------------------------------------------------


async def test_models_that_sample_are_told_how(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai as client:
        sampled: Any = {"messages": user("say hi"), "temperature": 0.5, "max_tokens": 5}
        raw = await client.chat.completions.with_raw_response.create(model=f"{gate.model}-plain", **sampled)
        assert gate.last["temperature"] == 0.5
        assert raw.headers["x-gateway-losses"] == "max_output_tokens:raised-to-16"
        raw = await client.chat.completions.with_raw_response.create(model=gate.model, **sampled)
        assert "temperature" not in gate.last
        assert "temperature:unsupported" in raw.headers["x-gateway-losses"]


async def test_conversations_stay_with_their_credential(gateway: Opener) -> None:
    async with gateway() as gate:
        for number, _ in itertools.product(range(6), range(2)):
            await by_chat(gate, f"say {number}", stream=False)
        keys = [request.key for request in gate.server.requests]
        assert keys[::2] == keys[1::2]
        assert len(set(keys)) == 2
