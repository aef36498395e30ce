"""Knobs: where they come from, what they accept, and that the table of them is complete."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.unit.workers.simulator.harness import ROOT
from workers.simulator.options import KnobReader, Knobs, read_knobs


def reader(path: Path, complaints: list[str] | None = None, **environ: str) -> KnobReader:
    said = [] if complaints is None else complaints
    return KnobReader(path / "sim.json", environ, said.append)


def read(**values: object) -> Knobs:
    complaints: list[str] = []
    knobs = read_knobs(values, Knobs(), complaints.append)
    assert complaints == []
    return knobs


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    knobs = reader(tmp_path).read()
    assert (knobs.ttft_ms, knobs.delta_gap_ms, knobs.ack_timeout_ms) == (30, 5, 2000)
    assert (knobs.ids, knobs.ask_reply, knobs.unknown_session, knobs.fail) == ("on", "yes", "new", "never")


def test_the_file_wins_over_the_environment(tmp_path: Path) -> None:
    knobs = reader(tmp_path, LINGMA_SIM_TTFT_MS="70", LINGMA_SIM_BURST="3", UNRELATED="x")
    assert (knobs.read().ttft_ms, knobs.read().burst) == (70, 3)
    (tmp_path / "sim.json").write_text('{"ttft_ms": 1}')
    assert (knobs.read().ttft_ms, knobs.read().burst) == (1, 3)


def test_the_file_is_looked_at_again_even_when_its_size_stays(tmp_path: Path) -> None:
    knobs = reader(tmp_path)
    for burst in (2, 3):
        (tmp_path / "sim.json").write_text(json.dumps({"burst": burst}))
        assert knobs.read().burst == burst


def test_a_file_that_vanishes_leaves_the_environment(tmp_path: Path) -> None:
    knobs = reader(tmp_path, LINGMA_SIM_TOKENS="5")
    (tmp_path / "sim.json").write_text('{"tokens": 9}')
    assert knobs.read().tokens == 9
    (tmp_path / "sim.json").unlink()
    assert knobs.read().tokens == 5


def test_a_half_written_file_keeps_the_knobs_until_it_is_whole(tmp_path: Path) -> None:
    complaints: list[str] = []
    knobs = reader(tmp_path, complaints)
    (tmp_path / "sim.json").write_text('{"tokens": 9}')
    assert knobs.read().tokens == 9
    (tmp_path / "sim.json").write_text('{"tokens": 1')
    assert knobs.read().tokens == 9
    assert len(complaints) == 1
    (tmp_path / "sim.json").write_text('{"tokens": 1}')
    assert knobs.read().tokens == 1


def test_a_file_that_is_no_object_is_named_and_ignored(tmp_path: Path) -> None:
    complaints: list[str] = []
    (tmp_path / "sim.json").write_text("[1]")
    assert reader(tmp_path, complaints).read() == Knobs()
    assert "not an object" in complaints[0]


def test_times_may_be_named_without_their_unit() -> None:
    knobs = read(ttft=7, delta_gap="0", start_delay="1.5")
    assert (knobs.ttft_ms, knobs.delta_gap_ms, knobs.start_delay_ms) == (7, 0, 1.5)


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), (True, True), ("No", False), (0, False), ("", False)]
)
def test_yes_and_no_come_in_many_words(value: object, expected: bool) -> None:
    assert read(persist=value).persist is expected


def test_crash_after_2_is_short_for_two_knobs() -> None:
    assert (read(fail="crash_after_7").fail, read(fail="crash_after_7").fail_after) == ("crash_after_n", 7)
    assert (read(fail="hang_after_0").fail, read(fail="hang_after_0").fail_after) == ("hang_after_n", 0)
    assert (read(fail="close_ws_after_4").fail, read(fail="close_ws_after_4").fail_after) == ("close_ws", 4)


def test_one_byte_is_spelled_in_more_than_one_way() -> None:
    assert {read(fragment=word).fragment for word in ("byte", "1 byte", "1", 1)} == {"byte"}


def test_json_booleans_stand_for_on_and_off() -> None:
    assert read(ids=False).ids == "off"
    assert read(ids=True).ids == "on"


def test_lists_and_objects_are_json_text_in_the_environment() -> None:
    assert read(tools='[{"name": "find"}]').tools == [{"name": "find"}]
    assert read(models={"chat": []}).models == {"chat": []}
    assert read(tools="off").tools is None
    assert read(script=None).script is None


@pytest.mark.parametrize(
    "values",
    [
        {"fail": "sometimes"},
        {"ttft_ms": -1},
        {"ttft_ms": "soon"},
        {"burst": -2},
        {"persist": "perhaps"},
        {"script": {"method": "x"}},
        {"tools": "[1"},
        {"tokens": []},
    ],
)
def test_what_cannot_be_used_is_named_and_left_out(values: dict[str, object]) -> None:
    complaints: list[str] = []
    assert read_knobs(values, Knobs(), complaints.append) == Knobs()
    assert next(iter(values)) in complaints[0]


def test_an_unknown_knob_is_named() -> None:
    complaints: list[str] = []
    read_knobs({"tftt": 3}, Knobs(), complaints.append)
    assert complaints == ["unknown knob: tftt"]


def test_the_table_in_the_readme_has_every_knob_and_its_choices() -> None:
    text = (ROOT / "workers" / "simulator" / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = {word.strip("` ") for row in rows for word in row.split("|")[1].split(",")}
    assert {field.name for field in dataclasses.fields(Knobs)} - named == set()
