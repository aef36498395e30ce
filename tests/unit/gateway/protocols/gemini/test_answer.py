from collections.abc import Sequence
from typing import Any

import pytest
from google.genai import types

from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.gemini.answer import (
    Grounding,
    build_response,
    finish_reason,
    is_whole,
    part_out,
    shows_thoughts,
    usage_out,
    wire_signature,
)
from gateway.protocols.gemini.parse import parse_generate
from gateway.turn.events import Finish
from gateway.turn.fold import TurnResult
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from gateway.turn.request import Turn
from gateway.turn.usage import Usage


def make_turn(*, thoughts: bool = True, **config: Any) -> Turn:
    body = {
        "contents": "hi",
        "generationConfig": {"thinkingConfig": {"includeThoughts": thoughts}, **config},
    }
    named = {"model": "asked", "method": "generateContent"}
    context = TurnContext(id=TurnId("01turn"), tenant="t", created_at_ms=5, path_params=named)
    return parse_generate(dumps(body), context)


def whole(
    *items: Item, finish: Finish = "stop", usage: Usage | None = None, thoughts: bool = True
) -> dict[str, Any]:
    result = TurnResult(items=items, finish=finish, usage=usage)
    answer: Any = build_response(make_turn(thoughts=thoughts), result)
    types.GenerateContentResponse.model_validate(answer)
    return dict(answer)


def parts(*items: Item, **how: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = whole(*items, **how)["candidates"][0]["content"]["parts"]
    return found


def message(*said: Part | str, signature: str | None = None) -> Message:
    texts = tuple(TextPart(part) if isinstance(part, str) else part for part in said)
    return Message(role="assistant", parts=texts, origin=origin(signature))


def origin(signature: str | None) -> Origin | None:
    return Origin(executor="x", dialect="gemini", signature=signature) if signature else None


def call(arguments: str = "{}", *, signature: str | None = None, **more: Any) -> ToolCall:
    return ToolCall(call_id="c1", name="find", arguments=arguments, origin=origin(signature), **more)


CALLED = {"functionCall": {"id": "c1", "name": "find", "args": {}}}


def test_a_whole_answer() -> None:
    assert whole(message("hi"), usage=Usage(input_tokens=3, output_tokens=2)) == {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": "asked",
        "responseId": build_response(make_turn(), TurnResult())["responseId"],
    }


def test_texts_that_follow_each_other_are_one() -> None:
    assert parts(message("a", "b"), message("c"), call(), message("d")) == [
        {"text": "abc"},
        CALLED,
        {"text": "d"},
    ]


@pytest.mark.parametrize("items", [(), (message(),), (message(""),), (Reasoning(),)])
def test_an_answer_is_never_without_parts(items: Sequence[Item]) -> None:
    assert parts(*items) == [{"text": ""}]


def test_thoughts_are_shown_to_whoever_asked() -> None:
    items = (Reasoning(summary=("short",), text="long"), message("so"))
    assert parts(*items) == [{"text": "long", "thought": True}, {"text": "so"}]
    assert parts(*items, thoughts=False) == [{"text": "so"}]
    assert parts(Reasoning(summary=("a", "b"))) == [{"text": "a\n\nb", "thought": True}]


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"thinkingConfig": {"includeThoughts": True}}, True),
        ({"thinking_config": {"include_thoughts": True}}, True),
        ({"thinkingConfig": {"includeThoughts": False}}, False),
        ({"thinkingConfig": {"thinkingBudget": 5}}, False),
        ({"thinkingConfig": None}, False),
        ({}, False),
    ],
)
def test_who_asked_for_thoughts(config: Any, shown: bool) -> None:
    named = {"model": "m", "method": "generateContent"}
    context = TurnContext(id=TurnId("01turn"), tenant="t", created_at_ms=5, path_params=named)
    for name in ("generationConfig", "generation_config"):
        turn = parse_generate(dumps({"contents": "hi", name: config}), context)
        assert shows_thoughts(turn) is shown
    assert not shows_thoughts(parse_generate(b'{"contents":"hi"}', context))


def test_the_signature_of_a_thought_goes_with_the_next_part() -> None:
    thought = Reasoning(text="hm", signature="czE=")
    shown = {"text": "hm", "thought": True}
    assert parts(thought, message("a")) == [shown, {"text": "a", "thoughtSignature": "czE="}]
    assert parts(thought, call(), call()) == [shown, {**CALLED, "thoughtSignature": "czE="}, CALLED]
    assert parts(thought) == [shown, {"text": "", "thoughtSignature": "czE="}]
    assert parts(thought, call(), thoughts=False) == [{**CALLED, "thoughtSignature": "czE="}]


def test_a_signature_of_its_own_stays_with_its_part() -> None:
    assert parts(call(signature="czE="), message("a", signature="czI=")) == [
        {**CALLED, "thoughtSignature": "czE="},
        {"text": "a", "thoughtSignature": "czI="},
    ]
    assert parts(Reasoning(signature="czE="), call(signature="czI="), message("a")) == [
        {**CALLED, "thoughtSignature": "czI="},
        {"text": "a", "thoughtSignature": "czE="},
    ]


def test_texts_with_signatures_of_their_own_stay_apart() -> None:
    assert parts(message("a", signature="czE="), message("b", signature="czI=")) == [
        {"text": "ab", "thoughtSignature": "czE="},
        {"text": "", "thoughtSignature": "czI="},
    ]


