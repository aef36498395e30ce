"""The log and the evidence."""

import json
from pathlib import Path

from workers.simulator.journal import Journal


def test_lines_go_to_the_log_with_time_and_level(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.line("one")
        journal.line("zwei \ud800 drei", level="WARN")
    lines = (tmp_path / "logs" / "lingma.log").read_text().splitlines()
    assert [line.split("\t")[1:] for line in lines] == [["INFO", "one"], ["WARN", "zwei ? drei"]]


def test_a_second_journal_appends(tmp_path: Path) -> None:
    for number in (1, 2):
        with Journal(tmp_path) as journal:
            journal.record("chat/ask", number, None, {"text": "é"})
    entries = [json.loads(line) for line in (tmp_path / "sim-asks.jsonl").read_text().splitlines()]
    assert [(entry["connection"], entry["params"]["text"]) for entry in entries] == [(1, "é"), (2, "é")]
    assert (tmp_path / "sim-asks.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_silent_journal_leaves_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, silent=True) as journal:
        journal.line("one")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_after_closing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal.line("late")
    assert (tmp_path / "logs" / "lingma.log").read_text() == ""
