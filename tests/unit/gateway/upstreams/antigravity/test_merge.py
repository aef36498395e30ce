from typing import Any

from gateway.upstreams.antigravity.merge import merged


def chunk(*parts: Any, **candidate: Any) -> Any:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **candidate}]}


def test_texts_that_follow_each_other_are_one() -> None:
    answer: Any = merged(
        [
            chunk({"text": "Hm", "thought": True}),
            chunk({"text": "m", "thought": True}, {"text": "A"}),
            chunk({"text": "B"}, {"functionCall": {"name": "f"}}, {"text": "C"}),
            chunk({"text": "", "thoughtSignature": "s"}),
            chunk({"text": "D"}, finishReason="STOP"),
        ]
    )
    (candidate,) = answer["candidates"]
    assert candidate["content"] == {
        "role": "model",
        "parts": [
            {"text": "Hmm", "thought": True},
            {"text": "AB"},
            {"functionCall": {"name": "f"}},
            {"text": "C", "thoughtSignature": "s"},
            {"text": "D"},
        ],
    }
    assert candidate["finishReason"] == "STOP"


def test_what_a_later_chunk_says_of_the_answer_replaces_what_an_earlier_one_said() -> None:
    answer: Any = merged(
        [
            {**chunk({"text": "A"}), "usageMetadata": {"n": 1}, "modelVersion": "m", "new": 1},
            {"usageMetadata": {"n": 2}},
        ]
    )
    assert (answer["usageMetadata"], answer["modelVersion"], answer["new"]) == ({"n": 2}, "m", 1)
    assert next(iter(answer)) == "candidates"


def test_candidates_stay_apart() -> None:
    answer: Any = merged(
        [
            {"candidates": [{"index": 1, "content": {"parts": [{"text": "b"}]}}]},
            {"candidates": [{"index": 0, "content": {"parts": [{"text": "a"}]}}, {"index": 1, "x": 1}]},
        ]
    )
    assert [one["content"]["parts"][0]["text"] for one in answer["candidates"]] == ["a", "b"]
    assert answer["candidates"][1]["x"] == 1


def test_odd_chunks_break_nothing() -> None:
    assert merged([]) == {}
    assert merged([{"promptFeedback": {"blockReason": "SAFETY"}}]) == {
        "promptFeedback": {"blockReason": "SAFETY"}
    }
    odd: Any = [{"candidates": None}, {"candidates": [None, {"content": None}, {"content": {"parts": None}}]}]
    assert len(merged(odd)["candidates"]) == 2  # type: ignore[arg-type]
    assert merged([chunk(1, "x")])["candidates"][0]["content"]["parts"] == [1, "x"]  # type: ignore[index,call-overload]
