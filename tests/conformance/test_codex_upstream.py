"""The official SDKs against `lingma-gateway up` with a Responses upstream behind it, a strict one.

Every test has a model, an upstream and credentials of its own, so that nothing that one wears out
(credentials that rest) is met by another.
"""

import base64
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
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
from openai.types.responses import Response
from pydantic import BaseModel

from gateway.kernel.json import loads
from tests.fakes.codex_brain import Answer, CallTool, Refuse, Say, Think
from tests.fakes.codex_server import (
    OVERLOADED,
    PLAIN_MODEL,
    RATE_LIMITED,
    REASONING_MODEL,
    SERVER_ERROR,
    UNAUTHORISED,
    CodexServer,
    Fault,
)
from tests.support.clients import until
from tests.support.edge import serving
from tests.support.house import codex_upstream, route, write_upstreams
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, up
from tests.support.responses_schema import read_stream, validate_response, validate_stream

pytestmark = [
    pytest.mark.conformance,
    # The SDK makes a class out of one of aiohttp's, which aiohttp would rather it did not.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]

PLAIN_SLOTS, LONE_SLOTS, STREAM_SLOTS = 90, 40, 4
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Slots:
    """A gateway that knows a row of upstreams, on ports where a test serves its own."""

    def __init__(self, service: Service, rows: dict[str, Iterator[tuple[str, int]]]) -> None:
        self.service = service
        self._rows = rows

    def take(self, kind: str) -> tuple[str, int]:
        return next(self._rows[kind])


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slots]:
    directory = tmp_path_factory.mktemp("codex")
    counts = {"plain": PLAIN_SLOTS, "lone": LONE_SLOTS, "stream": STREAM_SLOTS}
    settings: dict[str, dict[str, Any]] = {
        "plain": {"compaction": True},
        "lone": {"credentials": [{"id": "one", "api_key": "sk-one"}]},
        "stream": {"stream_only": True},
    }
    rows: dict[str, list[tuple[str, int]]] = {kind: [] for kind in counts}
    upstreams, routes = [], []
    for kind, count in counts.items():
        for number in range(count):
            name, port = f"{kind}-{number}", free_port()
            upstreams.append(codex_upstream(name, port) | settings[kind])
            routes.append(route(name, {"upstream": name, "model": REASONING_MODEL}))
            routes.append(route(f"{name}-plain", {"upstream": name, "model": PLAIN_MODEL}))
            rows[kind].append((name, port))
    file = write_upstreams(directory, upstreams, routes)
    with up(directory, UPSTREAMS_FILE=file, FIRST_BYTE_HOLD_S="1", KEEPALIVE_S="1") as service:
        service.ready("/healthz", pool_ready(1))
        yield Slots(service, {kind: iter(row) for kind, row in rows.items()})


class Gateway:
    """The gateway as one test has it: a model of its own, and the upstream behind that."""

    def __init__(self, url: str, model: str, server: CodexServer) -> None:
        self.url = url
        self.model = model
        self.server = server

    def openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0, timeout=30)

    def anthropic(self) -> AsyncAnthropic:
        return AsyncAnthropic(base_url=self.url, api_key="any", max_retries=0, timeout=30)

    def google(self) -> genai.Client:
        return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=self.url, timeout=30_000))

    @property
    def last(self) -> Any:
        return self.server.requests[-1].body


