from typing import get_args, get_type_hints

import openresponses_types as open_responses
import pytest
from pydantic import ValidationError

from gateway.wire.responses import (
    ChoiceIn,
    MessageIn,
    ReasoningIn,
    ResponseOut,
    ResponsesRequest,
    Status,
    UsageOut,
)


def test_items_and_tools_are_left_as_they_are() -> None:
    item = {"type": "of-tomorrow", "payload": {"x": [1]}}
    request = ResponsesRequest.model_validate({"model": "m", "input": [item, "hi"], "tools": [item]})
    assert request.input == [item, "hi"]
    assert request.tools == [item]


def test_unknown_fields_are_ignored() -> None:
    request = ResponsesRequest.model_validate({"model": "m", "input": "hi", "client_metadata": {}, "x": 1})
    assert not hasattr(request, "x")


@pytest.mark.parametrize(
    "fields",
    [
        {"input": 5},
        {"input": [5]},
        {"temperature": "0.5"},
        {"stream": "true"},
        {"max_output_tokens": 1.5},
        {"max_output_tokens": 1e30},
        {"truncation": "sometimes"},
        {"tools": {}},
        {"include": "reasoning.encrypted_content"},
    ],
)
def test_known_fields_are_strict(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ResponsesRequest.model_validate({"model": "m", "input": "hi", **fields})


def test_whole_numbers_may_be_written_with_a_point() -> None:
    request = ResponsesRequest.model_validate({"model": "m", "max_output_tokens": 5.0})
    assert request.max_output_tokens == 5


def test_content_may_be_text_parts_one_part_or_nothing() -> None:
    part = {"type": "input_text", "text": "hi"}
    for content in ([part], part):
        message = MessageIn.model_validate({"role": "user", "content": content})
        assert isinstance(message.content, list)
        assert message.content[0].text == "hi"
    assert MessageIn.model_validate({"role": "user", "content": "hi"}).content == "hi"
    assert MessageIn.model_validate({"role": "user"}).content is None


def test_choices_nest() -> None:
    tools = [{"type": "function", "name": "f"}]
    choice = ChoiceIn.model_validate({"type": "allowed_tools", "mode": "auto", "tools": tools})
    assert choice.tools is not None
    assert choice.tools[0].name == "f"


def test_reasoning_needs_no_field() -> None:
    assert ReasoningIn.model_validate({}).encrypted_content is None


def test_a_response_has_every_member_of_the_schema() -> None:
    assert open_responses.ResponseResource.model_fields.keys() <= get_type_hints(ResponseOut).keys()
    assert open_responses.Usage.model_fields.keys() <= get_type_hints(UsageOut).keys()
    assert {"in_progress", "completed", "incomplete", "failed"} == set(get_args(Status))
