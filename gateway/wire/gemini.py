"""Shapes of Gemini's generateContent: what a client may send, and what it gets. No decisions.

Every field may be written in camelCase or in snake_case, as Google's own service takes both. Requests are
strict where a field is known and blind to fields that nobody here knows. Lists that clients also write as a
single object (contents, tools) are allowed as such; where an answer's parts have a shape of their own (code
that was run, calls of Google's own tools) the raw body keeps it. Source: Google's API reference and the types
of its official Python SDK.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from pydantic import AliasChoices, AliasGenerator, BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from gateway.kernel.json import Json, JsonObject


def _whole_number(value: object) -> object:
    """JSON has one kind of number: 5.0 is 5. Beyond 2**53 a number with a point is no exact one."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _listed(value: object) -> object:
    """One where a list of them belongs."""
    return [value] if isinstance(value, dict | str) else value


def _parts(value: object) -> object:
    """Bare text is a part too."""
    value = _listed(value)
    if not isinstance(value, list):
        return value
    return [{"text": part} if isinstance(part, str) else part for part in value]


def _content(value: object) -> object:
    """Bare text, a lone part or a list of parts is a content without a role."""
    if isinstance(value, dict) and not ({"parts", "role"} & value.keys()):
        value = [value] if value else []
    return {"parts": value} if isinstance(value, str | list) else value


def _contents(value: object) -> object:
    value = _listed(value)
    if not isinstance(value, list):
        return value
    return [_content(content) if isinstance(content, str | dict) else content for content in value]


Int = Annotated[int, BeforeValidator(_whole_number)]
Object = dict[str, object]


class _Wire(BaseModel):
    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(to_camel(name), name)),
    )


# -- request: content -------------------------------------------------------------------------------------


class BlobIn(_Wire):
    mime_type: str | None = None
    data: str
    """Base64, of either alphabet."""
    display_name: str | None = None


class FileDataIn(_Wire):
    mime_type: str | None = None
    file_uri: str
    display_name: str | None = None


class FunctionCallIn(_Wire):
    name: str
    args: Object | None = None
    partial_args: object = None
    id: str | None = None


class ResponsePartIn(_Wire):
    """Media that a function gave back."""

    inline_data: BlobIn | None = None
    file_data: FileDataIn | None = None


class FunctionResponseIn(_Wire):
    name: str | None = None
    response: Object | list[object] | str | None = None
    id: str | None = None
    parts: list[ResponsePartIn] | None = None


class ExecutableCodeIn(_Wire):
    language: str | None = None
    code: str


class CodeResultIn(_Wire):
    outcome: str | None = None
    output: str | None = None


class PartIn(_Wire):
    """All kinds of parts in one: the one field that is there besides the marks tells the kind."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: BlobIn | None = None
    file_data: FileDataIn | None = None
    function_call: FunctionCallIn | None = None
    function_response: FunctionResponseIn | None = None
    executable_code: ExecutableCodeIn | None = None
    code_execution_result: CodeResultIn | None = None
    video_metadata: Object | None = None


class ContentIn(_Wire):
    role: str | None = None
    parts: Annotated[list[PartIn] | None, BeforeValidator(_parts)] = None


# -- request: tools and settings --------------------------------------------------------------------------


class FunctionDeclarationIn(_Wire):
    name: str
    description: str | None = None
    parameters: Object | None = None
    parameters_json_schema: Object | None = None


class ToolIn(_Wire):
    """A set of functions; tools that Google runs itself are the other members of the raw object."""

    function_declarations: list[FunctionDeclarationIn] | None = None


class FunctionCallingConfigIn(_Wire):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfigIn(_Wire):
    function_calling_config: FunctionCallingConfigIn | None = None


class ThinkingConfigIn(_Wire):
    include_thoughts: bool | None = None
    thinking_budget: Int | None = None
    thinking_level: str | None = None


class GenerationConfigIn(_Wire):
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int | None = None
    candidate_count: Int | None = None
    max_output_tokens: Int | None = None
    stop_sequences: Annotated[list[str] | None, BeforeValidator(_listed)] = None
    seed: Int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_mime_type: str | None = None
    response_schema: Object | None = None
    response_json_schema: Object | None = None
    response_modalities: list[str] | None = None
    thinking_config: ThinkingConfigIn | None = None


class GenerateRequest(_Wire):
    contents: Annotated[list[ContentIn] | None, BeforeValidator(_contents)] = None
    system_instruction: Annotated[ContentIn | None, BeforeValidator(_content)] = None
    tools: Annotated[list[ToolIn] | None, BeforeValidator(_listed)] = None
    tool_config: ToolConfigIn | None = None
    generation_config: GenerationConfigIn | None = None
    safety_settings: list[Object] | None = None
    cached_content: str | None = None


class CountRequest(_Wire):
    """Either what generateContent takes, or that in one member."""

    generate_content_request: Object | None = None


# -- answer -----------------------------------------------------------------------------------------------


class FunctionCallOut(TypedDict):
    id: str
    name: str
    args: JsonObject


class BlobOut(TypedDict):
    mimeType: str
    data: str


class FileDataOut(TypedDict):
    mimeType: str
    fileUri: str


class PartOut(TypedDict, total=False):
    text: str
    thought: Literal[True]
    thoughtSignature: str
    """Standard base64."""
    functionCall: FunctionCallOut
    inlineData: BlobOut
    fileData: FileDataOut


class ContentOut(TypedDict):
    role: Literal["model"]
    parts: list[PartOut]


FinishReason = Literal["STOP", "MAX_TOKENS", "SAFETY"]


class WebOut(TypedDict):
    uri: str
    title: str


class GroundingChunk(TypedDict):
    web: WebOut


class Segment(TypedDict):
    startIndex: int
    """Bytes."""
    endIndex: int
    text: str


class GroundingSupport(TypedDict):
    segment: Segment
    groundingChunkIndices: list[int]


class GroundingMetadata(TypedDict):
    groundingChunks: list[GroundingChunk]
    groundingSupports: list[GroundingSupport]


class CandidateOut(TypedDict):
    content: ContentOut
    finishReason: NotRequired[FinishReason]
    index: int
    groundingMetadata: NotRequired[GroundingMetadata]


class UsageOut(TypedDict, total=False):
    promptTokenCount: int
    candidatesTokenCount: int
    totalTokenCount: int
    thoughtsTokenCount: int
    cachedContentTokenCount: int


class GenerateResponse(TypedDict):
    candidates: list[CandidateOut]
    usageMetadata: NotRequired[UsageOut]
    modelVersion: str
    responseId: str


class CountResponse(TypedDict):
    totalTokens: int


class ErrorBody(TypedDict):
    code: int
    message: str
    status: str
    details: NotRequired[list[Json]]


class ErrorEnvelope(TypedDict):
    error: ErrorBody


class ModelOut(TypedDict):
    name: str
    """With its prefix `models/`."""
    baseModelId: str
    version: str
    displayName: str
    description: str
    inputTokenLimit: int
    supportedGenerationMethods: list[str]
    thinking: NotRequired[Literal[True]]


class ModelList(TypedDict):
    models: list[ModelOut]
    nextPageToken: NotRequired[str]
