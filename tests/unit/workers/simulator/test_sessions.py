"""What the process remembers of conversations."""

from pathlib import Path

import pytest

from workers.simulator.sessions import Session, Sessions, UnknownSession, describe


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "db" / "sim.json", load=False)


def begin(
    sessions: Sessions, session_id: str, *users: str, reply: bool = False, unknown: str = "new"
) -> Session:
    return sessions.begin(session_id, is_reply=reply, users=users, request_id="r-1", unknown=unknown)


def test_a_follow_up_adds_its_message(sessions: Sessions) -> None:
    begin(sessions, "s", "one")
    assert begin(sessions, "s", "two", reply=True).users == ["one", "two"]


def test_a_follow_up_with_a_transcript_adds_only_the_last_message(sessions: Sessions) -> None:
    begin(sessions, "s", "one")
    assert begin(sessions, "s", "one", "two", reply=True).users == ["one", "two"]


def test_without_the_reply_flag_a_known_session_begins_anew(sessions: Sessions) -> None:
    begin(sessions, "s", "one")
    session = begin(sessions, "s", "x", "y")
    assert (session.id, session.users) == ("s", ["x", "y"])
    assert len(sessions.all()) == 1


def test_no_id_gets_a_fresh_one(sessions: Sessions) -> None:
    first, second = begin(sessions, "", "a"), begin(sessions, "", "a", reply=True, unknown="error")
    assert len({first.id, second.id, ""}) == 3


@pytest.mark.parametrize(("unknown", "kept"), [("new", False), ("silent", True)])
def test_a_follow_up_to_an_unknown_session_has_no_history(
    sessions: Sessions, unknown: str, kept: bool
) -> None:
    session = begin(sessions, "gone", "b", reply=True, unknown=unknown)
    assert (session.id == "gone", session.users) == (kept, ["b"])


def test_a_follow_up_to_an_unknown_session_may_be_an_error(sessions: Sessions) -> None:
    with pytest.raises(UnknownSession):
        begin(sessions, "gone", "b", reply=True, unknown="error")
    assert sessions.all() == []


def test_an_alias_is_the_same_session(sessions: Sessions) -> None:
    session = begin(sessions, "s-1", "a")
    sessions.alias(session, "s-9")
    sessions.alias(session, "")
    assert begin(sessions, "s-9", "b", reply=True) is session
    assert sessions.all() == [session]
    assert sessions.delete("s-9")
    assert sessions.get("s-1") is None


def test_the_least_recently_used_is_forgotten(sessions: Sessions) -> None:
    begin(sessions, "keep", "a")
    sessions.alias(begin(sessions, "drop", "a"), "drop-too")
    begin(sessions, "keep", "b", reply=True)
    for number in range(4094):
        begin(sessions, f"s-{number}", "x")
    assert sessions.get("keep") is not None
    assert (sessions.get("drop"), sessions.get("drop-too")) == (None, None)


def test_saved_sessions_come_back_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "db" / "sim.json"
    sessions = Sessions(path, load=True)
    session = begin(sessions, "s-1", "one")
    session.records[0].answer = "two"
    sessions.alias(session, "s-9")
    sessions.save()
    again = Sessions(path, load=True)
    assert again.get("s-9") == session
    assert again.get("s-9") is again.get("s-1")
    assert Sessions(path, load=False).all() == []


def test_a_broken_file_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "sim.json").write_text('[{"id"')
    assert Sessions(tmp_path / "sim.json", load=True).all() == []


def test_the_current_session_is_that_of_the_latest_turn(sessions: Sessions) -> None:
    assert sessions.current is None
    begin(sessions, "a", "x")
    begin(sessions, "b", "x")
    latest = begin(sessions, "a", "y", reply=True)
    assert sessions.current is latest
    sessions.clear()
    assert sessions.current is None


def test_a_session_is_described_with_its_records(sessions: Sessions) -> None:
    session = begin(sessions, "s", "q")
    session.title, session.records[0].answer = "T", "a"
    shown = describe(session)
    assert (shown["sessionId"], shown["sessionTitle"]) == ("s", "T")
    assert shown["chatRecords"] == [{"requestId": "r-1", "question": "q", "answer": "a"}]


def test_deleting_and_clearing(sessions: Sessions) -> None:
    begin(sessions, "a", "x")
    begin(sessions, "b", "x")
    assert [sessions.delete("a"), sessions.delete("a")] == [True, False]
    sessions.clear()
    assert sessions.all() == []
