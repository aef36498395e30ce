"""The official Google SDK against `lingma-gateway up`: what a person who has only that SDK sees.

And the forms of the protocol that the SDK does not use: the array stream, keys in the address, snake_case.
"""

import json
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError
from pydantic import BaseModel

from gateway.wire.sse import SseSplitter
from tests.support.processes import Service, asks_of

pytestmark = [
    pytest.mark.conformance,
    # The SDK makes a class out of one of aiohttp's, which aiohttp would rather it did not.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]

MODEL = "org_auto"
WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="The weather of a city",
    parameters=types.Schema(
        type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
    ),
)


def client_of(service: Service, *, key: str = "any", **options: Any) -> genai.Client:
    http_options = types.HttpOptions(base_url=service.url, timeout=60_000, **options)
    return genai.Client(api_key=key, http_options=http_options)


def losses_of(answer: types.GenerateContentResponse) -> str:
    assert answer.sdk_http_response is not None
    return (answer.sdk_http_response.headers or {})["x-gateway-losses"]


def thinking(text: str = "think about 7, then say done", **config: Any) -> dict[str, Any]:
    return {
        "contents": text,
        "config": types.GenerateContentConfig(thinking_config=types.ThinkingConfig(**config)),
    }


# -- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_an_answer(live: Service, version: str) -> None:
    with client_of(live, api_version=version) as client:
        answer = client.models.generate_content(model=MODEL, contents="say hello")
    assert answer.text == "hello"
    assert (answer.model_version, bool(answer.response_id)) == (MODEL, True)
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    usage = answer.usage_metadata
    assert usage is not None
    assert usage.prompt_token_count
    assert usage.total_token_count == usage.prompt_token_count + (usage.candidates_token_count or 0)


def test_a_stream(live: Service) -> None:
    with client_of(live) as client:
        chunks = list(client.models.generate_content_stream(model=MODEL, contents="count from 1 to 5"))
    text = "".join(chunk.text or "" for chunk in chunks)
    assert [int(word) for word in text.replace(",", " ").split()] == [1, 2, 3, 4, 5]
    assert len(chunks) > 3
    finishes = [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates]
    assert finishes == [None] * (len(chunks) - 1) + [types.FinishReason.STOP]
    assert [bool(chunk.usage_metadata) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len({chunk.response_id for chunk in chunks}) == 1


async def test_the_async_client(live: Service) -> None:
    async with client_of(live).aio as client:
        answer = await client.models.generate_content(model=MODEL, contents="say hi")
        assert answer.text == "hi"
        stream = await client.models.generate_content_stream(model=MODEL, contents="say ho")
        assert "".join([chunk.text or "" async for chunk in stream]) == "ho"


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_come_to_those_who_ask_for_them(live: Service, stream: bool) -> None:
    with client_of(live) as client:

        def parts(**request: Any) -> list[types.Part]:
            if stream:
                chunks = list(client.models.generate_content_stream(model=MODEL, **request))
            else:
                chunks = [client.models.generate_content(model=MODEL, **request)]
            return [part for chunk in chunks for part in chunk.parts or ()]

        asking = parts(**thinking(include_thoughts=True))
        assert any(part.thought and part.text for part in asking)
        assert "".join(part.text or "" for part in asking if not part.thought) == "done"
        for request in (thinking(include_thoughts=False), thinking(thinking_budget=100)):
            assert not any(part.thought for part in parts(**request))


# -- conversations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_keeps_one_session(live: Service, stream: bool) -> None:
    with client_of(live) as client:
        chat = client.chats.create(
            model=MODEL, config=types.GenerateContentConfig(system_instruction=f"Be brief {stream}")
        )

        def ask(text: str) -> str:
            if not stream:
                return chat.send_message(text).text or ""
            return "".join(chunk.text or "" for chunk in chat.send_message_stream(text))

        assert ask("say alpha beta gamma") == "alpha beta gamma"
        ask("report one")
        assert "turns=3 isReply=true" in ask("report two")
        assert chat.get_history(curated=True) == chat.get_history(), "the SDK takes every answer for valid"


async def test_an_async_chat_keeps_one_session(live: Service) -> None:
    async with client_of(live).aio as client:
        chat = client.chats.create(model=MODEL)
        await chat.send_message("say delta")
        text = ""
        async for chunk in await chat.send_message_stream("report"):
            text += chunk.text or ""
        assert "turns=2 isReply=true" in text


# -- functions --------------------------------------------------------------------------------------------


def test_functions_are_offered_to_lingma(live: Service) -> None:
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[WEATHER])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    with client_of(live) as client:
        answer = client.models.generate_content(model=MODEL, contents="say tried", config=config)
    assert answer.text == "tried"
    (ask,) = [a for a in asks_of(live.directory) if a["params"]["questionText"].endswith("say tried")]
    (tool,) = ask["params"]["tools"]
    assert tool["function"] == {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }


