from typing import Any

import pytest
from google import genai
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.gemini.parse import parse_count, parse_generate
from gateway.turn.items import Message, TextPart
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest, Sampling, Turn
from gateway.turn.tools import ToolChoice

CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]


def context(method: str = "generateContent", model: str = "gemini-x") -> TurnContext:
    return TurnContext(
        id=TurnId("01turn"),
        tenant="t",
        created_at_ms=5,
        key_id="k",
        path_params={"model": model, "method": method},
    )


def turn(method: str = "generateContent", model: str = "gemini-x", **body: Any) -> Turn:
    return parse_generate(dumps({"contents": CONTENTS, **body}), context(method, model))


def configured(**config: Any) -> Turn:
    return turn(generationConfig=config)


def refused(body: dict[str, Any], model: str = "gemini-x") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_generate(dumps(body), context(model=model))
    return caught.value


def test_a_turn_from_address_and_body() -> None:
    read = turn(extra={"kept": 1})
    assert (read.id, read.tenant, read.key_id, read.model) == ("01turn", "t", "k", "gemini-x")
    assert read.items == (Message(role="user", parts=(TextPart("hi"),)),)
    assert read.raw.dialect == "gemini"
    assert read.raw.body == {"contents": CONTENTS, "extra": {"kept": 1}}
    assert (read.stream, read.tools_mentioned, read.losses) == (False, False, ())


def test_a_null_does_not_hide_the_other_spelling() -> None:
    spelt = {"systemInstruction": None, "system_instruction": {"parts": [{"text": "be brief"}]}}
    read = turn(**spelt, generationConfig=None, generation_config={"temperature": 1, "logprobs": 2})
    assert read.items[0] == Message(role="system", parts=(TextPart("be brief"),))
    assert read.sampling.temperature == 1
    assert read.losses == (Loss("generationConfig.logprobs", "unsupported"),)
    assert read.raw.body["systemInstruction"] is None


def test_the_method_says_whether_to_stream() -> None:
    assert turn("streamGenerateContent").stream


def test_settings_of_the_sampling() -> None:
    read = configured(
        temperature=0,
        topP=0.5,
        topK=40,
        maxOutputTokens=9,
        stopSequences=["a", "b"],
        seed=3,
        presencePenalty=0.1,
        frequencyPenalty=-0.2,
        candidateCount=1,
        responseModalities=["TEXT"],
    )
    assert read.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=40,
        max_output_tokens=9,
        stop=("a", "b"),
        seed=3,
        presence_penalty=0.1,
        frequency_penalty=-0.2,
    )
    assert read.losses == ()


def test_names_may_be_written_in_snake_case() -> None:
    read = turn(
        system_instruction={"parts": [{"text": "s"}]},
        generation_config={"max_output_tokens": 9, "thinking_config": {"thinking_budget": 5}},
        tools=[{"function_declarations": [{"name": "f"}]}],
        tool_config={"function_calling_config": {"mode": "ANY"}},
    )
    assert isinstance(read.items[0], Message)
    assert read.items[0].role == "system"
    assert read.sampling.max_output_tokens == 9
    assert read.reasoning == ReasoningRequest(budget_tokens=5)
    assert [tool.name for tool in read.tools] == ["f"]
    assert read.tool_choice == ToolChoice("required")
    assert read.tools_mentioned


@pytest.mark.parametrize(
    ("config", "read"),
    [
        ({"includeThoughts": True}, ReasoningRequest(summary="auto")),
        ({"includeThoughts": False, "thinkingBudget": 100}, ReasoningRequest(budget_tokens=100)),
        ({"thinkingBudget": -1}, ReasoningRequest()),
        ({"thinkingBudget": 0}, ReasoningRequest(effort="none", budget_tokens=0)),
        ({"thinkingLevel": "HIGH"}, ReasoningRequest(effort="high")),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, ReasoningRequest()),
    ],
)
def test_thinking(config: Any, read: ReasoningRequest) -> None:
    assert configured(thinkingConfig=config).reasoning == read
    assert turn().reasoning is None


SCHEMA = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
READ_SCHEMA: Any = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("config", "read"),
    [
        ({}, None),
        ({"responseMimeType": "text/plain"}, None),
        ({"responseMimeType": "application/json"}, OutputFormat(kind="json_object")),
        (
            {"responseMimeType": "application/json", "responseSchema": SCHEMA},
            OutputFormat(kind="json_schema", schema=READ_SCHEMA),
        ),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
            OutputFormat(kind="json_schema", schema=READ_SCHEMA),
        ),
        ({"responseSchema": SCHEMA}, OutputFormat(kind="json_schema", schema=READ_SCHEMA)),
    ],
)
def test_formats_of_the_answer(config: Any, read: OutputFormat | None) -> None:
    found = configured(**config)
    assert found.output_format == read
    assert found.losses == ()


