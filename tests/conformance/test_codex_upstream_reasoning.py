"""The official SDKs against `lingma-gateway up` with a Responses upstream behind it, a strict one: reasoning.

What clients are shown of it, streamed or not, and that it finds its way back.
"""

from typing import Any

import anthropic
import pytest

from tests.fakes.codex_server import (
    UNAUTHORISED,
    CodexServer,
    Fault,
)
from tests.support.codex_gateway import Opener
from tests.support.sdks import conformance, streamed_or_not, user
from tests.support.sdks_reasoning import each_that_shows, messages_shows

pytestmark = conformance


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}


@each_that_shows
@streamed_or_not
async def test_reasoning_is_shown_by_every_protocol(gateway: Opener, shows: Any, stream: bool) -> None:
    async with gateway() as gate:
        shown = await shows(gate, "think about all of it, then say it is done", stream=stream)
        assert "".join(shown.thought) == "I think about all of it."
        assert stream or len(shown.thought) == 1  # pieces that come together are one
        assert (shown.order, shown.text) == (["thought", "text"], "it is done")
        if shows is messages_shows:
            assert shown.signature == gate.server.requests[0].sealed[0]
            assert gate.last["reasoning"] == {"effort": "low", "summary": "auto"}


async def test_tokens_of_reasoning_are_counted(gateway: Opener) -> None:
    async with gateway() as gate:
        response = await gate.openai.responses.create(model=gate.model, input="say hi")
        assert response.usage is not None
        assert response.usage.output_tokens_details.reasoning_tokens == 5
        answer = await gate.google.models.generate_content(model=gate.model, contents="say hi")
        assert answer.usage_metadata is not None
        assert answer.usage_metadata.thoughts_token_count == 5


@streamed_or_not
async def test_reasoning_that_was_asked_for_sealed_comes_sealed(gateway: Opener, stream: bool) -> None:
    asked: Any = {"input": "say hi", "store": False, "include": ["reasoning.encrypted_content"]}
    async with gateway() as gate:
        if stream:
            async with gate.openai.responses.stream(model=gate.model, **asked) as events:
                response: Any = await events.get_final_response()
        else:
            response = await gate.openai.responses.create(model=gate.model, **asked)
        thought = response.output[0]
        assert [thought.encrypted_content] == gate.server.requests[0].sealed


async def test_rp_57_rejected_reasoning_costs_one_more_call(gateway: Opener) -> None:
    """RP-57. Given 400 `invalid_encrypted_content`: the entry is deleted. The turn goes on without what was
    rejected; a client that sees the error would see 400 `thinking_signature_invalid`.
    """
    tool: Any = {"name": "find", "description": "d", "input_schema": SCHEMA}
    common: Any = {"max_tokens": 500, "tools": [tool], "metadata": {"user_id": "user_x_session_57"}}
    async with gateway(server=CodexServer(demand=False)) as gate, gate.claude as client:
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
    async with gateway() as gate, gate.openai as client:
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
