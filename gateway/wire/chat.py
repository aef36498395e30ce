"""Shapes of OpenAI Chat Completions: what a client may send, and what it gets. No decisions.

Requests are strict where a field is known (a number in quotes is refused, as OpenAI does) and blind to fields
that nobody here knows. Where clients disagree about a shape (image_url as text or object, flat tools), both
are allowed. Objects that are only carried along keep their exact form in the raw body and are loose here.
Source: OpenAI's API reference and the types of its official Python SDK.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole_number(value: object) -> object:
    """JSON has one kind of number: 5.0 is 5. Beyond 2**53 a number with a point is no exact one."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


Int = Annotated[int, BeforeValidator(_whole_number)]
Object = dict[str, object]


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


# -- request ----------------------------------------------------------------------------------------------


class ImageUrl(_Wire):
    url: str | None = None
    detail: str | None = None


class MediaSource(_Wire):
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class InputAudio(_Wire):
    data: str | None = None
    format: str | None = None


class FileRef(_Wire):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class ContentPart(_Wire):
    """All part types in one: which fields mean something is told by `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    image: ImageUrl | str | None = None
    """In parts of type `image`, which several toolkits send: an address, or data as it is."""
    source: MediaSource | str | None = None
    """The same as Anthropic's clients write it."""
    audio_url: ImageUrl | str | None = None
    video_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None
    file: FileRef | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class FunctionCall(_Wire):
    name: str
    arguments: str = ""


class CustomCall(_Wire):
    name: str
    input: str = ""


class ToolCallIn(_Wire):
    id: str
    type: str = "function"
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class AudioRef(_Wire):
    id: str


class ChatMessage(_Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    """Not OpenAI's: how other servers give reasoning, and how their clients send it back."""
    reasoning: object = None
    """The same under another name; some servers have an object there."""
    tool_calls: list[ToolCallIn] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    audio: AudioRef | None = None


class FunctionDef(_Wire):
    name: str
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class CustomDef(_Wire):
    name: str
    description: str | None = None


class ToolDef(_Wire):
    """Nested as in Chat, or flat as in Responses: the name then stands beside the type."""

    type: str = "function"
    function: FunctionDef | None = None
    custom: CustomDef | None = None
    name: str | None = None
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class Named(_Wire):
    name: str


class AllowedTools(_Wire):
    mode: Literal["auto", "required"] = "auto"
    tools: list[ToolDef]


class ToolChoiceIn(_Wire):
    type: str = "function"
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ToolDef] | None = None


class JsonSchemaFormat(_Wire):
    name: str | None = None
    description: str | None = None
    schema_: Object | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(_Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(_Wire):
    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Int | None = None
    max_tokens: Int | None = None
    max_completion_tokens: Int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int | None = None
    seed: Int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Int | None = None
    tools: list[ToolDef] | None = None
    tool_choice: str | ToolChoiceIn | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDef] | None = None
    function_call: str | Named | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: Object | None = None
    prediction: Object | None = None
    moderation: Object | None = None
    web_search_options: Object | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    metadata: Object | None = None


# -- answer -----------------------------------------------------------------------------------------------


class CallFunctionOut(TypedDict):
    name: NotRequired[str]
    arguments: str


class CallCustomOut(TypedDict):
    name: NotRequired[str]
    input: str


class ToolCallOut(TypedDict):
    index: NotRequired[int]
    id: NotRequired[str]
    type: NotRequired[Literal["function", "custom"]]
    function: NotRequired[CallFunctionOut]
    custom: NotRequired[CallCustomOut]


class UrlCitationOut(TypedDict):
    start_index: int
    end_index: int
    title: str
    url: str


class AnnotationOut(TypedDict):
    type: Literal["url_citation"]
    url_citation: UrlCitationOut


class MessageOut(TypedDict):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: NotRequired[str]
    annotations: NotRequired[list[AnnotationOut]]
    tool_calls: NotRequired[list[ToolCallOut]]
    function_call: NotRequired[CallFunctionOut]


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class ChoiceOut(TypedDict):
    index: int
    message: MessageOut
    logprobs: None
    finish_reason: FinishReason


class TokenDetails(TypedDict, total=False):
    cached_tokens: int
    reasoning_tokens: int


class UsageOut(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[TokenDetails]
    completion_tokens_details: NotRequired[TokenDetails]
    estimated: NotRequired[Literal[True]]
    """Not OpenAI's: present when the figures were counted here and not reported by the upstream."""


class Head(TypedDict):
    """What a completion and each of its chunks begin with."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: None
    service_tier: NotRequired[Literal["default"]]
    """Present when the request named a tier; there is only one here."""


class Completion(Head):
    choices: list[ChoiceOut]
    usage: UsageOut | None


class ErrorBody(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    error: ErrorBody
