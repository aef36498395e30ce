"""Responses over WebSockets on every upstream: a client like Codex, and the official SDK's own connection.

What is asked of an upstream over a WebSocket is what it is asked over HTTP when the client sends everything.
"""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.kernel.json import dumps
from tests.conformance.test_codex_upstream import REASONING_MODEL
from tests.fakes.codex_brain import Answer, CallTool, Say, Think
from tests.fakes.codex_server import OVERLOADED, RATE_LIMITED, CodexServer
from tests.support.antigravity_sdks import MODEL as GEMINI
from tests.support.antigravity_sdks import serving as serving_gemini
from tests.support.clients import openai_client, until
from tests.support.codex_gateway import Opener
from tests.support.processes import Service, asks_of
from tests.support.sdks import conformance
from tests.support.sockets import talking, user

pytestmark = conformance

TOOL = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}
SEALED = {"include": ["reasoning.encrypted_content"], "store": False}
CODEX = "codex_cli_rs/0.130.0 (Linux)"


def result_of(call: dict[str, Any], output: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call["call_id"], "output": output}


# -- Lingma -----------------------------------------------------------------------------------------------


async def test_turns_of_one_connection_are_one_conversation_of_lingma(live: Service) -> None:
    """And go on over HTTP, where the client sends everything: the key of the session is the same."""
    async with talking(live.url, "org_auto") as on:
        said: list[Any] = []
        for number in (1, 2, 3):
            said.append(user(f"report {number} of the socket"))
            answer = await on.turn(said[-1])
            answer.valid()
            assert f"turns={number} isReply={str(number > 1).lower()}" in answer.text
            said += answer.items
    body = {"model": "org_auto", "input": [*said, user("report 4 of the socket")]}
    async with httpx2.AsyncClient(timeout=30) as client:
        reply = (await client.post(f"{live.url}/v1/responses", json=body)).json()
    assert "turns=4 isReply=true" in reply["output_text"]
    asks = [ask["params"] for ask in asks_of(live.directory) if "of the socket" in dumps(ask).decode()]
    assert len({ask["sessionId"] for ask in asks}) == 1


async def test_cv_30_31_a_codex_session_begins_with_a_prewarm(live: Service) -> None:
    """CV-30, CV-31. Given the frames of a real client: one ask, with all that was said before it."""
    async with talking(live.url, "org_auto", user_agent=CODEX) as on:
        await on.turn({"type": "message", "role": "developer", "content": "Be brief"}, generate=False)
        answer = await on.turn("report in the prewarmed socket")
        assert "turns=1 isReply=false" in answer.text
    (ask,) = (ask for ask in asks_of(live.directory) if "prewarmed socket" in dumps(ask).decode())
    assert "Be brief" in dumps(ask).decode()


async def test_a_client_that_leaves_stops_lingma(live: Service) -> None:
    async with talking(live.url, "org_auto") as on:
        await on.create("count slowly to 500 for nobody")
        while "output_text.delta" not in str(await on.socket.recv()):
            pass
        on.socket.transport.abort()
    await until(lambda: '"outcome":"cancelled"' in live.log, "the turn to be cancelled")


# -- a Responses upstream ---------------------------------------------------------------------------------


async def test_a_tool_is_called_and_its_result_answered(gateway: Opener) -> None:
    """CV-31. The upstream gets what it said itself back, sealed reasoning included, each item once."""
    async with gateway() as gate, talking(gate.url, gate.model, user_agent=CODEX) as on:
        await on.turn({"type": "message", "role": "developer", "content": "Be brief"}, generate=False)
        first = await on.turn('call look {"at":"it"}', tools=[TOOL], **SEALED, prompt_cache_key="k")
        thought, call = first.items
        assert (thought["type"], call["type"], call["arguments"]) == (
            "reasoning",
            "function_call",
            '{"at":"it"}',
        )
        second = await on.turn(result_of(call, "a tree"), tools=[TOOL], **SEALED, prompt_cache_key="k")
        assert second.text == "Got a tree"
        assert first.valid()
        assert second.valid()
        asked, again = gate.server.answered
        assert [item["type"] for item in asked.items] == ["message", "message"]
        assert [item["type"] for item in again.items] == [
            *["message"] * 2,
            "reasoning",
            "function_call",
            "function_call_output",
        ]
        assert (len(again.blobs), again.missing) == (1, 0)
        assert asked.body["prompt_cache_key"] == again.body["prompt_cache_key"]


