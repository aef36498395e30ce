from collections.abc import Sequence
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import loads
from gateway.protocols.gemini.contents import Conversation
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Reasoning,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.wire.gemini import GenerateRequest


def conversation(contents: Any, system: Any = None) -> Conversation:
    body = {"contents": contents, "systemInstruction": system}
    request = GenerateRequest.model_validate(body)
    found = Conversation()
    if request.system_instruction is not None:
        found.system(request.system_instruction, system)
    found.contents(request.contents or (), contents)
    return found


def items(contents: Any, system: Any = None) -> list[Item]:
    return conversation(contents, system).items


def said(role: str, *parts: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def message(role: Any, *texts: str, origin: Origin | None = None) -> Message:
    return Message(role=role, parts=tuple(TextPart(text) for text in texts), origin=origin)


def signed(signature: str) -> Origin:
    return Origin(executor="client", dialect="gemini", signature=signature)


# -- messages ---------------------------------------------------------------------------------------------


def test_a_conversation_in_order_with_its_instruction_first() -> None:
    assert items(
        [
            said("user", {"text": "hi"}),
            said("model", {"text": "ho"}),
            said("user", {"text": "a"}, {"text": "b"}),
        ],
        {"role": "user", "parts": [{"text": "be"}, {"text": "kind"}]},
    ) == [
        message("system", "be", "kind"),
        message("user", "hi"),
        message("assistant", "ho"),
        message("user", "a", "b"),
    ]


@pytest.mark.parametrize(
    ("role", "read"),
    [
        (None, "user"),
        ("", "user"),
        ("user", "user"),
        ("USER", "user"),
        ("function", "user"),
        ("model", "assistant"),
        ("assistant", "assistant"),
        ("system", "system"),
        ("developer", "developer"),
    ],
)
def test_roles(role: str | None, read: str) -> None:
    assert items([{"role": role, "parts": [{"text": "a"}]}]) == [message(read, "a")]


def test_a_role_that_does_not_exist_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        items([said("user", {"text": "a"}), said("robot", {"text": "b"})])
    assert caught.value.param == "contents.1.role"


@pytest.mark.parametrize("contents", ["hi", ["hi"], {"parts": {"text": "hi"}}, [{"parts": "hi"}]])
def test_short_forms(contents: Any) -> None:
    assert items(contents) == [message("user", "hi")]


def test_contents_without_parts_say_nothing() -> None:
    assert items([{"role": "model"}, said("user"), said("user", {"text": "a"})]) == [message("user", "a")]


def test_users_messages_stay_apart() -> None:
    assert items([said("user", {"text": "a"}), said("user", {"text": "b"})]) == [
        message("user", "a"),
        message("user", "b"),
    ]


def test_a_streamed_answer_is_one_message_again() -> None:
    pieces = [said("model", {"text": text}) for text in ("one", " two", "")]
    assert items([said("user", {"text": "count"}), *pieces]) == [
        message("user", "count"),
        message("assistant", "one two"),
    ]


@given(st.lists(st.text(max_size=4), min_size=1, max_size=6))
def test_an_answer_reads_alike_however_it_was_cut(texts: list[str]) -> None:
    whole = items([said("model", {"text": "".join(texts)})])
    assert items([said("model", {"text": text}) for text in texts]) == whole
    assert items([said("model", *({"text": text} for text in texts))]) == whole


def test_the_empty_text_that_ends_a_stream_is_no_message() -> None:
    call = said("model", {"functionCall": {"name": "f", "id": "c"}})
    kinds = [type(item) for item in items([call, said("model", {"text": ""}), said("user", {"text": "a"})])]
    assert kinds == [ToolCall, Message]
    assert items([said("user", {"text": "a"}), said("model", {"text": ""})])[1] == message("assistant", "")


# -- thoughts and signatures ------------------------------------------------------------------------------


def test_thoughts_are_reasoning() -> None:
    read = items(
        [
            said("model", {"text": "hm", "thought": True}, {"text": "m", "thought": True}, {"text": "A"}),
            said("model", {"text": "so", "thought": True, "thoughtSignature": "c2ln"}),
            said("model", {"text": "next", "thought": True}),
        ]
    )
    assert read == [
        Reasoning(text="hmm"),
        message("assistant", "A"),
        Reasoning(text="so", signature="c2ln", origin=signed("c2ln")),
        Reasoning(text="next"),
    ]


def test_a_signature_stays_with_its_part() -> None:
    read = items(
        [
            said(
                "model",
                {"text": "A", "thoughtSignature": "czE="},
                {"text": "B", "thoughtSignature": "czM="},
                {"functionCall": {"name": "f", "id": "c"}, "thought_signature": "czI="},
            )
        ]
    )
    assert [
        item.origin.signature if item.origin else None for item in read if not isinstance(item, OpaqueItem)
    ] == [
        "czE=",
        "czM=",
        "czI=",
    ]


def test_a_stream_given_back_in_pieces_is_one_message() -> None:
    """Its signature is on the first piece; google-genai keeps every chunk as a content of its own."""
    pieces = [said("model", {"text": "one", "thoughtSignature": "c2ln"}), said("model", {"text": " two"})]
    assert items([*pieces, said("model", {"text": ""})]) == [
        message("assistant", "one two", origin=signed("c2ln"))
    ]


@pytest.mark.parametrize("carrier", [{"text": "", "thoughtSignature": "c2ln"}, {"thoughtSignature": "c2ln"}])
def test_a_signature_that_comes_alone_belongs_to_what_was_said_last(carrier: Any) -> None:
    text = items([said("model", {"text": "A"}), said("model", carrier)])
    assert text == [message("assistant", "A", origin=signed("c2ln"))]
    call = items([said("model", {"functionCall": {"name": "f"}}, carrier)])
    assert [item.origin for item in call if isinstance(item, ToolCall)] == [signed("c2ln")]
    thought = items([said("model", {"text": "hm", "thought": True}, carrier)])
    assert thought == [Reasoning(text="hm", signature="c2ln", origin=signed("c2ln"))]
    alone = items([said("user", {"text": "a"}), said("model", carrier)])
    assert alone[1:] == [Reasoning(signature="c2ln", origin=signed("c2ln"))]


def test_the_first_signature_of_an_item_counts() -> None:
    call = {"functionCall": {"name": "f"}, "thoughtSignature": "czE="}
    (read,) = items([said("model", call, {"thoughtSignature": "czI="})])
    assert isinstance(read, ToolCall)
    assert read.origin == signed("czE=")


def test_users_sign_nothing() -> None:
    assert items([said("user", {"text": "a"}, {"thoughtSignature": "c2ln"})]) == [message("user", "a")]


@pytest.mark.parametrize(
    "sentinel", ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go", ""]
)
def test_what_stands_in_for_a_signature_is_none(sentinel: str) -> None:
    (call,) = items([said("model", {"functionCall": {"name": "f"}, "thoughtSignature": sentinel})])
    assert isinstance(call, ToolCall)
    assert call.origin is None


# -- media, code and what nobody knows --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mime_type", "kind"),
    [
        ("image/png", "image"),
        ("audio/wav", "audio"),
        ("video/mp4", "video"),
        ("application/pdf", "file"),
        ("text/plain", "file"),
        (None, "file"),
    ],
)
def test_media_by_data_and_by_address(mime_type: str | None, kind: Any) -> None:
    (read,) = items(
        [
            said(
                "user",
                {"inlineData": {"mimeType": mime_type, "data": "+-/_", "displayName": "n"}},
                {"fileData": {"mimeType": mime_type, "fileUri": "https://x/y"}},
            )
        ]
    )
    assert isinstance(read, Message)
    assert read.parts == (
        MediaPart(kind=kind, mime_type=mime_type, data="++//", name="n"),
        MediaPart(kind=kind, mime_type=mime_type, url="https://x/y"),
    )