Opener = Callable[..., contextlib.AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def gateway(slots: Slots) -> Opener:
    @contextlib.asynccontextmanager
    async def opened(kind: str = "plain", server: CodexServer | None = None) -> AsyncIterator[Gateway]:
        model, port = slots.take(kind)
        server = server or CodexServer()
        async with serving(server, port=port):
            yield Gateway(slots.service.url, model, server)

    return opened


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- one small client for each protocol, for what all of them have to do ----------------------------------


async def by_chat(gate: Gateway, prompt: str, *, stream: bool) -> str:
    async with gate.openai() as client:
        asked: Any = {"model": gate.model, "messages": user(prompt)}
        if not stream:
            answer = await client.chat.completions.create(**asked)
            return answer.choices[0].message.content or ""
        text = ""
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        return text


async def by_responses(gate: Gateway, prompt: str, *, stream: bool) -> str:
    async with gate.openai() as client:
        if not stream:
            return (await client.responses.create(model=gate.model, input=prompt)).output_text
        text = ""
        async for event in await client.responses.create(model=gate.model, input=prompt, stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.failed":
                raise Failed(event.response.error.message if event.response.error else "")
        return text


async def by_messages(gate: Gateway, prompt: str, *, stream: bool) -> str:
    async with gate.anthropic() as client:
        asked: Any = {"model": gate.model, "max_tokens": 500, "messages": user(prompt)}
        if not stream:
            answer = await client.messages.create(**asked)
            return "".join(block.text for block in answer.content if block.type == "text")
        async with client.messages.stream(**asked) as stream_:
            return "".join([text async for text in stream_.text_stream])


async def by_gemini(gate: Gateway, prompt: str, *, stream: bool) -> str:
    client = gate.google().aio
    try:
        if not stream:
            return (await client.models.generate_content(model=gate.model, contents=prompt)).text or ""
        text = ""
        async for chunk in await client.models.generate_content_stream(model=gate.model, contents=prompt):
            text += chunk.text or ""
        return text
    finally:
        await client.aclose()


class Failed(Exception):
    """A stream of Responses that said so."""


PROTOCOLS = {"chat": by_chat, "responses": by_responses, "messages": by_messages, "gemini": by_gemini}
ERRORS = (openai.APIError, anthropic.APIError, APIError, Failed)
each_protocol = pytest.mark.parametrize("ask", PROTOCOLS.values(), ids=PROTOCOLS)
streamed_or_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def status_of(error: BaseException) -> int | None:
    if isinstance(error, APIError):
        return int(error.code)
    return getattr(error, "status_code", None)


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
    async with gateway() as gate, gate.openai() as client:
        answer = await client.responses.create(model=gate.model, input="say hi", metadata={"a": "b"})
        assert (answer.id, answer.model, answer.output_text) == ("resp_000001", gate.model, "hi")
        assert answer.metadata == {"a": "b"}
        assert gate.last["metadata"] == {"a": "b"}


async def test_an_upstream_that_only_streams_answers_those_who_do_not(gateway: Opener) -> None:
    async with gateway("stream", CodexServer(stream_only=True)) as gate:
        for ask in PROTOCOLS.values():
            assert await ask(gate, "say hi", stream=False) == "hi"
        async with gate.openai() as client:
            answer = await client.responses.with_raw_response.create(model=gate.model, input="say hi")
        validate_response(loads(answer.content))  # type: ignore[arg-type]


async def test_reasoning_is_shown_by_every_protocol(gateway: Opener) -> None:
    prompt = "think about 7, then say done"
    async with gateway() as gate, gate.openai() as client, gate.anthropic() as claude:
        completion = await client.chat.completions.create(model=gate.model, messages=user(prompt))
        assert completion.choices[0].message.model_extra["reasoning_content"] == "I think about 7."  # type: ignore[index]
        response = await client.responses.create(model=gate.model, input=prompt)
        assert response.output[0].type == "reasoning"
        assert response.output[0].summary[0].text == "I think about 7."
        message = await claude.messages.create(
            model=gate.model,
            max_tokens=5000,
            messages=user(prompt),
            thinking={"type": "enabled", "budget_tokens": 2000},
        )
        thought, said = message.content
        assert (thought.type, said.type) == ("thinking", "text")
        assert thought.signature.startswith("gAAAA")
        assert gate.last["reasoning"] == {"effort": "low", "summary": "auto"}
        google = gate.google().aio
        config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
        answer = await google.models.generate_content(model=gate.model, contents=prompt, config=config)
        parts = answer.candidates[0].content.parts  # type: ignore[index,union-attr]
        assert [(part.thought, part.text) for part in parts or ()] == [
            (True, "I think about 7."),
            (None, "done"),
        ]
        assert answer.usage_metadata is not None
        assert answer.usage_metadata.thoughts_token_count == 5
        await google.aclose()


async def test_structured_answers(gateway: Opener) -> None:
    class Found(BaseModel):
        q: str

    async with gateway() as gate, gate.openai() as client:
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
    async with gateway() as gate, gate.openai() as client, gate.anthropic() as claude:
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
    async with gateway() as gate, gate.openai() as client, gate.anthropic() as claude:
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
        google = gate.google().aio
        image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
        await google.models.generate_content(model=gate.model, contents=["look", image])
        seen.append(gate.last["input"][0]["content"][1])
        await google.aclose()
        assert [part["image_url"] for part in seen] == [url] * 3
        assert [part["detail"] for part in seen] == ["low", "auto", "auto"]


# -- tools ------------------------------------------------------------------------------------------------


@streamed_or_not
async def test_tools_make_their_round_in_chat(gateway: Opener, stream: bool) -> None:
    """The upstream demands its reasoning back, which Chat has no place for."""
    tool: Any = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
    async with gateway() as gate, gate.openai() as client:
        messages = user('call find {"q":"a"} and call find {"q":"b"}')
        if stream:
            async with client.chat.completions.stream(
                model=gate.model, messages=messages, tools=[tool]
            ) as events:
                async for _ in events:
                    pass
                message: Any = (await events.get_final_completion()).choices[0].message
        else:
            answer = await client.chat.completions.create(model=gate.model, messages=messages, tools=[tool])
            message = answer.choices[0].message
        assert [call.function.arguments for call in message.tool_calls] == ['{"q":"a"}', '{"q":"b"}']
        messages.append({"role": "assistant", "tool_calls": [c.model_dump() for c in message.tool_calls]})
        for call, found in zip(message.tool_calls, "AB", strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": found})
        answer = await client.chat.completions.create(model=gate.model, messages=messages, tools=[tool])
        assert answer.choices[0].message.content == "Got A and B"
        assert len(gate.server.requests[-1].blobs) == 1


@streamed_or_not
@pytest.mark.parametrize("keeps", [True, False], ids=["keeps-thinking", "drops-thinking"])
async def test_tools_make_their_round_in_messages(gateway: Opener, stream: bool, keeps: bool) -> None:
    tool: Any = {"name": "find", "description": "d", "input_schema": SCHEMA}
    session = f"user_x_account__session_{'ab' if stream else 'cd'}-{'01' if keeps else '02'}"
    common: Any = {"max_tokens": 5000, "tools": [tool], "metadata": {"user_id": session}}
    async with gateway() as gate, gate.anthropic() as client:
        messages = user('call find {"q":"a"}')
        if stream:
            async with client.messages.stream(model=gate.model, messages=messages, **common) as events:
                first = await events.get_final_message()
        else:
            first = await client.messages.create(model=gate.model, messages=messages, **common)
        assert first.stop_reason == "tool_use"
        content = [block for block in first.content if keeps or block.type == "tool_use"]
        call: Any = content[-1]
        assert call.input == {"q": "a"}
        messages.append({"role": "assistant", "content": content})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "A"}
        messages.append({"role": "user", "content": [result]})
        second = await client.messages.create(model=gate.model, messages=messages, **common)
        assert second.content[-1].text == "Got A"  # type: ignore[union-attr]
        assert len(gate.server.requests[-1].blobs) == 1


@streamed_or_not
async def test_tools_make_their_round_in_responses(gateway: Opener, stream: bool) -> None:
    tool: Any = {"type": "function", "name": "find", "parameters": SCHEMA, "strict": False}
    custom: Any = {"type": "custom", "name": "exec", "description": "runs"}
    asked: Any = {"tools": [tool, custom], "store": False, "include": ["reasoning.encrypted_content"]}
    async with gateway() as gate, gate.openai() as client:
        pieces = (Think(), CallTool("find", '{"q":"a"}'), CallTool("exec", "ls -l", custom=True))
        gate.server.queue.append(Answer(pieces=pieces))
        history: list[Any] = user("x")
        if stream:
            async with client.responses.stream(model=gate.model, input=history, **asked) as events:
                async for _ in events:
                    pass
                first: Response = await events.get_final_response()
        else:
            first = await client.responses.create(model=gate.model, input=history, **asked)
        thought, call, script = (item.model_dump(exclude_none=True) for item in first.output)
        for item in (call, script):
            item.pop("parsed_arguments", None)
        history += [thought, call, script]
        history.append({"type": "function_call_output", "call_id": call["call_id"], "output": "A"})
        history.append({"type": "custom_tool_call_output", "call_id": script["call_id"], "output": "B"})
        second = await client.responses.create(model=gate.model, input=history, **asked)
        assert second.output_text == "Got A and B"


async def test_tools_make_their_round_in_gemini(gateway: Opener) -> None:
    declared = types.Tool(
        function_declarations=[types.FunctionDeclaration(name="find", parameters_json_schema=SCHEMA)]
    )
    config = types.GenerateContentConfig(tools=[declared])
    async with gateway() as gate:
        client = gate.google().aio
        asked: Any = types.Content(role="user", parts=[types.Part(text='call find {"q":"a"}')])
        first = await client.models.generate_content(model=gate.model, contents=[asked], config=config)
        (call,) = first.function_calls or ()
        assert call.args == {"q": "a"}
        made = first.candidates[0].content  # type: ignore[index]
        result = types.Part.from_function_response(name="find", response={"output": "A"})
        result.function_response.id = call.id  # type: ignore[union-attr]
        history: Any = [asked, made, types.Content(role="user", parts=[result])]
        second = await client.models.generate_content(model=gate.model, contents=history, config=config)
        assert "A" in (second.text or "")
        assert len(gate.server.requests[-1].blobs) == 1
        await client.aclose()


# -- errors -----------------------------------------------------------------------------------------------


@each_protocol
@streamed_or_not
@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        (Fault(status=400, error={"message": "odd request", "type": "invalid_request_error"}), {400}),
        (UNAUTHORISED, {503, 529}),
        (RATE_LIMITED, {429}),
        (SERVER_ERROR, {500, 502}),
    ],
    ids=["400", "401", "429", "500"],
)
async def test_errors_of_the_upstream_are_told_in_each_protocol(
    gateway: Opener, ask: Any, stream: bool, fault: Fault, statuses: set[int]
) -> None:
    async with gateway("lone") as gate:
        gate.server.faults["sk-one"] = fault
        with pytest.raises(ERRORS) as caught:
            await ask(gate, "x", stream=stream)
        assert status_of(caught.value) in statuses
        told = str(caught.value)
        assert "sk-" not in told
        if fault.status == 400:
            assert "odd request" in told
            assert len(gate.server.requests) == 1, "nobody repeats what is wrong"