@pytest.mark.parametrize(
    ("signature", "wire"),
    [
        ("czE=", "czE="),
        ("czE", "czE="),
        ("-_8", "+/8="),
        ("+/8=", "+/8="),
        ("", None),
        (None, None),
        ("abcde", None),
        ("no base64!", None),
        ("ü===", None),
    ],
)
def test_signatures_are_such_that_sdks_can_read_them(signature: str | None, wire: str | None) -> None:
    assert wire_signature(signature) == wire
    if wire is not None:
        types.Part.model_validate({"text": "", "thoughtSignature": wire})


def test_a_call_of_a_custom_tool_is_whole_whatever_its_text() -> None:
    assert is_whole(call("ls {", kind="custom"))


@pytest.mark.parametrize(("arguments", "read"), [("{}", True), ("", True), ("7", True), ('{"a', False)])
def test_broken_arguments_are_seen(arguments: str, read: bool) -> None:
    assert is_whole(call(arguments)) is read


def test_a_call_that_was_cut_short_is_none() -> None:
    broken = call('{"a":')
    assert parts(message("a"), broken, finish="length") == [{"text": "a"}]
    assert parts(broken, finish="stop") == [
        {"functionCall": {"id": "c1", "name": "find", "args": {"input": '{"a":'}}}
    ]
    assert len(parts(broken, call(), finish="length")) == 2


def test_a_call_that_was_run_is_not_to_be_run_again() -> None:
    assert parts(call(result="found"), message("so")) == [{"text": "so"}]


def test_media_that_a_model_made() -> None:
    assert part_out(MediaPart(kind="image", mime_type="image/png", data="AA==")) == {
        "inlineData": {"mimeType": "image/png", "data": "AA=="}
    }
    assert part_out(MediaPart(kind="file", url="u")) == {
        "fileData": {"mimeType": "application/octet-stream", "fileUri": "u"}
    }
    assert part_out(MediaPart(kind="file")) is None


def test_googles_own_parts_pass() -> None:
    part: Any = {"executableCode": {"language": "PYTHON", "code": "1"}}
    assert parts(OpaqueItem(dialect="gemini", type="executableCode", payload=part)) == [part]
    assert parts(OpaqueItem(dialect="responses", type="web_search_call", payload={})) == [{"text": ""}]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "STOP"),
        ("tool_calls", "STOP"),
        ("paused", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
    ],
)
def test_reasons_to_finish(finish: Finish, reason: str) -> None:
    assert finish_reason(finish, refused=False) == reason
    assert types.FinishReason(reason)


def test_a_refusal_is_text_with_a_reason() -> None:
    candidate = whole(message(RefusalPart("no")))["candidates"][0]
    assert candidate["content"]["parts"] == [{"text": "no"}]
    assert candidate["finishReason"] == "SAFETY"
    assert finish_reason("length", refused=True) == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("usage", "out"),
    [
        (Usage(), {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}),
        (
            Usage(input_tokens=9, output_tokens=5, reasoning_tokens=2, cached_tokens=4),
            {
                "promptTokenCount": 9,
                "candidatesTokenCount": 3,
                "totalTokenCount": 14,
                "thoughtsTokenCount": 2,
                "cachedContentTokenCount": 4,
            },
        ),
        (
            Usage(output_tokens=1, reasoning_tokens=3),
            {
                "promptTokenCount": 0,
                "candidatesTokenCount": 0,
                "totalTokenCount": 1,
                "thoughtsTokenCount": 3,
            },
        ),
    ],
)
def test_thoughts_are_counted_apart(usage: Usage, out: Any) -> None:
    assert usage_out(usage) == out


def test_usage_that_nobody_reported_is_not_told() -> None:
    assert "usageMetadata" not in whole(message("a"))


def cited(start: int | None, end: int | None, **more: Any) -> dict[str, Any]:
    citation = {"type": "url_citation", "url": "https://x", "title": "X", **more}
    return citation | ({} if start is None else {"start_index": start, "end_index": end})


def test_citations_are_grounding_with_places_in_bytes_of_the_whole_text() -> None:
    answer = whole(
        message("é1"),
        message(TextPart("ü says", (cited(2, 6),)), TextPart("b", (cited(None, None, title=None),))),
    )
    assert answer["candidates"][0]["groundingMetadata"] == {
        "groundingChunks": [
            {"web": {"uri": "https://x", "title": "X"}},
            {"web": {"uri": "https://x", "title": "https://x"}},
        ],
        "groundingSupports": [
            {
                "segment": {"startIndex": 6, "endIndex": 10, "text": "says"},
                "groundingChunkIndices": [0],
            }
        ],
    }
    text = answer["candidates"][0]["content"]["parts"][0]["text"]
    assert text.encode()[6:10] == b"says"


@pytest.mark.parametrize(
    "citation",
    [{"type": "file_citation", "file_id": "f"}, {"type": "url_citation"}, {"type": "from_the_future"}],
)
def test_other_citations_are_none(citation: Any) -> None:
    grounding = Grounding()
    grounding.cite("text", citation)
    assert grounding.metadata() is None


@pytest.mark.parametrize("place", [(3, 99), (-1, 2), (2, 2), ("a", "b")])
def test_a_citation_without_a_sensible_place_names_its_page_only(place: Any) -> None:
    grounding = Grounding()
    grounding.cite("text", cited(*place))
    metadata = grounding.metadata()
    assert metadata is not None
    assert len(metadata["groundingChunks"]) == 1
    assert metadata["groundingSupports"] == []