def test_text_and_medium_of_one_part_are_both_kept() -> None:
    (read,) = items([said("user", {"text": "a", "inlineData": {"mimeType": "image/png", "data": "AA"}})])
    assert isinstance(read, Message)
    assert [type(part) for part in read.parts] == [TextPart, MediaPart]


def test_settings_of_a_video_are_a_loss() -> None:
    part = {"fileData": {"fileUri": "u", "mimeType": "video/mp4"}, "videoMetadata": {"fps": 2}}
    assert conversation([said("user", part)]).losses == [
        Loss("contents.0.parts.0.videoMetadata", "unsupported")
    ]


def test_code_that_ran_elsewhere_is_told_as_text() -> None:
    found = conversation(
        [
            said(
                "model",
                {"text": "See:"},
                {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "no"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
                {"text": ""},
                {"text": "So"},
                {"text": " it is.\n"},
                {"executableCode": {"code": "2"}},
                {"text": "\nDone"},
            )
        ]
    )
    blocks = ("python\nprint(1)", "\n1\n", "\nOUTCOME_FAILED\nno", "\nOUTCOME_OK")
    fences = "\n".join(f"```{block}\n```" for block in blocks)
    assert found.items == [
        message("assistant", f"See:\n{fences}\nSo it is.\n```\n2\n```\nDone"),
    ]
    assert found.losses == [Loss(f"contents.0.parts.{at}", "as-text") for at in (1, 2, 3, 4, 8)]


def test_code_stands_beside_media() -> None:
    code = {"executableCode": {"code": "1"}}
    image = {"inlineData": {"mimeType": "image/png", "data": "AA"}}
    (read,) = items([said("model", code, image, {"text": "a"})])
    assert isinstance(read, Message)
    assert [part.text for part in read.parts if isinstance(part, TextPart)] == ["```\n1\n```", "a"]


def test_a_part_of_unknown_kind_is_kept_and_told() -> None:
    part: Any = {"toolCall": {"toolType": "GOOGLE_MAPS"}, "thoughtSignature": "c2ln"}
    found = conversation([said("model", {"text": "a"}, part, {"text": "b"})])
    assert found.items == [
        message("assistant", "a"),
        OpaqueItem(dialect="gemini", type="toolCall", payload=part),
        message("assistant", "b"),
    ]
    assert found.losses == [Loss("contents.0.parts.1", "unknown-part")]


@pytest.mark.parametrize(
    "system",
    [
        {"parts": [{"text": "a"}, {"brandNew": {}}]},
        {"role": "user", "parts": [{"text": "a"}, {"brandNew": {}}]},
        [{"text": "a"}, {"brandNew": {}}],
    ],
)
def test_unknown_parts_of_an_instruction_are_kept_too(system: Any) -> None:
    found = conversation("hi", system)
    assert [type(item) for item in found.items] == [Message, OpaqueItem, Message]
    assert found.losses == [Loss("systemInstruction.parts.1", "unknown-part")]


@pytest.mark.parametrize("lone", [{"text": "a"}, [{"text": "a"}], ["a"]])
def test_a_content_may_be_a_lone_part(lone: Any) -> None:
    found = conversation(lone)
    assert (found.items, found.losses) == ([message("user", "a")], [])


@pytest.mark.parametrize(
    ("contents", "path"),
    [
        ([{"role": "user", "Parts": [{"text": "a"}]}], "contents.0.Parts"),
        ([{"role": "user", "text": "a"}], "contents.0.text"),
        ([{"parts": [{"text": "b"}], "more": "a"}], "contents.0.more"),
        ([said("user", {"text": "b", "brandNew": "a"})], "contents.0.parts.0.brandNew"),
    ],
)
def test_members_of_unknown_name_are_told(contents: Any, path: str) -> None:
    assert conversation(contents).losses == [Loss(path, "unknown-member")]
    assert conversation("hi", contents[0]).losses == [
        Loss(path.replace("contents.0", "systemInstruction"), "unknown-member")
    ]


def test_misspelt_parts_alone_are_an_unknown_part() -> None:
    given: Any = {"Parts": [{"text": "a"}]}
    found = conversation([given])
    assert found.items == [OpaqueItem(dialect="gemini", type="Parts", payload=given)]
    assert found.losses == [Loss("contents.0.parts.0", "unknown-part")]


def test_known_members_of_parts_are_not_told_in_either_spelling() -> None:
    parts = [
        {"text": "a", "thought": True, "thoughtSignature": "c2ln", "partMetadata": {"a": 1}},
        {"inline_data": {"mime_type": "image/png", "data": "AA"}, "mediaResolution": {"level": "LOW"}},
        {"functionCall": {"name": "f", "id": "c"}, "thought_signature": "c2ln"},
        {"function_response": {"name": "f", "response": {}}, "brandNew": None},
    ]
    assert conversation([said("model", *parts)]).losses == []


def test_arguments_that_come_in_pieces_are_told() -> None:
    call = {"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.a", "stringValue": "b"}]}}
    assert conversation([said("model", call)]).losses == [
        Loss("contents.0.parts.0.functionCall.partialArgs", "unsupported")
    ]