async def test_the_upstream_is_asked_as_over_http(gateway: Opener) -> None:
    """The second turn on a connection, and the same with its whole input over HTTP: equal bodies."""
    async with gateway() as gate:
        fields: dict[str, Any] = {**SEALED, "prompt_cache_key": "k", "tools": [TOOL], "metadata": {"a": "b"}}
        async with talking(gate.url, gate.model) as on:
            first = await on.turn("say one", **fields)
            await on.turn("say two", **fields)
        body = {"model": gate.model, "stream": True, **fields}
        body["input"] = [user("say one"), *first.items, user("say two")]
        async with httpx2.AsyncClient(timeout=30) as client:
            await client.post(f"{gate.url}/v1/responses", json=body)
        _, socket, http = (request.body for request in gate.server.answered)
        assert socket == http
        assert "type" not in socket


async def test_an_upstreams_stream_goes_through_as_it_is(gateway: Opener) -> None:
    """The frames are the data of the stream that HTTP carries, but for what differs from turn to turn."""
    async with gateway() as gate:
        gate.server.queue += [Answer(pieces=(Think(), Say("as it is"))) for _ in range(2)]
        async with httpx2.AsyncClient(timeout=30) as client:
            asked = {"model": gate.model, "input": "x", "stream": True}
            http = (await client.post(f"{gate.url}/v1/responses", json=asked)).text
        async with talking(gate.url, gate.model) as on:
            frames = (await on.ask("x")).frames
        lines = [line[6:] for line in http.splitlines() if line.startswith("data: {")]
        # Numbers and names within the answer are the fake's, counted up for each.
        assert [len(frame) for frame in frames] == [len(line) for line in lines]
        deltas = [line for line in lines if ".delta" in line]
        assert [frame.replace("2", "1") for frame in frames if ".delta" in frame] == [
            line.replace("2", "1") for line in deltas
        ]


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [("compaction_trigger", "compaction"), ("context_compaction", "context_compaction")],
)
async def test_a_conversation_is_compacted_on_the_socket(gateway: Opener, trigger: str, kind: str) -> None:
    """Given the trigger of new or old Codex behind the chain; expect its own word for the token, and a full
    request with the token next, on the same socket.
    """
    async with gateway() as gate, talking(gate.url, gate.model, user_agent=CODEX) as on:
        await on.turn("say one", **SEALED)
        await on.send(type="response.processed", response_id=on.previous)
        compacted = await on.turn("say two", {"type": trigger}, **SEALED)
        (token,) = (item for item in compacted.items if item["type"] == kind)
        assert token["encrypted_content"]
        assert len([item for item in compacted.items if item["type"] == kind]) == 1
        assert gate.last["input"][-1] == {"type": trigger}
        assert len(gate.last["input"]) > 3, "with everything before it"
        after = await on.ask([user("say one"), token, user("say three")], **SEALED)
        assert after.text == "three"
        chained = await on.turn("say four", previous_response_id=after.response["id"], **SEALED)
        assert chained.text == "four"


async def test_what_fails_first_is_told_by_its_status(gateway: Opener) -> None:
    async with gateway("lone") as gate, talking(gate.url, gate.model) as on:
        gate.server.queue += [RATE_LIMITED] * 3
        answer = await on.ask("x")
        assert answer.error[0] == 429
        assert int(answer.last["headers"]["retry-after"]) >= 1


async def test_codex_is_told_in_its_words(gateway: Opener) -> None:
    async with gateway("lone") as gate, talking(gate.url, gate.model, user_agent=CODEX) as on:
        gate.server.queue += [OVERLOADED] * 4
        answer = await on.ask("x")
        assert (answer.last["type"], answer.response["status"]) == ("response.failed", "failed")


