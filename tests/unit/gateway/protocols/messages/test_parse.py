import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.messages.parse import parse_count, parse_messages
from gateway.sessions.key import lookup_key
from gateway.sessions.policy import affinity
from gateway.turn.estimate import input_tokens
from gateway.turn.items import Message, TextPart
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest, Sampling, Turn

USER = {"role": "user", "content": "a"}


def body_of(**fields: Any) -> bytes:
    body = {"model": "m", "max_tokens": 5, "messages": [USER], **fields}
    return dumps({name: value for name, value in body.items() if value is not ...})


def context_of(tenant: str = "tenant", **headers: str) -> TurnContext:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return TurnContext(id=TurnId("01turn"), tenant=tenant, created_at_ms=7, request_id="r", headers=named)


def turn_of(**fields: Any) -> Turn:
    return parse_messages(body_of(**fields), context_of())


def problem_of(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        turn_of(**fields)
    return caught.value


def test_a_turn_carries_what_the_edge_knows_and_the_body_as_it_came() -> None:
    turn = turn_of(stream=True, unheard_of={"x": 1})
    assert (turn.id, turn.tenant, turn.created_at_ms, turn.request_id) == ("01turn", "tenant", 7, "r")
    assert (turn.model, turn.stream, turn.raw.dialect) == ("m", True, "messages")
    assert turn.items == (Message(role="user", parts=(TextPart("a"),)),)
    assert turn.raw.body["unheard_of"] == {"x": 1}
    assert turn.losses == ()


# -- what is required -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"model": ...}, "model", "Missing required parameter: 'model'"),
        ({"model": "  "}, "model", "'model' must not be empty"),
        ({"messages": ...}, "messages", "Missing required parameter: 'messages'"),
        ({"messages": []}, "messages", "'messages' must not be empty"),
        ({"max_tokens": ...}, "max_tokens", "Missing required parameter: 'max_tokens'"),
        ({"max_tokens": None}, "max_tokens", "Missing required parameter: 'max_tokens'"),
        ({"max_tokens": 0}, "max_tokens", "'max_tokens' must be at least 1"),
        ({"max_tokens": -3}, "max_tokens", "'max_tokens' must be at least 1"),
    ],
)
def test_what_is_required_is_named_when_it_is_missing(
    fields: dict[str, Any], param: str, message: str
) -> None:
    problem = problem_of(**fields)
    assert (problem.param, problem.message) == (param, message)


def test_counting_needs_no_limit() -> None:
    turn = parse_count(body_of(max_tokens=...), context_of())
    assert turn.items == (Message(role="user", parts=(TextPart("a"),)),)
    with pytest.raises(InvalidRequest):
        parse_count(body_of(messages=...), context_of())


@pytest.mark.parametrize("version", ["2023-06-01", "2023-01-01", "2031-12-31"])
def test_any_version_is_accepted(version: str) -> None:
    assert parse_messages(body_of(), context_of(anthropic_version=version)).model == "m"


@pytest.mark.parametrize("version", ["", "latest", "2023-06", "2023-06-01-preview"])
def test_a_version_that_is_no_date_is_refused(version: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_messages(body_of(), context_of(anthropic_version=version))
    assert caught.value.param == "anthropic-version"
    assert "anthropic-version" in caught.value.message


def test_unknown_betas_are_ignored() -> None:
    context = context_of(anthropic_beta="claude-code-20250219,from-the-future-2031-01-01")
    assert parse_messages(body_of(), context).losses == ()


# -- settings ---------------------------------------------------------------------------------------------


def test_sampling_is_read() -> None:
    turn = turn_of(temperature=1, top_p=0.5, top_k=40, max_tokens=64, stop_sequences=["\n\nHuman:", "x"])
    assert turn.sampling == Sampling(
        temperature=1.0, top_p=0.5, top_k=40, max_output_tokens=64, stop=("\n\nHuman:", "x")
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"thinking": None}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, ReasoningRequest(budget_tokens=2048)),
        ({"thinking": {"type": "adaptive"}}, ReasoningRequest()),
        ({"thinking": {"type": "from_2031", "depth": 3}}, ReasoningRequest()),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            ReasoningRequest(effort="high"),
        ),
        ({"output_config": {"effort": "low"}}, ReasoningRequest(effort="low")),
        ({"output_config": {}}, None),
        ({"thinking": {"type": "disabled"}}, ReasoningRequest(effort="none")),
        (
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
            ReasoningRequest(effort="none"),
        ),
    ],
)
def test_thinking_and_effort_are_read(fields: dict[str, Any], expected: ReasoningRequest | None) -> None:
    assert turn_of(**fields).reasoning == expected


SCHEMA = {"type": "object", "properties": {}}
FORMAT = {"type": "json_schema", "schema": SCHEMA}


@pytest.mark.parametrize("fields", [{"output_config": {"format": FORMAT}}, {"output_format": FORMAT}])
def test_an_output_format_is_read_in_both_places(fields: dict[str, Any]) -> None:
    expected = OutputFormat(kind="json_schema", schema=SCHEMA, strict=True)  # type: ignore[arg-type]
    assert turn_of(**fields).output_format == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
    ],
)
def test_an_output_format_that_means_nothing_is_refused(fields: dict[str, Any], param: str) -> None:
    assert problem_of(**fields).param == param