def test_an_empty_part_says_nothing() -> None:
    assert items([said("user", {}, {"text": "a"}, {"mediaResolution": {"level": "LOW"}})]) == [
        message("user", "a")
    ]


# -- calls and their results ------------------------------------------------------------------------------


def call(name: str, call_id: str | None = None, **args: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": args} | ({"id": call_id} if call_id else {})}


def answer(name: str, response: Any, call_id: str | None = None) -> dict[str, Any]:
    told = {"name": name, "response": response} | ({"id": call_id} if call_id else {})
    return {"functionResponse": told}


def ids(read: Sequence[Item]) -> tuple[list[str], list[str]]:
    calls = [item.call_id for item in read if isinstance(item, ToolCall)]
    return calls, [item.call_id for item in read if isinstance(item, ToolResult)]


def test_a_call_and_its_result() -> None:
    read = items(
        [
            said("model", {"text": "Let me see."}, call("find", "c1", q="x")),
            said("user", answer("find", {"output": "found"}, "c1"), {"text": "and?"}),
        ]
    )
    assert read == [
        message("assistant", "Let me see."),
        ToolCall(call_id="c1", name="find", arguments='{"q":"x"}'),
        ToolResult(call_id="c1", name="find", parts=(TextPart("found"),)),
        message("user", "and?"),
    ]


def test_calls_without_ids_are_known_by_their_places_and_answered_in_order() -> None:
    contents = [
        said("user", {"text": "go"}),
        said("model", call("a", n=1), call("b"), call("a", n=2)),
        said("function", answer("b", {}), answer("a", {}), answer("a", {})),
    ]
    calls, results = ids(items(contents))
    assert calls == ["call_1_0", "call_1_1", "call_1_2"]
    assert results == ["call_1_1", "call_1_0", "call_1_2"]
    more = [*contents, said("model", {"text": "done"}), said("user", {"text": "thanks"})]
    assert ids(items(more)) == (calls, results), "the same in every request"


def test_results_find_their_calls_by_id_before_name() -> None:
    read = items(
        [
            said("model", call("a", "c1"), call("a", "c2")),
            said("user", answer("a", {}, "c2"), answer("a", {})),
        ]
    )
    assert ids(read) == (["c1", "c2"], ["c2", "c1"])


def test_an_id_that_the_client_made_up_is_matched_by_name() -> None:
    assert ids(items([said("model", call("a")), said("user", answer("a", {}, "own"))])) == (
        ["call_0_0"],
        ["call_0_0"],
    )


def test_a_result_without_a_call_is_kept() -> None:
    read = items([said("user", answer("a", {}, "c9"), answer("b", {}))])
    assert ids(read) == ([], ["c9", "call_0_1"])


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "x"}, "x", False),
        ({"result": {"a": 1}}, '{"a":1}', False),
        ({"result": None}, "", False),
        ({"error": "broken"}, "broken", True),
        ({"error": {"code": 1}}, '{"code":1}', True),
        ({"output": "x", "error": "y"}, '{"output":"x","error":"y"}', False),
        ({"degrees": 7}, '{"degrees":7}', False),
        ({}, "{}", False),
        (None, "", False),
        ("x", "x", False),
        ([1, 2], "[1,2]", False),
    ],
)
def test_what_a_function_gave_back(response: Any, text: str, is_error: bool) -> None:
    (read,) = items([said("user", answer("f", response, "c"))])
    assert read == ToolResult(call_id="c", name="f", parts=(TextPart(text),), is_error=is_error)


