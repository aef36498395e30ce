"""The official SDKs against a gateway in this process, and a strict Gemini upstream behind: tools.

The upstream demands its thought signatures back on the very parts that it gave them with, of clients that
never saw one.
"""

from typing import Any

import httpx2
import pytest
from google.genai import types
from google.genai.chats import AsyncChat

from gateway.kernel.json import loads
from tests.fakes.antigravity_history import standard
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.antigravity_sdks import MODEL, Bench, each_envelope, serving
from tests.support.sdks import conformance, streamed_or_not, user

pytestmark = conformance


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"step": {"type": "integer", "exclusiveMinimum": 0}, "mode": {"const": "fast"}},
    "required": ["step"],
    "additionalProperties": False,
    "$schema": "http://json-schema.org/draft-07/schema#",
}
LOOK = {"name": "look", "description": "Looks"}


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
    return await steps_of_gemini(gemini_chat(on), stream=stream)


def gemini_chat(on: Bench) -> AsyncChat:
    """The SDK's own, which gives parts back as they came."""
    declared = types.FunctionDeclaration(**LOOK, parameters_json_schema=SCHEMA)  # type: ignore[arg-type]
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    return on.google.chats.create(model=MODEL, config=config)


async def steps_of_gemini(chat: AsyncChat, *, stream: bool) -> str:
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


@each_envelope
async def test_functions_that_googles_sdk_calls_by_itself(envelope: bool) -> None:
    """It sends their results without ids."""

    def look(step: int) -> str:
        """Look into one step."""
        return f"result {step}"

    server = AntigravityServer(envelope=envelope, sentinel=False)
    async with serving(server) as on:
        chat = on.google.chats.create(model=MODEL, config=types.GenerateContentConfig(tools=[look]))
        answer = await chat.send_message("steps look 3")
        assert answer.text == "done 3"
        assert server.refusals == []
        assert len(server.requests) == 4


@streamed_or_not
@each_envelope
async def test_signatures_that_googles_sdk_carries_arrive_without_replay(
    stream: bool, envelope: bool
) -> None:
    """It writes them in the other alphabet of base64."""
    server = AntigravityServer(envelope=envelope, sentinel=False)
    async with serving(server, replay=False) as on:
        chat = gemini_chat(on)
        assert await steps_of_gemini(chat, stream=stream) == "done 3"
        await chat.send_message("say bye")
        assert server.refusals == []
        assert server.omitted == []
        minted = server.signatures.given_out
        assert any({"+", "/"} & set(one) for one in minted), "this would have tested nothing"
        given = [
            standard(part["thoughtSignature"])
            for content in on.last["contents"]
            for part in content["parts"]
            if "thoughtSignature" in part
        ]
        assert given == minted[:-1]


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
