from collections.abc import Mapping

import pytest

from gateway.kernel.ids import TurnId
from gateway.kernel.json import JsonObject, dumps
from gateway.replay.scope import Isolation, ReplayScope
from gateway.turn.items import Dialect, Message, TextPart
from gateway.turn.request import RawRequest, Turn
from gateway.upstreams.codex.replay_session import (
    prompt_cache_key,
    replay_scope,
    session_key,
    takes_part,
)

CLAUDE = {"x-claude-code-session-id": "S1"}
NONE: Mapping[str, str] = {}


def turn(dialect: Dialect, body: JsonObject | None = None, *, tenant: str = "t1", text: str = "hi") -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant=tenant,
        created_at_ms=0,
        model="gpt-5.4(high)",
        items=(Message(role="user", parts=(TextPart(text),)),) if text else (),
        raw=RawRequest(dialect, body or {}),
    )


def scope(
    dialect: Dialect,
    headers: Mapping[str, str] = NONE,
    body: JsonObject | None = None,
    *,
    isolation: Isolation = "shared",
    all_clients: bool = True,
    translated: JsonObject | None = None,
    execution: str = "",
) -> ReplayScope | None:
    return replay_scope(
        turn(dialect, body),
        headers,
        {"model": " gpt-5.4 "} if translated is None else translated,
        execution=execution,
        all_clients=all_clients,
        isolation=isolation,
    )


# -- who takes part


def test_messages_take_part_and_responses_never_do() -> None:
    assert takes_part("messages")
    assert takes_part("messages", all_clients=False)
    assert not takes_part("responses")
    assert not takes_part("messages", compact=True)
    assert not takes_part("lingma")


@pytest.mark.parametrize("dialect", ["chat", "gemini"])
def test_others_take_part_unless_told_otherwise(dialect: Dialect) -> None:
    assert takes_part(dialect)
    assert not takes_part(dialect, all_clients=False)
    assert scope(dialect, {"session_id": "s"}) == ReplayScope("codex", "gpt-5.4", "session-id:s")
    assert scope(dialect, {"session_id": "s"}, all_clients=False) is None


# -- scopes


def test_a_scope_is_the_model_and_the_session_of_a_claude_client() -> None:
    assert scope("messages", CLAUDE) == ReplayScope("codex", "gpt-5.4", "claude:S1:agent:main")
    agent = scope("messages", {**CLAUDE, "x-claude-code-agent-id": "a7"})
    assert agent == ReplayScope("codex", "gpt-5.4", "claude:S1:agent:a7")


def test_without_a_model_in_the_body_it_is_the_one_asked_for() -> None:
    found = scope("messages", CLAUDE, translated={"model": " "})
    assert found is not None
    assert found.model == "gpt-5.4"


def test_tenants_do_not_share_unless_told_so() -> None:
    one = replay_scope(turn("messages", tenant="t1"), CLAUDE, {"model": "m"})
    two = replay_scope(turn("messages", tenant="t2"), CLAUDE, {"model": "m"})
    assert one is not None
    assert two is not None
    assert one.key != two.key
    shared = {
        replay_scope(turn("messages", tenant=tenant), CLAUDE, {"model": "m"}, isolation="shared")
        for tenant in ("t1", "t2")
    }
    assert len(shared) == 1


def test_rp_33_responses_have_a_key_and_no_scope() -> None:
    """Given a Responses request with `prompt_cache_key:"pk"`, expect key `prompt-cache:pk`, and no replay."""
    body: JsonObject = {"prompt_cache_key": "pk"}
    assert session_key("responses", {}, body, body) == "prompt-cache:pk"
    assert scope("responses", {}, body) is None


def test_rp_34_a_claude_request_without_a_hint_has_no_scope() -> None:
    """Given a Claude request without any session hint, expect no scope: not even a derived one."""
    assert scope("messages", {}, {"metadata": {"user_id": "plain-user"}}) is None
    assert scope("messages") is None


def test_rp_61_a_scope_knows_no_credential() -> None:
    """Given another credential, expect the same scope: there is nowhere to put one."""
    assert ReplayScope.__struct_fields__ == ("executor", "model", "session")


@pytest.mark.parametrize("dialect", ["chat", "gemini"])
def test_others_have_the_session_they_name_or_one_derived(dialect: Dialect) -> None:
    named = scope(dialect, {"x-session-id": "s"})
    assert named == ReplayScope("codex", "gpt-5.4", "session:s")
    derived = scope(dialect)
    assert derived is not None
    assert derived.session.startswith("derived:ctx:v1:")
    assert derived.kind == "derived"
    other = replay_scope(turn(dialect, text="ho"), {}, {"model": "gpt-5.4"}, isolation="shared")
    assert other is not None
    assert other != derived
    assert replay_scope(turn(dialect, text=""), {}, {"model": "m"}) is None


def test_cached_content_is_part_of_a_derived_session() -> None:
    assert scope("gemini", body={"cachedContent": "c/1"}) != scope("gemini")


# -- keys


