"""The fake Responses upstream is as strict as it says: what it lets pass, tests of the gateway rely on."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.fakes.codex_blobs import Findings
from tests.fakes.codex_brain import Answer, CallTool, Say, Think
from tests.fakes.codex_server import (
    BAD_GATEWAY,
    PLAIN_MODEL,
    RATE_LIMITED,
    REASONING_MODEL,
    UNAUTHORISED,
    CodexServer,
)
from tests.support.clients import until
from tests.support.edge import serving
from tests.support.replay import SIG_A
from tests.support.responses_schema import validate_response, validate_stream

TOOL = {"type": "function", "name": "find", "parameters": {"type": "object"}, "strict": False}


class Client:
    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def post(self, path: str = "/v1/responses", **body: Any) -> httpx2.Response:
        return await self._http.post(path, json={"model": REASONING_MODEL, **body})

    async def ok(self, **body: Any) -> Any:
        answer = await self.post(**body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, status: int = 400, **body: Any) -> Any:
        answer = await self.post(**body)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]


@contextlib.asynccontextmanager
async def against(server: CodexServer, key: str = "sk-one") -> AsyncIterator[Client]:
    async with serving(server) as url, httpx2.AsyncClient(base_url=url, timeout=10) as http:
        http.headers["authorization"] = f"Bearer {key}"
        yield Client(http)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": text}]}


# -- answers ----------------------------------------------------------------------------------------------


async def test_answers_are_those_of_the_original() -> None:
    async with against(CodexServer()) as client:
        whole = await client.ok(input="say hello there")
        validate_response(whole)
        assert [item["type"] for item in whole["output"]] == ["reasoning", "message"]
        streamed = await client.post(input="count from 1 to 3", stream=True)
        found = validate_stream(streamed.content + b"data: [DONE]\n\n")
        assert found.text == "1 2 3 "
        called = await client.ok(input='call find {"q":1} and call now', tools=[TOOL], store=False)
        assert [(item["name"], item["arguments"]) for item in called["output"][1:]] == [
            ("find", '{"q":1}'),
            ("now", "{}"),
        ]


async def test_a_table_and_a_queue_say_otherwise() -> None:
    server = CodexServer()
    server.by_prompt["hi"] = Answer(pieces=(Say("from the table"),))
    server.queue += [RATE_LIMITED, BAD_GATEWAY]
    server.faults["sk-two"] = UNAUTHORISED
    async with against(server) as client:
        limited = await client.post(input="hi")
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
        assert (await client.post(input="hi")).text.startswith("<html>")
        assert (await client.ok(input="hi"))["output"][0]["content"][0]["text"] == "from the table"
    assert [request.status for request in server.requests] == [429, 502, 200]
    async with against(server, "sk-two") as client:
        assert (await client.refused(401, input="hi"))["code"] == "invalid_api_key"
    async with against(server, "nobody") as client:
        assert (await client.refused(401, input="hi"))["code"] == "invalid_api_key"


async def test_models_are_listed() -> None:
    async with against(CodexServer()) as client:
        found = (await client._http.get("/v1/models")).json()
        assert {model["id"] for model in found["data"]} == {REASONING_MODEL, PLAIN_MODEL}


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "Missing required parameter"),
        ({"input": 1}, "input", "Invalid type"),
        ({"input": "a", "stop": ["x"]}, "stop", "Unknown parameter: 'stop'."),
        ({"input": "a", "stream": "yes"}, "stream", "expected a boolean"),
        ({"input": "a", "model": "nope"}, "model", "does not exist"),
        ({"input": "a", "temperature": 0.5}, "temperature", "not supported with this model"),
        ({"input": "a", "model": PLAIN_MODEL, "reasoning": {}}, "reasoning", "not supported"),
        ({"input": "a", "max_output_tokens": 5}, "max_output_tokens", ">= 16"),
        ({"input": "a", "include": ["everything"]}, "include[0]", "Supported values"),
        ({"input": "a", "stream_options": {}}, "stream_options", "only allowed when 'stream'"),
        ({"input": "a", "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "not found in"),
        ({"input": "a", "tool_choice": "required"}, "tool_choice", "must be specified with"),
        ({"input": "a", "tools": [{**TOOL, "name": "a.b"}]}, "tools[0].name", "does not match pattern"),
        ({"input": "a", "tools": [{**TOOL, "name": "n" * 65}]}, "tools[0].name", "string too long"),
        ({"input": "a", "tools": [{**TOOL, "odd": 1}]}, "tools[0].odd", "Unknown parameter"),
        ({"input": "a", "previous_response_id": "resp_1"}, "previous_response_id", "not found"),
        ({"input": "a", "text": {"format": {"type": "json_object"}}}, "input", "the word 'json'"),
        ({"input": [{"type": "odd"}]}, "input[0].type", "Invalid value: 'odd'"),
        ({"input": [{**user("a"), "odd": 1}]}, "input[0].odd", "Unknown parameter"),
        ({"input": [{**user("a"), "id": "x1"}]}, "input[0].id", "begins with 'msg'"),
        ({"input": [{**user("a"), "id": "msg_" + "x" * 61}]}, "input[0].id", "string too long"),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}]},
            "input[0].content[0].type",
            "Supported values are: 'output_text', 'refusal'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x,!"}]}]},
            "input[0].content[0].image_url",
            "not a valid image",
        ),
        (
            {"input": [user("a"), {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
            "input",
            "No tool output found for function call c.",
        ),
        (
            {"input": [user("a"), {"type": "function_call_output", "call_id": "c", "output": ""}]},
            "input",
            "No tool call found for function call output with call_id c.",
        ),
        (
            {"input": [user("a"), {"type": "custom_tool_call_output", "call_id": "c", "output": ""}]},
            "input",
            "No tool call found for custom tool call output with call_id c.",
        ),
    ],
)
async def test_wrong_requests_are_refused_in_the_vendors_words(
    body: dict[str, Any], param: str, words: str
) -> None:
    async with against(CodexServer()) as client:
        error = await client.refused(**body)
        assert error["param"] == param
        assert words in error["message"]


async def test_items_that_were_not_stored_are_not_found() -> None:
    async with against(CodexServer()) as client:
        for item in (
            {"type": "item_reference", "id": "rs_1"},
            {"type": "reasoning", "id": "rs_1", "summary": []},
        ):
            error = await client.refused(404, input=[user("a"), item], store=False)
            assert "Items are not persisted" in error["message"]


# -- sealed reasoning -------------------------------------------------------------------------------------


async def conversation(client: Client) -> list[Any]:
    first = await client.ok(input=[user("call find")], tools=[TOOL])
    items = [user("call find"), *first["output"]]
    items.append({"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "seven"})
    return items


async def test_reasoning_comes_back_byte_for_byte_in_its_place() -> None:
    async with against(CodexServer()) as client:
        items = await conversation(client)
        second = await client.ok(input=items, tools=[TOOL])
        assert second["output"][-1]["content"][0]["text"] == "Got seven"
        await client.ok(input=[*items, *second["output"], user("say bye")], tools=[TOOL])


async def test_reasoning_that_is_missing_is_demanded() -> None:
    server = CodexServer()
    async with against(server) as client:
        items = await conversation(client)
        del items[1]
        assert "without its required 'reasoning' item" in (await client.refused(input=items))["message"]
        server.vault.demand = False
        await client.ok(input=items)
    assert [request.missing for request in server.requests] == [0, 1, 1]


@pytest.mark.parametrize("place", [0, 3, 4])
async def test_reasoning_in_another_place_is_refused(place: int) -> None:
    async with against(CodexServer()) as client:
        items = await conversation(client)
        items.insert(place, items.pop(1))
        await client.refused(input=items)


async def test_reasoning_stands_where_it_stood_or_all_of_it_in_front() -> None:
    server = CodexServer()
    pieces = (Think("a"), Say("let me see"), Think("b"), CallTool("find", call_id="c1"))
    async with against(server) as client:
        server.queue.append(Answer(pieces=pieces))
        first, said, second, call = (await client.ok(input=[user("go")], tools=[TOOL]))["output"]
        result = {"type": "function_call_output", "call_id": "c1", "output": "seven"}
        for taken in (
            [first, said, second, call],
            [first, second, said, call],
            [first, second, call],
        ):
            await client.ok(input=[user("go"), *taken, result])
            assert server.requests[-1].found == Findings()
        altered = {**said, "content": [{**said["content"][0], "text": "let me look"}]}
        other_call = {**call, "call_id": "c2"}
        for refused in (
            [second, first, said, call],
            [first, said, call],
            [said, first, second, call],
            [first, second, altered, call],
            [first, altered, second, call],
            [first, said, second, other_call],
        ):
            told = {**result, "call_id": refused[-1]["call_id"]}
            assert "required" in (await client.refused(input=[user("go"), *refused, told]))["message"]


async def test_reasoning_that_nothing_followed_needs_nothing_behind_it() -> None:
    server = CodexServer()
    async with against(server) as client:
        server.queue.append(Answer(pieces=(Say("well"), Think())))
        said, thought = (await client.ok(input=[user("go")]))["output"]
        await client.ok(input=[user("go"), said, thought, user("say on")])
        assert server.requests[-1].found == Findings()


async def test_histories_that_were_edited_are_taken_and_told() -> None:
    """As the original takes them: nothing ties words without their reasoning to an answer."""
    server = CodexServer()
    async with against(server) as client:
        spoken = (await client.ok(input=[user("say hello")]))["output"]
        thought, said = spoken
        again = [user("say more")]
        await client.ok(input=[user("say hello"), *spoken, *again])
        assert server.requests[-1].found == Findings()
        altered = {"role": "assistant", "content": "hello!"}
        await client.ok(input=[user("say hello"), altered, *again])
        assert server.requests[-1].found == Findings(unknown=["hello!"])
        await client.ok(input=[user("say hallo"), *spoken, *again])
        blob = thought["encrypted_content"]
        assert server.requests[-1].found == Findings(foreign=[blob], unknown=["hello"])
        await client.ok(input=[user("say hallo"), said, *again])
        assert server.requests[-1].found == Findings(unknown=["hello"])


async def test_a_call_is_known_whatever_was_said_before_it() -> None:
    server = CodexServer()
    async with against(server) as client:
        _, thought, call, result = await conversation(client)
        before = user("call find please")
        await client.ok(input=[before, thought, call, result])
        assert "'reasoning' item" in (await client.refused(input=[before, call, result]))["message"]
        server.vault.demand = False
        await client.ok(input=[before, call, result])
        assert server.requests[-1].found == Findings(missing=1, unknown=[call["call_id"]])
        await client.ok(input=[before, call, result], model=PLAIN_MODEL)
        assert server.requests[-1].missing == 0, "another model's"


async def test_reasoning_that_cannot_be_opened_is_refused() -> None:
    server = CodexServer()
    async with against(server) as client:
        items = await conversation(client)
        altered = [items[0], {**items[1], "encrypted_content": SIG_A}, *items[2:]]
        assert (await client.refused(input=altered))["code"] == "invalid_encrypted_content"
        server.models["gpt-5.3"] = True
        assert (await client.refused(input=items, model="gpt-5.3"))["code"] == "invalid_encrypted_content"
        server.vault.stale = True
        assert (await client.refused(input=items))["code"] == "invalid_encrypted_content"
    server.vault.stale = False
    async with against(server, "sk-other") as client:
        assert (await client.refused(input=items))["code"] == "invalid_encrypted_content"
    async with against(server, "sk-two") as client:
        await client.ok(input=items)


# -- compaction -------------------------------------------------------------------------------------------


async def test_conversations_are_compacted_both_ways() -> None:
    async with against(CodexServer()) as client:
        answer = await client.ok(input=[user("a"), {"type": "compaction_trigger"}])
        (token,) = answer["output"]
        assert token["type"] == "compaction"
        await client.ok(input=[token, user("say b")])
        compacted = await client.post("/v1/responses/compact", input=[user("a")], instructions="x")
        assert [item.get("type") for item in compacted.json()["output"]] == [None, "compaction"]
        refused = await client.post("/v1/responses/compact", input=[user("a")], stream=False)
        assert refused.json()["error"]["message"] == "Unknown parameter: 'stream'."
    async with against(CodexServer(compaction=False)) as client:
        assert (await client.post("/v1/responses/compact", input="a")).status_code == 404
        assert (
            "compaction_trigger" in (await client.refused(input=[{"type": "compaction_trigger"}]))["message"]
        )


# -- ends -------------------------------------------------------------------------------------------------


async def test_streams_are_cut_and_fail_as_they_are_told() -> None:
    server = CodexServer(done_line=True)
    pieces = (Think(), Say("one two three"), CallTool("f"))
    server.queue.append(Answer(pieces=pieces, end="cut", stop_after=9))
    server.queue.append(Answer(pieces=pieces, end="failed", stop_after=5))
    server.queue.append(Answer(pieces=pieces, output="empty", interleaved=True))
    async with against(server) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post(input="x", stream=True)
        failed = await client.post(input="x", stream=True)
        assert b'"status":"failed"' in failed.content
        assert failed.content.endswith(b"data: [DONE]\n\n")
        empty = await client.post(input="x", stream=True)
        assert b'"output":[]' in empty.content
        server.slice_bytes = 7
        assert validate_stream((await client.post(input="say hi", stream=True)).content).text == "hi"


async def test_who_leaves_is_noticed() -> None:
    server = CodexServer()
    server.queue.append(Answer(pieces=(Say("a"),), end="hang"))
    async with against(server) as client:
        request = client._http.build_request(
            "POST", "/v1/responses", json={"model": REASONING_MODEL, "input": "x", "stream": True}
        )
        answer = await client._http.send(request, stream=True)
        await answer.aclose()
        await until(lambda: server.requests[0].gone, "the server to notice")
