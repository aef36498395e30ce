"""The fake Gemini upstream refuses what Google's service refuses: a fake that takes more proves nothing."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import UUID

import httpx2
import pytest

from tests.fakes import antigravity_history as texts
from tests.fakes.antigravity_brain import Reply, limited
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.signature_chains import carrier, fc, fr, model, text, thought, user

PATH = "/v1beta/models/gemini-3-pro:generateContent"
STREAM = "/v1beta/models/gemini-3-pro:streamGenerateContent"
FUNCTION = {"name": "read", "description": "Reads"}


class Told(NamedTuple):
    status: int
    body: Any

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])

    @property
    def fields(self) -> list[str]:
        details = self.body["error"].get("details", [])
        return [one.get("field", "") for detail in details for one in detail.get("fieldViolations", ())]


class Asker:
    def __init__(self, server: AntigravityServer, client: httpx2.AsyncClient) -> None:
        self.server = server
        self.client = client

    async def __call__(self, body: Any, path: str = PATH, key: str | None = "good-key") -> Told:
        name = "authorization" if self.server.envelope else "x-goog-api-key"
        value = f"Bearer {key}" if self.server.envelope else key
        headers = {name: value} if value is not None and key is not None else {}
        answer = await self.client.post(self.server.url + path, json=body, headers=headers)
        return Told(answer.status_code, answer.json())


@pytest.fixture
async def ask() -> AsyncIterator[Asker]:
    async with AntigravityServer().running() as server, httpx2.AsyncClient(timeout=10) as client:
        yield Asker(server, client)


def body(*contents: Any, **members: Any) -> Any:
    return {"contents": list(contents) or [user("say hi")], **members}


def declared(parameters: Any = None, **more: Any) -> Any:
    function = {**FUNCTION, **({"parameters": parameters} if parameters else {}), **more}
    return body(tools=[{"functionDeclarations": [function]}])


def prop(schema: Any) -> Any:
    return declared({"type": "OBJECT", "properties": {"a": schema}})


# -- fields -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words", "field"),
    [
        (body(model="m"), 'Unknown name "model": Cannot find field.', ""),
        (
            body({"role": "user", "parts": [{"txt": "a"}]}),
            "Unknown name \"txt\" at 'contents[0].parts[0]': Cannot find field.",
            "contents[0].parts[0]",
        ),
        (
            prop({"type": "STRING", "const": "a"}),
            "Unknown name \"const\" at 'tools[0].function_declarations[0].parameters.properties[0].value'",
            "tools[0].function_declarations[0].parameters.properties[0].value",
        ),
        (prop({"type": ["string", "null"]}), "Proto field is not repeating, cannot start list.", None),
        (
            body(generationConfig={"temperature": "hot"}),
            "Invalid value at 'generation_config.temperature'",
            None,
        ),
        (body(model({"text": "a", "thoughtSignature": "!x"})), "Base64 decoding failed", None),
        (
            declared({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "$schema": "x"}),
            "$schema",
            None,
        ),
    ],
)
async def test_unknown_names_and_wrong_types(ask: Asker, asked: Any, words: str, field: str | None) -> None:
    told = await ask(asked)
    assert told.status == 400
    assert words in told.message
    assert field is None or told.fields == [field]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (body() | {"contents": []}, "contents: contents is not specified"),
        (body({"role": "user", "parts": []}), "contents[0].parts: contents.parts must not be empty."),
        (
            body({"role": "user", "parts": [{}]}),
            "required oneof field 'data' must have one initialized field",
        ),
        (body({"role": "system", "parts": [text("a")]}), "Please use a valid role: user, model."),
        (body({"role": "user", "parts": [{"inlineData": {"data": "AAAA"}}]}), "mime_type"),
        (declared({"type": "OBJECT"}), "parameters.properties: should be non-empty for OBJECT type"),
        (declared(name="1st"), "Invalid function name."),
        (prop({}), "type: must be specified when not using one_of, any_of or all_of fields"),
        (prop({"type": "ARRAY"}), "items: missing field."),
        (prop({"type": "INTEGER", "enum": ["1"]}), "enum: only allowed for STRING type"),
        (prop({"type": "STRING", "enum": [""]}), "enum[0]: cannot be empty"),
        (
            prop({"type": "STRING", "format": "uri"}),
            "only 'enum' and 'date-time' are supported for STRING type",
        ),
        (prop({"type": "STRING", "properties": {}}), "properties: only allowed for OBJECT type"),
        (prop({"type": "OBJECT", "required": ["b"]}), "required[0]: property is not defined"),
        (prop({"anyOf": [{"type": "STRING"}], "description": "d"}), "it must be the only field set."),
        (body(toolConfig={"functionCallingConfig": {"mode": "ANY"}}), "without function_declarations"),
        (
            declared() | {"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["read"]}}},
            "is not a mode",
        ),
        (body(generationConfig={"stopSequences": list("abcdef")}), "at most 5"),
        (body(generationConfig={"responseSchema": {"type": "STRING"}}), "response_mime_type"),
        (
            body(generationConfig={"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}),
            "only one of thinking budget and thinking level",
        ),
        (body(generationConfig={"thinkingConfig": {"thinkingBudget": 99999}}), "The thinking budget 99999"),
    ],
)
async def test_what_is_said_well_and_wrong(ask: Asker, asked: Any, words: str) -> None:
    told = await ask(asked)
    assert told.status == 400
    assert words in told.message


async def test_what_is_right_is_taken(ask: Asker) -> None:
    for asked in (
        body(),
        body({"parts": [text("say hi")]}),
        {"contents": [user("say hi")], "generation_config": {"top_k": 3, "max_output_tokens": 5}},
        declared({"type": "object", "properties": {"a": {"any_of": [{"type": "STRING"}]}}}),
    ):
        assert (await ask(asked)).status == 200


# -- conversations ----------------------------------------------------------------------------------------


async def called(ask: Asker, words: str = 'call read {"p": 1}') -> list[Any]:
    told = await ask(body(user(words)))
    parts: list[Any] = told.body["candidates"][0]["content"]["parts"]
    return parts


def bare(part: Any) -> Any:
    return {name: value for name, value in part.items() if name != "thoughtSignature"}


async def test_signatures_are_demanded_on_the_first_call_of_every_step(ask: Asker) -> None:
    (part,) = await called(ask)
    back = fr("fc-1")
    assert (await ask(body(user("a"), model(part), user(back)))).status == 200
    told = await ask(body(user("a"), model(bare(part)), user(back)))
    assert told.message == texts.MISSING.format(name="read", position=2)
    skipping = {**bare(part), "thoughtSignature": "skip_thought_signature_validator"}
    assert (await ask(body(user("a"), model(skipping), user(back)))).status == 200
    over = body(user("a"), model(bare(part)), user(back), model("done"), user("b"))
    assert (await ask(over)).status == 200, "of the current turn alone"
    ask.server.sentinel = False
    for word in texts.SKIPS:
        skipping["thoughtSignature"] = word
        assert (await ask(body(user("a"), model(skipping), user(back)))).message == texts.INVALID


async def test_signatures_stay_on_their_parts(ask: Asker) -> None:
    one, two = await called(ask, 'call read {"p": 1} and list {}')
    back = [fr("fc-1"), fr("fc-2", name="list")]
    assert "thoughtSignature" not in two
    assert (await ask(body(user("a"), model(one, two), user(*back)))).status == 200
    moved = {**two, "thoughtSignature": one["thoughtSignature"]}
    assert (await ask(body(user("a"), model(one, moved), user(*back)))).message == texts.CORRUPTED
    altered = {**one, "thoughtSignature": one["thoughtSignature"][:-4] + "AAAA"}
    assert (await ask(body(user("a"), model(altered, two), user(*back)))).message == texts.CORRUPTED
    changed = {**one, "functionCall": {**one["functionCall"], "args": {"p": 2}}}
    assert (await ask(body(user("a"), model(changed, two), user(*back)))).message == texts.CORRUPTED
    other = f"/v1beta/models/gemini-3-flash:{PATH.rpartition(':')[2]}"
    assert (await ask(body(user("a"), model(one, two), user(*back)), other)).message == texts.INVALID
    ask.server.signatures.forget()
    assert (await ask(body(user("a"), model(one, two), user(*back)))).message == texts.INVALID


async def test_texts_are_signed_as_a_whole(ask: Asker) -> None:
    (part,) = await called(ask, "say hello there")
    signature = part["thoughtSignature"]
    for said in ([text("hello there", signature)], [text("hello "), text("there", signature)]):
        assert (await ask(body(user("a"), model(*said), user("b")))).status == 200
    assert (
        await ask(body(user("a"), model(text("hello there"), carrier(signature)), user("b")))
    ).status == 200
    assert ask.server.omitted == []
    for said in (
        [text("something else", signature)],
        [thought("hello there", signature)],
        [text("there", signature)],
        [text("o there", signature)],
        [text("hello there, you", signature)],
        [text("hello"), text("there", signature)],
        [text("hello ", signature), text("there")],
        [text("something else"), carrier(signature)],
        [carrier(signature), text("hello there")],
        [text("hello there"), fc("c"), carrier(signature)],
        [text("hello there"), thought("hm"), carrier(signature)],
        [carrier(signature)],
    ):
        assert (await ask(body(user("a"), model(*said), user("b")))).message in (
            texts.CORRUPTED,
            texts.AS_MANY,
        )


async def test_thoughts_are_signed_as_a_whole(ask: Asker) -> None:
    pieces = (
        {"text": "let me ", "thought": True},
        {"text": "see", "thought": True},
        {"text": "", "sign": True},
    )
    ask.server.queue = [Reply(tuple((piece,) for piece in (*pieces, {"text": "so"})))]
    parts = (await ask(body())).body["candidates"][0]["content"]["parts"]
    signature = parts[1]["thoughtSignature"]
    for said in (
        [thought("let me see"), carrier(signature)],
        [thought("let me see"), thought("", signature)],
        [thought("let me "), thought("see", signature)],
        [thought("let me see", signature)],
    ):
        assert (await ask(body(user("a"), model(*said, "so"), user("b")))).status == 200
    wrong = model(thought("let me see"), "so", carrier(signature))
    assert (await ask(body(user("a"), wrong, user("b")))).message == texts.CORRUPTED


async def test_either_alphabet_of_base64_says_a_signature(ask: Asker) -> None:
    while True:
        (part,) = await called(ask)
        if {"+", "/"} & set(part["thoughtSignature"]):
            break
    back = fr(part["functionCall"]["id"])
    safe = {**part, "thoughtSignature": part["thoughtSignature"].replace("+", "-").replace("/", "_")}
    assert (await ask(body(user("a"), model(safe), user(back)))).status == 200
    again = body(user("a"), model(safe), user(back), model(part), user(back))
    assert (await ask(again)).message == texts.CORRUPTED
    assert ask.server.omitted == []


async def test_a_signature_comes_back_once(ask: Asker) -> None:
    (part,) = await called(ask, "say hello")
    said = model(part)
    assert (await ask(body(user("a"), said, user("b"), said, user("c")))).message == texts.CORRUPTED
    doubled = model(part, carrier(part["thoughtSignature"]))
    assert (await ask(body(user("a"), doubled, user("b")))).message == texts.CORRUPTED


async def test_a_signature_is_the_models(ask: Asker) -> None:
    (part,) = await called(ask, "say hello")
    for wrong in (user(part), {"parts": [part]}):
        told = await ask(body(user("a"), model("hello"), wrong))
        assert (told.status, told.message) == (400, texts.INVALID)
    (part,) = await called(ask)
    signed = {**fr("fc-1"), "thoughtSignature": part["thoughtSignature"]}
    assert (await ask(body(user("a"), model(bare(part)), user(signed)))).message == texts.INVALID


async def test_what_was_signed_and_comes_back_unsigned_is_told(ask: Asker) -> None:
    """It is taken: only calls must be signed."""
    first, second = [(await called(ask, "say hello"))[0] for _ in range(2)]
    signatures = [part["thoughtSignature"] for part in (first, second)]
    unsigned = text("hello")
    for said, omitted in (
        ([first, second], []),
        ([unsigned, second], signatures[:1]),
        ([first, unsigned], signatures[1:]),
        ([unsigned, unsigned], signatures),
        ([unsigned, unsigned, unsigned], signatures),
        ([text("hell"), unsigned], signatures[:1]),
        ([model(text("hel"), text("lo"))], signatures[:1]),
    ):
        contents = [one for part in said for one in (user("a"), part if "parts" in part else model(part))]
        assert (await ask(body(*contents, user("b")))).status == 200
        assert ask.server.requests[-1].omitted == omitted
    (call,) = await called(ask)
    skipping = {**bare(call), "thoughtSignature": "skip_thought_signature_validator"}
    assert (await ask(body(user("a"), model(skipping), user(fr("fc-1"))))).status == 200
    assert ask.server.requests[-1].omitted == [call["thoughtSignature"]]
    ask.server.signatures.forget()
    assert (await ask(body(user("a"), model(unsigned), user("b")))).status == 200
    assert ask.server.requests[-1].omitted == []


async def test_calls_and_responses_are_paired(ask: Asker) -> None:
    one, two = await called(ask, 'call read {"p": 1} and read {"p": 2}')
    for contents, words in (
        ([model(one), user(fr("fc-1"))], texts.CALL_AFTER),
        ([user("a"), user(fr("fc-1"))], texts.RESPONSE_AFTER),
        ([user("a"), model(one, two), user(fr("fc-1"))], texts.AS_MANY),
        ([user("a"), model(one, two), user(fr("fc-2"), fr("fc-1"))], texts.AS_MANY),
        ([user("a"), model(one), user(fr("fc-1", name="other"))], texts.AS_MANY),
        ([user("a"), model(one), user("well", fr("fc-1"))], texts.RESPONSE_AFTER),
        ([user("a"), model(one), user("well")], texts.AS_MANY),
        ([user("a"), model(one), model(fr("fc-1"))], texts.RESPONSE_AFTER),
        ([user("a"), model(fc("cpa_gemini_x"))], "is no id of this service"),
    ):
        told = await ask(body(*contents))
        assert (told.status, words in told.message) == (400, True), told.message


async def test_speakers_alternate_where_that_is_wanted(ask: Asker) -> None:
    asked = body(user("say a"), user("say b"))
    assert (await ask(asked)).status == 200
    ask.server.alternate = True
    assert (await ask(asked)).message == texts.ALTERNATE


# -- keys, models, forms ----------------------------------------------------------------------------------


async def test_keys(ask: Asker) -> None:
    told = await ask(body(), key=None)
    assert (told.status, told.body["error"]["status"]) == (403, "PERMISSION_DENIED")
    told = await ask(body(), key="bad")
    assert (told.status, told.body["error"]["details"][0]["reason"]) == (400, "API_KEY_INVALID")
    ask.server.forbidden = {"good-key"}
    assert (await ask(body())).status == 403


async def test_addresses(ask: Asker) -> None:
    assert (await ask(body(), "/v1beta/models/nobody:generateContent")).status == 404
    assert (await ask(body(), "/v1beta/models/gemini-3-pro:dance")).status == 404
    assert (await ask(body(), "/v1internal:generateContent")).status == 404
    assert (await ask(body(), "/v1beta/models/gemini-3-pro:countTokens")).body["totalTokens"] > 0
    key = {"x-goog-api-key": "good-key"}
    listed = (await ask.client.get(f"{ask.server.url}/v1beta/models", headers=key)).json()
    assert "models/gemini-3-pro" in [one["name"] for one in listed["models"]]


async def test_streams_have_two_forms(ask: Asker) -> None:
    headers = {"x-goog-api-key": "good-key"}
    for query, kind in (("?alt=sse", "text/event-stream"), ("", "application/json; charset=UTF-8")):
        answer = await ask.client.post(ask.server.url + STREAM + query, json=body(), headers=headers)
        assert answer.headers["content-type"] == kind
    assert [len(one["candidates"]) for one in answer.json()] == [1, 1]


async def test_the_envelope() -> None:
    right: Any = {
        "model": "gemini-3-pro",
        "userAgent": "somebody",
        "requestType": "agent",
        "project": "project-1",
        "requestId": f"agent-{UUID(int=1)}",
        "request": body(sessionId="-1"),
    }
    server = AntigravityServer(envelope=True)
    async with server.running(), httpx2.AsyncClient(timeout=10) as client:
        ask = Asker(server, client)
        path = "/v1internal:generateContent"
        assert (await ask(right, path)).body["response"]["candidates"]
        assert (await ask(right, path, key="bad")).status == 401
        assert (await ask({**right, "project": "mine"}, path)).status == 403
        assert (await ask(body(), path)).status == 404
        for wrong in (
            {**right, "userAgent": "antigravity"},
            {**right, "requestType": "chat"},
            {**right, "request": body()},
            {**right, "request": body(sessionId="-1", safetySettings=[])},
            {**right, "request": body(sessionId="-1", generationConfig={"maxOutputTokens": 5})},
            {**right, "request": body(model("hi"), sessionId="-1")},
            {**right, "request": body(sessionId="conversation")},
            {**right, "request": body(sessionId="")},
            {**right, "requestId": "agent-1"},
            {**right, "requestId": f"image_gen-{UUID(int=1)}"},
            {**right, "requestId": f"{UUID(int=1)}"},
            {name: value for name, value in right.items() if name != "requestId"},
        ):
            assert (await ask(wrong, path)).status == 400
        picture = {**right, "model": "gemini-3-pro-image", "requestType": "image_gen", "request": body()}
        assert (await ask(picture, path)).status == 400
        picture["requestId"] = f"image_gen-{UUID(int=1)}"
        assert (await ask(picture, path)).status == 200
        assert (await ask({**picture, "request": body(sessionId="1")}, path)).status == 400


async def test_responses_come_under_the_models_role_in_the_envelope_and_nowhere_else() -> None:
    server = AntigravityServer(envelope=True)
    async with server.running(), httpx2.AsyncClient(timeout=10) as client:
        ask = Asker(server, client)

        async def told(*contents: Any) -> Told:
            asked = {
                "model": "gemini-3-pro",
                "userAgent": "somebody",
                "requestType": "agent",
                "project": "project-1",
                "requestId": f"agent-{UUID(int=1)}",
                "request": body(*contents, sessionId="-1"),
            }
            return await ask(asked, "/v1internal:generateContent")

        answered = await told(user('call read {"p": 1}'))
        (call,) = answered.body["response"]["candidates"][0]["content"]["parts"]
        back = fr("fc-1")
        assert (await told(user("a"), model(call), model(back))).status == 200
        assert (await told(user("a"), model(call), user(back))).message == texts.RESPONSE_AFTER
        assert (await told(user("a"), model(call), user(back, "and this"))).status == 200
        assert (await told(user("a"), model(call), model(back, "and this"))).message == texts.RESPONSE_AFTER


async def test_what_the_test_tells_comes_first_and_only_to_what_is_right(ask: Asker) -> None:
    ask.server.queue = [limited(delay="20s")]
    ask.server.by_key = {"other": []}
    assert (await ask(body(x=1))).status == 400
    assert (await ask(body())).status == 429
    assert (await ask(body())).status == 200
    assert [status for status, _ in ask.server.refusals] == [400]
    assert [len(one.raw) > 0 for one in ask.server.requests] == [True] * 3


def test_it_also_serves_who_is_not_asyncios() -> None:
    with AntigravityServer().in_thread() as server, httpx2.Client(timeout=10) as client:
        headers = {"x-goog-api-key": "good-key"}
        assert client.post(server.url + PATH, json=body(), headers=headers).status_code == 200
