"""Shapes of Anthropic's Messages: what a client may send, and what it gets. No decisions.

Requests are strict where a field is known and blind to fields that nobody here knows. Content blocks are
told apart by `type`; a block of a type that is not listed keeps all its fields. Objects that are only carried
along keep their exact form in the raw body and are loose here.
Source: Anthropic's API reference and the types of its official Python SDK.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from gateway.kernel.json import JsonObject
from gateway.wire.chat import FunctionDef, Int, Named, Object


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


# -- content ----------------------------------------------------------------------------------------------


class TextBlock(_Wire):
    text: str


class Source(_Wire):
    """Of an image or a document: which fields mean something is told by `type`."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: "str | list[Block] | None" = None


class ImageBlock(_Wire):
    source: Source


class CitationsConfig(_Wire):
    enabled: bool | None = None


class DocumentBlock(_Wire):
    source: Source
    title: str | None = None
    context: str | None = None
    citations: CitationsConfig | None = None


class SearchResultBlock(_Wire):
    source: str
    title: str
    content: list[TextBlock]


class ThinkingBlock(_Wire):
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(_Wire):
    data: str


class ToolUseBlock(_Wire):
    """A call, by the client's own tools or by those that Anthropic's servers run."""

    id: str
    name: str
    input: Object | None = None


class ToolResultBlock(_Wire):
    tool_use_id: str
    content: "str | list[Block] | None" = None
    is_error: bool | None = None


class ServerResultBlock(_Wire):
    """The result of a tool that Anthropic's servers ran: its content has a form of its own for each tool."""

    tool_use_id: str
    content: object = None
    is_error: bool | None = None


class ToolReferenceBlock(_Wire):
    tool_name: str


class ContainerUploadBlock(_Wire):
    file_id: str


class CompactionBlock(_Wire):
    content: str | None = None


class OtherBlock(BaseModel):
    """A block of a type that nobody here knows, with all its fields."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    type: str


_TAGS = {
    "text": "text-block",
    "image": "image-block",
    "document": "document-block",
    "search_result": "search-result-block",
    "thinking": "thinking-block",
    "redacted_thinking": "redacted-block",
    "tool_use": "call-block",
    "server_tool_use": "call-block",
    "mcp_tool_use": "call-block",
    "tool_result": "result-block",
    "mcp_tool_result": "result-block",
    "tool_reference": "reference-block",
    "container_upload": "upload-block",
    "compaction": "compaction-block",
}


def _tag(block: object) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        return "other-block"
    if kind not in _TAGS and kind.endswith("_tool_result"):
        return "server-result-block"
    return _TAGS.get(kind, "other-block")


# The tags are no names of fields: a tag in the path of an error must not be taken for a step into the body.
Block = Annotated[
    Annotated[TextBlock, Tag("text-block")]
    | Annotated[ImageBlock, Tag("image-block")]
    | Annotated[DocumentBlock, Tag("document-block")]
    | Annotated[SearchResultBlock, Tag("search-result-block")]
    | Annotated[ThinkingBlock, Tag("thinking-block")]
    | Annotated[RedactedThinkingBlock, Tag("redacted-block")]
    | Annotated[ToolUseBlock, Tag("call-block")]
    | Annotated[ToolResultBlock, Tag("result-block")]
    | Annotated[ServerResultBlock, Tag("server-result-block")]
    | Annotated[ToolReferenceBlock, Tag("reference-block")]
    | Annotated[ContainerUploadBlock, Tag("upload-block")]
    | Annotated[CompactionBlock, Tag("compaction-block")]
    | Annotated[OtherBlock, Tag("other-block")],
    Discriminator(_tag),
]


class MessageIn(_Wire):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Block] | None = None


# -- settings ---------------------------------------------------------------------------------------------


class ToolDef(_Wire):
    """A client's tool, one of Anthropic's own (told by `type`), or a function in OpenAI's form."""

    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: Object | None = None
    parameters: Object | None = None
    strict: bool | None = None
    function: FunctionDef | None = None


class ToolChoiceIn(_Wire):
    type: str
    name: str | None = None
    function: Named | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingIn(_Wire):
    type: str
    budget_tokens: Int | None = None
    display: str | None = None


