from typing import Any

import pytest

from gateway.kernel.ids import TurnId
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, RawRequest, ReasoningRequest, Sampling, Turn
from gateway.turn.tools import ToolChoice, ToolSpec
from gateway.upstreams.codex.edits import Shape
from gateway.upstreams.codex.request import build_body, built, losses_of, original_names
from tests.support.replay import SIG_A, signature

SHAPE = Shape(model="gpt", stream=False)
PLAIN = Shape(model="gpt", stream=False, reasoning=False)
SCHEMA: Any = {"type": "object", "properties": {"q": {"type": "string"}}}


def turn(*items: Item, dialect: Any = "chat", raw: Any = None, **fields: Any) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant="-",
        created_at_ms=0,
        model="m",
        items=items,
        raw=RawRequest(dialect, raw or {}),
        **fields,
    )


def said(role: Any, *parts: Any) -> Message:
    return Message(
        role=role, parts=tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
    )


def given(*items: Item, shape: Shape = SHAPE) -> Any:
    return built(turn(*items), shape)["input"]


def test_a_turn_of_another_dialect_is_built() -> None:
    body = build_body(turn(said("system", "Be brief."), said("user", "hi")), SHAPE)
    assert body == {
        "model": "gpt",
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "stream": False,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_a_turn_of_the_same_dialect_is_the_clients_own_body() -> None:
    raw = {"model": "gpt", "input": "hi", "stream": False}
    assert build_body(turn(said("user", "hi"), dialect="responses", raw=raw), SHAPE) is raw


def test_only_what_the_conversation_begins_with_is_its_instructions() -> None:
    body = built(
        turn(said("system", "a", "b"), said("developer", "c"), said("user", "d"), said("system", "e")), SHAPE
    )
    assert body["instructions"] == "a\nb\n\nc"
    items: Any = body["input"]
    assert [item["role"] for item in items] == ["user", "developer"]
    assert built(turn(said("system", "a")), SHAPE)["input"] == []
    opaque = OpaqueItem(dialect="messages", type="document", payload={})
    assert (
        built(turn(said("user", "a"), opaque), SHAPE)["input"]
        == built(turn(said("user", "a")), SHAPE)["input"]
    )


def test_answers_hold_text_and_refusals() -> None:
    image = MediaPart(kind="image", url="u")
    (item,) = given(said("assistant", "a", RefusalPart("no"), image))
    assert item["content"] == [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    assert given(said("assistant", image), said("user")) == []


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (
            MediaPart(kind="image", url="https://x/y.png"),
            {"type": "input_image", "detail": "auto", "image_url": "https://x/y.png"},
        ),
        (
            MediaPart(kind="image", data="AA==", mime_type="image/png", detail="low"),
            {"type": "input_image", "detail": "low", "image_url": "data:image/png;base64,AA=="},
        ),
        (
            MediaPart(kind="image", file_id="file_1"),
            {"type": "input_image", "detail": "auto", "file_id": "file_1"},
        ),
        (
            MediaPart(kind="audio", data="AA==", mime_type="audio/mp3"),
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
        ),
        (
            MediaPart(kind="file", data="AA==", mime_type="application/pdf", name="a.pdf"),
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        ),
        (MediaPart(kind="file", url="https://x"), {"type": "input_file", "file_url": "https://x"}),
    ],
)
def test_media(part: MediaPart, wanted: Any) -> None:
    (item,) = given(said("user", part))
    assert item["content"] == [wanted]


def test_calls_meet_their_results() -> None:
    calls = [
        ToolCall(call_id="c1", name="find", arguments='{"q":1}'),
        ToolCall(call_id="c2", name="now", arguments=""),
        ToolCall(call_id="c3", name="exec", arguments="ls", kind="custom"),
    ]
    picture = MediaPart(kind="image", url="u")
    results = [
        ToolResult(call_id="c1", parts=(TextPart("a"), TextPart("b"))),
        ToolResult(call_id="c2", parts=(TextPart("see"), picture)),
        ToolResult(call_id="c3", parts=()),
    ]
    assert given(*calls, *results) == [
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": '{"q":1}'},
        {"type": "function_call", "call_id": "c2", "name": "now", "arguments": "{}"},
        {
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "c3",
            "name": "exec",
            "input": "ls",
        },
        {"type": "function_call_output", "call_id": "c1", "output": "a\nb"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "detail": "auto", "image_url": "u"},
            ],
        },
        {"type": "custom_tool_call_output", "call_id": "c3", "output": ""},
    ]


