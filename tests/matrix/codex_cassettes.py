"""The recorded streams of a Responses upstream, read back and decoded as the gateway does it.

scripts/record_codex_cassettes.py writes them; its docstring says how they are laid out. Rows of the matrix
are what they mean: for clients of the same dialect, who get their bytes, see test_codex_lane.py.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.kernel.json import JsonObject, loads
from gateway.turn.estimate import input_tokens
from gateway.turn.frame import Frame
from gateway.turn.grammar import Repair
from gateway.turn.request import Turn
from gateway.upstreams.codex.decode import CodexDecoder
from gateway.wire.sse import SseSplitter
from tests.matrix.gallery import Offer, Scenario, started

CODEX = Path(__file__).resolve().parents[1] / "cassettes" / "codex"
MODEL = "gpt-5.2-2026-01-01"
"""What the upstream calls its model."""

_OFFERS = {
    "find": Offer("find"),
    "now": Offer("now"),
    "exec": Offer("exec", kind="custom"),
}


class CodexCassette(NamedTuple):
    name: str
    header: JsonObject
    stream: bytes


@cache
def read_codex(name: str) -> CodexCassette:
    head, _, stream = (CODEX / f"{name}.sse").read_bytes().partition(b"\n\n")
    header = loads(head.removeprefix(b": "))
    assert isinstance(header, dict)
    return CodexCassette(name, header, stream)


def codex_index() -> dict[str, str]:
    """Every cassette and what it is about."""
    value = loads((CODEX / "index.json").read_bytes())
    assert isinstance(value, dict)
    return {name: str(about) for name, about in value.items()}


def decoded_codex(
    cassette: CodexCassette, turn: Turn, *, together: int = 0
) -> tuple[list[Frame], CodexDecoder]:
    """All frames of the stream, and the decoder at its end. together: so many events come at once."""
    decoder = CodexDecoder(
        model=turn.model,
        created_at=turn.created_at_ms // 1000,
        executor="codex",
        input_tokens_estimate=input_tokens(turn),
    )
    splitter = SseSplitter()
    events = splitter.feed(cassette.stream)
    frames: list[Frame] = []
    if together:
        for start in range(0, len(events), together):
            decoder.feed_all(events[start : start + together], start + 1, frames)
    else:
        frames = [decoder.feed_data(event.raw, event.data, seq) for seq, event in enumerate(events, 1)]
    if (last := decoder.eof()) is not None:
        frames.append(last)
    return frames, decoder


def _scenario(name: str, about: str) -> Scenario:
    cassette = read_codex(name)
    request = cassette.header["request"]
    assert isinstance(request, dict)
    tools = request.get("tools")
    offered = (
        [_OFFERS[str(tool["name"])] for tool in tools if isinstance(tool, dict)]
        if isinstance(tools, list)
        else []
    )

    def frames(turn: Turn) -> list[Frame]:
        repair = Repair(started(turn))
        out: list[Frame] = []
        for frame in decoded_codex(cassette, turn)[0]:
            if frame.events:
                assert repair.feed(frame.events) is frame.events, "the decoder keeps the grammar by itself"
                out.append(msgspec.structs.replace(frame, raw=None, dialect=None))
        assert repair.ended
        return out

    return Scenario(name=f"codex_{name}", about=about, frames=frames, offers=tuple(offered))


CODEX_CASSETTES: dict[str, Scenario] = {
    made.name: made for name, about in codex_index().items() for made in [_scenario(name, about)]
}