async def test_a_wait_is_passed_on(gateway: Opener) -> None:
    async with gateway("lone") as gate, gate.openai() as client:
        gate.server.faults["sk-one"] = RATE_LIMITED
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=gate.model, messages=user("x"))
        assert caught.value.response.headers["retry-after"] == "2"
        with pytest.raises(openai.APIStatusError) as caught_again:
            await client.chat.completions.create(model=gate.model, messages=user("x"))
        assert caught_again.value.status_code == 429, "its only credential rests"
        assert "retry-after" in caught_again.value.response.headers
        assert len(gate.server.requests) == 1


@each_protocol
@pytest.mark.parametrize("end", ["cut", "failed", "error"])
async def test_a_stream_that_dies_ends_as_an_error(gateway: Opener, ask: Any, end: Any) -> None:
    async with gateway() as gate:
        pieces = (Say("one two three four"),)
        gate.server.queue.append(Answer(pieces=pieces, end=end, stop_after=7))
        with pytest.raises(ERRORS):
            await ask(gate, "x", stream=True)
        assert len(gate.server.requests) == 1, "what a client has seen is not begun again"


async def test_the_end_of_a_stream_that_dies_is_legal_responses(gateway: Opener) -> None:
    async with gateway() as gate:
        gate.server.queue.append(Answer(pieces=(Think(), Say("one two")), end="cut", stop_after=14))
        asked = {"model": gate.model, "input": "x", "stream": True}
        async with httpx2.AsyncClient(timeout=30) as client:
            answer = await client.post(f"{gate.url}/v1/responses", json=asked)
        found = validate_stream(answer.content)
        assert found.response["status"] == "failed"
        assert found.response["id"] == "resp_000001"
        assert [item["type"] for item in found.response["output"]] == ["reasoning"]


