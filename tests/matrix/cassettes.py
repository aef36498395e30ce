"""The recorded answers of Lingma, read back and decoded as the gateway does it.

scripts/record_cassettes.py writes them; its docstring says how they are laid out.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from gateway.jobs.messages import Finished
from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonObject, loads
from gateway.turn.estimate import input_tokens
from gateway.turn.events import TurnFailed, error_info
from gateway.turn.frame import Frame
from gateway.turn.grammar import Repair
from gateway.turn.request import Turn
from gateway.upstreams.lingma.decode import LingmaDecoder
from gateway.upstreams.lingma.errors import error_of
from tests.matrix.gallery import Scenario, started

LINGMA = Path(__file__).resolve().parents[1] / "cassettes" / "lingma"


class Cassette(NamedTuple):
    name: str
    header: JsonObject
    frames: list[bytes]
    end: JsonObject | None
    """What ended the answer, when no frame did."""


@cache
def read(name: str) -> Cassette:
    head, *lines = (LINGMA / f"{name}.jsonl").read_bytes().splitlines()
    header = loads(head)
    assert isinstance(header, dict)
    end: JsonObject | None = None
    if lines:
        last = loads(lines[-1])
        assert isinstance(last, dict)
        if isinstance(told := last.get("end"), dict):
            end = told
            lines.pop()
    return Cassette(name, header, lines, end)


def index() -> dict[str, str]:
    """Every cassette and what it is about."""
    value = loads((LINGMA / "index.json").read_bytes())
    assert isinstance(value, dict)
    return {name: str(about) for name, about in value.items()}


def decoded(cassette: Cassette, turn: Turn) -> list[Frame]:
    """What the executor hands to the engine, eventless frames left out. Not repaired: it must be legal."""
    decoder = LingmaDecoder(turn.id, turn.model, turn.created_at_ms // 1000, prompt_tokens=input_tokens(turn))
    frames = [decoder.feed(raw, seq) for seq, raw in enumerate(cassette.frames, 1)]
    return [frame for frame in frames if frame.events]


def ending(cassette: Cassette, turn: Turn) -> TurnFailed | None:
    """The failure that the executor adds when the answer broke off."""
    if cassette.end is None:
        return None
    finished = Finished(
        outcome="failed", error_kind=str(cassette.end["kind"]), error=str(cassette.end["message"])
    )
    assert finished.error_kind in list(ErrorKind)
    return TurnFailed(error_info(error_of(finished)))


def scenario(name: str, about: str) -> Scenario:
    def frames(turn: Turn) -> list[Frame]:
        cassette = read(name)
        repair = Repair(started(turn))
        out = decoded(cassette, turn)
        for frame in out:
            assert repair.feed(frame.events) is frame.events, "the decoder keeps the grammar by itself"
        if events := repair.eof(ending(cassette, turn)):
            out.append(Frame(events))
        assert repair.repairs == 0
        return out

    return Scenario(
        name=f"lingma_{name}",
        about=about,
        frames=frames,
        rewritten=name == "overwrite_that_replaces",
    )


CASSETTES: dict[str, Scenario] = {
    made.name: made for name, about in index().items() for made in [scenario(name, about)]
}