def test_ids_and_names_that_are_too_long_are_shortened_alike() -> None:
    long = "x" * 70
    call, result = given(
        ToolCall(call_id=long, name=f"mcp.{long}", arguments="{}"), ToolResult(call_id=long, parts=())
    )
    assert call["call_id"] == result["call_id"]
    assert (len(call["call_id"]), len(call["name"])) == (64, 64)
    tool = ToolSpec(name=f"mcp.{long}", parameters=SCHEMA)
    offered = turn(said("user", "a"), tools=(tool,), tool_choice=ToolChoice("named", (tool.name,)))
    body = built(offered, SHAPE)
    assert body["tool_choice"] == {"type": "function", "name": call["name"]}
    assert original_names(offered) == {call["name"]: tool.name}
    assert original_names(turn(tools=(tool,), dialect="responses")) == {}


def test_reasoning_goes_back_to_models_that_reason() -> None:
    own = Reasoning(summary=("so",), signature=SIG_A)
    foreign = Reasoning(text="hm", signature="foreign")
    item = {"type": "reasoning", "summary": [], "content": None, "encrypted_content": SIG_A}
    assert given(own, foreign, Reasoning(text="x")) == [item]
    blob = signature(0xFFFF)
    assert "_" in blob
    (back,) = given(Reasoning(signature=blob.replace("-", "+").replace("_", "/")))
    assert back["encrypted_content"] == blob
    assert given(own, shape=PLAIN) == []
    assert given(own, shape=Shape(model="gpt", stream=False, fresh=True)) == []


def test_reasoning_that_a_gemini_client_has_on_what_followed_goes_back() -> None:
    origin = Origin(executor="client", dialect="gemini", signature=signature(1))
    text = Message(role="assistant", parts=(TextPart("hi"),), origin=origin)
    call = ToolCall(call_id="c", name="f", arguments="{}", origin=origin)
    sent = given(Message(role="user", parts=(TextPart("u"),)), text, call)
    assert [item["type"] for item in sent] == ["message", "reasoning", "message", "function_call"]
    assert sent[1]["encrypted_content"] == signature(1)
    assert "reasoning" not in [item["type"] for item in given(text, shape=PLAIN)]


def test_models_reason_or_sample() -> None:
    wanted = turn(
        said("user", "a"),
        sampling=Sampling(temperature=0.5, top_p=0.9, max_output_tokens=5),
        reasoning=ReasoningRequest(effort="low"),
    )
    reasoning, plain = built(wanted, SHAPE), built(wanted, PLAIN)
    assert "temperature" not in reasoning
    assert reasoning["reasoning"] == {"effort": "low", "summary": "auto"}
    assert reasoning["max_output_tokens"] == 16
    assert (plain["temperature"], plain["top_p"]) == (0.5, 0.9)
    assert not {"reasoning", "include"} & plain.keys()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, None),
        (ReasoningRequest(), {"summary": "auto"}),
        (ReasoningRequest(effort="max", summary="detailed"), {"effort": "xhigh", "summary": "detailed"}),
        (ReasoningRequest(budget_tokens=0), {"effort": "none", "summary": "auto"}),
        (ReasoningRequest(budget_tokens=2048), {"effort": "low", "summary": "auto"}),
        (ReasoningRequest(budget_tokens=10_000), {"effort": "medium", "summary": "auto"}),
        (ReasoningRequest(budget_tokens=32_000), {"effort": "high", "summary": "auto"}),
    ],
)
def test_efforts(wanted: ReasoningRequest | None, expected: Any) -> None:
    assert built(turn(said("user", "a"), reasoning=wanted), SHAPE).get("reasoning") == expected


