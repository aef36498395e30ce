"""Side effects on frames, in order: figures of the turn, statistics, its log line.

Observers see every frame a client is sent, after repair, and never change one.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.kernel.clock import Clock
from gateway.turn.events import (
    ItemDone,
    TextDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    UsageReported,
    is_content,
)
from gateway.turn.items import Item
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage, merge

log = logging.getLogger(__name__)


class TurnFigures(msgspec.Struct):
    """What is known of a turn when it is over."""

    outcome: str = "cancelled"
    """completed, failed or cancelled; until an end was seen, the client has left."""
    finish: str = ""
    error_kind: str = ""
    usage: Usage | None = None
    attempts: int = 0
    failed_attempts: list[tuple[str, str]] = []
    """Of each that failed: the upstream, and the kind of its error."""
    replayed: list[tuple[str, str]] = []
    """Of each attempt: the upstream, and what became of remembered reasoning."""
    queued_s: float | None = None
    """How long it waited for being admitted; None when it was not."""
    upstream: str = ""
    model: str = ""
    started_at: float = 0.0
    first_content_at: float | None = None
    ended_at: float = 0.0
    exemplar: dict[str, str] | None = None
    """What names its trace, when that is sampled."""
    repairs: int = 0
    losses: Sequence[Loss] = ()

    @property
    def ttft_ms(self) -> int | None:
        if self.first_content_at is None:
            return None
        return round((self.first_content_at - self.started_at) * 1000)

    @property
    def duration_ms(self) -> int:
        return round((self.ended_at - self.started_at) * 1000)


class TurnRecorder(Protocol):
    """Where the statistics go: one call for each turn that was admitted or refused."""

    def record(self, turn: Turn, figures: TurnFigures) -> None: ...


class Observers:
    """The observers of one turn."""

    def __init__(self, turn: Turn, recorder: TurnRecorder, clock: Clock, *, keep_items: bool = False) -> None:
        self._turn = turn
        self._recorder = recorder
        self._clock = clock
        self.figures = TurnFigures(started_at=clock.monotonic())
        self.items: list[Item] = []
        """Of the answer, those that are complete; none unless they are to be kept."""
        self._keep_items = keep_items
        self._closed = False

    def see(self, events: tuple[TurnEvent, ...]) -> None:
        figures = self.figures
        for event in events:
            if type(event) is TextDelta and figures.first_content_at is not None:
                continue
            self._see(event)

    def _see(self, event: TurnEvent) -> None:
        figures = self.figures
        if figures.first_content_at is None and is_content(event):
            figures.first_content_at = self._clock.monotonic()
        match event:
            case ItemDone() if self._keep_items:
                self.items.append(event.item)
            case UsageReported():
                figures.usage = merge(figures.usage, event.usage)
            case TurnCompleted():
                figures.outcome, figures.finish = "completed", event.finish
                figures.usage = merge(figures.usage, event.usage)
            case TurnFailed():
                figures.outcome, figures.error_kind = "failed", event.error.kind
            case TurnCancelled():
                figures.outcome, figures.error_kind = "cancelled", event.reason
            case _:
                pass

    def refused(self, kind: str) -> None:
        """The turn ended before it began."""
        self.figures.outcome, self.figures.error_kind = "failed", kind

    def close(self) -> None:
        """Record the turn, once."""
        if self._closed:
            return
        self._closed = True
        figures = self.figures
        figures.ended_at = self._clock.monotonic()
        self._recorder.record(self._turn, figures)
        log.info(
            "turn.finished",
            extra={
                "turn_id": self._turn.id,
                "key_id": self._turn.key_id,
                "tenant": self._turn.tenant,
                "outcome": figures.outcome,
                "error_kind": figures.error_kind,
                "dialect": self._turn.raw.dialect,
                "upstream": figures.upstream,
                "model": figures.model,
                "attempts": figures.attempts,
                "ttft_ms": figures.ttft_ms,
                "duration_ms": figures.duration_ms,
                "repairs": figures.repairs,
            },
        )
