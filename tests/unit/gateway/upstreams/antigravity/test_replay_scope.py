from collections.abc import Mapping
from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import Json, JsonObject
from gateway.replay.derived import gemini_session_id
from gateway.replay.scope import ReplayScope
from gateway.turn.items import Dialect, Message, TextPart
from gateway.turn.request import RawRequest, Turn
from gateway.upstreams.antigravity.replay_scope import (
    derived_id,
    replay_scope,
    request_session_id,
    session_key,
    stable_id,
    system_lane,
    takes_part,
)
from tests.support.signature_chains import request, user

SID = "3f2a9c10-0000-4abc-8def-1234567890ab"
PING = "8470534167946609795"


def turn(body: JsonObject | None = None, dialect: Dialect = "chat", said: str = "ping") -> Turn:
    items = (Message(role="user", parts=(TextPart(said),)),) if said else ()
    raw = RawRequest(dialect, body or {})
    return Turn(id=TurnId("t"), tenant="t1", created_at_ms=0, model="m", items=items, raw=raw)


def key(
    body: JsonObject | None = None,
    headers: Mapping[str, str] | None = None,
    payload: JsonObject | None = None,
    *,
    dialect: Dialect = "chat",
    **options: Any,
) -> str | None:
    return session_key(turn(body, dialect), headers or {}, payload or request(user("ping")), **options)


def test_rp_88_which_models_take_part() -> None:
    """Given `gemini-3.7-flash` or `gpt-oss-agent`, expect replay; given `gemini-claude-sonnet-4-5-thinking`
    or `gpt-oss-120b`, expect none.
    """
    for model in ("gemini-3.7-flash", "gpt-oss-agent", "GEMINI-3-PRO", "some-Flash"):
        assert takes_part(model)
    for model in ("gemini-claude-sonnet-4-5-thinking", "gpt-oss-120b", "Claude-Gemini", ""):
        assert not takes_part(model)
        assert replay_scope(turn(), {"session-id": "s"}, model, request(user("ping"))) is None


def test_rp_3_the_shared_key_is_that_of_home_nodes() -> None:
    """Given the model `gemini-3.7-flash` and the session `session:4242`, expect the HOME key."""
    payload: JsonObject = {**request(), "sessionId": "4242"}
    scope = replay_scope(turn(said=""), {}, " gemini-3.7-flash", payload, isolation="shared")
    assert scope == ReplayScope("antigravity", "gemini-3.7-flash", "session:4242")
    assert scope is not None
    assert scope.key == (
        b"cpa:antigravity:reasoning-replay:4aa2768e1515ce3f2ba78034ea57c7f4816057500e898b904de2b052a3cd6c69"
        b":d97b495e1303b615e1c10531d6f370454fd025ca1fdfb471bbd3b1871e2951fa"
    )


def test_tenants_are_apart_unless_state_is_shared() -> None:
    scope = replay_scope(turn(), {"session-id": "s"}, "gemini-3", request(user("ping")))
    assert scope is not None
    assert scope.session.endswith(":responses:s")
    assert scope.kind == "responses"


@pytest.mark.parametrize(
    ("body", "headers", "options", "expected"),
    [
        ({"session_id": "b"}, {"session-id": " h "}, {}, "responses:h"),
        ({"session_id": " b ", "metadata": {"session_id": "m"}}, {"session-id": " "}, {}, "responses:b"),
        ({"metadata": {"session_id": "m"}}, {}, {"execution": "e"}, "responses:m"),
        ({"prompt_cache_key": "p"}, {}, {"execution": " e "}, "execution:e"),
        ({"prompt_cache_key": "p"}, {"x-session-id": "x"}, {}, "prompt-cache:p"),
        ({"session_id": 7}, {}, {}, "responses:7"),
    ],
)
def test_what_the_client_says_comes_first(
    body: JsonObject, headers: dict[str, str], options: dict[str, str], expected: str
) -> None:
    assert key(body, headers, **options) == expected


def test_without_a_word_of_the_client_the_conversation_s_beginning_tells() -> None:
    derived = key()
    assert derived is not None
    assert derived.startswith("derived:ctx:v1:")
    assert key({"other": 1}, payload={**request(user("x")), "sessionId": "4"}) == derived


def test_a_session_that_is_named_otherwise_is_not_derived() -> None:
    """Then the upstream's own session id tells, and at last the first words of the user."""
    headers = {"x-session-id": "x"}
    for members, expected in (
        ({"sessionId": "1", "session_id": "2"}, "session:1"),
        ({"session_id": "2"}, "session:2"),
        ({}, f"session:{PING}"),
    ):
        assert key({}, headers, {**request(user("ping")), **members}) == expected
        inner = request(user("ping"), **members)
        assert key({}, headers, inner) == expected
    own: JsonObject = {"sessionId": "own", "contents": []}
    assert session_key(turn(own, "gemini"), {}, request(user("ping"))) == "session:own"
    assert request_session_id(turn(own, "gemini"), {}, request(user("ping"))) == "own"
    outer: JsonObject = {**request(user("ping"), sessionId="inner"), "session_id": "outer"}
    assert key({}, headers, outer) == "session:outer"


