from typing import Any

import pytest

from gateway.turn.request import ReasoningRequest
from gateway.upstreams.antigravity import edits
from gateway.upstreams.antigravity.contents import BLANK
from tests.support.signature_chains import fc, gemini_signature, model, text, user

EVERY = (
    edits.odds,
    edits.forms,
    edits.unsigned,
    edits.safety,
    edits.limit,
    edits.schemas,
    edits.user_first,
)
SIGNED = gemini_signature("one")


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [user("a"), model("b"), {"parts": [text("c")]}]},
        {
            "contents": [{"role": "user", "parts": [{"text": "a", "new_member": 1}]}],
            "system_instruction": {"parts": [{"text": "s"}]},
            "tools": [{"google_search": {}}, {"function_declarations": [{"name": "f", "parameters": {}}]}],
            "generation_config": {"temperature": 1, "response_schema": {"type": "string"}},
            "tool_config": {"function_calling_config": {"mode": "AUTO"}},
            "labels": {"a": "b"},
        },
    ],
)
def test_what_needs_no_edit_is_the_same_object(body: Any) -> None:
    assert edits.edited(body, EVERY) is body


def test_odds() -> None:
    body: Any = {"model": "m", "contents": [user("a")], "stream": True, "metadata": {}, "labels": {}}
    assert edits.odds(body) == {"contents": [user("a")], "labels": {}}
    assert body["model"] == "m", "the client's body stays as it is"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", [user("a")]),
        (["a", user("b")], [user("a"), user("b")]),
        (user("a"), [user("a")]),
        ([{"role": "assistant", "parts": "a"}], [model("a")]),
        ([{"role": "user", "parts": text("a")}], [user("a")]),
        ([{"role": "SYSTEM", "parts": ["a", text("b")]}], [user("a", "b")]),
        ([{"role": "model", "parts": [{"function_call": {"name": "f"}, "thought_signature": "s"}]}], None),
    ],
)
def test_forms_of_contents(given: Any, expected: Any) -> None:
    edited: Any = edits.forms({"contents": given})
    if expected is None:
        assert edited["contents"][0]["parts"] == [{"functionCall": {"name": "f"}, "thought_signature": "s"}]
    else:
        assert edited == {"contents": expected}


@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
@pytest.mark.parametrize("given", ["s", ["s"], {"text": "s"}, [{"text": "s"}]])
def test_forms_of_the_instruction(name: str, given: Any) -> None:
    body: Any = {"contents": [user("a")], name: given}
    assert edits.forms(body)[name] == {"parts": [{"text": "s"}]}


def test_a_lone_tool_is_a_list() -> None:
    body: Any = {"contents": [user("a")], "tools": {"googleSearch": {}}}
    assert edits.forms(body)["tools"] == [{"googleSearch": {}}]


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (
            None,
            ReasoningRequest(effort="low"),
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}},
        ),
        (
            {
                "generation_config": {
                    "seed": 1,
                    "thinking_config": {"include_thoughts": True, "thinking_budget": 9},
                }
            },
            ReasoningRequest(budget_tokens=512),
            {
                "generation_config": {
                    "seed": 1,
                    "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512},
                }
            },
        ),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}},
            ReasoningRequest(),
            {"generationConfig": {}},
        ),
        (None, ReasoningRequest(), {}),
    ],
)
def test_the_thinking_that_a_name_asks_for(given: Any, wanted: ReasoningRequest, expected: Any) -> None:
    body: Any = {"contents": [user("hi")], **(given or {})}
    assert edits.thinking(body, wanted, "gemini-3-flash") == {"contents": [user("hi")], **expected}


def test_signatures_are_taken_off() -> None:
    body: Any = {
        "contents": [user("a"), model(text("b", SIGNED), fc("x", signature=SIGNED)), "odd", {"parts": 3}]
    }
    assert edits.unsigned(body) == {"contents": [user("a"), model("b", fc("x")), "odd", {"parts": 3}]}
    assert edits.unsigned({}) == {}


# -- Code Assist ------------------------------------------------------------------------------------------


def test_what_code_assist_does_not_take() -> None:
    body: Any = {
        "contents": [user("a")],
        "safetySettings": [],
        "generationConfig": {"maxOutputTokens": 5, "topK": 1},
        "generation_config": {"max_output_tokens": 5},
    }
    assert edits.edited(body, (edits.safety, edits.limit)) == {
        "contents": [user("a")],
        "generationConfig": {"topK": 1},
        "generation_config": {},
    }


def test_schemas_are_cleaned_where_they_are_json_schema() -> None:
    theirs = {"type": "string", "const": "a"}
    schema = {"type": "object", "properties": {"a": theirs}, "additionalProperties": False}
    body: Any = {
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "parametersJsonSchema": schema},
                    {"name": "g", "parameters_json_schema": {"type": "object"}},
                    {"name": "h", "parameters": {"type": "OBJECT", "new": 1}},
                ]
            },
            {"googleSearch": {}},
        ],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
    }
    cleaned = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "enum": ["a"]}}}
    assert edits.schemas(body) == {
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "parameters": cleaned},
                    {"name": "g"},
                    {"name": "h", "parameters": {"type": "OBJECT", "new": 1}},
                ]
            },
            {"googleSearch": {}},
        ],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": cleaned},
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}}),
        (
            {"tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}}},
            {
                "tool_config": {
                    "function_calling_config": {"mode": "VALIDATED", "allowed_function_names": ["f"]}
                }
            },
        ),
    ],
)
def test_claude_is_told_to_keep_to_schemas(body: Any, expected: Any) -> None:
    edited = edits.validated(body)
    assert edited == expected
    assert edits.validated(edited) is edited


def test_the_user_comes_first() -> None:
    assert edits.user_first({"contents": [model("a")]}) == {"contents": [user(BLANK), model("a")]}


def test_odd_bodies_break_nothing() -> None:
    for odd in ({"contents": 3}, {"contents": [None, 3]}, {"tools": 3, "generationConfig": []}):
        body: Any = odd
        edits.edited(body, (*EVERY, edits.validated))
