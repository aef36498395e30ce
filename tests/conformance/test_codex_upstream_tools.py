"""The official SDKs against `lingma-gateway up` with a Responses upstream behind it, a strict one: tools.

The upstream demands its reasoning back with every call.
"""

from typing import Any

import pytest
from google.genai import types
from openai.types.responses import Response

from tests.fakes.codex_blobs import Findings
from tests.fakes.codex_brain import Answer, CallTool, Think
from tests.support.codex_gateway import Opener
from tests.support.sdks import conformance, streamed_or_not, user

pytestmark = conformance


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}


DECLARED = types.GenerateContentConfig(
    tools=[
        types.Tool(
            function_declarations=[types.FunctionDeclaration(name="find", parameters_json_schema=SCHEMA)]
        )
    ]
)


@streamed_or_not
async def test_tools_make_their_round_in_chat(gateway: Opener, stream: bool) -> None:
    """The upstream demands its reasoning back, which Chat has no place for."""
    tool: Any = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
    async with gateway() as gate, gate.openai as client:
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
    async with gateway() as gate, gate.claude as client:
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
    async with gateway() as gate, gate.openai as client:
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


@streamed_or_not
async def test_tools_make_their_round_in_gemini(gateway: Opener, stream: bool) -> None:
    async with gateway() as gate:
        chat = gate.google.chats.create(model=gate.model, config=DECLARED)

        async def told(said: Any) -> tuple[str, list[Any]]:
            if stream:
                answers: Any = [chunk async for chunk in await chat.send_message_stream(said)]
            else:
                answers = [await chat.send_message(said)]
            parts = [part for answer in answers for part in answer.candidates[0].content.parts or ()]
            text = "".join(part.text or "" for part in parts if not part.thought)
            return text, [call for answer in answers for call in answer.function_calls or ()]

        _, calls = await told('call find {"q":"a"} and call find {"q":"b"}')
        assert [call.args for call in calls] == [{"q": "a"}, {"q": "b"}]
        text, calls = await told(results(calls, "AB"))
        assert (text, calls) == ("Got A and B", [])
        assert [len(request.blobs) for request in gate.server.requests] == [0, 1]
        assert all(request.found == Findings() for request in gate.server.requests)
        assert (await told("say on"))[0] == "on"
        assert len(gate.server.requests[-1].blobs) == 2
        assert gate.server.requests[-1].found == Findings()


async def test_python_functions_are_called_by_google_s_sdk(gateway: Opener) -> None:
    """It calls them by itself, and sends their results without ids."""

    def find(q: str) -> str:
        """Find something."""
        return q.upper()

    async with gateway() as gate:
        chat = gate.google.chats.create(model=gate.model, config=types.GenerateContentConfig(tools=[find]))
        answer = await chat.send_message('call find {"q":"a"} and call find {"q":"b"}')
        assert answer.text is not None
        assert answer.text.startswith("Got ")
        assert gate.server.requests[-1].found == Findings()


def results(calls: list[Any], found: str) -> list[Any]:
    return [
        types.Part(
            function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": one})
        )
        for call, one in zip(calls, found, strict=True)
    ]
