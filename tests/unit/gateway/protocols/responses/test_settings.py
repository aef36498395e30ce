from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest
from tests.support.responses import parsed


def test_the_former_name_of_a_reasoning_summary() -> None:
    assert parsed(reasoning={"generate_summary": "concise"}).reasoning == ReasoningRequest(summary="concise")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ({}, None),
        ({"format": {"type": "text"}}, OutputFormat()),
        ({"format": {"type": "json_object"}}, OutputFormat(kind="json_object")),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": "One tree"}},
            OutputFormat(kind="json_schema", name="n", schema={}, description="One tree"),
        ),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
            OutputFormat(kind="json_schema", name="n", schema={"type": "object"}, strict=True),
        ),
    ],
)
def test_text_formats(text: Any, expected: OutputFormat | None) -> None:
    assert parsed(text=text).output_format == expected


@pytest.mark.parametrize(
    ("fields", "losses"),
    [
        ({"store": True}, [Loss("store", "not-stored")]),
        ({"store": False}, []),
        ({"truncation": "auto"}, [Loss("truncation", "unsupported")]),
        ({"truncation": "disabled"}, []),
        ({"service_tier": "flex"}, [Loss("service_tier", "unsupported")]),
        ({"service_tier": "auto"}, []),
        ({"text": {"verbosity": "low"}}, [Loss("text.verbosity", "unsupported")]),
        ({"text": {"verbosity": "medium"}}, []),
        (
            {"top_logprobs": 3, "max_tool_calls": 1},
            [Loss("top_logprobs", "unsupported"), Loss("max_tool_calls", "unsupported")],
        ),
        ({"include": ["reasoning.encrypted_content"]}, []),
        (
            {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]},
            [Loss("include.1", "unsupported")],
        ),
        ({"tool_choice": {"type": "image_generation"}}, [Loss("tool_choice", "unsupported")]),
        ({"reasoning": {"effort": "of-tomorrow"}}, []),
    ],
)
def test_what_is_left_out_is_a_loss(fields: dict[str, Any], losses: list[Loss]) -> None:
    assert list(parsed(**fields).losses) == losses


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value"),
        ({"top_p": 1.5}, "top_p", "decimal_above_max_value"),
        ({"presence_penalty": 3.0}, "presence_penalty", "decimal_above_max_value"),
        ({"frequency_penalty": -3.0}, "frequency_penalty", "decimal_below_min_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"max_tool_calls": 0}, "max_tool_calls", "integer_below_min_value"),
        (
            {"text": {"format": {"type": "json_schema", "schema": {}}}},
            "text.format.name",
            "missing_required_parameter",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
    ],
)
def test_nonsense_is_refused_by_name(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