class FormatIn(_Wire):
    type: str
    schema_: Object | None = Field(None, alias="schema")


class OutputConfig(_Wire):
    effort: str | None = None
    format: FormatIn | None = None
    task_budget: object = None


class Metadata(_Wire):
    user_id: str | None = None


class MessagesRequest(_Wire):
    model: str
    messages: list[MessageIn]
    max_tokens: Int | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int | None = None
    stop_sequences: list[str] | None = None
    thinking: ThinkingIn | None = None
    output_config: OutputConfig | None = None
    output_format: FormatIn | None = None
    """Where `output_config.format` stood before."""
    tools: list[ToolDef] | None = None
    tool_choice: str | ToolChoiceIn | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    container: object = None
    mcp_servers: object = None
    context_management: object = None
    compaction: object = None
    fallbacks: object = None
    inference_geo: object = None
    speed: object = None
    thread: object = None


# -- answer -----------------------------------------------------------------------------------------------


class Citation(TypedDict):
    type: Literal["web_search_result_location"]
    url: str
    title: str | None
    cited_text: str
    encrypted_index: str


class TextOut(TypedDict):
    type: Literal["text"]
    text: str
    citations: NotRequired[list[Citation]]


class ThinkingOut(TypedDict):
    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingOut(TypedDict):
    type: Literal["redacted_thinking"]
    data: str


class ToolUseOut(TypedDict):
    type: Literal["tool_use"]
    id: str
    name: str
    input: JsonObject


class ToolResultOut(TypedDict):
    """Not Anthropic's in an answer: the result of a tool that the upstream has already run."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str


BlockOut = TextOut | ThinkingOut | RedactedThinkingOut | ToolUseOut | ToolResultOut
"""The blocks that are made here. Others come from an upstream that speaks Messages and pass as they are."""

StopReason = Literal["end_turn", "max_tokens", "tool_use", "pause_turn", "refusal"]


class OutputTokensDetails(TypedDict):
    thinking_tokens: int


class UsageOut(TypedDict):
    input_tokens: int
    """Without those that were read from a cache."""
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: NotRequired[OutputTokensDetails]
    estimated: NotRequired[Literal[True]]
    """Not Anthropic's: present when the figures were counted here and not reported by the upstream."""


class MessageHead(TypedDict):
    """What a message and the start of its stream begin with."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str


class MessageOut(MessageHead):
    content: list[BlockOut | JsonObject]
    stop_reason: StopReason | None
    stop_sequence: None
    usage: UsageOut


class MessageStart(TypedDict):
    type: Literal["message_start"]
    message: MessageOut


class TextDeltaOut(TypedDict):
    type: Literal["text_delta"]
    text: str


class CitationsDeltaOut(TypedDict):
    type: Literal["citations_delta"]
    citation: Citation


class ThinkingDeltaOut(TypedDict):
    type: Literal["thinking_delta"]
    thinking: str


class SignatureDeltaOut(TypedDict):
    type: Literal["signature_delta"]
    signature: str


class InputJsonDeltaOut(TypedDict):
    type: Literal["input_json_delta"]
    partial_json: str


DeltaOut = TextDeltaOut | CitationsDeltaOut | ThinkingDeltaOut | SignatureDeltaOut | InputJsonDeltaOut


class ContentBlockStart(TypedDict):
    type: Literal["content_block_start"]
    index: int
    content_block: BlockOut | JsonObject


class ContentBlockDelta(TypedDict):
    type: Literal["content_block_delta"]
    index: int
    delta: DeltaOut


class ContentBlockStop(TypedDict):
    type: Literal["content_block_stop"]
    index: int


class StopOut(TypedDict):
    stop_reason: StopReason
    stop_sequence: None


class MessageDelta(TypedDict):
    type: Literal["message_delta"]
    delta: StopOut
    usage: UsageOut


class OriginalTokens(TypedDict):
    original_input_tokens: int


class TokenCount(TypedDict):
    input_tokens: int
    context_management: NotRequired[OriginalTokens]


class ErrorBody(TypedDict):
    type: str
    message: str


class ErrorEnvelope(TypedDict):
    type: Literal["error"]
    error: ErrorBody
