from typing import Any, get_type_hints

import pytest
from google.genai import types
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from gateway.wire.gemini import (
    ContentIn,
    FunctionCallIn,
    FunctionCallingConfigIn,
    FunctionDeclarationIn,
    FunctionResponseIn,
    GenerateRequest,
    GenerationConfigIn,
    PartIn,
    PartOut,
    ThinkingConfigIn,
    UsageOut,
)


def read(**body: Any) -> GenerateRequest:
    return GenerateRequest.model_validate(body)


@pytest.mark.parametrize(
    ("ours", "official", "elsewhere"),
    [
        (ContentIn, types.Content, set()),
        (ThinkingConfigIn, types.ThinkingConfig, set()),
        (FunctionCallIn, types.FunctionCall, {"will_continue"}),
        (FunctionResponseIn, types.FunctionResponse, {"scheduling", "will_continue"}),
        (
            FunctionDeclarationIn,
            types.FunctionDeclaration,
            {"behavior", "response", "response_json_schema"},
        ),
        (FunctionCallingConfigIn, types.FunctionCallingConfig, {"stream_function_call_arguments"}),
        (
            GenerationConfigIn,
            types.GenerationConfig,
            {
                "audio_timestamp",
                "audio_transcription_config",
                "enable_affective_dialog",
                "enable_enhanced_civic_answers",
                "logprobs",
                "media_resolution",
                "model_selection_config",
                "response_format",
                "response_logprobs",
                "routing_config",
                "speech_config",
                "translation_config",
            },
        ),
        (
            PartIn,
            types.Part,
            {
                "audio_metadata",
                "audio_transcription",
                "document_metadata",
                "media_processing",
                "media_resolution",
                "part_metadata",
                "spreadsheet_metadata",
                "speech_metadata",
                "tool_call",
                "tool_response",
            },
        ),
    ],
)
def test_every_field_of_the_official_sdk_is_known_or_carried(
    ours: type[BaseModel], official: type[BaseModel], elsewhere: set[str]
) -> None:
    """`elsewhere`: what the raw body keeps, as losses or opaque parts, or what means nothing here."""
    assert set(official.model_fields) - set(ours.model_fields) == elsewhere
    assert set(ours.model_fields) <= set(official.model_fields)


@pytest.mark.parametrize(
    ("out", "official"),
    [(PartOut, types.Part), (UsageOut, types.GenerateContentResponseUsageMetadata)],
)
def test_answers_have_no_fields_that_the_official_sdk_does_not_know(out: Any, official: Any) -> None:
    assert set(get_type_hints(out)) <= {to_camel(name) for name in official.model_fields}


def test_both_ways_of_writing_names_are_read() -> None:
    camel = read(
        contents=[{"parts": [{"inlineData": {"mimeType": "a/b", "data": "AA"}}]}],
        systemInstruction={"parts": [{"text": "s"}]},
        generationConfig={"maxOutputTokens": 5, "thinkingConfig": {"includeThoughts": True}},
        toolConfig={"functionCallingConfig": {"allowedFunctionNames": ["f"]}},
    )
    snake = read(
        contents=[{"parts": [{"inline_data": {"mime_type": "a/b", "data": "AA"}}]}],
        system_instruction={"parts": [{"text": "s"}]},
        generation_config={"max_output_tokens": 5, "thinking_config": {"include_thoughts": True}},
        tool_config={"function_calling_config": {"allowed_function_names": ["f"]}},
    )
    assert camel == snake
    assert camel.generation_config is not None
    assert camel.generation_config.max_output_tokens == 5


def test_unknown_fields_are_ignored() -> None:
    request = read(contents=[{"parts": [{"text": "a", "new": 1}], "new": 2}], brandNew={"a": []})
    assert request.contents is not None
    assert request.contents[0].parts == [PartIn(text="a")]


@pytest.mark.parametrize(
    "contents",
    [
        "hi",
        ["hi"],
        {"parts": [{"text": "hi"}]},
        [{"parts": {"text": "hi"}}],
        [{"parts": "hi"}],
        [{"parts": ["hi"]}],
    ],
)
def test_contents_may_be_written_short(contents: Any) -> None:
    request = read(contents=contents)
    assert request.contents is not None
    assert [content.parts for content in request.contents] == [[PartIn(text="hi")]]


@pytest.mark.parametrize(
    "given", ["be kind", {"text": "be kind"}, ["be kind"], [{"text": "be kind"}], {"parts": "be kind"}]
)
def test_the_system_instruction_may_be_written_short(given: Any) -> None:
    request = read(systemInstruction=given)
    assert request.system_instruction == ContentIn(parts=[PartIn(text="be kind")])


def test_an_empty_system_instruction_is_none() -> None:
    assert read(systemInstruction={}).system_instruction == ContentIn(parts=[])


def test_one_tool_or_stop_sequence_needs_no_list() -> None:
    request = read(tools={"functionDeclarations": [{"name": "f"}]}, generationConfig={"stopSequences": "END"})
    assert request.tools is not None
    assert request.tools[0].function_declarations == [FunctionDeclarationIn(name="f")]
    assert request.generation_config is not None
    assert request.generation_config.stop_sequences == ["END"]


@pytest.mark.parametrize(("given", "number"), [(40, 40), (40.0, 40), (None, None)])
def test_a_whole_number_may_be_written_with_a_point(given: float | None, number: int | None) -> None:
    assert GenerationConfigIn.model_validate({"topK": given}).top_k == number


@pytest.mark.parametrize("given", [1.5, 1e30, "5", True, [5]])
def test_nothing_else_is_a_whole_number(given: object) -> None:
    with pytest.raises(ValidationError):
        GenerationConfigIn.model_validate({"topK": given})
