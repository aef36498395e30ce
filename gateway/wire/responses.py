"""Shapes of OpenAI Responses: what a client may send, and what it gets. No decisions.

The body is checked in two steps, because an item or a tool of a type that nobody here knows is no error:
first the request with its items as plain objects, then each item as what its type says. Fields are strict
where they are known and blind to the rest.
Source: OpenAI's API reference, the Open Responses schema and the types of the official Python SDK.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.kernel.json import JsonObject
from gateway.wire.chat import ContentPart, Int, Object, ToolCallIn


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def _as_list(value: object) -> object:
    """A lone part stands for a list of one."""
    return [value] if isinstance(value, dict) else value


CONTEXT_GONE = "[Earlier context of this conversation is unavailable.]"
"""What stands where a conversation was compacted by somebody whose seal nobody at hand can open."""
COMPACTED = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""Types of items that hold a compacted conversation."""

Content = Annotated[str | list[ContentPart] | None, BeforeValidator(_as_list)]

# -- request ----------------------------------------------------------------------------------------------


class TextFormat(_Wire):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Object | None = Field(None, alias="schema")
    strict: bool | None = None


class TextConfig(_Wire):
    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningConfig(_Wire):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    """The former name of `summary`."""


class ResponsesRequest(_Wire):
    model: str
    input: str | Object | list[str | Object] | None = None
    instructions: str | None = None
    stream: bool | None = None
    stream_options: Object | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Object | None = None
    prompt: Object | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: list[str] | None = None
    metadata: Object | None = None
    max_output_tokens: Int | None = None
    max_tool_calls: Int | None = None
    top_logprobs: Int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


class CreateFrame(_Wire):
    """What a `response.create` says besides its request, and what of that is looked at before the rest."""

    model: str | None = None
    input: str | Object | list[str | Object] | None = None
    previous_response_id: str | None = None
    generate: bool | None = None
    stream_id: str | None = None
    client_metadata: Object | None = None


class _ItemIn(_Wire):
    id: str | None = None


class MessageIn(_ItemIn):
    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: Content = None
    name: str | None = None
    call_id: str | None = None
    tool_call_id: str | None = None
    """Of the role tool, which Chat Completions has and some clients go on sending."""
    tool_calls: list[ToolCallIn] | None = None
    """Likewise, of the role assistant."""


class FunctionCallIn(_ItemIn):
    call_id: str
    name: str
    namespace: str | None = None
    arguments: str | Object = ""


class CustomCallIn(_ItemIn):
    call_id: str
    name: str
    namespace: str | None = None
    input: str = ""


class BuiltInCallIn(_ItemIn):
    """A call of a tool that OpenAI defines; what it is called with has a name of its own in each type."""

    call_id: str | None = None


class CallOutputIn(_ItemIn):
    call_id: str | None = None


class McpCallIn(_ItemIn):
    id: str
    name: str
    server_label: str | None = None
    arguments: str = ""
    output: str | None = None
    error: object = None


class TextPiece(_Wire):
    text: str = ""


class ReasoningIn(_ItemIn):
    summary: list[TextPiece] | None = None
    content: list[TextPiece] | None = None
    encrypted_content: str | None = None


class ToolsIn(_ItemIn):
    tools: list[Object]


class ReferenceIn(_Wire):
    id: str


class NamespaceDef(_Wire):
    name: str
    tools: list[Object]


class ChoiceIn(_Wire):
    """A choice, or one of the tools that a choice allows."""

    type: str
    name: str | None = None
    namespace: str | None = None
    function: "ChosenName | None" = None
    custom: "ChosenName | None" = None
    mode: Literal["auto", "required"] | None = None
    tools: "list[ChoiceIn] | None" = None
    allowed_tools: "AllowedIn | None" = None


class ChosenName(_Wire):
    name: str


class AllowedIn(_Wire):
    mode: Literal["auto", "required"] | None = None
    tools: list[ChoiceIn]


# -- answer -----------------------------------------------------------------------------------------------

Status = Literal["in_progress", "completed", "incomplete", "failed"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputTextOut(TypedDict):
    type: Literal["output_text"]
    text: str
    annotations: list[JsonObject]
    logprobs: list[JsonObject]


class RefusalOut(TypedDict):
    type: Literal["refusal"]
    refusal: str


class SummaryOut(TypedDict):
    type: Literal["summary_text"]
    text: str


class ReasoningTextOut(TypedDict):
    type: Literal["reasoning_text"]
    text: str


ContentOut = OutputTextOut | RefusalOut


class MessageOut(TypedDict):
    type: Literal["message"]
    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[ContentOut]


class ReasoningOut(TypedDict):
    type: Literal["reasoning"]
    id: str
    summary: list[SummaryOut]
    content: NotRequired[list[ReasoningTextOut]]
    encrypted_content: NotRequired[str]


class FunctionCallOut(TypedDict):
    type: Literal["function_call"]
    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: NotRequired[str]


class CustomCallOut(TypedDict):
    type: Literal["custom_tool_call"]
    id: str
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: NotRequired[str]


class CallOutputOut(TypedDict):
    type: Literal["function_call_output", "custom_tool_call_output"]
    id: str
    status: ItemStatus
    call_id: str
    output: str


ItemOut = MessageOut | ReasoningOut | FunctionCallOut | CustomCallOut | CallOutputOut | JsonObject


class InputDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    reasoning_tokens: int


class UsageOut(TypedDict):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int
    estimated: NotRequired[Literal[True]]
    """Not OpenAI's: present when the figures were counted here and not reported by the upstream."""


class ErrorOut(TypedDict):
    code: str
    message: str


class IncompleteOut(TypedDict):
    reason: str


class ResponseOut(TypedDict):
    """Every field that the schema names, asked for or not."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Status
    background: Literal[False]
    completed_at: None
    error: ErrorOut | None
    incomplete_details: IncompleteOut | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[ItemOut]
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    reasoning: JsonObject
    safety_identifier: str | None
    service_tier: str
    store: Literal[False]
    temperature: float
    presence_penalty: float
    frequency_penalty: float
    text: JsonObject
    tool_choice: str | JsonObject
    tools: list[JsonObject]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: UsageOut | None
    user: str | None
    metadata: JsonObject
    output_text: NotRequired[str]
    """Not in the schema: all text, for those who read the answer without an SDK. Not in streams."""