async def test_a_cut_answer_is_told_as_such(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai() as client, gate.anthropic() as claude:
        for _ in range(4):
            gate.server.queue.append(Answer(pieces=(Say("as far as"),), end="max_output_tokens"))
        completion = await client.chat.completions.create(model=gate.model, messages=user("x"))
        assert completion.choices[0].finish_reason == "length"
        response = await client.responses.create(model=gate.model, input="x")
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]
        message = await claude.messages.create(model=gate.model, max_tokens=50, messages=user("x"))
        assert message.stop_reason == "max_tokens"
        codex = {"user-agent": "codex_exec/0.130.0"}
        asked = {"model": gate.model, "input": "x", "stream": True}
        async with httpx2.AsyncClient(timeout=30) as http:
            raw = await http.post(f"{gate.url}/v1/responses", json=asked, headers=codex)
        assert read_stream(raw.content).response["status"] == "completed"


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


# -- fail-over --------------------------------------------------------------------------------------------


@each_protocol
@streamed_or_not
async def test_another_credential_takes_over(gateway: Opener, ask: Any, stream: bool) -> None:
    async with gateway() as gate:
        gate.server.queue.append(UNAUTHORISED)
        assert await ask(gate, "say hi", stream=stream) == "hi"
        first, second = gate.server.requests
        assert {first.key, second.key} == {"sk-one", "sk-two"}


