"""The official SDKs against a gateway in this process, and a strict Gemini upstream behind: answers.

Each test has a gateway and an upstream of its own. The upstream refuses whatever Google's service refuses.
Reasoning, tools and failures have modules of their own.
"""

import asyncio
import base64
from typing import Any

from google.genai import types
from pydantic import BaseModel

from gateway.engine.routing import Target
from tests.fakes.antigravity_brain import PIXEL, Reply, text
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.antigravity_sdks import MODEL, each_envelope, serving
from tests.support.sdks import by_gemini, conformance, each_protocol, streamed_or_not, user

pytestmark = conformance


# -- answers ----------------------------------------------------------------------------------------------


@each_protocol
@streamed_or_not
@each_envelope
async def test_every_sdk_is_answered(ask: Any, stream: bool, envelope: bool) -> None:
    async with serving(AntigravityServer(envelope=envelope, alternate=True)) as on:
        assert await ask(on, "say one two three", stream=stream) == "one two three"
        (asked,) = on.server.requests
        assert asked.headers["user-agent"].startswith("lingma-gateway/")
        assert "x-goog-api-client" not in asked.headers


@streamed_or_not
@each_envelope
async def test_a_gemini_clients_own_answer(stream: bool, envelope: bool) -> None:
    """What only Gemini says arrives: ids of answers, parts and members of its own."""
    async with serving(AntigravityServer(envelope=envelope)) as on:
        asked: Any = {"model": MODEL, "contents": "draw"}
        if stream:
            chunks = [chunk async for chunk in await on.google.models.generate_content_stream(**asked)]
        else:
            chunks = [await on.google.models.generate_content(**asked)]
        assert {(chunk.response_id, chunk.model_version) for chunk in chunks} == {("resp1", MODEL)}
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore[index,union-attr]
        (picture,) = (part.inline_data for part in parts if part.inline_data)
        assert picture.data == base64.b64decode(PIXEL)


@each_envelope
async def test_images_reach_the_upstream(envelope: bool) -> None:
    url = f"data:image/png;base64,{PIXEL}"
    async with serving(AntigravityServer(envelope=envelope)) as on:
        seen: list[Any] = []
        words: Any = {"type": "text", "text": "echo"}
        chat = await on.openai.chat.completions.create(
            model=MODEL, messages=user([words, {"type": "image_url", "image_url": {"url": url}}])
        )
        assert "media=1" in (chat.choices[0].message.content or "")
        seen.append(on.last["contents"][0]["parts"][1])
        source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        await on.claude.messages.create(
            model=MODEL, max_tokens=50, messages=user([words, {"type": "image", "source": source}])
        )
        seen.append(on.last["contents"][0]["parts"][1])
        image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
        await on.google.models.generate_content(model=MODEL, contents=["echo", image])
        seen.append(on.last["contents"][0]["parts"][1])
        given: Any = [{"type": "input_text", "text": "echo"}, {"type": "input_image", "image_url": url}]
        await on.openai.responses.create(model=MODEL, input=user(given))
        seen.append(on.last["contents"][0]["parts"][1])
        native = seen.pop(2)["inlineData"]
        assert [part["inlineData"] for part in seen] == [{"mimeType": "image/png", "data": PIXEL}] * 3
        # Google's SDK writes the other alphabet and other names; its body goes on as it came.
        assert base64.urlsafe_b64decode(native["data"]) == base64.b64decode(PIXEL)
        assert native["mime_type"] == "image/png"
        assert on.server.refusals == []


@streamed_or_not
async def test_a_picture_of_an_image_model_comes_out_of_the_envelope(stream: bool) -> None:
    """Whose requests are of a type of their own."""
    config = {"models": ["gemini-3-pro-image"]}
    async with serving(AntigravityServer(envelope=True), config) as on:
        asked: Any = {"model": "gemini-3-pro-image", "contents": "draw"}
        if stream:
            chunks = [chunk async for chunk in await on.google.models.generate_content_stream(**asked)]
        else:
            chunks = [await on.google.models.generate_content(**asked)]
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore[index,union-attr]
        (picture,) = (part.inline_data for part in parts if part.inline_data)
        assert picture.data == base64.b64decode(PIXEL)
        assert on.server.requests[0].body["requestType"] == "image_gen"