def test_rp_86_the_stable_session_of_a_first_text() -> None:
    """Given the first user text `ping`, expect request.sessionId `-8470534167946609795` and the scope
    `session:8470534167946609795`; given the derived id `ctx:v1:abc`, expect `-343153222512140981`.
    """
    payload = request(user("ping"))
    named = {"x-session-id": "x"}
    assert stable_id(payload) == f"-{PING}"
    assert request_session_id(turn(), named, payload) == f"-{PING}"
    assert key({}, named, payload) == f"session:{PING}"
    derived = derived_id(turn(), {})
    assert derived.startswith("ctx:v1:")
    assert request_session_id(turn(), {}, payload) == gemini_session_id(derived) != f"-{PING}"
    assert gemini_session_id("ctx:v1:abc") == "-343153222512140981"


def test_a_session_that_the_client_names_goes_upstream_as_it_is() -> None:
    assert request_session_id(turn(), {}, request(user("ping"), sessionId=" s ")) == "s"


def test_without_anything_to_go_by_there_is_no_session() -> None:
    for payload in (request(), request({"role": "model", "parts": [{"text": "ping"}]}), {}):
        assert session_key(turn(said=""), {}, payload) is None
        assert request_session_id(turn(said=""), {}, payload) == ""
        assert replay_scope(turn(said=""), {}, "gemini-3", payload) is None


@pytest.mark.parametrize(
    "contents",
    [
        [{"role": "model", "parts": [{"text": "no"}]}, user("ping")],
        [user(), user("ping")],
        [user({"inlineData": {}}, "no"), user("ping", "no")],
        [{"role": "USER", "parts": [{"text": "no"}]}, user("ping")],
        [None, {"role": "user", "parts": "x"}, user("ping")],
    ],
)
def test_the_first_text_is_the_first_part_of_a_user_s_content(contents: list[Json]) -> None:
    assert stable_id(request(*contents)) == f"-{PING}"


def test_a_connection_and_a_named_session_are_not_derived() -> None:
    assert derived_id(turn(), {}, execution="e") == ""
    assert derived_id(turn(), {"x-session-affinity": "a"}) == ""
    assert derived_id(turn({"metadata": {"user_id": "u"}}), {}) == ""
    cached = derived_id(turn({"cachedContent": "c"}, "gemini"), {})
    assert cached not in ("", derived_id(turn({}, "gemini"), {}))


# -- Claude Code


def claude(system: Json = None, headers: Mapping[str, str] | None = None) -> str | None:
    body: JsonObject = {"metadata": {"user_id": f"user_x_account__session_{SID}"}, "session_id": "ignored"}
    if system is not None:
        body["system"] = system
    return key(body, headers, dialect="messages")


def test_rp_87_a_system_prompt_makes_a_lane_wherever_it_is_cached() -> None:
    """Given the system `[{"type":"text","text":"You are X","cache_control":{"type":"ephemeral"}}]`, and the
    same without cache_control, expect for both 1245eeddf3b9780094f8461a07ab2946.
    """
    block: JsonObject = {"type": "text", "text": "You are X"}
    cached: JsonObject = {**block, "cache_control": {"type": "ephemeral"}}
    lane = "1245eeddf3b9780094f8461a07ab2946"
    assert system_lane({"system": [block]}) == system_lane({"system": [cached]}) == lane
    assert claude([cached]) == f"claude:{SID}:agent:main:context:{lane}"
    assert system_lane({"system": [{**block, "text": "You are Y"}]}) != lane
    assert system_lane({"system": {"a": [{"cache_control": 1, "b": 1}]}}) == system_lane(
        {"system": {"a": [{"b": 1}]}}
    )


def test_without_a_system_prompt_there_is_no_lane() -> None:
    assert claude() == f"claude:{SID}:agent:main"
    assert system_lane({"system": None}) == system_lane({}) == ""
    assert system_lane({"system": ""}) != ""


def test_agents_are_apart() -> None:
    assert claude("x", {"x-claude-code-agent-id": "a7"}) == claude("x", {}).replace("main", "a7")  # type: ignore[union-attr]


def test_only_messages_have_claude_s_sessions() -> None:
    body: JsonObject = {"metadata": {"user_id": f"user_x_account__session_{SID}"}}
    assert key(body, dialect="chat") == f"session:{PING}"


def test_a_system_prompt_nested_too_deep_is_refused() -> None:
    deep: Json = []
    for _ in range(600):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        system_lane({"system": deep})
