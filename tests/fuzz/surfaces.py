"""What is fuzzed: each protocol's addresses, keys, schemas and bodies that are right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

from anthropic.types import message_create_params
from google.genai import types as google
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from gateway.wire.chat import ChatRequest
from gateway.wire.gemini import GenerateRequest
from gateway.wire.messages import MessagesRequest
from gateway.wire.responses import ResponsesRequest
from tests.fuzz.requests import Headers
from tests.fuzz.values import Dice, Schema

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PIXEL = "iVBORw0KGgo="

WORDS: Mapping[str, Sequence[str]] = {
    "model": ("org_auto", "gpt-5", "claude-sonnet-4-5", "lingma-agent", "m", ""),
    "role": ("user", "assistant", "system", "developer", "tool", "function", "model", "alien"),
    "type": (
        "text", "input_text", "output_text", "refusal", "image", "image_url", "input_image", "input_audio",
        "input_file", "file", "document", "function", "custom", "tool_use", "tool_result", "thinking",
        "redacted_thinking", "server_tool_use", "message", "function_call", "function_call_output",
        "reasoning", "item_reference", "custom_tool_call", "web_search_call", "web_search", "namespace",
        "json_schema",
        "json_object", "base64", "url", "auto", "enabled", "disabled", "alien",
    ),
    "mode": ("auto", "required", "none", "AUTO", "ANY", "NONE", "VALIDATED", "alien"),
    "effort": ("none", "minimal", "low", "medium", "high", "xhigh", "alien"),
    "name": ("get_weather", "search", "x", "", "a b", "n" * 200),
    "mime_type": ("image/png", "text/plain", "application/json", "x"),
    "mimeType": ("image/png", "text/plain", "application/json", "x"),
}  # fmt: skip


@dataclass(frozen=True)
class Surface:
    name: str
    column: str
    """Who reads its answers: the name of a column of the matrix."""
    key_header: bytes
    schemas: tuple[Schema, ...]
    bodies: tuple[Mapping[str, Any], ...]

    def target(self, dice: Dice, *, stream: bool) -> str:
        return dice.choice(_TARGETS[self.name])

    def headers(self, key: str) -> Headers:
        value = key.encode() if self.key_header.startswith(b"x-") else b"Bearer " + key.encode()
        return [(b"content-type", b"application/json"), (self.key_header, value)]


class GeminiSurface(Surface):
    """The model and whether to stream stand in the address."""

    def target(self, dice: Dice, *, stream: bool) -> str:
        model = dice.choice(_MODELS)
        if dice.random() < 0.1:
            method = dice.choice(("countTokens", "embedContent", "alien", ""))
        else:
            method = "streamGenerateContent" if stream else "generateContent"
        base = dice.choice(("/v1beta/models/", "/v1beta/models/", "/v1beta1/models/", "/v1/models/"))
        query = dice.choice(("?alt=sse", "?alt=sse", "")) if stream else ""
        return f"{base}{model}:{method}{query}"


_TARGETS = {
    "chat": ("/v1/chat/completions", "/v1/chat/completions", "/chat/completions"),
    "messages": ("/v1/messages", "/v1/messages", "/v1/messages", "/v1/messages/count_tokens", "/messages"),
    "responses": ("/v1/responses", "/v1/responses", "/responses"),
}
_MODELS = tuple(
    quote(name, safe="/:")
    for name in (
        "org_auto", "org_auto", "gemini-2.5-pro", "a/b", "a:b", "publishers/google/models/x", "x" * 500,
        "灵码", " ", "..", "a%2Fb", "models/models/x", "x?y", "#",
    )
)  # fmt: skip


@cache
def surfaces() -> dict[str, Surface]:
    found: list[Surface] = [_chat(), _messages(), _responses(), _gemini()]
    return {surface.name: surface for surface in found}


def _schema(shape: Any, **only: Any) -> Schema:
    """`only`: what these members are to be, whatever the shape says."""
    schema = dict(TypeAdapter(shape).json_schema())
    schema["properties"] = {**schema.get("properties", {}), **only}
    return Schema(schema, WORDS)


_STREAM = {"stream": {"type": "boolean"}}


def _chat() -> Surface:
    return Surface(
        "chat",
        "chat",
        b"authorization",
        (
            _schema(ChatRequest),
            _schema(completion_create_params.CompletionCreateParamsNonStreaming, **_STREAM),
        ),
        (
            {"model": "org_auto", "messages": [{"role": "user", "content": "say hello"}]},
            {
                "model": "gpt-5",
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.5,
                "max_completion_tokens": 100,
                "messages": [
                    {"role": "system", "content": "Be brief"},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "look"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city":"Ulm"}'},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
                ],
                "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}],
                "tool_choice": "auto",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": WEATHER, "strict": True},
                },
            },
        ),
    )


def _messages() -> Surface:
    return Surface(
        "messages",
        "messages",
        b"x-api-key",
        (
            _schema(MessagesRequest),
            _schema(message_create_params.MessageCreateParamsNonStreaming, **_STREAM),
        ),
        (
            {
                "model": "org_auto",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": "say hello"}],
            },
            {
                "model": "claude-sonnet-4-5",
                "max_tokens": 1000,
                "stream": True,
                "system": [{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}],
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "metadata": {"user_id": "u"},
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "look"},
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                            },
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                            {
                                "type": "tool_use",
                                "id": "toolu_1",
                                "name": "get_weather",
                                "input": {"city": "Ulm"},
                            },
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "toolu_1",
                                "content": [{"type": "text", "text": "sunny"}],
                            }
                        ],
                    },
                ],
                "tools": [{"name": "get_weather", "input_schema": WEATHER}],
                "tool_choice": {"type": "auto"},
            },
        ),
    )


def _responses() -> Surface:
    return Surface(
        "responses",
        "responses",
        b"authorization",
        (
            _schema(ResponsesRequest),
            _schema(response_create_params.ResponseCreateParamsNonStreaming, **_STREAM),
        ),
        (
            {"model": "org_auto", "input": "say hello"},
            {
                "model": "gpt-5-codex",
                "stream": True,
                "store": False,
                "instructions": "Be brief",
                "reasoning": {"effort": "high", "summary": "auto"},
                "include": ["reasoning.encrypted_content"],
                "input": [
                    {
                        "type": "message",
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "look"},
                            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                        ],
                    },
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"},
                    {
                        "type": "function_call",
                        "call_id": "call_1",
                        "name": "get_weather",
                        "arguments": '{"city":"Ulm"}',
                    },
                    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
                    {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "x"},
                    {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
                ],
                "tools": [
                    {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False},
                    {"type": "custom", "name": "apply_patch", "format": {"type": "text"}},
                    {"type": "web_search"},
                ],
                "tool_choice": "auto",
                "parallel_tool_calls": False,
                "text": {"format": {"type": "json_schema", "name": "x", "schema": WEATHER}},
                "prompt_cache_key": "k",
            },
        ),
    )


def _gemini() -> Surface:
    shape: Any = {
        "type": "object",
        "required": ["contents"],
        "properties": {},
        "$defs": {},
    }
    for name, of in {
        "contents": list[google.Content],
        "tools": list[google.Tool],
        "systemInstruction": google.Content,
        "generationConfig": google.GenerationConfig,
        "toolConfig": google.ToolConfig,
        "safetySettings": list[google.SafetySetting],
    }.items():
        inner = TypeAdapter(of).json_schema(by_alias=True)
        shape["$defs"] |= inner.pop("$defs", {})
        shape["properties"][name] = inner
    return GeminiSurface(
        "gemini",
        "gemini_array",
        b"x-goog-api-key",
        (_schema(GenerateRequest), Schema(shape, WORDS)),
        (
            {"contents": [{"role": "user", "parts": [{"text": "say hello"}]}]},
            {
                "systemInstruction": {"parts": [{"text": "Be brief"}]},
                "contents": [
                    {
                        "role": "user",
                        "parts": [
                            {"text": "look"},
                            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                        ],
                    },
                    {
                        "role": "model",
                        "parts": [
                            {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
                            {"functionCall": {"name": "get_weather", "args": {"city": "Ulm"}}},
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "get_weather", "response": {"output": "sunny"}}}
                        ],
                    },
                ],
                "tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": WEATHER}]}],
                "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
                "generationConfig": {
                    "temperature": 0.5,
                    "maxOutputTokens": 100,
                    "responseMimeType": "application/json",
                    "responseSchema": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
                    "thinkingConfig": {"includeThoughts": True, "thinkingBudget": -1},
                },
            },
        ),
    )