METADATA = dumps({"prompt_cache_key": "pk", "window_id": "w"}).decode()
WINDOW = dumps({"window_id": "w"}).decode()


@pytest.mark.parametrize(
    ("headers", "raw", "translated", "key"),
    [
        ({}, {}, {}, None),
        ({}, {}, {"prompt_cache_key": " pk "}, "prompt-cache:pk"),
        ({}, {"prompt_cache_key": "raw"}, {"client_metadata": {"x-codex-window-id": "w"}}, "window:w"),
        ({}, {"prompt_cache_key": "raw"}, {"prompt_cache_key": " "}, "prompt-cache:raw"),
        ({}, {}, {"client_metadata": {"x-codex-turn-metadata": METADATA}}, "prompt-cache:pk"),
        ({}, {"client_metadata": {"x-codex-turn-metadata": WINDOW}}, {}, "window:w"),
        (
            {"x-codex-turn-metadata": METADATA},
            {"client_metadata": {"x-codex-turn-metadata": "{"}},
            {},
            "prompt-cache:pk",
        ),
        ({"x-codex-turn-metadata": WINDOW, "x-codex-window-id": "w2"}, {}, {}, "window:w"),
        ({"x-codex-turn-metadata": "[]", "x-codex-window-id": "w2"}, {}, {}, "window:w2"),
        ({"session_id": "s", "conversation_id": "c"}, {}, {}, "session-id:s"),
        ({"session-id": "s"}, {}, {}, "session-id:s"),
        ({"session_id": " ", "conversation_id": "c"}, {}, {}, "conversation_id:c"),
        ({"conversation_id": ""}, {"prompt_cache_key": 7}, {}, "prompt-cache:7"),
    ],
)
def test_keys_in_their_order(
    headers: dict[str, str], raw: JsonObject, translated: JsonObject, key: str | None
) -> None:
    assert session_key("responses", headers, raw, translated) == key
    assert session_key("messages", headers, raw, translated) == key


def test_connections_come_after_claude_and_before_the_rest() -> None:
    body: JsonObject = {"prompt_cache_key": "pk"}
    assert session_key("messages", CLAUDE, {}, body, execution="e") == "claude:S1:agent:main"
    assert session_key("chat", CLAUDE, {}, body, execution=" e ") == "execution:e"
    assert session_key("messages", {}, {}, body, execution=" ") == "prompt-cache:pk"
    assert scope("messages", execution="e") == ReplayScope("codex", "gpt-5.4", "execution:e")


# -- prompt cache keys


def test_rp_35_prompt_cache_keys() -> None:
    """Given model `gpt-5.4-nova` and session `3f2a9c10-…`, expect `772c47f5-…`; chat with key `sk-test-1`,
    `21f20ae1-…`; execution session `sess-9`, `f0c3faba-…`.
    """
    headers = {"x-claude-code-session-id": "3f2a9c10-0000-4abc-8def-1234567890ab"}
    assert prompt_cache_key("messages", " gpt-5.4-nova ", headers, {}, caller="k", execution="e") == (
        "772c47f5-21fb-599b-b69c-d45dc037ac4f"
    )
    assert prompt_cache_key("chat", "m", {}, {}, caller="sk-test-1", execution="e") == (
        "21f20ae1-4429-5bb5-9ead-a1318d748ea1"
    )
    assert prompt_cache_key("responses", "m", {}, {}, caller="k", execution="sess-9", derived="d") == (
        "f0c3faba-12b1-5feb-b0ff-c1c9b52c1e28"
    )


@pytest.mark.parametrize("dialect", ["responses", "chat"])
def test_clients_that_know_cache_keys_have_the_last_word(dialect: Dialect) -> None:
    assert prompt_cache_key(dialect, "m", {}, {"prompt_cache_key": "own"}, caller="k") == "own"


def test_a_chat_client_may_name_its_session_with_a_uuid() -> None:
    name = "3F2A9C10-0000-4abc-8def-1234567890ab"
    assert prompt_cache_key("chat", "m", {"session_id": name}, {}, caller="k") == name
    other = prompt_cache_key("chat", "m", {"session_id": "no uuid"}, {}, caller="k")
    assert other == prompt_cache_key("chat", "m", {}, {}, caller="k")


def test_subagents_share_a_cache_key_when_told_so() -> None:
    agent = {**CLAUDE, "x-claude-code-agent-id": "a7"}
    main = prompt_cache_key("messages", "m", CLAUDE, {})
    assert prompt_cache_key("messages", "m", agent, {}) != main
    assert prompt_cache_key("messages", "m", agent, {}, per_agent=False) == main
    assert prompt_cache_key("messages", "m2", CLAUDE, {}) != main


def test_the_last_resorts_and_none() -> None:
    derived = prompt_cache_key("gemini", "m", {}, {}, caller="k", derived="ctx:v1:x")
    assert derived is not None
    assert derived != prompt_cache_key("gemini", "m", {}, {}, execution="ctx:v1:x")
    for dialect in ("gemini", "messages", "chat", "responses"):
        assert prompt_cache_key(dialect, "m", {}, {}) is None