@pytest.mark.parametrize(
    "fault", [UNAUTHORISED, RATE_LIMITED, SERVER_ERROR, OVERLOADED], ids=lambda f: str(f.status)
)
async def test_a_fault_of_any_kind_moves_the_turn_on(gateway: Opener, fault: Fault) -> None:
    async with gateway() as gate:
        gate.server.queue.append(fault)
        assert await by_chat(gate, "say hi", stream=True) == "hi"
        assert await by_chat(gate, "say hi", stream=True) == "hi"
        keys = [request.key for request in gate.server.requests]
        assert len(keys) == 3
        assert keys[0] != keys[1] == keys[2], "whoever failed rests"


async def test_a_failure_inside_a_stream_before_content_moves_the_turn_on(gateway: Opener) -> None:
    async with gateway() as gate:
        error = {"code": "server_is_overloaded", "message": "full"}
        gate.server.queue.append(Answer(end="failed", error=error))
        assert await by_responses(gate, "say hi", stream=True) == "hi"
        assert len(gate.server.requests) == 2


async def test_rp_57_rejected_reasoning_costs_one_more_call(gateway: Opener) -> None:
    """RP-57. Given 400 `invalid_encrypted_content`: the entry is deleted. The turn goes on without what was
    rejected; a client that sees the error would see 400 `thinking_signature_invalid`.
    """
    tool: Any = {"name": "find", "description": "d", "input_schema": SCHEMA}
    common: Any = {"max_tokens": 500, "tools": [tool], "metadata": {"user_id": "user_x_session_57"}}
    async with gateway(server=CodexServer(demand=False)) as gate, gate.anthropic() as client:
        messages = user('call find {"q":"a"}')
        first = await client.messages.create(model=gate.model, messages=messages, **common)
        call: Any = first.content[-1]
        messages.append({"role": "assistant", "content": [call]})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "A"}
        messages.append({"role": "user", "content": [result]})
        gate.server.vault.stale = True
        second = await client.messages.create(model=gate.model, messages=messages, **common)
        assert second.content[-1].text == "Got A"  # type: ignore[union-attr]
        rejected, without = gate.server.requests[1:]
        assert (len(rejected.blobs), rejected.status, without.blobs) == (1, 400, [])
        error = {"code": "invalid_encrypted_content", "message": "could not be verified", "type": "x"}
        for key in gate.server.keys:
            gate.server.faults[key] = Fault(status=400, error=error)
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(model=gate.model, messages=user("x"), **common)
        assert len(gate.server.requests) == 4, "nothing was given back, so there is nothing to leave out"