def test_what_no_turn_can_carry_is_a_loss() -> None:
    turn = turn_of(
        container={"skills": [{"type": "anthropic", "skill_id": "pptx"}]},
        mcp_servers=[{"type": "url", "url": "https://x", "name": "x"}],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"task_budget": {"type": "tokens", "total": 5}},
        inference_geo="eu",
        speed="fast",
        service_tier="auto",
    )
    assert turn.losses == (
        Loss("container", "unsupported"),
        Loss("mcp_servers", "unsupported"),
        Loss("context_management", "unsupported"),
        Loss("inference_geo", "unsupported"),
        Loss("speed", "unsupported"),
        Loss("output_config.task_budget", "unsupported"),
    )


def test_what_is_empty_is_no_loss() -> None:
    assert turn_of(container=None, mcp_servers=[], context_management={}).losses == ()


def test_an_answer_that_is_begun_for_the_model_is_told() -> None:
    turn = turn_of(messages=[USER, {"role": "assistant", "content": "The answer is ("}])
    assert turn.losses == (Loss("messages.1", "prefill-not-continued"),)


# -- anything ---------------------------------------------------------------------------------------------

EVERYTHING: Any = {
    "model": "m",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
                {
                    "type": "document",
                    "source": {"type": "content", "content": [{"type": "text", "text": "d"}]},
                    "title": "t",
                    "citations": {"enabled": True},
                },
                {
                    "type": "search_result",
                    "source": "u",
                    "title": "t",
                    "content": [{"type": "text", "text": "x"}],
                },
                {"type": "container_upload", "file_id": "f"},
                {"type": "hologram", "depth": [1]},
            ],
        },
        {"role": "system", "content": "now"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "compaction", "content": "so far"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": [{"encrypted_content": "x"}],
                },
                {"type": "tool_use", "id": "c", "name": "find", "input": {"q": [1, None]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "is_error": False,
                    "content": [{"type": "tool_reference", "tool_name": "n"}],
                }
            ],
        },
    ],
    "tools": [
        {"name": "find", "input_schema": {"type": "object"}},
        {"type": "bash_20250124", "name": "bash"},
    ],
    "tool_choice": {"type": "tool", "name": "find", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": FORMAT},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
    "temperature": 0.5,
    "stream": True,
    "context_management": {"edits": []},
}
VALUES = st.sampled_from([None, True, 0, -1, 1.5, "", "text", [], ["x"], {}, {"type": "text"}, [{}], [None]])


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member of every object and list in it, as what holds it and where it is."""
    held = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for at, inner in list(held) for place in ((value, at), *places(inner))]


@given(st.data())
def test_any_body_is_a_turn_or_refused_by_name(data: st.DataObject) -> None:
    body = copy.deepcopy(EVERYTHING)
    for _ in range(data.draw(st.integers(0, 3))):
        holder, at = data.draw(st.sampled_from(places(body)))
        holder[at] = copy.deepcopy(data.draw(VALUES))
    try:
        turn = parse_messages(dumps(body), context_of())
    except InvalidRequest as problem:
        assert problem.param
        assert f"'{problem.param}" in problem.message
    else:
        assert input_tokens(turn) > 0
        assert affinity(turn)
        lookup_key(turn)


# -- affinity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user_id",
    [
        "user-1",
        "user_" + "0" * 64 + "_account__session_5b1a9b7e-0000-4000-8000-000000000000",
        '{"device_id":"d","account_uuid":"","session_id":"5b1a9b7e"}',
    ],
)
def test_lv_89_affinity_is_the_users_id(user_id: str) -> None:
    """Given a metadata.user_id: expect the affinity to be it."""
    turn = turn_of(metadata={"user_id": user_id})
    assert turn.user == user_id
    assert affinity(turn).endswith(user_id)
    assert affinity(turn) == affinity(turn_of(metadata={"user_id": user_id}, messages=[USER, USER]))


@pytest.mark.parametrize("metadata", [..., None, {}, {"user_id": None}, {"user_id": ""}])
def test_lv_89_affinity_without_a_user_is_the_first_message(metadata: Any) -> None:
    """Given no metadata.user_id: expect an affinity that starts with `first:`."""
    turn = turn_of(metadata=metadata)
    assert turn.user is None
    assert affinity(turn).startswith("first:")


def test_a_conversation_keeps_its_affinity_and_others_have_their_own() -> None:
    reply = {"role": "assistant", "content": "b"}
    first = affinity(turn_of())
    assert affinity(turn_of(messages=[USER, reply, USER])) == first
    assert affinity(turn_of(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}]}])) == first
    assert affinity(turn_of(system="any")) == first
    assert affinity(turn_of(messages=[{"role": "user", "content": "b"}])) != first
    assert affinity(parse_messages(body_of(), context_of(tenant="other"))) != first