@pytest.mark.parametrize(
    ("body", "wanted", "expected"),
    [
        ({}, ReasoningRequest(effort="max"), {"effort": "xhigh"}),
        (
            {"reasoning": {"effort": "low", "summary": "auto"}},
            ReasoningRequest(effort="high"),
            {"summary": "auto", "effort": "high"},
        ),
        ({"reasoning": {"effort": "low", "x": 1}}, ReasoningRequest(), {"x": 1}),
        ({"reasoning": "odd"}, ReasoningRequest(budget_tokens=0), {"effort": "none"}),
    ],
)
def test_the_effort_that_a_name_asks_for(body: Any, wanted: ReasoningRequest, expected: Any) -> None:
    named = turn(dialect="responses", raw={"model": "m", **body}, reasoning=wanted, effort_named=True)
    assert build_body(named, SHAPE)["reasoning"] == expected
    assert build_body(named, PLAIN).get("reasoning") == body.get("reasoning"), "this model has no effort"


def test_tools_and_their_choice() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "x"}
    tools = (
        ToolSpec(name="find", description="d", parameters=SCHEMA, strict=True),
        ToolSpec(name="bare"),
        ToolSpec(
            name="exec", kind="custom", raw={"type": "custom", "custom": {"name": "exec", "format": grammar}}
        ),
        ToolSpec(name="free", kind="custom"),
        ToolSpec(name="web_search", kind="hosted"),
    )
    choice = ToolChoice("auto", ("find", "exec"))
    body = built(turn(said("user", "a"), tools=tools, tool_choice=choice, parallel_tool_calls=False), SHAPE)
    assert body["tools"] == [
        {"type": "function", "name": "find", "description": "d", "parameters": SCHEMA, "strict": True},
        {
            "type": "function",
            "name": "bare",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        },
        {"type": "custom", "name": "exec", "description": "", "format": grammar},
        {"type": "custom", "name": "free", "description": ""},
    ]
    allowed = [{"type": "function", "name": "find"}, {"type": "custom", "name": "exec"}]
    assert body["tool_choice"] == {"type": "allowed_tools", "mode": "auto", "tools": allowed}
    assert body["parallel_tool_calls"] is False
    assert (
        built(turn(said("user", "a"), tools=tools, tool_choice=ToolChoice("required")), SHAPE)["tool_choice"]
        == "required"
    )
    assert "tools" not in built(turn(said("user", "a"), tools=tools[-1:]), SHAPE)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, None),
        (OutputFormat(), None),
        (OutputFormat(kind="json_object"), {"format": {"type": "json_object"}}),
        (
            OutputFormat(kind="json_schema", name="n", schema=SCHEMA, strict=True),
            {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        ),
        (
            OutputFormat(kind="json_schema", schema=SCHEMA),
            {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": False}},
        ),
    ],
)
def test_output_formats(wanted: OutputFormat | None, expected: Any) -> None:
    assert built(turn(said("user", "a"), output_format=wanted), SHAPE).get("text") == expected


def test_losses_of_a_turn_that_is_built() -> None:
    lossy = turn(
        OpaqueItem(dialect="messages", type="document", payload={}),
        said("assistant", MediaPart(kind="image", url="u")),
        sampling=Sampling(temperature=0.5, top_k=3, stop=("x",), seed=1, max_output_tokens=1),
        reasoning=ReasoningRequest(effort="low"),
        tools=(ToolSpec(name="web_search", kind="hosted"),),
    )
    told = {str(loss) for loss in losses_of(lossy)}
    assert told == {
        "top_k:unsupported",
        "stop:unsupported",
        "seed:unsupported",
        "temperature:unsupported",
        "max_output_tokens:raised-to-16",
        "tools.web_search:hosted-elsewhere",
        "messages.0:not-in-responses-document",
        "messages.1:media-in-an-answer",
    }
    plain = losses_of(lossy, reasoning=False)
    assert Loss("reasoning", "unsupported") in plain
    assert Loss("temperature", "unsupported") not in plain


def test_losses_of_a_turn_that_is_edited() -> None:
    """What its reading lost reaches the upstream, but for what is not kept, not open to it or left out."""
    read = [("store", "not-stored"), ("truncation", "unsupported"), ("input.0", "foreign-compaction")]
    losses = tuple(Loss(*one) for one in read)
    asked = turn(dialect="responses", raw={"truncation": "auto"}, losses=losses, sampling=Sampling(top_k=3))
    assert losses_of(turn(dialect="responses", sampling=Sampling(top_k=3))) == []
    assert losses_of(asked) == [losses[0], losses[2]]
    assert losses_of(asked, compaction=True) == [losses[0]]
    assert losses_of(asked, compaction=True, drop=("truncation", "metadata")) == [losses[0], losses[1]]