async def test_rp_61_another_credential_is_given_the_same_reasoning(gateway: Opener) -> None:
    """RP-61. Given credential 1 that fails with 401 in mid-session, credential 2 serves the same turn with
    the same replay.
    """
    tool: Any = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
    async with gateway() as gate, gate.openai() as client:
        messages = user('call find {"q":"a"}')
        answer = await client.chat.completions.create(model=gate.model, messages=messages, tools=[tool])
        call: Any = answer.choices[0].message.tool_calls[0]  # type: ignore[index]
        messages.append({"role": "assistant", "tool_calls": [call.model_dump()]})
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "A"})
        gate.server.faults[gate.server.requests[0].key] = UNAUTHORISED
        answer = await client.chat.completions.create(model=gate.model, messages=messages, tools=[tool])
        assert answer.choices[0].message.content == "Got A"
        refused, served = gate.server.requests[1:]
        assert refused.raw == served.raw
        assert len(served.blobs) == 1


# -- compaction -------------------------------------------------------------------------------------------


async def test_rp_97_a_conversation_is_compacted_by_its_endpoint(gateway: Opener) -> None:
    """RP-97. Given `"stream":true`: 400. Given `"stream":false`: forwarded without `stream`. Given an
    upstream that answers 404: returned, and the credential stays available.
    """
    async with gateway() as gate, gate.openai() as client:
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
    async with gateway(server=CodexServer(compaction=False)) as gate, gate.openai() as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.compact(model=gate.model, input="x")
        assert (await client.responses.create(model=gate.model, input="say hi")).output_text == "hi"


async def test_an_upstream_that_does_not_compact_is_not_asked_to(gateway: Opener) -> None:
    async with gateway("lone") as gate, gate.openai() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.compact(model=gate.model, input="x")
        assert caught.value.code == "compaction_unsupported"
        trigger: Any = [*user("x"), {"type": "compaction_trigger"}]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model=gate.model, input=trigger)
        assert refused.value.param == "input.1"
        assert gate.server.requests == []


async def test_a_wish_to_compact_is_passed_on_and_answered_whole(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai() as client:
        trigger: Any = [*user("x"), {"type": "compaction_trigger"}]
        events = [
            e async for e in await client.responses.create(model=gate.model, input=trigger, stream=True)
        ]
        done = [event.item for event in events if event.type == "response.output_item.done"]
        assert [item.type for item in done] == ["compaction"]
        assert gate.last["input"][-1] == {"type": "compaction_trigger"}


# -- what goes where --------------------------------------------------------------------------------------


async def test_models_that_sample_are_told_how(gateway: Opener) -> None:
    async with gateway() as gate, gate.openai() as client:
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
