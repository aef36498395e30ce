"""The rows and the columns, and what one cell says."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from gateway.protocols.answers import failure_of
from gateway.turn.events import TurnEvent
from gateway.turn.fold import fold
from gateway.turn.frame import Frame
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from tests.matrix.cassettes import CASSETTES
from tests.matrix.chat import ChatColumn
from tests.matrix.codex_cassettes import CODEX_CASSETTES
from tests.matrix.column import Column, Folded
from tests.matrix.gallery import GALLERY, Offer, Scenario
from tests.matrix.gemini import GeminiArrayColumn, GeminiEventsColumn, GeminiSdkColumn
from tests.matrix.messages import MessagesColumn
from tests.matrix.responses import ResponsesColumn

SCENARIOS: dict[str, Scenario] = {**CASSETTES, **CODEX_CASSETTES, **GALLERY}
COLUMNS: tuple[Column, ...] = (
    ChatColumn(),
    MessagesColumn(),
    ResponsesColumn(),
    GeminiEventsColumn(),
    GeminiSdkColumn(),
    GeminiArrayColumn(),
)


CELLS = [
    (column, scenario)
    for column in COLUMNS
    for scenario in SCENARIOS.values()
    if column.custom_tools or not scenario.custom
]


def events_of(frames: Iterable[Frame]) -> list[TurnEvent]:
    return [event for frame in frames for event in frame.events]


def encoded(column: Column, turn: Turn, frames: Sequence[Frame]) -> tuple[bytes, list[Loss]]:
    """The whole stream as the client gets it, and what the encoder had to leave out."""
    return in_bursts(column, turn, frames, ())


def in_bursts(
    column: Column, turn: Turn, frames: Sequence[Frame], cuts: Iterable[int]
) -> tuple[bytes, list[Loss]]:
    """The same, in several bursts; each cut is the number of frames before it."""
    losses: list[Loss] = []
    encoder = column.protocol.encoder(turn, losses)
    borders = [0, *cuts, len(frames)]
    data = b"".join(encoder.encode(frames[start:end]) for start, end in pairwise(borders))
    return data, losses


def with_keepalives(column: Column, turn: Turn, frames: Sequence[Frame]) -> bytes:
    """A keep-alive before every frame."""
    encoder = column.protocol.encoder(turn, [])
    return b"".join(piece for frame in frames for piece in (encoder.keepalive(), encoder.encode([frame])))


def not_streamed(
    column: Column, frames: Sequence[Frame], offers: Sequence[Offer] = ()
) -> tuple[bytes, Folded]:
    """The answer to the same turn without a stream: its bytes, and how they read."""
    turn = column.turn(offers, stream=False)
    result = fold(frames)
    if (failure := failure_of(result)) is not None:
        body = column.protocol.error(failure).body
        return body, Folded(error=column.read_error(body))
    body = column.protocol.result(turn, result)
    return body, Folded(answer=column.read_whole(turn, body))
