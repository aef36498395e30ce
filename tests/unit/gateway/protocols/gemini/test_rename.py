import pytest

from gateway.kernel.json import dumps, loads
from gateway.protocols.gemini.rename import rename_model


def test_only_the_name_changes() -> None:
    raw = b'{"candidates": [ ],  "modelVersion" : "gemini-x", "responseId":"r"}'
    assert rename_model(raw, "mine") == b'{"candidates": [ ],  "modelVersion" : "mine", "responseId":"r"}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"candidates":[]}',
        b'{"modelVersion":"mine"}',
        b'{"a":{"modelVersion":"other"}}',
        b'{"modelVersion":"mine","a":{"modelVersion":"other"}}',
        b'{"modelVersion":7}',
        b'["modelVersion",{"modelVersion":"x"}]',
    ],
)
def test_what_carries_no_other_name_stays_as_it_is(raw: bytes) -> None:
    assert rename_model(raw, "mine") is raw


@pytest.mark.parametrize(
    "deeper",
    [{"modelVersion": "deep"}, {"text": '"modelVersion":"told"'}, {"a": {"modelVersion": "gemini-x"}}],
)
def test_names_in_texts_and_arguments_are_not_meant(deeper: object) -> None:
    for chunk in (
        {"before": deeper, "modelVersion": "gemini-x"},
        {"modelVersion": "gemini-x", "after": deeper},
    ):
        assert loads(rename_model(dumps(chunk), "mine")) == {**chunk, "modelVersion": "mine"}


def test_a_name_may_hold_anything() -> None:
    name = 'a"b\\\u2028'
    assert loads(rename_model(b'{"modelVersion":"x\\"y"}', name)) == {"modelVersion": name}
