from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.chat.settings import (
    check_settings,
    read_output_format,
    read_reasoning,
    read_sampling,
    request_losses,
)
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest, Sampling
from gateway.wire.chat import ChatRequest


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}
    )


def sampling(**fields: Any) -> Sampling:
    return read_sampling(request(**fields))


def losses(**fields: Any) -> list[Loss]:
    return list(request_losses(request(**fields)))


def refusal(**fields: Any) -> InvalidRequest:
    asked = request(**fields)
    with pytest.raises(InvalidRequest) as caught:
        check_settings(asked)
        read_sampling(asked)
        read_reasoning(asked)
        read_output_format(asked)
    return caught.value


# -- what is read -----------------------------------------------------------------------------------------


def test_sampling_is_read() -> None:
    read = sampling(
        temperature=0,
        top_p=0.5,
        top_k=4,
        seed=7,
        stop=["a", "b"],
        presence_penalty=1,
        frequency_penalty=-1.5,
        max_tokens=5,
    )
    assert read == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=4,
        seed=7,
        stop=("a", "b"),
        presence_penalty=1,
        frequency_penalty=-1.5,
        max_output_tokens=5,
    )


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("x", ("x",)),
        ([], ()),
        (None, ()),
        (["x"], ("x",)),
        (["a", "b", "c", "d"], ("a", "b", "c", "d")),
        ("", ()),
        (["", "x", "", "y", ""], ("x", "y")),
    ],
)
def test_stop_may_be_one_or_up_to_four_and_empty_ones_stop_nothing(
    stop: object, expected: tuple[str, ...]
) -> None:
    assert sampling(stop=stop).stop == expected


def test_the_newer_limit_wins() -> None:
    assert sampling(max_tokens=5, max_completion_tokens=9).max_output_tokens == 9
    assert sampling(max_tokens=5, max_completion_tokens=None).max_output_tokens == 5


@pytest.mark.parametrize("nothing", [None, 1, 1.0])
def test_one_choice_may_be_asked_for(nothing: object) -> None:
    check_settings(request(n=nothing))


def test_output_formats_are_read() -> None:
    schema = {"type": "object"}
    assert read_output_format(request(response_format={"type": "text"})) == OutputFormat(kind="text")
    assert read_output_format(request(response_format={"type": "json_object"})) == OutputFormat(
        kind="json_object"
    )
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    assert read_output_format(request(response_format=asked)) == OutputFormat(
        kind="json_schema",
        name="n",
        schema=schema,
        strict=True,  # type: ignore[arg-type]
    )


def test_the_description_of_an_output_format_is_read() -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "n", "description": "One tree"}}
    read = read_output_format(request(response_format=asked))
    assert read == OutputFormat(kind="json_schema", name="n", description="One tree")


def test_a_schema_may_be_missing_unless_it_is_strict() -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "n"}}
    assert read_output_format(request(response_format=asked)) == OutputFormat(kind="json_schema", name="n")


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_every_known_effort_is_read(effort: str) -> None:
    assert read_reasoning(request(reasoning_effort=effort)) == ReasoningRequest(effort=effort)


@pytest.mark.parametrize("fields", [{}, {"reasoning_effort": None}])
def test_no_effort_asks_for_nothing(fields: dict[str, Any]) -> None:
    assert read_reasoning(request(**fields)) is None


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"temperature": 2.01}, "temperature", "decimal_above_max_value"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
        ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
        ({"frequency_penalty": -2.5}, "frequency_penalty", "decimal_below_min_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "integer_below_min_value"),
        ({"max_tokens": 0, "max_completion_tokens": 9}, "max_tokens", "integer_below_min_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"logprobs": True, "top_logprobs": 5}, "logprobs", "unsupported_parameter"),
        ({"top_logprobs": 5}, "top_logprobs", "unsupported_parameter"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"top_logprobs": -1}, "top_logprobs", "integer_below_min_value"),
        ({"logit_bias": {"50256": -101}}, "logit_bias", "decimal_below_min_value"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_value"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort", "invalid_value"),
        ({"reasoning_effort": ""}, "reasoning_effort", "invalid_value"),
        ({"verbosity": "chatty"}, "verbosity", "invalid_value"),
        ({"service_tier": "gold"}, "service_tier", "invalid_value"),
        ({"stream_options": {}}, "stream_options", None),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options", None),
    ],
)
def test_nonsense_and_other_forms_of_answer_are_refused_by_their_field(
    fields: dict[str, Any], param: str, code: str | None
) -> None:
    error = refusal(**fields)
    assert (error.param, error.code) == (param, code)
    assert f"'{param}'" in error.message or code == "invalid_value"


@pytest.mark.parametrize(
    ("schema", "field", "code"),
    [
        (None, "", "missing_required_parameter"),
        ({}, ".name", "missing_required_parameter"),
        ({"schema": {}}, ".name", "missing_required_parameter"),
        ({"name": ""}, ".name", "invalid_value"),
        ({"name": "two words"}, ".name", "invalid_value"),
        ({"name": "灵码"}, ".name", "invalid_value"),
        ({"name": "a\n"}, ".name", "invalid_value"),
        ({"name": "a" * 65}, ".name", "string_above_max_length"),
        ({"name": "n", "strict": True}, ".schema", "missing_required_parameter"),
    ],
)
def test_a_schema_that_cannot_be_is_refused_by_its_field(schema: object, field: str, code: str) -> None:
    error = refusal(response_format={"type": "json_schema", "json_schema": schema})
    assert (error.param, error.code) == (f"response_format.json_schema{field}", code)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
        {"temperature": 0, "top_p": 0},
        {"logprobs": False, "top_logprobs": 0},
        {"logprobs": None, "top_logprobs": None, "n": None},
        {"logit_bias": {"1": 100, "2": -100.0}},
        {"modalities": ["text"]},
        {"modalities": []},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream_options": None},
    ],
)
def test_the_ends_of_every_range_and_settings_that_ask_for_nothing_are_fine(fields: dict[str, Any]) -> None:
    check_settings(request(**fields))
    read_sampling(request(**fields))


# -- what is lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", {"1": 2}),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("prediction", {"type": "content", "content": "a"}),
        ("web_search_options", {"search_context_size": "low"}),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("store", True),
        ("modalities", ["text", "audio"]),
        ("verbosity", "low"),
        ("service_tier", "priority"),
    ],
)
def test_what_no_turn_can_carry_is_told_as_a_loss(field: str, value: object) -> None:
    check_settings(request(**{field: value}))
    assert losses(**{field: value}) == [Loss(field, "unsupported")]


def test_settings_that_ask_for_nothing_or_for_what_is_so_anyway_are_no_loss() -> None:
    assert (
        losses(
            logit_bias={},
            logprobs=False,
            store=False,
            modalities=["text"],
            metadata={"a": "b"},
            verbosity="medium",
            service_tier="auto",
            seed=1,
            prompt_cache_key="k",
            safety_identifier="s",
        )
        == []
    )
