import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.json import JsonObject, dumps, loads
from gateway.protocols.gemini.rename import ModelName, rename_model


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


_values = st.sampled_from(["theirs", "other", "mine", "a\\b", "ü", ""])
_chunks = st.fixed_dictionaries(
    {"candidates": st.lists(st.dictionaries(st.sampled_from(["modelVersion", "text"]), _values), max_size=2)},
    optional={
        "modelVersion": _values,
        "responseId": st.sampled_from(["r", '","modelVersion":"x"}']),
        "usage": st.just({}),
    },
)


@given(st.lists(_chunks, max_size=6), st.sampled_from([None, 2]), st.booleans())
def test_a_stream_is_renamed_as_each_of_its_chunks_would_be(
    chunks: list[JsonObject], indent: int | None, backwards: bool
) -> None:
    name = ModelName("mine")
    for chunk in chunks:
        members = dict(reversed(chunk.items())) if backwards else chunk
        raw = json.dumps(members, indent=indent).encode() if indent else dumps(members)
        assert name.put(raw) == rename_model(raw, "mine")
        assert name.put(raw) == rename_model(raw, "mine"), "the second time it knows the end"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"modelVersion":"a","modelVersion":"b"}',
        b'{"x\\"modelVersion":"a"}',
        b'{"text":"}","modelVersion":"a","note":"{}"}',
        b'[{"modelVersion":"a"}]',
        b' {"modelVersion":"a","x":{}} ',
        b'{"x":{"modelVersion":"a"}}',
        b'{"modelVersion":"a\\"b","x":{}}',
        b'{"x":["a","modelVersion"],"y":"z"}',
        b'{"x":1,                              "modelVersion":"a"}',
    ],
)
def test_chunks_that_only_look_plain_are_renamed_with_care(raw: bytes) -> None:
    assert ModelName("mine").put(raw) == rename_model(raw, "mine")
