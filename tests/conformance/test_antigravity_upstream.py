"""The official SDKs of all protocols against a gateway in this process, and a strict Gemini upstream behind.

Each test has a gateway and an upstream of its own. The upstream refuses whatever Google's service refuses,
and demands its thought signatures back on the very parts that it gave them with, of clients that never saw
one.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from google.genai.errors import APIError
from openai import AsyncOpenAI
from pydantic import BaseModel

from gateway.engine.routing import Target
from gateway.kernel.json import loads
from tests.fakes.antigravity_brain import NO_CAPACITY, OVERLOADED, PIXEL, Reply, error, limited, text
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.antigravity import Gateway, config_for, gateway

pytestmark = [
    pytest.mark.conformance,
    # The SDK makes a class out of one of aiohttp's, which aiohttp would rather it did not.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]

MODEL = "gemini-3-pro"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"step": {"type": "integer", "exclusiveMinimum": 0}, "mode": {"const": "fast"}},
    "required": ["step"],
    "additionalProperties": False,
    "$schema": "http://json-schema.org/draft-07/schema#",
}
LOOK = {"name": "look", "description": "Looks"}

each_envelope = pytest.mark.parametrize("envelope", [False, True], ids=["plain", "code_assist"])
streamed_or_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


class Bench:
    def __init__(self, gate: Gateway, server: AntigravityServer) -> None:
        self.gate = gate
        self.url = gate.url
        self.server = server
        options: dict[str, Any] = {"max_retries": 0, "timeout": 30}
        self.openai = AsyncOpenAI(base_url=f"{gate.url}/v1", api_key="any", **options)
        self.claude = AsyncAnthropic(base_url=gate.url, api_key="any", **options)
        google = genai.Client(
            api_key="any", http_options=types.HttpOptions(base_url=gate.url, timeout=30_000)
        )
        self.google = google.aio

    @property
    def last(self) -> Any:
        return self.server.requests[-1].request

    async def aclose(self) -> None:
        await self.openai.close()
        await self.claude.close()
        await self.google.aclose()


@contextlib.asynccontextmanager
async def serving(
    server: AntigravityServer | None = None, config: Any = None, **options: Any
) -> AsyncIterator[Bench]:
    server = server or AntigravityServer()
    async with (
        server.running(),
        gateway(config_for(server, **(config or {})), **options) as gate,
        contextlib.aclosing(Bench(gate, server)) as bench,
    ):
        yield bench


def user(words: Any) -> list[Any]:
    return [{"role": "user", "content": words}]


# -- one small client for each protocol, for what all of them have to do ----------------------------------


async def by_chat(on: Bench, words: str, *, stream: bool) -> str:
    asked: Any = {"model": MODEL, "messages": user(words)}
    if not stream:
        answer = await on.openai.chat.completions.create(**asked)
        return answer.choices[0].message.content or ""
    said = ""
    async for chunk in await on.openai.chat.completions.create(**asked, stream=True):
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
    return said


async def by_responses(on: Bench, words: str, *, stream: bool) -> str:
    if not stream:
        return (await on.openai.responses.create(model=MODEL, input=words)).output_text
    said = ""
    async for event in await on.openai.responses.create(model=MODEL, input=words, stream=True):
        if event.type == "response.output_text.delta":
            said += event.delta
        elif event.type == "response.failed":
            raise Failed(event.response.error.message if event.response.error else "")
    return said


async def by_messages(on: Bench, words: str, *, stream: bool) -> str:
    asked: Any = {"model": MODEL, "max_tokens": 500, "messages": user(words)}
    if not stream:
        answer = await on.claude.messages.create(**asked)
        return "".join(block.text for block in answer.content if block.type == "text")
    async with on.claude.messages.stream(**asked) as events:
        return "".join([piece async for piece in events.text_stream])


async def by_gemini(on: Bench, words: str, *, stream: bool) -> str:
    if not stream:
        return (await on.google.models.generate_content(model=MODEL, contents=words)).text or ""
    said = ""
    async for chunk in await on.google.models.generate_content_stream(model=MODEL, contents=words):
        said += chunk.text or ""
    return said


class Failed(Exception):
    """A stream of Responses that said so."""


PROTOCOLS = {"chat": by_chat, "responses": by_responses, "messages": by_messages, "gemini": by_gemini}
ERRORS = (openai.APIError, anthropic.APIError, APIError, Failed)
each_protocol = pytest.mark.parametrize("ask", PROTOCOLS.values(), ids=PROTOCOLS)


def status_of(raised: BaseException) -> int | None:
    return int(raised.code) if isinstance(raised, APIError) else getattr(raised, "status_code", None)


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
async def test_a_gemini_clients_own_answer(stream: bool) -> None:
    """What only Gemini says arrives: ids of answers, parts and members of its own."""
    async with serving() as on:
        asked: Any = {"model": MODEL, "contents": "draw"}
        if stream:
            chunks = [chunk async for chunk in await on.google.models.generate_content_stream(**asked)]
        else:
            chunks = [await on.google.models.generate_content(**asked)]
        assert {(chunk.response_id, chunk.model_version) for chunk in chunks} == {("resp1", MODEL)}
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore[index,union-attr]
        (picture,) = (part.inline_data for part in parts if part.inline_data)
        assert picture.data == base64.b64decode(PIXEL)


# -- tools, and the signatures that come with them --------------------------------------------------------


async def chat_loop(on: Bench, *, stream: bool) -> str:
    messages: list[Any] = user("steps look 3")
    tools: Any = [{"type": "function", "function": {**LOOK, "parameters": SCHEMA}}]
    asked: Any = {"model": MODEL, "tools": tools}
    for step in range(1, 5):
        if stream:
            async with on.openai.chat.completions.stream(messages=messages, **asked) as events:
                answer = await events.get_final_completion()
        else:
            answer = await on.openai.chat.completions.create(messages=messages, **asked)
        message: Any = answer.choices[0].message
        if not message.tool_calls:
            return str(message.content)
        (called,) = message.tool_calls
        assert (answer.choices[0].finish_reason, loads(called.function.arguments)) == (
            "tool_calls",
            {"step": step},
        )
        messages += [
            message.model_dump(exclude_none=True, exclude={"parsed"}),
            {"role": "tool", "tool_call_id": called.id, "content": f"result {step}"},
        ]
    raise AssertionError("no end")


async def responses_loop(on: Bench, *, stream: bool) -> str:
    items: list[Any] = user("steps look 3")
    tools: Any = [{"type": "function", **LOOK, "parameters": SCHEMA, "strict": False}]
    asked: Any = {"model": MODEL, "tools": tools, "store": False}
    for step in range(1, 5):
        if stream:
            async with on.openai.responses.stream(input=items, **asked) as events:
                answer: Any = await events.get_final_response()
        else:
            answer = await on.openai.responses.create(input=items, **asked)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return str(answer.output_text)
        (called,) = calls
        items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
        items.append({"type": "function_call_output", "call_id": called.call_id, "output": f"result {step}"})
    raise AssertionError("no end")


async def messages_loop(on: Bench, *, stream: bool) -> str:
    messages: list[Any] = user("steps look 3")
    tools: Any = [{**LOOK, "input_schema": SCHEMA}]
    asked: Any = {"model": MODEL, "max_tokens": 500, "tools": tools}
    for step in range(1, 5):
        if stream:
            async with on.claude.messages.stream(messages=messages, **asked) as events:
                answer: Any = await events.get_final_message()
        else:
            answer = await on.claude.messages.create(messages=messages, **asked)
        if answer.stop_reason != "tool_use":
            return "".join(block.text for block in answer.content)
        (called,) = (block for block in answer.content if block.type == "tool_use")
        assert called.input == {"step": step}
        messages += [
            {
                "role": "assistant",
                "content": [block.model_dump(exclude_none=True) for block in answer.content],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": called.id, "content": f"result {step}"}],
            },
        ]
    raise AssertionError("no end")


async def gemini_loop(on: Bench, *, stream: bool) -> str:
    """The SDK's own chat, which gives parts back as they came."""
    declared = types.FunctionDeclaration(**LOOK, parameters_json_schema=SCHEMA)  # type: ignore[arg-type]
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    chat = on.google.chats.create(model=MODEL, config=config)
    said: Any = "steps look 3"
    for step in range(1, 5):
        if stream:
            chunks = [chunk async for chunk in await chat.send_message_stream(said)]
        else:
            chunks = [await chat.send_message(said)]
        calls = [one for chunk in chunks for one in chunk.function_calls or ()]
        if not calls:
            return "".join(chunk.text or "" for chunk in chunks)
        (called,) = calls
        assert called.args == {"step": step}
        answered = types.FunctionResponse(
            id=called.id, name=called.name, response={"output": f"result {step}"}
        )
        said = types.Part(function_response=answered)
    raise AssertionError("no end")


