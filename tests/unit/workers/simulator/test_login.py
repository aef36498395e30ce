"""Login state and its files."""

import json
import time
from pathlib import Path

import pytest

from workers.simulator.journal import Journal
from workers.simulator.login import Account, machine_id
from workers.simulator.options import Knobs


def account(work_dir: Path, **knobs: object) -> Account:
    (work_dir / "cache").mkdir(parents=True, exist_ok=True)
    return Account(work_dir, lambda: Knobs(**knobs), Journal(work_dir, silent=True))  # type: ignore[arg-type]


def test_a_user_file_put_there_by_others_is_a_login(work_dir: Path) -> None:
    someone = account(work_dir)
    assert not someone.logged_in()
    (work_dir / "cache" / "user").write_bytes(b"")
    assert not someone.logged_in()
    (work_dir / "cache" / "user").write_bytes(b"\xff\x00 sealed")
    assert someone.logged_in()
    assert someone.status()["name"] == "dev-17"


@pytest.mark.parametrize(
    ("knobs", "file", "expected"),
    [
        ({"login": "in"}, False, True),
        ({"login": "out"}, True, False),
        ({"logged_in": True}, False, True),
        ({"login": "out", "logged_in": True}, False, False),
        ({}, False, False),
    ],
)
def test_knobs_decide_before_files(
    work_dir: Path, knobs: dict[str, object], file: bool, expected: bool
) -> None:
    someone = account(work_dir, **knobs)
    if file:
        someone.log_in({"token": "t"})
    assert someone.logged_in() is expected


def test_a_logout_counts_although_no_file_was_needed(work_dir: Path) -> None:
    someone = account(work_dir, logged_in=True)
    someone.log_out()
    assert not someone.logged_in()
    someone.log_in({"token": "t"})
    assert someone.logged_in()


def test_an_expired_login_is_none(work_dir: Path) -> None:
    someone = account(work_dir)
    now_ms = int(time.time() * 1000)
    someone.log_in({"token": "t", "expireTime": now_ms + 60_000})
    assert someone.status()["expireTime"] == now_ms + 60_000
    someone.log_in({"token": "t", "expireTime": now_ms - 1})
    assert not someone.logged_in()


def test_a_login_link_is_good_once(work_dir: Path) -> None:
    someone = account(work_dir, login_url="http://127.0.0.1:9/login")
    link = someone.start_login(37510)
    assert link["loginUrl"].startswith(f"http://127.0.0.1:9/login?state=2-{link['nonce']}&")
    assert link["loginUrl"].endswith("&port=37510")
    state = f"2-{link['nonce']}"
    assert [someone.finish_login("made-up"), someone.finish_login(state), someone.finish_login(state)] == [
        False,
        True,
        False,
    ]
    assert someone.logged_in()


def test_the_user_file_holds_what_was_given(work_dir: Path) -> None:
    account(work_dir).log_in({"token": "t", "username": "ann", "other": 1, "userId": ""})
    assert json.loads((work_dir / "cache" / "user").read_text()) == {"token": "t", "username": "ann"}


def test_the_machine_id_stays(work_dir: Path) -> None:
    first = machine_id(work_dir)
    assert machine_id(work_dir) == first
    assert (work_dir / "cache" / "id").read_text() == first
