"""The cassettes themselves: whole, listed, told where they come from, and what the simulator says today."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.kernel.json import loads
from tests.matrix.cassettes import CASSETTES, LINGMA, decoded, index, read
from tests.matrix.chat import ChatColumn

ROOT = Path(__file__).resolve().parents[2]
each_cassette = pytest.mark.parametrize("name", sorted(index()))


@cache
def recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_cassettes", ROOT / "scripts/record_cassettes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_index_lists_every_cassette_and_no_other() -> None:
    assert set(index()) == {path.stem for path in LINGMA.glob("*.jsonl")}
    assert set(index()) == set(recorder().SCENARIOS)


@each_cassette
def test_a_cassette_says_where_it_comes_from(name: str) -> None:
    header = read(name).header
    assert header["cassette"] == name
    assert header["about"] == index()[name]
    assert header["upstream"] == "lingma"
    assert re.fullmatch(r"simulator \d+\.\d+\.\d+", str(header["source"]))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(header["date"]))
    assert {"prompt", "knobs"} <= header.keys()


@each_cassette
def test_a_cassette_names_no_machine_and_no_moment(name: str) -> None:
    text = (LINGMA / f"{name}.jsonl").read_text(encoding="utf-8")
    assert not re.search(r"/(?:tmp|home|root|Users)/|127\.0\.0\.1|localhost", text)
    stamps = re.findall(rb'"timestamp":(\d+)', b"".join(read(name).frames))
    assert all(1_790_000_000_000 <= int(stamp) < 1_790_000_001_000 for stamp in stamps)


@each_cassette
def test_every_frame_is_one_push(name: str) -> None:
    cassette = read(name)
    for raw in cassette.frames:
        value: Any = loads(raw)
        assert value["jsonrpc"] == "2.0"
        assert isinstance(value["method"], str)
    ended = [loads(raw)["method"] for raw in cassette.frames][-1:]  # type: ignore[index,call-overload]
    assert (cassette.end is None) == (ended in (["chat/finish"], ["error/notificationError"]))


@each_cassette
def test_what_the_upstream_ended_is_ended_by_the_decoder(name: str) -> None:
    cassette = read(name)
    frames = decoded(cassette, ChatColumn().turn())
    assert any(frame.is_terminal for frame in frames) == (cassette.end is None)


def test_scenarios_of_cassettes_are_named_after_their_upstream() -> None:
    assert set(CASSETTES) == {f"lingma_{name}" for name in index()}


@pytest.mark.parametrize("name", ["plain_text", "thinking", "native_tool", "unicode", "refused", "died"])
async def test_the_simulator_says_today_what_it_said_then(name: str) -> None:
    lines = await recorder().record(name)
    assert lines == (LINGMA / f"{name}.jsonl").read_bytes().splitlines()