def test_cv_71_the_router_call_of_gemini_cli_asks_for_json_of_its_schema() -> None:
    """Given Gemini CLI's router call, whose JSON Schema writes its types in capitals: expect an output format
    with that schema as JSON Schema writes it, so that the answer is JSON that matches it.
    """
    read = turn(
        systemInstruction={"role": "user", "parts": [{"text": "You are a router."}]},
        generationConfig={
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
            "responseMimeType": "application/json",
            "responseJsonSchema": {
                "type": "OBJECT",
                "properties": {
                    "complexity_reasoning": {"type": "STRING", "description": "Why."},
                    "complexity_score": {"type": "INTEGER", "description": "From 1-100."},
                },
                "required": ["complexity_reasoning", "complexity_score"],
            },
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"},
        },
    )
    assert read.output_format == OutputFormat(
        kind="json_schema",
        schema={
            "type": "object",
            "properties": {
                "complexity_reasoning": {"type": "string", "description": "Why."},
                "complexity_score": {"type": "integer", "description": "From 1-100."},
            },
            "required": ["complexity_reasoning", "complexity_score"],
        },
    )
    assert read.losses == ()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"speechConfig": {"a": 1}}}, "generationConfig.speechConfig"),
        ({"generation_config": {"response_logprobs": True}}, "generationConfig.responseLogprobs"),
        ({"generationConfig": {"logprobs": 3}}, "generationConfig.logprobs"),
        ({"safetySettings": [{"category": "x", "threshold": "BLOCK_NONE"}]}, "safetySettings"),
    ],
)
def test_settings_that_cannot_be_honoured_are_losses(body: Any, path: str) -> None:
    assert turn(**body).losses == (Loss(path, "unsupported"),)


def test_settings_that_ask_for_nothing_are_none() -> None:
    assert (
        turn(safetySettings=[], generationConfig={"responseLogprobs": False, "speechConfig": None}).losses
        == ()
    )


def test_losses_of_the_content_are_told_too() -> None:
    read = turn(contents=[{"parts": [{"brandNew": {}}]}])
    assert read.losses == (Loss("contents.0.parts.0", "unknown-part"),)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": None}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": 7}, "contents"),
        ({"contents": [{"role": "robot", "parts": []}]}, "contents.0.role"),
        ({"contents": [{"parts": [{"text": 7}]}]}, "contents.0.parts.0.text"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "a/b"}}]}]},
            "contents.0.parts.0.inlineData.data",
        ),
        ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "contents.0.parts.0.functionCall.name"),
        (
            {"contents": [{"parts": [{"function_call": {"name": "f", "args": "x"}}]}]},
            "contents.0.parts.0.function_call.args",
        ),
        ({"contents": CONTENTS, "cachedContent": "cachedContents/x"}, "cachedContent"),
        ({"contents": CONTENTS, "generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"contents": CONTENTS, "generation_config": {"top_k": 1.5}}, "generation_config.top_k"),
        (
            {"contents": CONTENTS, "generationConfig": {"candidateCount": 2}},
            "generationConfig.candidateCount",
        ),
        (
            {"contents": CONTENTS, "generationConfig": {"maxOutputTokens": 0}},
            "generationConfig.maxOutputTokens",
        ),
        (
            {"contents": CONTENTS, "tools": [{"functionDeclarations": [{}]}]},
            "tools.0.functionDeclarations.0.name",
        ),
        (
            {"contents": CONTENTS, "toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}},
            "toolConfig.functionCallingConfig.mode",
        ),
        (
            {"contents": CONTENTS, "systemInstruction": {"parts": [{"text": 7}]}},
            "systemInstruction.parts.0.text",
        ),
        ({"contents": CONTENTS, "systemInstruction": 7}, "systemInstruction"),
    ],
)
def test_the_field_at_fault_is_named(body: dict[str, Any], param: str) -> None:
    assert refused(body).param == param


@pytest.mark.parametrize("model", ["", " "])
def test_a_model_has_a_name(model: str) -> None:
    assert refused({"contents": CONTENTS}, model).param == "model"


def test_what_is_no_object_is_refused() -> None:
    for body in (b"", b"[]", b"{", b'"hi"'):
        with pytest.raises(InvalidRequest):
            parse_generate(body, context())


def test_tokens_are_counted_of_contents_or_of_a_whole_request() -> None:
    plain = {"contents": CONTENTS, "systemInstruction": {"parts": [{"text": "s"}]}}
    inner = {"generateContentRequest": {"model": "models/other", **plain}}
    first, second = (parse_count(dumps(body), context("countTokens")) for body in (plain, inner))
    assert first.items == second.items
    assert second.model == "gemini-x"
    with pytest.raises(InvalidRequest) as caught:
        parse_count(dumps({"generateContentRequest": "x"}), context("countTokens"))
    assert caught.value.param == "generateContentRequest"


def test_what_the_official_sdk_writes_is_read() -> None:
    """A request with everything, as google-genai puts it on the wire."""
    client = genai.Client(api_key="any")
    config = types.GenerateContentConfig(
        system_instruction="be kind",
        temperature=0.5,
        top_k=40,
        max_output_tokens=10,
        stop_sequences=["END"],
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=7),
        tools=[
            types.Tool(
                function_declarations=[
                    types.FunctionDeclaration(
                        name="f",
                        parameters=types.Schema(
                            type=types.Type.OBJECT,
                            properties={"n": types.Schema(type=types.Type.INTEGER, nullable=True)},
                        ),
                    )
                ]
            ),
            types.Tool(google_search=types.GoogleSearch()),
        ],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["f"]
            )
        ),
    )
    contents = [
        types.Content(
            role="user", parts=[types.Part.from_bytes(data=b"\xfb\xff\xfe", mime_type="image/png")]
        ),
        types.Content(
            role="model",
            parts=[
                types.Part(
                    function_call=types.FunctionCall(id="c1", name="f", args={"n": 1}),
                    thought_signature=b"\xfb\xff",
                )
            ],
        ),
        types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(id="c1", name="f", response={"result": 2})
                )
            ],
        ),
    ]
    read = parse_generate(_written(client, contents, config), context())
    assert [type(item).__name__ for item in read.items] == ["Message", "Message", "ToolCall", "ToolResult"]
    image = read.items[1].parts[0]  # type: ignore[union-attr]
    assert image.data == "+//+"  # type: ignore[union-attr]
    search, function = read.tools
    assert (search.name, search.kind) == ("googleSearch", "hosted")
    assert (function.name, function.kind) == ("f", "function")
    assert function.parameters == {
        "type": "object",
        "properties": {"n": {"type": ["integer", "null"]}},
    }
    assert read.tool_choice == ToolChoice("named", ("f",))
    assert read.output_format is not None
    assert read.output_format.kind == "json_schema"
    assert read.reasoning == ReasoningRequest(budget_tokens=7, summary="auto")
    assert read.losses == ()


