from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.turn.request import OutputFormat
from gateway.upstreams.lingma.structured import Unfenced, instruction, unfenced, wants_json


def test_text_needs_no_instruction() -> None:
    assert instruction(None) == instruction(OutputFormat(kind="text")) == ""
    assert not wants_json(None)
    assert not wants_json(OutputFormat(kind="text"))


def test_a_schema_is_part_of_the_instruction() -> None:
    schema = OutputFormat(kind="json_schema", schema={"type": "object", "title": "灵"})
    assert instruction(schema).endswith('JSON Schema:\n{"type":"object","title":"灵"}')
    assert "Schema" not in instruction(OutputFormat(kind="json_object"))
    assert wants_json(schema)


def test_what_the_value_is_for_is_part_of_the_instruction() -> None:
    schema = OutputFormat(kind="json_schema", description="One tree", schema={"type": "object"})
    plain = OutputFormat(kind="json_schema", schema={"type": "object"})
    assert instruction(schema) == f"What the answer is for: One tree\n{instruction(plain)}"


@pytest.mark.parametrize(
    ("answer", "bare"),
    [
        ('{"a":1}', '{"a":1}'),
        ('```json\n{"a":1}\n```', '{"a":1}'),
        ('\n ```\n{"a":\n1}\n```\nI hope this helps', '{"a":\n1}'),
        ('```json\n{"a":"```"}\n```', '{"a":"```"}'),
        ('```json\n{"a":1}', '{"a":1}'),
        ('```json {"a": 1} ```', '{"a": 1}'),
        ('```{"a":1}```', '{"a":1}'),
        ('```{"a": "`"}\n```', '{"a": "`"}'),
        ('```json {"a":\n1}\n```\n', '{"a":\n1}'),
        ('```json\n{"a":1}\n  ```', '{"a":1}'),
        ('  ```json\n  {"a": 1}\n\t```\nSo', '{"a": 1}'),
        ("```json\n```", ""),
        ("```\n\n  ```\n", ""),
        ("```json\n", ""),
        ("```\n``", "``"),
        ("``", "``"),
        ("```json", "```json"),
        ("No: ```json\n1\n```", "No: ```json\n1\n```"),
        ("", ""),
        ("  ", "  "),
    ],
)
def test_a_fence_around_the_whole_answer_is_taken_away(answer: str, bare: str) -> None:
    assert unfenced(answer) == bare


@given(st.text(alphabet="`\n\t {}a", max_size=24), st.lists(st.integers(0, 24)))
def test_the_cut_of_the_stream_makes_no_difference(answer: str, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(answer)) for cut in cuts} | {0, len(answer)})
    stage = Unfenced()
    pieces = [stage.feed(answer[start:end]) for start, end in pairwise(ends)]
    assert "".join(pieces) + stage.finish() == unfenced(answer)