@pytest.mark.parametrize("stream", [False, True])
def test_functions_of_python_may_be_offered(live: Service, stream: bool) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"fine in {city}"

    config = types.GenerateContentConfig(tools=[get_weather])
    with client_of(live) as client:
        if stream:
            chunks = client.models.generate_content_stream(model=MODEL, contents="say python", config=config)
            assert "".join(chunk.text or "" for chunk in chunks) == "python"
        else:
            answer = client.models.generate_content(model=MODEL, contents="say python", config=config)
            assert answer.text == "python"


@pytest.mark.parametrize("stream", [False, True])
def test_cv_72_a_function_goes_its_round(live: Service, stream: bool) -> None:
    """Given alt=sse and the round trip of a function call: expect its `functionResponse` to be accepted, and
    a final text.
    """
    contents = [
        types.Content(role="user", parts=[types.Part(text="run it")]),
        types.Content(
            role="model",
            parts=[
                types.Part(
                    function_call=types.FunctionCall(
                        id="call_1", name="run_shell_command", args={"command": "echo tool-ran-42"}
                    ),
                    thought_signature=b"\xff\xfe\xfd",
                )
            ],
        ),
        types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(
                        id="call_1", name="run_shell_command", response={"output": "tool-ran-42"}
                    )
                )
            ],
        ),
    ]
    with client_of(live) as client:
        if stream:
            chunks = list(client.models.generate_content_stream(model=MODEL, contents=contents))
            assert chunks[-1].candidates is not None
            assert chunks[-1].candidates[0].finish_reason is types.FinishReason.STOP
            text = "".join(chunk.text or "" for chunk in chunks)
        else:
            text = client.models.generate_content(model=MODEL, contents=contents).text or ""
    assert "The tool said: " in text
    assert "tool-ran-42" in text


# -- what is asked for ------------------------------------------------------------------------------------


class City(BaseModel):
    name: str
    people: int


@pytest.mark.parametrize("stream", [False, True])
def test_cv_71_structured_answers_are_json_of_their_schema(live: Service, stream: bool) -> None:
    """Given a router call with a JSON schema: expect JSON text that matches it."""
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    with client_of(live) as client:
        if stream:
            chunks = client.models.generate_content_stream(model=MODEL, contents="Tell of Ulm", config=config)
            City.model_validate_json("".join(chunk.text or "" for chunk in chunks))
        else:
            answer = client.models.generate_content(model=MODEL, contents="Tell of Ulm", config=config)
            assert isinstance(answer.parsed, City)
            assert "response_format:asked-in-prompt" in losses_of(answer)


def test_images_become_placeholders_and_are_told(live: Service) -> None:
    image = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
    with client_of(live) as client:
        answer = client.models.generate_content(model=MODEL, contents=["say seen-by-gemini", image])
    assert "messages.0.content.1:placeholder" in losses_of(answer)
    asked = [ask["params"]["questionText"] for ask in asks_of(live.directory)]
    assert "say seen-by-gemini\n[image]" in asked


def test_what_cannot_be_honoured_is_told(live: Service) -> None:
    config = types.GenerateContentConfig(
        temperature=0.1,
        response_logprobs=True,
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
                threshold=types.HarmBlockThreshold.BLOCK_NONE,
            )
        ],
    )
    with client_of(live) as client:
        answer = client.models.generate_content(model=MODEL, contents="say x", config=config)
    told = losses_of(answer).split(", ")
    assert {"temperature:unsupported", "generationConfig.responseLogprobs:unsupported"} < set(told)
    assert "safetySettings:unsupported" in told


