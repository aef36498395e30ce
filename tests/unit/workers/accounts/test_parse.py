import logging

import pytest

from workers.accounts.parse import (
    Account,
    assign_accounts,
    parse_accounts,
    resolve_accounts,
    resolve_instance_count,
)


def test_lv_49_lists_json_and_text_without_a_colon(caplog: pytest.LogCaptureFixture) -> None:
    """LV-49: given `ann:p:q,bob:r\\ncy:s`, `[{"session_bundle_file":"b.b64"}]` and `nocolon`,
    expect (ann,"p:q"),(bob,r),(cy,s); one account with an empty user; no account and a warning.
    """
    assert [(a.username, a.password) for a in parse_accounts("ann:p:q,bob:r\ncy:s")] == [
        ("ann", "p:q"),
        ("bob", "r"),
        ("cy", "s"),
    ]
    assert parse_accounts('[{"session_bundle_file":"b.b64"}]') == [Account("", "", "", "b.b64")]
    assert caplog.records == []
    assert parse_accounts("nocolon") == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_lv_50_instance_count(caplog: pytest.LogCaptureFixture) -> None:
    """LV-50: given 2 accounts and LINGMA_INSTANCE_COUNT=5, expect users 1,2,1,2,1 and a warning; "x" is 2."""
    accounts = [Account("1"), Account("2")]
    assert resolve_instance_count("5", 2) == 5
    assert caplog.records == []
    assert [a.username for a in assign_accounts(accounts, 5)] == ["1", "2", "1", "2", "1"]
    assert [record.message for record in caplog.records] == ["accounts.reused"]
    assert resolve_instance_count("x", 2) == 2


@pytest.mark.parametrize(
    ("wanted", "accounts", "count"),
    [(None, 0, 1), (None, 3, 3), ("0", 2, 2), (-1, 0, 1), (" 4 ", 1, 4), ("", 2, 2)],
)
def test_instance_count_defaults(wanted: str | int | None, accounts: int, count: int) -> None:
    assert resolve_instance_count(wanted, accounts) == count


def test_fewer_instances_than_accounts() -> None:
    assert [a.username for a in assign_accounts([Account("1"), Account("2")], 1)] == ["1"]
    assert assign_accounts([], 2) == [Account(), Account()]


def test_lv_93_only_a_bundle_is_one_account_without_credentials() -> None:
    """LV-93: given only LINGMA_SESSION_BUNDLE, expect one account with empty credentials."""
    assert resolve_accounts(session_bundle="b64") == [Account("", "", "b64", "")]
    assert resolve_accounts(session_bundle_file="/f") == [Account("", "", "", "/f")]


def test_single_user_counts_only_without_a_list() -> None:
    assert resolve_accounts("", username="ann", password="p") == [Account("ann", "p")]
    assert resolve_accounts("bob:r", username="ann", password="p") == [Account("bob", "r")]
    assert resolve_accounts("", password="p") == []
    assert resolve_accounts("") == []


def test_bundle_of_an_account_wins_over_the_global_one() -> None:
    text = (
        '[{"username":"a","session_bundle":"own"},{"username":"b","session_bundle_file":"/own"},'
        '{"username":"c"}]'
    )
    accounts = resolve_accounts(text, session_bundle="global", session_bundle_file="/global")
    assert [(a.session_bundle, a.session_bundle_file) for a in accounts] == [
        ("own", ""),
        ("", "/own"),
        ("global", "/global"),
    ]


@pytest.mark.parametrize(
    "text", ["", " ", ",,\n,", "[]", "[1]", '[{"password":"p"}]', "[{", '[{"username":3}]', ":p"]
)
def test_text_that_names_nobody(text: str) -> None:
    assert parse_accounts(text) == []


def test_json_may_be_spread_over_lines() -> None:
    text = '\n [\n {"username": "a", "password": "x,y:z"},\n {"username": "b", "password": "1"}\n]'
    assert [(a.username, a.password) for a in parse_accounts(text)] == [("a", "x,y:z"), ("b", "1")]


def test_windows_line_ends() -> None:
    assert [a.password for a in parse_accounts("a:1\r\nb:2\r\n")] == ["1", "2"]


def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    parse_accounts("hunter2,ann:hunter2")
    parse_accounts('[{"username": "hunter2"')
    assert "hunter2" not in "".join(str(vars(record)) for record in caplog.records)
    shown = repr(Account("ann", "hunter2", "hunter2"))
    assert "hunter2" not in shown
    assert "ann" not in shown
