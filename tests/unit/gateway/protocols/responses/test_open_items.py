from typing import Any

import pytest

from gateway.protocols.responses.events import EventWriter
from gateway.protocols.responses.open_items import OpenReasoning, Output
from gateway.turn.events import (
    AnnotationAdded,
    ItemDone,
    ItemStarted,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    TurnCompleted,
    TurnEvent,
)
from gateway.turn.items import MediaPart, Message, Reasoning, RefusalPart, TextPart
from tests.support.responses import parsed, said, stream, thought, whole
from tests.support.responses_schema import StreamRead

STOP = TurnCompleted("stop")
MESSAGE = ItemStarted(0, "message", "m")
REASONING = ItemStarted(0, "reasoning", "r")
CITATION: Any = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}


def told(*events: TurnEvent, rewritten: bool = False, **fields: Any) -> StreamRead:
    """The stream; its end must be what the answer without a stream would be."""
    found = stream(parsed(**fields), *events, STOP, rewritten=rewritten)
    assert found.response == whole(parsed(**fields), *events, STOP)
    return found


def message(*parts: Any) -> ItemDone:
    return ItemDone(0, Message(role="assistant", parts=parts))


def inner(found: StreamRead) -> list[str]:
    """The events between the item's beginning and its end."""
    return [type_.removeprefix("response.") for type_ in found.types[3:-2]]


def content(found: StreamRead) -> list[Any]:
    return found.items[0]["content"]  # type: ignore[no-any-return]


# -- messages ---------------------------------------------------------------------------------------------


def test_text_is_one_part_of_a_message() -> None:
    found = told(*said("A", "", "B"))
    assert inner(found) == [
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
    ]
    assert [event["delta"] for event in found.of("response.output_text.delta")] == ["A", "B"]
    assert content(found) == [{"type": "output_text", "text": "AB", "annotations": [], "logprobs": []}]