LOOPS = {"chat": chat_loop, "responses": responses_loop, "messages": messages_loop, "gemini": gemini_loop}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
@streamed_or_not
@each_envelope
async def test_a_loop_of_tools_keeps_its_signatures(loop: Any, stream: bool, envelope: bool) -> None:
    server = AntigravityServer(envelope=envelope, sentinel=False, alternate=loop is not gemini_loop)
    async with serving(server) as on:
        assert await loop(on, stream=stream) == "done 3"
        assert on.server.refusals == []
        assert len(on.server.requests) == 4
        contents = on.last["contents"]
        calls = [part for one in contents for part in one["parts"] if "functionCall" in part]
        assert [part["functionCall"]["id"] for part in calls] == ["fc-1", "fc-2", "fc-3"]
        assert all(part["thoughtSignature"].startswith("EisK") for part in calls)
        results = [part for one in contents for part in one["parts"] if "functionResponse" in part]
        assert [part["functionResponse"]["id"] for part in results] == ["fc-1", "fc-2", "fc-3"]


async def test_signatures_that_died_cost_one_attempt_and_nobody_notices() -> None:
    async with serving() as on:
        tools: Any = [{**LOOK, "input_schema": SCHEMA}]
        asked: Any = {"model": MODEL, "max_tokens": 500, "tools": tools}
        first = await on.claude.messages.create(messages=user("steps look 2"), **asked)
        (called,) = (block for block in first.content if block.type == "tool_use")
        on.server.signatures.forget()
        messages: list[Any] = [
            *user("steps look 2"),
            {"role": "assistant", "content": [block.model_dump() for block in first.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": called.id, "content": "ok"}]},
        ]
        second = await on.claude.messages.create(messages=messages, **asked)
        assert second.stop_reason == "tool_use"
        assert [message for _, message in on.server.refusals] == ["Invalid thought signature."]
        assert [figures.attempts for figures in on.gate.recorder.figures] == [1, 2]


async def test_calls_in_parallel() -> None:
    words = 'call look {"step": 1} and look {"step": 2}'
    async with serving(AntigravityServer(sentinel=False, alternate=True)) as on:
        tools: Any = [{"type": "function", "function": {**LOOK, "parameters": SCHEMA}}]
        answer = await on.openai.chat.completions.create(model=MODEL, messages=user(words), tools=tools)
        calls: Any = answer.choices[0].message.tool_calls
        assert [loads(one.function.arguments) for one in calls] == [{"step": 1}, {"step": 2}]
        messages = [
            *user(words),
            answer.choices[0].message.model_dump(exclude_none=True),
            *(
                {"role": "tool", "tool_call_id": one.id, "content": f'{{"n": {one.function.arguments[-2]}}}'}
                for one in reversed(calls)
            ),
        ]
        last = await on.openai.chat.completions.create(model=MODEL, messages=messages, tools=tools)
        assert last.choices[0].message.content == 'got {"n": 1} {"n": 2}'
        assert on.server.refusals == []


async def test_custom_tools_and_namespaces_of_codex() -> None:
    words = 'call apply_patch {"input": "*** x"} and mail__send {"to": "a"}'
    tools: Any = [
        {"type": "custom", "name": "apply_patch", "description": "Patches"},
        {
            "type": "namespace",
            "name": "mail",
            "tools": [{"type": "function", "name": "send", "parameters": {"type": "object"}}],
        },
    ]
    async with serving() as on:
        async with httpx2.AsyncClient(timeout=30) as client:
            asked = {"model": MODEL, "input": words, "tools": tools}
            answer = (await client.post(f"{on.url}/v1/responses", json=asked)).json()
        patch, send = (item for item in answer["output"] if item["type"].endswith("_call"))
        assert (patch["type"], patch["input"]) == ("custom_tool_call", "*** x")
        assert (send["namespace"], send["name"]) == ("mail", "send")


async def test_forced_tools() -> None:
    async with serving() as on:
        await on.openai.chat.completions.create(
            model=MODEL,
            messages=user("hi"),
            tools=[{"type": "function", "function": {**LOOK, "parameters": SCHEMA}}],  # type: ignore[list-item]
            tool_choice={"type": "function", "function": {"name": "look"}},
        )
        config = on.last["toolConfig"]["functionCallingConfig"]
        assert config == {"mode": "ANY", "allowedFunctionNames": ["look"]}


# -- reasoning, pictures, formats -------------------------------------------------------------------------


async def test_reasoning_is_shown_by_every_protocol() -> None:
    words = "think let me see then say done"
    async with serving() as on:
        completion = await on.openai.chat.completions.create(
            model=MODEL, messages=user(words), reasoning_effort="low"
        )
        assert completion.choices[0].message.model_extra["reasoning_content"] == "let me see"  # type: ignore[index]
        response: Any = await on.openai.responses.create(
            model=MODEL, input=words, reasoning={"effort": "high", "summary": "auto"}
        )
        assert response.output[0].summary[0].text == "let me see"
        assert response.usage.output_tokens_details.reasoning_tokens == 3
        message: Any = await on.claude.messages.create(
            model=MODEL,
            max_tokens=5000,
            messages=user(words),
            thinking={"type": "enabled", "budget_tokens": 2000},
        )
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert on.last["generationConfig"]["thinkingConfig"] == {
            "includeThoughts": True,
            "thinkingBudget": 2000,
        }
        thinking = types.ThinkingConfig(include_thoughts=True)
        config = types.GenerateContentConfig(thinking_config=thinking)
        answer: Any = await on.google.models.generate_content(model=MODEL, contents=words, config=config)
        shown = [part.text for part in answer.candidates[0].content.parts if part.thought]
        assert shown == ["let me see"]


async def test_images_reach_the_upstream() -> None:
    url = f"data:image/png;base64,{PIXEL}"
    async with serving() as on:
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


async def test_structured_answers() -> None:
    class Found(BaseModel):
        answer: int

    async with serving() as on:
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
async def test_a_blocked_prompt_is_told_as_each_protocol_has_it(ask: Any) -> None:
    async with serving() as on:
        on.server.queue = [Reply(finish=None, blocked="PROHIBITED_CONTENT")] * 2
        if ask is by_gemini:
            answer: Any = await on.google.models.generate_content(model=MODEL, contents="x")
            assert answer.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
            return
        assert await ask(on, "x", stream=False) == ""
        assert await ask(on, "x", stream=True) == ""


# -- failures ---------------------------------------------------------------------------------------------


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
async def test_errors(ask: Any, stream: bool, reply: Reply, status: int, words: str) -> None:
    async with serving() as on:
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
async def test_a_stream_that_breaks_off_ends_with_an_error(ask: Any) -> None:
    async with serving() as on:
        on.server.queue = [Reply(text("one two"), finish=None, cut=True, pause_s=0.02)]
        with pytest.raises(ERRORS):
            await ask(on, "hi", stream=True)
        assert on.gate.recorder.figures[-1].outcome == "failed"


@each_protocol
async def test_an_error_inside_a_stream_is_told(ask: Any) -> None:
    async with serving() as on:
        on.server.queue = [Reply(text("one two"), finish=None, error=OVERLOADED.error, pause_s=0.02)]
        with pytest.raises(ERRORS, match=r"(?i)overloaded"):
            await ask(on, "hi", stream=True)


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


# -- other credentials, other addresses -------------------------------------------------------------------


@each_protocol
@streamed_or_not
@pytest.mark.parametrize(
    "reply", [limited(delay="60s"), error(401, "UNAUTHENTICATED", "no"), OVERLOADED, Reply(finish=None)]
)
async def test_another_credential_takes_over(ask: Any, stream: bool, reply: Reply) -> None:
    server = AntigravityServer(keys=("one", "two"))
    credentials = [{"id": name, "api_key": name} for name in ("one", "two")]
    async with serving(server, {"credentials": credentials}) as on:
        on.server.queue = [reply]
        assert await ask(on, "say still here", stream=stream) == "still here"
        first, second = (asked.key for asked in on.server.requests)
        assert first != second
        assert await ask(on, "say and again", stream=stream) == "and again"
        assert on.server.requests[-1].key == second, "the other one rests"


async def test_a_public_name_for_the_model() -> None:
    routes = {"best": [Target(upstream="gem", model=MODEL)]}
    async with serving(routes=routes) as on:
        answer = await on.openai.chat.completions.create(model="best", messages=user("say hi"))
        assert (answer.model, answer.choices[0].message.content) == ("best", "hi")
        native = await on.google.models.generate_content(model="best", contents="say hi")
        assert (native.model_version, native.text) == ("best", "hi")
