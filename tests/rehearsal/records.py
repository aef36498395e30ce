"""What clients met: one record a turn, and the figures made of them."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

Outcome = Literal["ok", "refused", "told", "cut", "unreached", "wrong"]
"""ok; an error instead of an answer, or as the end of one; a stream without an end; no answer at all; an
answer that is not the one.
"""


class Record(msgspec.Struct, frozen=True):
    kind: str
    """Upstream, protocol, and `stream` or `whole`."""
    conversation: str
    turn: int
    began: float
    """Monotonic time, which all processes of a machine share; the others count from there."""
    first_s: float
    """Until the first words; 0 without any."""
    whole_s: float
    outcome: Outcome
    retries: int
    detail: str = ""
    reply: bool | None = None
    """Whether Lingma went on in its session, where an answer says so."""

    @property
    def tries_once(self) -> bool:
        """Google's SDK asks nothing again unless it is told to."""
        return " gemini " in self.kind

    @property
    def streamed(self) -> bool:
        return self.kind.endswith("stream")


class Part:
    """One piece of the rehearsal, and the turns that ran while it went on."""

    def __init__(self, name: str, began: float) -> None:
        self.name = name
        self.began = began
        self.ended = began
        self.records: list[Record] = []
        self.missing = 0
        """Reasoning that an upstream did not get back."""

    def has(self, record: Record) -> bool:
        return record.began < self.ended and record.began + record.whole_s > self.began

    def unharmed(self) -> bool:
        """Nobody saw anything, and nothing was forgotten."""
        assert self.bad() == []
        assert self.missing == 0, f"{self.missing} pieces of reasoning were missing"
        return True

    def bad(self, *but: Outcome, once: Sequence[Outcome] = ()) -> list[str]:
        """What clients saw that they should not.

        but: outcomes that are to be expected; once: of clients that try nothing twice.
        """
        return [
            f"{record.outcome}: {record.kind}, turn {record.turn}: {record.detail}"
            for record in self.records
            if record.outcome not in ("ok", *but, *(once if record.tries_once else ()))
        ]


class Figures(NamedTuple):
    turns: int
    outcomes: dict[str, int]
    retries: int
    anew: int
    """Conversations that Lingma was told anew, with all that had been said."""
    first_s: tuple[float, float]
    """Median and 99th percentile, until the first words of a stream."""


def read(text: str) -> list[Record]:
    """A line that is still being written is left for the next time."""
    decode = msgspec.json.Decoder(Record).decode
    return [decode(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values; the nearest one there is."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def figures_of(records: Iterable[Record]) -> Figures:
    records = list(records)
    outcomes: dict[str, int] = {}
    for record in records:
        outcomes[record.outcome] = outcomes.get(record.outcome, 0) + 1
    firsts = sorted(record.first_s for record in records if record.streamed and record.first_s)
    return Figures(
        turns=len(records),
        outcomes=outcomes,
        retries=sum(record.retries for record in records),
        anew=sum(record.reply is False and record.turn > 1 for record in records),
        first_s=(percentile(firsts, 0.5), percentile(firsts, 0.99)),
    )


def table(parts: Sequence[Part]) -> str:
    """A line for each part, as docs/howto has them."""
    names: tuple[Outcome, ...] = ("refused", "told", "cut", "unreached", "wrong")
    heads = [
        "part",
        "s",
        "turns",
        *names,
        "sent again",
        "told anew",
        "reasoning missing",
        "first words p50",
        "p99",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for part in parts:
        found = figures_of(part.records)
        counts = [found.outcomes.get(name, 0) for name in names]
        times = [f"{1000 * value:.0f} ms" for value in found.first_s]
        cells = [part.name, f"{part.ended - part.began:.0f}", found.turns, *counts]
        lines.append(
            "| " + " | ".join(map(str, [*cells, found.retries, found.anew, part.missing, *times])) + " |"
        )
    return "\n".join(lines)
