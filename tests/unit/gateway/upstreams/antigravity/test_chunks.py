from typing import Any

import pytest

from gateway.kernel.json import dumps, loads
from gateway.upstreams.antigravity.chunks import Read, Unreadable, read_chunk
from gateway.upstreams.antigravity.merge import merged

ANSWER = b'{ "candidates": [], "n": 1.0 }'
ERROR: Any = {"error": {"code": 429}}


@pytest.mark.parametrize(
    "data", [ANSWER, b'{"response":' + ANSWER + b', "traceId": "t"}', b'{"a":1,"response" : ' + ANSWER + b"}"]
)
def test_the_answer_keeps_its_bytes(data: bytes) -> None:
    assert read_chunk(data) == Read({"candidates": [], "n": 1.0}, ANSWER)


def test_a_member_called_response_may_be_the_answers_own() -> None:
    odd = b'{"candidates":[],"response":{"a":1}}'
    assert read_chunk(odd).raw == odd
    blocked = b'{"promptFeedback":{}}'
    assert read_chunk(blocked).raw == blocked


def test_what_is_for_the_upstream_alone() -> None:
    assert read_chunk(b'{"traceId":"t"}') == Read(None)


def test_errors() -> None:
    assert read_chunk(dumps(ERROR)) == Read(None, error=ERROR)
    assert read_chunk(dumps([ERROR])) == Read(None, error=ERROR)
    assert read_chunk(b'{"error":null,"candidates":[]}').error is None


def test_lists() -> None:
    answers: list[Any] = [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in "ab"]
    assert read_chunk(dumps(answers)).answer == merged(answers)
    assert read_chunk(dumps([{"response": one} for one in answers])).answer == merged(answers)
    lone = read_chunk(dumps(answers[:1]))
    assert (lone.answer, loads(lone.raw or b"")) == (answers[0], answers[0])
    assert read_chunk(dumps([answers[0], ERROR, answers[1]])) == Read(
        answers[0], dumps(answers[0]), error=ERROR
    )


@pytest.mark.parametrize("junk", [b"", b"{broken", b"3", b'"x"', b"null", b"[]", b"[3]"])
def test_junk(junk: bytes) -> None:
    with pytest.raises(Unreadable):
        read_chunk(junk)
