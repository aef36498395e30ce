"""Shapes of the answer to GET /v1/models, which clients of three vendors ask. No decisions.

Source: the types of both official SDKs, and what two versions of Codex refuse to do without.
"""

from typing import Literal, TypedDict


class ModelOut(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    """Nobody's own: the display name, where lingma-openai-gateway had it."""
    context_window: int
    """Nobody's own either; several clients look for it."""
    type: Literal["model"]
    """This and what follows is Anthropic's."""
    display_name: str
    created_at: str
    """RFC 3339; the epoch when nobody knows."""
    lifecycle: Literal["active"]
    max_input_tokens: int


class ReasoningLevel(TypedDict):
    effort: str
    description: str


class TruncationPolicy(TypedDict):
    mode: Literal["bytes", "tokens"]
    limit: int


class CodexModel(TypedDict):
    """An entry of Codex's catalogue: how that client behaves with the model."""

    slug: str
    display_name: str
    description: str
    supported_reasoning_levels: list[ReasoningLevel]
    default_reasoning_level: str | None
    shell_type: Literal["shell_command"]
    visibility: Literal["list"]
    supported_in_api: bool
    priority: int
    """The lowest is the client's default."""
    upgrade: None
    base_instructions: str
    """Becomes the client's whole system prompt."""
    supports_reasoning_summaries: bool
    support_verbosity: bool
    default_verbosity: None
    apply_patch_tool_type: None
    truncation_policy: TruncationPolicy
    supports_parallel_tool_calls: bool
    context_window: int
    auto_compact_token_limit: int
    experimental_supported_tools: list[str]
    input_modalities: list[Literal["text", "image"]]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelOut]
    has_more: bool
    first_id: str | None
    last_id: str | None
    models: list[CodexModel]
