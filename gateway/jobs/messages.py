"""What gateways and workers say to each other. Data only; jobs/codec.py puts it on the wire.

Commands go gateway -> worker on the worker's own command stream. Replies go worker -> gateways as entries of
the turn's frames stream, so that any replica can read a turn from its beginning. An unknown field is ignored,
an unknown message or version is set aside as a dead letter.
"""

from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.json import JsonObject

PROTOCOL_VERSION = 1

LOGIN_REMEDY = (
    "log in: give the worker LINGMA_SESSION_BUNDLE or LINGMA_SESSION_BUNDLE_FILE, exported from an instance "
    "that is logged in"
)
"""What an operator can do about an instance whose login is `login_required`."""

BLOB_THRESHOLD_BYTES = 64 * 1024
"""Request bodies above this travel beside the command, in the turn's blob key."""

COMMANDS_MAX = 10_000
"""Bound of a worker's command stream; a worker that reads nothing is dead long before."""


class Envelope(msgspec.Struct, kw_only=True):
    """Around every message."""

    v: int = PROTOCOL_VERSION
    turn_id: str
    attempt: int
    epoch: int
    """The worker's incarnation that the sender means (commands) or is (replies)."""
    tenant: str = "-"
    traceparent: str = ""
    tracestate: str = ""
    sent_at_ms: int = 0
    request_id: str = ""


# -- commands ---------------------------------------------------------------------------------------------


class Submit(msgspec.Struct, tag="submit", kw_only=True):
    """Run one attempt on one instance."""

    instance: str
    """Name of the instance inside the worker, such as `inst-0`."""
    params: bytes = b""
    """JSON object: the upstream's request parameters; empty when they travel in the blob."""
    in_blob: bool = False
    upstream_request_id: str
    session_id: str = ""
    traceparent: str = ""
    """Of the span that submits; the envelope's is that of the attempt."""
    deadline_ms: int
    """Unix milliseconds at which the worker must have ended the attempt."""
    tool_roundtrip: Literal["stop", "approve", "reject"] = "approve"
    lease_grace_s: float = 5.0
    """How long the turn may go without a gateway that reads it."""


class Cancel(msgspec.Struct, tag="cancel", kw_only=True):
    reason: str


class ToolReply(msgspec.Struct, tag="tool_reply", kw_only=True):
    """The answer to a native tool call that a client ran."""

    tool_call_id: str
    name: str
    approve: bool
    result: JsonObject | None = None


class Admin(msgspec.Struct, tag="admin", kw_only=True):
    """A question to the worker itself; the reply is written to reply_key and lives 60 s."""

    action: str
    instance: str = ""
    args: JsonObject = msgspec.field(default_factory=dict)
    reply_key: bytes = b""


class Drain(msgspec.Struct, tag="drain", kw_only=True):
    """Accept nothing new, end what runs."""


Command: TypeAlias = Submit | Cancel | ToolReply | Admin | Drain


# -- replies ----------------------------------------------------------------------------------------------


class Accepted(msgspec.Struct, tag="accepted", kw_only=True):
    """The attempt is about to be sent upstream; from here on it must not run anywhere else."""

    worker: str
    instance: str


class Declined(msgspec.Struct, tag="declined", kw_only=True):
    """The worker did not take the attempt; nothing was sent upstream."""

    reason: str


class FrameBatch(msgspec.Struct, tag="frames", kw_only=True):
    seq_first: int
    """Number of the first frame within the attempt, from 1; the others follow without a gap."""
    frames: list[bytes]
    """Upstream messages exactly as they came."""


class Heartbeat(msgspec.Struct, tag="heartbeat", kw_only=True):
    """The upstream is silent; the worker is not gone."""


Outcome: TypeAlias = Literal["completed", "failed", "cancelled", "lost"]


class Finished(msgspec.Struct, tag="finished", kw_only=True):
    """Last entry of an attempt."""

    outcome: Outcome
    last_seq: int = 0
    session_id: str = ""
    error_kind: str = ""
    """An ErrorKind when the outcome is failed."""
    error: str = ""
    retryable: bool = False
    """True when the upstream is known not to have begun the work, so that another attempt is legal."""
    reason: str = ""
    """Why it was cancelled."""


Reply: TypeAlias = Accepted | Declined | FrameBatch | Heartbeat | Finished


# -- the worker's record ----------------------------------------------------------------------------------


class ModelInfo(msgspec.Struct, kw_only=True):
    key: str
    display_name: str = ""
    vision: bool = False
    reasoning: bool = False
    default: bool = False
    max_input_tokens: int = 0
    """What fits into its context; 0 when Lingma does not say."""
    scenes: list[str] = msgspec.field(default_factory=list)


class InstanceRecord(msgspec.Struct, kw_only=True):
    name: str
    index: int
    ready: bool
    """Connected and logged in: may be given work."""
    state: str
    """waiting: another worker has its account; such an instance is only in a worker's own view."""
    login: str = "unknown"
    """logged_in, login_required, elsewhere or unknown."""
    capacity: int
    in_flight: int = 0
    models: list[ModelInfo] = msgspec.field(default_factory=list)
    account: str = ""
    """Hash of the account it is logged in with, never its name."""
    pid: int = 0
    restarts: int = 0
    held_by: str = ""
    """The worker that has its account, while it waits for that."""


class WorkerRecord(msgspec.Struct, kw_only=True):
    """Written by every heartbeat; gone ten seconds after the last."""

    v: int = PROTOCOL_VERSION
    worker: str
    epoch: int
    software: str
    draining: bool = False
    beat_at_ms: int
    instances: list[InstanceRecord]


def slot_holder(turn_id: str, attempt: int) -> str:
    """Who holds a slot of an instance: reserved by the gateway, renewed and released by the worker."""
    return f"{turn_id}.{attempt}"
