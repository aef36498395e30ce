from typing import get_type_hints

import pytest
from anthropic.types import ModelInfo
from openai.types import Model
from pydantic import BaseModel

from gateway.wire.models import CodexModel, ModelOut


@pytest.mark.parametrize("official", [Model, ModelInfo])
def test_an_entry_has_every_field_that_an_official_type_requires(official: type[BaseModel]) -> None:
    required = {name for name, field in official.model_fields.items() if field.is_required()}
    assert required <= set(get_type_hints(ModelOut))


def test_what_hides_codexs_tools_is_not_in_its_catalogue() -> None:
    assert not {"use_responses_lite", "tool_mode"} & set(get_type_hints(CodexModel))
