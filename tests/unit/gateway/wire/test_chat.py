from typing import get_type_hints

import pytest
from openai.types.chat import completion_create_params
from pydantic import ValidationError

from gateway.wire.chat import ChatRequest, ContentPart, ImageUrl


def test_every_field_of_the_official_sdk_is_known_or_carried() -> None:
    official = set(get_type_hints(completion_create_params.CompletionCreateParamsStreaming))
    carried = {"prompt_cache_options", "prompt_cache_retention"}
    """Fields that no upstream here reads: ignored, like anything unknown."""
    assert official - set(ChatRequest.model_fields) == carried


def test_unknown_fields_are_ignored() -> None:
    request = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "a", "new": 1}], "brand_new": {"a": []}}
    )
    assert request.messages[0].content == "a"


@pytest.mark.parametrize(("given", "read"), [(5, 5), (5.0, 5), (None, None)])
def test_a_whole_number_may_be_written_with_a_point(given: float | None, read: int | None) -> None:
    assert ChatRequest(model="m", messages=[], max_tokens=given).max_tokens == read  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [1.5, 1e30, "5", True, [5]])
def test_nothing_else_is_a_whole_number(given: object) -> None:
    with pytest.raises(ValidationError):
        ChatRequest(model="m", messages=[], max_tokens=given)  # type: ignore[arg-type]


def test_an_image_may_be_text_or_object() -> None:
    as_text = ContentPart.model_validate({"type": "image_url", "image_url": "http://a/b"})
    as_object = ContentPart.model_validate({"type": "image_url", "image_url": {"url": "http://a/b"}})
    assert as_text.image_url == "http://a/b"
    assert as_object.image_url == ImageUrl(url="http://a/b")
