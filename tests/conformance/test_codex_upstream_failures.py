"""The official SDKs against `lingma-gateway up` with a Responses upstream behind it, a strict one: failures.

What each SDK makes of them, and which of them the gateway keeps to itself.
"""

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from tests.fakes.codex_brain import Answer, Say, Think
from tests.fakes.codex_server import (
    OVERLOADED,
    RATE_LIMITED,
    SERVER_ERROR,
    UNAUTHORISED,
    CodexServer,
    Fault,
)
from tests.support.codex_gateway import Opener
from tests.support.responses_schema import read_stream, validate_stream
from tests.support.sdks import (
    ERRORS,
    by_chat,
    by_responses,
    conformance,
    each_protocol,
    status_of,
    streamed_or_not,
    user,
)

pytestmark = conformance


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
    async with gateway("lone") as gate, gate.openai as client:
        gate.server.faults["sk-one"] = RATE_LIMITED
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=gate.model, messages=user("x"))
        assert caught.value.response.headers["retry-after"] == "2"
        with pytest.raises(openai.APIStatusError) as caught_again:
            await client.chat.completions.create(model=gate.model, messages=user("x"))
        assert caught_again.value.status_code == 429, "its only credential rests"
        assert "retry-after" in caught_again.value.response.headers
        assert len(gate.server.requests) == 1


POISON = {
    "forbidden": Fault(status=403, error={"message": "You may not use this", "type": "permission_error"}),
    "a tool's model": Fault(
        status=404,
        error={
            "message": "The model 'x' does not exist",
            "code": "model_not_found",
            "param": "tools[0].model",
        },
    ),
    "a tool's server": Fault(
        status=424, error={"message": "Error retrieving tool list", "code": "http_error"}
    ),
    "too large": Fault(
        status=429,
        error={
            "message": "Request too large for gpt-5.2 in organization org-one on tokens per min (TPM): Limit "
            "30000, Requested 90000.",
            "type": "tokens",
            "code": "rate_limit_exceeded",
        },
        headers={"retry-after": "60"},
    ),
    "a failure": SERVER_ERROR,
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
@pytest.mark.parametrize("kind", ["plain", "lone"])
async def test_one_clients_bad_request_takes_no_credential_from_others(
    gateway: Opener, kind: str, poison: Fault
) -> None:
    """Every credential refuses it, again and again; what others ask is answered by each of them."""
    async with gateway(kind) as gate:
        keys = ["sk-one", "sk-two"] if kind == "plain" else ["sk-one"]
        for _ in range(2):
            gate.server.faults.update(dict.fromkeys(keys, poison))
            with pytest.raises(ERRORS):
                await by_responses(gate, "x", stream=False)
            gate.server.faults.clear()
            assert await by_responses(gate, "say fine", stream=False) == "fine"
            assert await by_chat(gate, "say fine too", stream=True) == "fine too"


@each_protocol
@pytest.mark.parametrize("end", ["cut", "failed", "error"])
async def test_a_stream_that_dies_ends_as_an_error(gateway: Opener, ask: Any, end: Any) -> None:
    async with gateway() as gate:
        pieces = (Say("one two three four"),)
        gate.server.queue.append(Answer(pieces=pieces, end=end, stop_after=7))
        with pytest.raises(ERRORS):
            await ask(gate, "x", stream=True)
        assert len(gate.server.requests) == 1, "what a client has seen is not begun again"


@each_protocol
async def test_a_whole_answer_that_breaks_off_is_followed_by_another(gateway: Opener, ask: Any) -> None:
    """Its client has seen nothing of it."""
    async with gateway() as gate:
        gate.server.queue.append(Answer(pieces=(Say("one two three four"),), end="cut"))
        assert await ask(gate, "say five", stream=False) == "five"
        assert [request.status for request in gate.server.requests] == [200, 200]


@each_protocol
async def test_a_whole_answer_that_breaks_off_is_told_when_nobody_follows(gateway: Opener, ask: Any) -> None:
    async with gateway("lone") as gate:
        gate.server.queue += [Answer(pieces=(Say("one two three four"),), end="cut")] * 3
        async with asyncio.timeout(10):
            with pytest.raises(ERRORS) as caught:
                await ask(gate, "x", stream=False)
        assert status_of(caught.value) in (500, 502, 503, 529)
        assert "one two" not in str(caught.value)


@each_protocol
@pytest.mark.parametrize("end", ["failed", "error"])
async def test_an_answer_that_is_a_failure_is_told_to_who_wants_it_whole(
    gateway: Opener, ask: Any, end: Any
) -> None:
    """The upstream says so at the end of a stream, which is all that it knows."""
    async with gateway("stream", CodexServer(stream_only=True)) as gate:
        gate.server.queue += [Answer(pieces=(Say("one two three four"),), end=end)] * 3
        with pytest.raises(ERRORS) as caught:
            await ask(gate, "x", stream=False)
        assert status_of(caught.value) in (500, 502, 503, 529)


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
    async with gateway() as gate, gate.openai as client, gate.claude as claude:
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
