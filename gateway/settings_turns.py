"""Settings of one turn, and of how the Responses API is served: a part of gateway/settings.py."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from gateway.environ import Section, lower, setting


class TurnSettings(Section):
    """Limits of one turn."""

    timeout_s: float = setting(
        "TURN_TIMEOUT_S", 600.0, "Limit of one turn from its start, waiting included. Seconds.", gt=0
    )
    retention_s: float = setting(
        "TURN_RETENTION_S",
        60.0,
        "How long the frames of an ended turn are kept: its end is read from them. Seconds, at least 1.",
        ge=1,
        allow_inf_nan=False,
    )
    retention_resumable_s: float = setting(
        "TURN_RETENTION_RESUMABLE_S",
        900.0,
        "The same for a turn that asked to be resumable. Seconds.",
        ge=1,
        allow_inf_nan=False,
    )


class ResponsesSettings(Section):
    """What clients of the Responses API are told."""

    on_upstream_eof: Annotated[Literal["failed", "incomplete", "completed"], BeforeValidator(lower)] = (
        setting(
            "RESPONSES_ON_UPSTREAM_EOF",
            "failed",
            "How a stream ends whose upstream ended early. failed: response.failed, which clients repeat; "
            "incomplete: response.incomplete; completed: response.completed with what was said.",
        )
    )
    websocket_enabled: bool = setting(
        "RESPONSES_WEBSOCKET_ENABLED",
        True,
        "Serve responses over WebSockets, too. Boolean; off: 426, and Codex goes on over HTTP.",
    )
    websocket_max_age_s: float = setting(
        "RESPONSES_WEBSOCKET_MAX_AGE_S",
        3300.0,
        "Age at which a WebSocket is closed, once nothing runs on it. Seconds.",
        gt=0,
        allow_inf_nan=False,
    )
    websocket_memory_bytes: int = setting(
        "RESPONSES_WEBSOCKET_MEMORY_BYTES",
        64 * 1024 * 1024,
        "How much a replica remembers of the conversations on its WebSockets, all together. Beyond it those "
        "used longest ago are forgotten, and sent whole by their clients. Bytes of JSON; memory holds one to "
        "four for each.",
        gt=0,
    )
