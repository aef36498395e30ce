import re

import pytest

from gateway.kernel.json import Json, JsonObject
from gateway.replay.derived import claude_session, derived_session, explicit_session, gemini_session_id
from gateway.turn.items import Dialect, Item, MediaPart, Message, Role, TextPart, ToolCall

# -- Claude Code


def user_id(value: Json) -> JsonObject:
    return {"metadata": {"user_id": value}}


def test_rp_31_the_session_and_the_agent_of_headers() -> None:
    """Given `x-claude-code-session-id: S1`, expect `claude:S1:agent:main`; plus `X-Claude-Code-Agent-Id: a7`,
    expect `claude:S1:agent:a7`.
    """
    headers = {"x-claude-code-session-id": " S1 "}
    assert claude_session(headers, user_id("u_session_0f3c")) == "claude:S1:agent:main"
    assert claude_session({**headers, "x-claude-code-agent-id": "a7"}, {}) == "claude:S1:agent:a7"
    assert claude_session({**headers, "x-claude-code-agent-id": " "}, {}) == "claude:S1:agent:main"


def test_rp_32_the_session_in_a_user_id() -> None:
    """Given `user_x_account__session_0f3c-11`, expect `claude:0f3c-11:agent:main`; given
    `{"session_id":"J9"}`, `claude:J9:agent:main`; given `plain-user`, none.
    """
    assert claude_session({}, user_id("user_x_account__session_0f3c-11")) == "claude:0f3c-11:agent:main"
    assert claude_session({}, user_id('{"session_id":"J9"}')) == "claude:J9:agent:main"
    assert claude_session({}, user_id("plain-user")) is None


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "_session_", "x_session_XYZ", "x_session_0f\n", '{"session_id":""}', "{", '{"a":1}', []],
)
def test_user_ids_without_a_session(value: Json) -> None:
    assert claude_session({}, user_id(value)) is None
    assert claude_session({}, {}) is None


def test_an_agent_of_a_session_in_the_user_id() -> None:
    headers = {"x-claude-code-session-id": "  ", "x-claude-code-agent-id": "a7"}
    assert claude_session(headers, user_id("u_session_0f")) == "claude:0f:agent:a7"


# -- what clients say themselves


@pytest.mark.parametrize(
    ("headers", "body", "session"),
    [
        ({"x-session-id": " h "}, {"session_id": "b"}, "h"),
        ({"session_id": "h"}, {}, "h"),
        ({"x-session-affinity": ""}, {"sessionId": "b"}, "b"),
        ({}, {"conversation": "c"}, "c"),
        ({}, {"conversation": {"id": "c"}}, "c"),
        ({}, {"prompt_cache_key": 7}, "7"),
        ({}, user_id("u"), "u"),
        ({}, {"session_id": "x" * 257, "conversation_id": "c"}, "c"),
        ({}, {"session_id": "x" * 256}, "x" * 256),
        ({}, {"session_id": "é" * 129}, None),
        ({}, {"session_id": "a\nb"}, None),
        ({"x-client-request-id": "r1"}, {"conversation": {}, "session_id": []}, None),
    ],
)
def test_explicit_sessions(headers: dict[str, str], body: JsonObject, session: str | None) -> None:
    assert explicit_session(headers, body) == session


# -- derived


def said(role: Role, *texts: str) -> Message:
    return Message(role=role, parts=tuple(TextPart(text) for text in texts))


def derived(*items: Item, dialect: Dialect = "chat", tenant: str = "t", resource: str = "") -> str:
    session = derived_session(items, dialect=dialect, tenant=tenant, resource=resource)
    assert session is not None
    return session


BEGINNING = (said("system", "You are X."), said("user", "ping"))


def test_a_conversation_keeps_its_session_as_it_grows() -> None:
    call = ToolCall(call_id="c", name="ls", arguments="{}")
    grown = (*BEGINNING, said("assistant", "pong"), call, said("system", "late"), said("user", "again"))
    assert derived(*BEGINNING) == derived(*grown)
    assert re.fullmatch("ctx:v1:[0-9a-f]{64}", derived(*BEGINNING))


def test_what_changes_the_beginning_changes_the_session() -> None:
    image = MediaPart(kind="image", mime_type="image/png", data="aGk=")
    sessions = {
        derived(*BEGINNING),
        derived(*BEGINNING, tenant="t2"),
        derived(*BEGINNING, dialect="gemini"),
        derived(*BEGINNING, resource="cachedContents/1"),
        derived(said("developer", "You are Y."), BEGINNING[1]),
        derived(BEGINNING[1]),
        derived(BEGINNING[0], said("user", "ping", "")),
        derived(BEGINNING[0], Message(role="user", parts=(TextPart("ping"), image))),
        derived(
            BEGINNING[0], Message(role="user", parts=(TextPart("ping"), MediaPart(kind="image", data="aGo=")))
        ),
        derived(resource="cachedContents/1"),
    }
    assert len(sessions) == 10


def test_only_the_beginning_of_instructions_counts() -> None:
    """Many end with the time of day."""
    long = "x" * 50
    assert derived(said("system", long + "10:00"), BEGINNING[1]) == derived(
        said("system", long + "10:01"), BEGINNING[1]
    )
    assert derived(said("system", long[1:] + "a"), BEGINNING[1]) != derived(
        said("system", long[1:] + "b"), BEGINNING[1]
    )


def test_without_words_of_a_user_there_is_no_session() -> None:
    for items in ((), BEGINNING[:1], (said("assistant", "hello"),), (Message(role="user", parts=()),)):
        assert derived_session(items, dialect="chat", tenant="t") is None


def test_rp_86_the_session_id_of_a_derived_session() -> None:
    """Given `ctx:v1:abc`, expect `-343153222512140981`."""
    assert gemini_session_id("ctx:v1:abc") == "-343153222512140981"