def test_a_rising_part_number_opens_the_next_part() -> None:
    found = told(
        MESSAGE,
        TextDelta(0, "a", part=0),
        TextDelta(0, "b", part=3),
        RefusalDelta(0, "no", part=4),
        message(TextPart("a"), TextPart("b"), RefusalPart("no")),
    )
    assert inner(found) == [
        *("content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
    ]
    assert [event["content_index"] for event in found.of("response.content_part.added")] == [0, 1, 2]


def test_a_refusal_under_the_same_number_is_a_part_of_its_own() -> None:
    found = told(MESSAGE, TextDelta(0, "a"), RefusalDelta(0, "no"), message(TextPart("a"), RefusalPart("no")))
    assert [part["type"] for part in content(found)] == ["output_text", "refusal"]


def test_a_message_that_had_no_deltas_is_said_by_its_end() -> None:
    found = told(MESSAGE, message(TextPart("a", (CITATION,)), RefusalPart("no")))
    assert inner(found) == [
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
    ]
    assert found.text == "a"


@pytest.mark.parametrize("end", [message(), message(TextPart("")), message(MediaPart(kind="image"))])
def test_a_message_that_says_nothing_leaves_no_trace(end: ItemDone) -> None:
    found = told(MESSAGE, TextDelta(0, ""), RefusalDelta(0, ""), end)
    assert found.types == ["response.created", "response.in_progress", "response.completed"]


def test_the_end_says_what_the_deltas_left_out() -> None:
    found = told(MESSAGE, TextDelta(0, "A"), message(TextPart("AB"), TextPart("C")))
    assert [event["delta"] for event in found.of("response.output_text.delta")] == ["A", "B", "C"]
    found = told(MESSAGE, RefusalDelta(0, "n"), message(RefusalPart("no")))
    assert [event["delta"] for event in found.of("response.refusal.delta")] == ["n", "o"]


def test_the_end_rules_where_it_says_something_else() -> None:
    found = told(MESSAGE, TextDelta(0, "wrong"), message(TextPart("right")), rewritten=True)
    assert found.text == "wrong"
    assert found.of("response.output_text.done")[0]["text"] == "right"
    assert content(found)[0]["text"] == "right"


def test_an_end_without_parts_keeps_what_the_deltas_said() -> None:
    found = stream(parsed(), MESSAGE, TextDelta(0, "A"), message(), STOP)
    assert content(found)[0]["text"] == "A"


def test_an_end_with_fewer_parts_rules_too() -> None:
    found = told(
        MESSAGE, TextDelta(0, "A"), TextDelta(0, "B", part=1), message(TextPart("A")), rewritten=True
    )
    assert [part["text"] for part in content(found)] == ["A"]


def test_citations_are_annotations_of_their_part() -> None:
    other: Any = {"type": "file_path", "file_id": "f", "index": 0}
    found = told(
        MESSAGE,
        TextDelta(0, "A"),
        AnnotationAdded(0, 0, CITATION),
        AnnotationAdded(0, 0, other),
        message(TextPart("A", (CITATION, other))),
    )
    added = found.of("response.output_text.annotation.added")
    assert [(event["annotation_index"], event["annotation"]) for event in added] == [
        (0, CITATION),
        (1, other),
    ]
    assert content(found)[0]["annotations"] == [CITATION, other]


def test_a_citation_may_open_its_part() -> None:
    found = told(
        MESSAGE, AnnotationAdded(0, 0, CITATION), TextDelta(0, "A"), message(TextPart("A", (CITATION,)))
    )
    assert inner(found)[:3] == ["content_part.added", "output_text.annotation.added", "output_text.delta"]


# -- reasoning --------------------------------------------------------------------------------------------


def test_full_reasoning_is_told_as_a_summary() -> None:
    found = told(*thought("h", "", "mm"))
    assert inner(found) == [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    assert found.items[0]["summary"] == [{"type": "summary_text", "text": "hmm"}]
    assert "content" not in found.items[0]


def test_parts_of_a_summary() -> None:
    found = told(
        REASONING,
        ReasoningDelta(0, "a", part=0, channel="summary"),
        ReasoningDelta(0, "b", part=2, channel="summary"),
        ReasoningDelta(0, "c", part=2, channel="summary"),
        ItemDone(0, Reasoning(summary=("a", "bc"))),
    )
    assert [event["summary_index"] for event in found.of("response.reasoning_summary_part.added")] == [0, 1]
    assert [part["text"] for part in found.items[0]["summary"]] == ["a", "bc"]


def test_full_reasoning_after_a_summary_is_content() -> None:
    found = told(
        REASONING,
        ReasoningDelta(0, "a", channel="summary"),
        ReasoningDelta(0, "full", channel="full"),
        ReasoningDelta(0, "!", part=1, channel="full"),
        ItemDone(0, Reasoning(summary=("a",), text="full!")),
    )
    assert inner(found)[4:] == [
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
    ]
    assert found.items[0]["content"] == [{"type": "reasoning_text", "text": "full!"}]


def test_a_summary_after_full_reasoning_follows_it() -> None:
    found = stream(
        parsed(),
        REASONING,
        ReasoningDelta(0, "full", channel="full"),
        ReasoningDelta(0, "a", channel="summary"),
        ReasoningDelta(0, "late", channel="full"),
        ItemDone(0, Reasoning(summary=("a",), text="full")),
        STOP,
    )
    assert [part["text"] for part in found.items[0]["summary"]] == ["full", "a"]


@pytest.mark.parametrize(
    "item",
    [
        Reasoning(),
        Reasoning(text="x"),
        Reasoning(summary=("a", "b")),
        Reasoning(summary=("a",), text="x"),
    ],
)
def test_reasoning_that_had_no_deltas_is_said_by_its_end(item: Reasoning) -> None:
    told(REASONING, ItemDone(0, item))


def test_the_end_of_reasoning_says_what_its_deltas_left_out() -> None:
    found = told(
        REASONING,
        ReasoningDelta(0, "a", channel="summary"),
        ItemDone(0, Reasoning(summary=("ab", "c"), text="d")),
    )
    assert [event["delta"] for event in found.of("response.reasoning_summary_text.delta")] == ["a", "b", "c"]
    found = told(REASONING, ReasoningDelta(0, "a"), ItemDone(0, Reasoning(text="other")), rewritten=True)
    assert found.items[0]["summary"][0]["text"] == "other"


def test_the_seal_comes_with_the_end_for_those_who_ask() -> None:
    events = [REASONING, ReasoningDelta(0, "a"), SignatureDelta(0, "s")]
    end = ItemDone(0, Reasoning(text="a", signature="s"))
    asked = told(*events, end, include=["reasoning.encrypted_content"])
    assert asked.items[0]["encrypted_content"] == "s"
    assert "encrypted_content" not in told(*events, end).items[0]


# -- cut short --------------------------------------------------------------------------------------------


def test_open_reasoning_knows_what_it_said() -> None:
    def opened() -> OpenReasoning:
        return OpenReasoning(Output(parsed(), EventWriter()))

    item = opened()
    item.delta(ReasoningDelta(0, "a", channel="summary"))
    item.delta(ReasoningDelta(0, "b", channel="full"))
    assert item.so_far() == Reasoning(summary=("a",), text="b")
    item = opened()
    item.delta(ReasoningDelta(0, "b", channel="full"))
    item.delta(ReasoningDelta(0, "a", channel="summary"))
    assert item.so_far() == Reasoning(summary=("a",), text="b")
    assert opened().so_far() == Reasoning()
