"""The fingerprint of offered tools."""

import pytest

from gateway.kernel.json import JsonObject
from gateway.turn.tools import fingerprint

CONFIG: JsonObject = {
    "provider": "openai",
    "tools": [{"type": "function", "function": {"name": "lookup"}}],
    "tool_choice": None,
}


def test_the_fingerprint_depends_on_what_is_offered_and_not_on_the_order_of_keys() -> None:
    assert fingerprint(CONFIG) == "da531c02c39789f9"
    assert fingerprint(dict(reversed(CONFIG.items()))) == "da531c02c39789f9"


def test_another_choice_is_another_fingerprint() -> None:
    assert fingerprint({**CONFIG, "tool_choice": "required"}) != fingerprint(CONFIG)


def test_no_tools_have_a_dash_and_an_empty_object_is_hashed() -> None:
    assert fingerprint(None) == "-"
    assert fingerprint({}) != "-"


@pytest.mark.parametrize("odd", [["a list"], "text", 3])
def test_what_is_no_object_counts_as_no_tools(odd: object) -> None:
    assert fingerprint(odd) == "-"  # type: ignore[arg-type]