def _written(client: genai.Client, contents: Any, config: types.GenerateContentConfig) -> bytes:
    """The body that the SDK would send."""
    sent: list[Any] = []

    def keep(method: str, path: str, body: Any, *_: Any) -> Any:
        sent.append(body)
        return types.HttpResponse(headers={}, body="{}")

    client._api_client.request = keep  # type: ignore[assignment,method-assign]
    client.models._generate_content(model="gemini-x", contents=contents, config=config)
    return dumps(sent[0])


# -- whatever comes ---------------------------------------------------------------------------------------

NAMES = sorted(
    {
        *("contents", "systemInstruction", "system_instruction", "tools", "toolConfig", "generationConfig"),
        *("generation_config", "parts", "role", "text", "thought", "thoughtSignature", "inlineData", "data"),
        *("mimeType", "fileData", "fileUri", "functionCall", "name", "args", "id", "functionResponse"),
        *("response", "executableCode", "code", "codeExecutionResult", "videoMetadata", "toolCall"),
        *("functionDeclarations", "function_declarations", "parameters", "parametersJsonSchema", "type"),
        *("functionCallingConfig", "mode", "allowedFunctionNames", "temperature", "topK", "stopSequences"),
        *("responseSchema", "responseMimeType", "thinkingConfig", "includeThoughts", "thinkingBudget"),
        *("cachedContent", "safetySettings", "generateContentRequest", "properties", "items", "anyOf"),
    }
)
JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2)
    | st.sampled_from(["", "user", "ANY", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
PART: Any = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3)
CONTENT: Any = st.fixed_dictionaries(
    {"parts": st.lists(PART, max_size=3)}, optional={"role": st.sampled_from(["user", "model", "function"])}
)
BODY: Any = st.fixed_dictionaries(
    {"contents": st.lists(CONTENT, min_size=1, max_size=3) | JSON},
    optional=dict.fromkeys(("systemInstruction", "tools", "toolConfig", "generationConfig"), JSON),
)


@given(BODY | PART)
@settings(max_examples=300)
def test_whatever_a_client_sends_is_read_or_refused(body: Any) -> None:
    for parse in (parse_generate, parse_count):
        try:
            parse(dumps(body), context())
        except InvalidRequest as refused_:
            assert refused_.param