def test_tokens_are_counted_without_an_instance(live: Service) -> None:
    before = len(asks_of(live.directory))
    with client_of(live) as client:
        few = client.models.count_tokens(model=MODEL, contents="hi").total_tokens
        more = client.models.count_tokens(model=MODEL, contents=["hi", "and a longer text"]).total_tokens
    assert few is not None
    assert more is not None
    assert 0 < few < more
    assert len(asks_of(live.directory)) == before


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_models_are_listed_and_found(live: Service, version: str) -> None:
    with client_of(live, api_version=version) as client:
        every = [model.name or "" for model in client.models.list()]
        assert f"models/{MODEL}" in every
        paged = [model.name or "" for model in client.models.list(config={"page_size": 1})]
        assert paged == every
        for name in (MODEL, every[-1]):
            model = client.models.get(model=name)
            assert model.name == f"models/{name.removeprefix('models/')}"
            assert model.supported_actions == ["generateContent", "streamGenerateContent", "countTokens"]
            assert model.input_token_limit
        with pytest.raises(ClientError) as caught:
            client.models.get(model="no-such-model")
        assert caught.value.code == 404


@pytest.mark.parametrize(
    "name", ["gemini-3.8-flash", "models/gemini-3.8-flash", "vendor/model:free", "tunedModels/mine"]
)
def test_unknown_models_are_served_and_told(live: Service, name: str) -> None:
    with client_of(live) as client:
        answer = client.models.generate_content(model=name, contents="say x")
    assert answer.model_version == name.removeprefix("models/")
    assert "model:served-by-org_auto" in losses_of(answer)


# -- what the SDK does not do -----------------------------------------------------------------------------


STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent"


def test_an_array_stream_comes_in_pieces_and_is_one_array(live: Service) -> None:
    body = {"contents": [{"parts": [{"text": "count slowly from 1 to 9"}]}]}
    with httpx2.stream("POST", live.url + STREAM, json=body, timeout=60) as answer:
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        pieces = list(answer.iter_bytes())
    assert len(pieces) > 3
    chunks = json.loads(b"".join(pieces))
    for chunk in chunks:
        types.GenerateContentResponse.model_validate(chunk)
    texts = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
    assert [int(word) for word in "".join(texts).replace(",", " ").split()] == list(range(1, 10))
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


def test_server_sent_events_by_their_standard(live: Service) -> None:
    body = {"contents": {"parts": {"text": "say one two"}}}
    answer = httpx2.post(f"{live.url}{STREAM}?alt=sse", json=body, timeout=60)
    chunks = [json.loads(event.data or b"") for event in SseSplitter().feed(answer.content)]
    texts = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
    assert "".join(texts) == "one two"


def test_names_in_snake_case(live: Service) -> None:
    body = {
        "system_instruction": {"parts": [{"text": "Be brief"}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "say snake"}, {"inline_data": {"mime_type": "image/png", "data": "AA=="}}],
            }
        ],
        "generation_config": {"max_output_tokens": 7, "candidate_count": 1},
    }
    answer = httpx2.post(f"{live.url}/v1beta/models/{MODEL}:generateContent", json=body, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["candidates"][0]["content"]["parts"] == [{"text": "snake"}]
    told = answer.headers["x-gateway-losses"]
    assert "max_output_tokens:unsupported" in told
    assert "placeholder" in told


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?key=good-key", {}, 200),
        ("", {"x-goog-api-key": "good-key"}, 200),
        ("", {"authorization": "Bearer good-key"}, 200),
        ("?key=bad", {}, 401),
        ("", {}, 401),
    ],
)
def test_keys_in_the_address_and_elsewhere(
    narrow: Service, query: str, headers: dict[str, str], status: int
) -> None:
    for method, path in (("POST", "/v1beta/models/m:countTokens"), ("GET", "/v1beta/models")):
        body = json.dumps({"contents": "x"}) if method == "POST" else None
        answer = httpx2.request(method, f"{narrow.url}{path}{query}", content=body, headers=headers)
        assert answer.status_code == status
    assert "good-key" not in narrow.log
