"""How long an answer may take, when it has taken too long, and how a run ends. Pure; called by runner.py."""

from dataclasses import dataclass
from typing import Literal

from gateway.jobs.messages import Outcome
from gateway.kernel.errors import ErrorKind


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an answer may take, in seconds."""

    first_event_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a run ends, and what is left to do."""

    outcome: Outcome | Literal["refused"]
    """`refused`: somebody else has ended the turn, and nothing can be said any more."""
    kind: ErrorKind | None = None
    message: str = ""
    reason: str = ""
    retryable: bool = False
    stop: bool = False
    """The upstream may still be talking."""


class Watch:
    """When an answer began, first said something and last did."""

    def __init__(self, request_id: str, began: float, limits: Limits) -> None:
        self._request_id = request_id
        self._began = began
        self._limits = limits
        self._first: float | None = None
        self._last: float | None = None

    def seen(self, now: float) -> None:
        if self._first is None:
            self._first = now
        self._last = now

    @property
    def silence_limit_s(self) -> float:
        return self._limits.first_event_s if self._last is None else self._limits.idle_s

    def left_s(self, now: float) -> float:
        """Until the silence is too long."""
        return (self._began if self._last is None else self._last) + self.silence_limit_s - now

    def timeout(self, limit_s: float) -> Ending:
        message = (
            f"chat stream timeout request_id={self._request_id} timeout={round(limit_s, 3):g}s "
            f"first_chunk_at={self._offset(self._first)}s last_chunk_at={self._offset(self._last)}s"
        )
        return Ending("failed", ErrorKind.UPSTREAM_TIMEOUT, message, stop=True)

    def _offset(self, when: float | None) -> str:
        return "-" if when is None else f"{when - self._began:.3f}"