@streamed_or_not
@each_envelope
async def test_a_gemini_clients_settings_are_told_as_lost_where_they_are_lost(
    stream: bool, envelope: bool
) -> None:
    """Its own dialect takes them along; Code Assist has no safety settings."""
    harassment = types.SafetySetting(
        category=types.HarmCategory.HARM_CATEGORY_HARASSMENT, threshold=types.HarmBlockThreshold.BLOCK_NONE
    )
    resolution = types.MediaResolution.MEDIA_RESOLUTION_LOW
    config = types.GenerateContentConfig(safety_settings=[harassment], media_resolution=resolution)
    async with serving(AntigravityServer(envelope=envelope)) as on:
        asked: Any = {"model": MODEL, "contents": "say x", "config": config}
        if stream:
            answers = [chunk async for chunk in await on.google.models.generate_content_stream(**asked)]
        else:
            answers = [await on.google.models.generate_content(**asked)]
        told = answers[0].sdk_http_response.headers or {}  # type: ignore[union-attr]
        assert told.get("x-gateway-losses") == ("safetySettings:unsupported" if envelope else None)
        assert ("safetySettings" in on.last) is not envelope
        assert on.last["generationConfig"]["mediaResolution"] == "MEDIA_RESOLUTION_LOW"


@each_envelope
async def test_structured_answers(envelope: bool) -> None:
    class Found(BaseModel):
        answer: int

    async with serving(AntigravityServer(envelope=envelope)) as on:
        parsed = await on.openai.chat.completions.parse(
            model=MODEL, messages=user("json"), response_format=Found
        )
        assert parsed.choices[0].message.parsed == Found(answer=42)
        assert on.last["generationConfig"]["responseSchema"]["properties"]["answer"]["type"] == "INTEGER"
        answer = await on.openai.responses.parse(model=MODEL, input="json", text_format=Found)
        assert answer.output_parsed == Found(answer=42)
        message = await on.claude.messages.parse(
            model=MODEL, max_tokens=500, messages=user("json"), output_format=Found
        )
        assert message.parsed_output == Found(answer=42)
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Found)
        native = await on.google.models.generate_content(model=MODEL, contents="json", config=config)
        assert native.parsed == Found(answer=42)
        assert on.server.refusals == []


@each_protocol
@each_envelope
async def test_a_blocked_prompt_is_told_as_each_protocol_has_it(ask: Any, envelope: bool) -> None:
    async with serving(AntigravityServer(envelope=envelope)) as on:
        on.server.queue = [Reply(finish=None, blocked="PROHIBITED_CONTENT")] * 2
        if ask is by_gemini:
            answer: Any = await on.google.models.generate_content(model=MODEL, contents="x")
            assert answer.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
            return
        assert await ask(on, "x", stream=False) == ""
        assert await ask(on, "x", stream=True) == ""


async def test_a_client_that_goes_away_closes_the_upstreams_connection() -> None:
    async with serving() as on:
        on.server.queue = [Reply(text("one two three"), finish=None, hangs=True)]
        stream = await on.openai.chat.completions.create(model=MODEL, messages=user("hi"), stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()
        async with asyncio.timeout(2):
            while not on.server.left_early:
                await asyncio.sleep(0.01)


async def test_a_public_name_for_the_model() -> None:
    routes = {"best": [Target(upstream="gem", model=MODEL)]}
    async with serving(routes=routes) as on:
        answer = await on.openai.chat.completions.create(model="best", messages=user("say hi"))
        assert (answer.model, answer.choices[0].message.content) == ("best", "hi")
        native = await on.google.models.generate_content(model="best", contents="say hi")
        assert (native.model_version, native.text) == ("best", "hi")