def test_a_function_may_give_back_media() -> None:
    told = answer("shot", {"output": "see"}, "c")
    told["functionResponse"]["parts"] = [
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        {"brandNew": {}},
    ]
    found = conversation([said("user", told)])
    (read,) = found.items
    assert isinstance(read, ToolResult)
    assert read.parts == (TextPart("see"), MediaPart(kind="image", mime_type="image/png", data="AA=="))
    assert found.losses == [Loss("contents.0.parts.0.functionResponse.parts", "unknown-part")]


def test_arguments_are_json_text() -> None:
    (read,) = items([said("model", {"functionCall": {"name": "f"}})])
    assert isinstance(read, ToolCall)
    assert read.arguments == "{}"
    (read,) = items([said("model", call("f", "c", text="ü\u2028", deep={"a": [1.5, None]}))])
    assert isinstance(read, ToolCall)
    assert loads(read.arguments) == {"text": "ü\u2028", "deep": {"a": [1.5, None]}}


def test_calls_that_were_answered_by_id_are_not_found_by_name_again() -> None:
    calls = said("model", call("a", "c1"), call("b", "c1"), call("a", "c2"))
    answers = said(
        "user", answer("x", {}, "c1"), answer("x", {}, "c1"), answer("a", {}), answer("a", {}, "c9")
    )
    assert ids(items([calls, answers]))[1] == ["c1", "c1", "c2", "c9"]


LONG = 20_000
"""So many that to go through all of them for each of them takes far longer than LIMIT."""
LIMIT = 30.0


def test_many_calls_take_no_longer_than_they_are() -> None:
    contents = [
        said("model", *[call("f")] * LONG),
        said("user", *[answer("g", {})] * LONG, *[answer("f", {})] * LONG),
    ]
    begun = process_time()
    asked = items(contents)
    assert process_time() - begun < LIMIT
    assert ids(asked)[1][-1] == f"call_0_{LONG - 1}"


@pytest.mark.parametrize("mark", [{}, {"thought": True}])
def test_many_texts_take_no_longer_than_they_are(mark: Any) -> None:
    contents = [said("model", *[{"text": "long " * 60, **mark}] * LONG * 2)]
    begun = process_time()
    (read,) = items(contents)
    assert process_time() - begun < LIMIT
    told = read.parts[0] if isinstance(read, Message) else read
    assert isinstance(told, Reasoning | TextPart)
    assert len(told.text) == 300 * LONG * 2
