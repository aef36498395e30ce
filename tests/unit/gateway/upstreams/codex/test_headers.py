from typing import Any

import pytest

from gateway.kernel.ids import TurnId
from gateway.turn.request import RawRequest, Turn
from gateway.turn.tools import ToolSpec
from gateway.upstreams.codex.headers import LITE, passed_on


def turn(headers: dict[str, str], *tools: ToolSpec, dialect: Any = "responses") -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant="-",
        created_at_ms=0,
        model="m",
        items=(),
        raw=RawRequest(dialect, {}),
        headers=headers,
        tools=tools,
    )


OWN = {
    "openai-beta": "assistants=v2",
    "originator": "codex_exec",
    "session_id": "s",
    "thread-id": "t",
    "version": "0.169.0",
    "x-client-request-id": "t",
    "x-codex-turn-metadata": "{}",
    "x-codex-window-id": "t:1",
}


def test_what_names_the_conversation_goes_on() -> None:
    assert passed_on(turn(OWN)) == OWN


@pytest.mark.parametrize(
    "name",
    ["user-agent", "accept", "content-type", "cookie", "x-forwarded-for", "x-codex-turn-state", "host"],
)
def test_everything_else_stays_here(name: str) -> None:
    assert passed_on(turn({**OWN, name: "x"})) == OWN


def test_what_belongs_to_a_websocket_stays_here() -> None:
    assert passed_on(turn({"openai-beta": "responses_websockets=2026-02-06"})) == {}


def test_clients_of_other_dialects_have_nothing_to_say() -> None:
    assert passed_on(turn(OWN, dialect="chat")) == {}


def test_the_light_api_is_not_asked_for_with_hosted_tools() -> None:
    light = {LITE: "true"}
    assert passed_on(turn(light, ToolSpec(name="f"))) == light
    assert passed_on(turn(light, ToolSpec(name="web_search", kind="hosted"))) == {}