async def test_a_stream_that_breaks_ends_as_failed(gateway: Opener) -> None:
    async with gateway() as gate, talking(gate.url, gate.model) as on:
        gate.server.queue.append(Answer(pieces=(Say("half of it"),), end="cut", stop_after=5))
        answer = await on.ask("x")
        assert answer.response["status"] == "failed"
        assert (await on.turn("say still here")).text == "still here"


async def test_a_client_that_leaves_stops_the_upstream(gateway: Opener) -> None:
    async with gateway(server=CodexServer()) as gate:
        gate.server.queue.append(Answer(pieces=(Say("it goes on and on"),), gate_after=6))
        async with talking(gate.url, gate.model) as on:
            await on.create("x")
            await on.socket.recv()
            on.socket.transport.abort()
        await until(lambda: gate.server.requests[0].gone, "the upstream's connection to be closed")


# -- a Gemini upstream ------------------------------------------------------------------------------------


async def test_a_gemini_upstream_answers_on_the_socket() -> None:
    async with serving_gemini() as on, talking(on.url, GEMINI) as talk:
        first = await talk.turn('call look {"at":"it"}', tools=[TOOL])
        (call,) = (item for item in first.items if item["type"] == "function_call")
        second = await talk.turn(result_of(call, "a tree"), tools=[TOOL])
        assert second.valid().response["status"] == "completed"
        third = await talk.turn("say three words more")
        assert third.text == "three words more"
        contents = on.last["contents"]
        assert [content["role"] for content in contents][:3] == ["user", "model", "user"]
        assert len(contents) == 5


# -- the official SDK -------------------------------------------------------------------------------------


@pytest.fixture
async def sdk(live: Service) -> AsyncIterator[Any]:
    async with openai_client(live.url) as client:
        yield client


async def test_the_sdks_connection_talks(sdk: Any) -> None:
    async with sdk.responses.connect() as connection:
        previous = None
        for number in (1, 2):
            await connection.response.create(
                model="org_auto", input=f"report {number} of the sdk", previous_response_id=previous
            )
            kinds, text = [], ""
            while kinds[-1:] != ["response.completed"]:
                event = await connection.recv()
                kinds.append(event.type)
                text += event.delta if event.type == "response.output_text.delta" else ""
            previous = event.response.id
            assert f"turns={number} " in text
            assert kinds[:2] == ["response.created", "response.in_progress"]


async def test_the_sdk_reads_an_error(sdk: Any) -> None:
    async with sdk.responses.connect() as connection:
        await connection.send({"type": "response.create", "model": "org_auto", "input": "x", "top_p": 7})
        event = await connection.recv()
        assert (event.type, event.status, event.error.param) == ("error", 400, "top_p")


async def test_the_sdks_session_collects_a_response(gateway: Opener) -> None:
    from openai.lib.responses_websocket import AsyncResponsesWebSocketSession, ResponsesWebSocketLimits

    limits = ResponsesWebSocketLimits(
        max_lanes=2, max_events_per_lane=500, max_events=500, max_bytes_per_lane=10**6, max_bytes=10**6
    )
    async with gateway() as gate, gate.openai.responses.connect() as connection:
        gate.server.queue.append(Answer(pieces=(CallTool("look", '{"at":"it"}'),)))
        async with AsyncResponsesWebSocketSession(connection, limits=limits) as session:
            create: Any = {"type": "response.create", "model": gate.model, "input": "x", "tools": [TOOL]}
            await session.default.send(create)
            response = await session.default.get_final_response()
            (call,) = (item for item in response.output if item.type == "function_call")
            create |= {"previous_response_id": response.id, "input": [result_of(call.model_dump(), "oak")]}
            await session.default.send(create)
            assert (await session.default.get_final_response()).output_text == "Got oak"
            assert gate.server.answered[0].body["model"] == REASONING_MODEL
