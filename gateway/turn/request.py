"""The request side of a turn: what a client asks, in no dialect, with its original body kept beside it."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.ids import TurnId
from gateway.kernel.json import JsonObject
from gateway.turn.items import Dialect, Item
from gateway.turn.losses import Loss
from gateway.turn.tools import AUTO, ToolChoice, ToolSpec


class RawRequest(msgspec.Struct, frozen=True):
    dialect: Dialect
    body: JsonObject
    """The client's body as parsed; never changed. A same-dialect upstream edits a copy of it."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class ReasoningRequest(msgspec.Struct, frozen=True, kw_only=True):
    effort: str | None = None
    budget_tokens: int | None = None
    summary: str | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    schema: JsonObject | None = None
    strict: bool | None = None


Operation: TypeAlias = Literal["respond", "compact"]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One model call seen from the client."""

    id: TurnId
    tenant: str
    """12 hex digits or the key file's name for it; part of every session, replay and idempotency key."""
    created_at_ms: int
    model: str
    """The model name as the client wrote it; answers echo it."""
    items: tuple[Item, ...]
    """System and developer messages included, in the client's order."""
    raw: RawRequest
    stream: bool = False
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = AUTO
    tools_mentioned: bool = False
    """The request names tools in any way: a list, a choice, a past call or a past result."""
    parallel_tool_calls: bool | None = None
    sampling: Sampling = Sampling()
    reasoning: ReasoningRequest | None = None
    effort_named: bool = False
    """The model's name says how much to think, which wins over what the body says."""
    output_format: OutputFormat | None = None
    user: str | None = None
    """The client's own id for its end user; an affinity hint, never a credential."""
    affinity: str = ""
    """What the turns of this conversation are known by when the client names no user: a hint too."""
    key_id: str = "-"
    """First 8 hex digits of the key's sha256, `-` when open; safe to log."""
    key_max_in_flight: int = 0
    """The key's own limit on concurrent turns; 0 is none."""
    request_id: str = ""
    client: str = ""
    """The client program as its User-Agent names it, lower case, such as `codex_exec`; empty when unnamed."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Of the client's request, by lower-case name and without credentials; never logged."""
    resumable: bool = False
    operation: Operation = "respond"
    """What is asked for: an answer, or the conversation made shorter."""
    compacts_at: str | None = None
    """Where in the request the last item asks that everything before it be compacted, in an answer."""
    losses: tuple[Loss, ...] = ()
    """What the client protocol's parser could not keep."""
