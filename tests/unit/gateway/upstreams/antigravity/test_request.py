import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.turn.items import (
    Dialect,
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Reasoning,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.request import OutputFormat, RawRequest, ReasoningRequest, Sampling, Turn
from gateway.turn.tools import ToolChoice, ToolSpec
from gateway.upstreams.antigravity.replay_prepare import prepared
from gateway.upstreams.antigravity.request import (
    Shape,
    build_request,
    enveloped,
    losses_of,
    with_user_first,
)
from tests.fakes.antigravity_envelope import ENVELOPE
from tests.fakes.antigravity_fields import REQUEST, Checker, Reader
from tests.fakes.antigravity_history import Signatures, history_problem
from tests.support.signature_chains import fc, gemini_signature, model, user

PLAIN = Shape(model="gemini-3-pro", executor="gem")
OLDER = Shape(model="gemini-2.5-flash", executor="gem")
ASSIST = Shape(model="gemini-3-pro", executor="gem", envelope="code_assist")
CLAUDE = Shape(model="claude-sonnet-4-5", executor="gem", envelope="code_assist")
SAID = Message(role="user", parts=(TextPart("hi"),))
SCHEMA: Any = {"type": "object", "properties": {"q": {"type": "string"}}, "additionalProperties": False}
SEARCH = ToolSpec(name="search", description="Looks", parameters=SCHEMA)
PATCH = ToolSpec(
    name="apply_patch",
    kind="custom",
    raw={"type": "custom", "format": {"type": "grammar", "definition": "start: /x/"}},
)
WEB = ToolSpec(name="web_search", kind="hosted")
MAIL = ToolSpec(name="mail__send", namespace="mail", parameters=None)


def turn(*items: Item, dialect: Dialect = "chat", body: Any = None, **fields: Any) -> Turn:
    return Turn(
        id=TurnId("01turn"),
        tenant="-",
        created_at_ms=0,
        model="m",
        items=items or (SAID,),
        raw=RawRequest(dialect, body or {}),
        **fields,
    )


def taken(request: Any, model: str = PLAIN.model) -> Any:
    """The request itself, when the upstream takes it."""
    reader, checker = Reader(), Checker(model)
    checker.request(reader.read(request, REQUEST))
    assert (reader.violations, checker.problems) == ([], [])
    return request


# -- built ------------------------------------------------------------------------------------------------


def test_a_turn_of_another_dialect_is_built() -> None:
    built = turn(
        Message(role="system", parts=(TextPart("be brief"),)),
        SAID,
        tools=(SEARCH, PATCH, WEB, MAIL),
        tool_choice=ToolChoice("named", ("search",)),
        sampling=Sampling(temperature=0.5),
        reasoning=ReasoningRequest(effort="high"),
    )
    request = taken(build_request(built, PLAIN))
    assert request == {
        "contents": [user("hi")],
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "search",
                        "description": "Looks",
                        "parameters": {"type": "OBJECT", "properties": {"q": {"type": "STRING"}}},
                    },
                    {
                        "name": "apply_patch",
                        "description": "apply_patch\n\nThe input keeps to this grammar:\nstart: /x/",
                        "parameters": {
                            "type": "OBJECT",
                            "properties": {"input": {"type": "STRING"}},
                            "required": ["input"],
                        },
                    },
                    {"name": "mail__send", "description": "mail__send"},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["search"]}},
        "generationConfig": {
            "temperature": 0.5,
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"},
        },
    }


def test_a_bare_turn_says_nothing_more() -> None:
    assert build_request(turn(), PLAIN) == {"contents": [user("hi")]}
    only_hosted = turn(tools=(WEB,), tool_choice=ToolChoice("required"))
    assert build_request(only_hosted, PLAIN) == {"contents": [user("hi")]}


def test_who_may_choose_among_some_is_offered_those() -> None:
    choice = ToolChoice("auto", ("search",))
    request: Any = taken(build_request(turn(tools=(SEARCH, MAIL), tool_choice=choice), PLAIN))
    assert [one["name"] for one in request["tools"][0]["functionDeclarations"]] == ["search"]
    assert "toolConfig" not in request


def test_a_name_that_is_offered_twice_is_declared_once() -> None:
    again = ToolSpec(name="search", description="Newer")
    request: Any = taken(build_request(turn(tools=(SEARCH, again)), PLAIN))
    assert request["tools"][0]["functionDeclarations"] == [{"name": "search", "description": "Newer"}]


def test_fields_that_the_upstream_refuses_are_dropped() -> None:
    shape = Shape(model="gemini-3-pro", executor="gem", drop=("toolConfig",))
    built = turn(tools=(SEARCH,), tool_choice=ToolChoice("required"))
    assert "toolConfig" not in build_request(built, shape)


# -- edited -----------------------------------------------------------------------------------------------


def test_a_geminis_clients_body_is_the_same_object() -> None:
    """An unedited request body goes out as the same object."""
    body: Any = {
        "contents": [user("hi")],
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"maxOutputTokens": 5, "responseJsonSchema": {"const": 1}, "new": True},
        "new_member": {"a": 1},
    }
    client = turn(dialect="gemini", body=body)
    assert build_request(client, PLAIN) is body
    assert with_user_first(body, client, PLAIN) is body


def test_what_gateways_are_told_is_not_for_the_upstream() -> None:
    body: Any = {"contents": "hi", "model": "m", "sessionId": "s"}
    assert build_request(turn(dialect="gemini", body=body), PLAIN) == {"contents": [user("hi")]}


def test_a_second_try_has_no_signatures() -> None:
    shape = Shape(model="gemini-3-pro", executor="gem", signatures=False)
    body: Any = {"contents": [user("a"), model(fc("x", signature=gemini_signature("s")))]}
    request = build_request(turn(dialect="gemini", body=body), shape)
    assert request == {"contents": [user("a"), model(fc("x"))]}


def test_who_begins() -> None:
    begun: Any = {"contents": [model("a")]}
    plain = turn(dialect="gemini", body=begun)
    assert with_user_first(begun, plain, PLAIN) is begun
    assert with_user_first(begun, plain, ASSIST)["contents"][0]["role"] == "user"  # type: ignore[index,call-overload]
    assert with_user_first(begun, turn(), PLAIN) != begun
    assert with_user_first(begun, turn(), CLAUDE) is begun


# -- Code Assist ------------------------------------------------------------------------------------------


def in_envelope(turn: Turn, shape: Shape) -> Any:
    request = with_user_first(build_request(turn, shape), turn, shape)
    return enveloped(turn, shape, request, project="p-1", session_id="-42", attempt=1)


@pytest.mark.parametrize("dialect", ["chat", "gemini"])
def test_the_envelope(dialect: Dialect) -> None:
    body: Any = {
        "contents": [user("hi")],
        "safetySettings": [],
        "tools": [
            {"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}]}
        ],
        "generationConfig": {"maxOutputTokens": 9},
    }
    asked = turn(dialect=dialect, body=body, tools=(SEARCH,), sampling=Sampling(max_output_tokens=9, top_k=2))
    envelope = in_envelope(asked, ASSIST)
    reader = Reader()
    reader.read(envelope, ENVELOPE)
    assert reader.violations == []
    request = envelope.pop("request")
    request_id = envelope.pop("requestId")
    assert envelope == {
        "model": "gemini-3-pro",
        "userAgent": "lingma-gateway",
        "requestType": "agent",
        "project": "p-1",
    }
    assert re.fullmatch(r"agent-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id)
    assert in_envelope(asked, ASSIST)["requestId"] == request_id, "from the turn alone"
    assert request["sessionId"] == "-42"
    assert not {"safetySettings", "toolConfig"} & request.keys()
    assert "maxOutputTokens" not in request["generationConfig"]


def test_another_family_of_models_behind_the_same_envelope() -> None:
    asked = turn(tools=(SEARCH,), sampling=Sampling(max_output_tokens=9))
    request = in_envelope(asked, CLAUDE)["request"]
    assert request["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert request["generationConfig"] == {"maxOutputTokens": 9}


def test_pictures_have_no_session() -> None:
    shape = Shape(model="gemini-3-pro-image", executor="gem", envelope="code_assist")
    envelope = in_envelope(turn(), shape)
    assert envelope["requestType"] == "image_gen"
    assert envelope["requestId"].startswith("image_gen-")
    assert "sessionId" not in envelope["request"]


# -- losses -----------------------------------------------------------------------------------------------


def lost(asked: Turn, shape: Shape = PLAIN) -> list[str]:
    return [str(loss) for loss in losses_of(asked, shape)]


def test_what_is_honoured_is_no_loss() -> None:
    assert lost(turn(tools=(SEARCH,), reasoning=ReasoningRequest(effort="low"))) == []


def test_losses() -> None:
    asked = turn(
        SAID,
        OpaqueItem(dialect="messages", type="odd", payload={}),
        tools=(SEARCH, WEB),
        parallel_tool_calls=False,
        sampling=Sampling(stop=tuple("abcdef"), max_output_tokens=5),
        output_format=OutputFormat(kind="json_object"),
        reasoning=ReasoningRequest(effort="low"),
    )
    always = ["tools.web_search:hosted-elsewhere", "parallel_tool_calls:unsupported", "stop:more-than-5"]
    odd = "messages.1:not-in-gemini-odd"
    assert lost(asked) == [*always, odd]
    assert lost(asked, OLDER) == [*always, "output_format:not-beside-tools", odd]
    assert lost(asked, ASSIST) == ["max_output_tokens:unsupported", *always, odd]
    assert lost(asked, CLAUDE) == [*always, odd]
    dull = Shape(model="gemini-3-pro", executor="gem", thinks=False)
    assert "reasoning:unsupported" in lost(asked, dull)
    old = Shape(model="gemini-2.0-flash", executor="gem")
    assert "reasoning:unsupported" in lost(asked, old)


def test_geminis_own_clients_lose_nothing_on_a_plain_upstream() -> None:
    asked = turn(dialect="gemini", body={"safetySettings": []}, tools=(WEB,), parallel_tool_calls=False)
    assert lost(asked) == []
    assert lost(asked, ASSIST) == ["safetySettings:unsupported"]


def test_geminis_own_clients_are_told_what_the_operator_leaves_out() -> None:
    asked = turn(dialect="gemini", body={"safetySettings": [{"category": "x"}], "labels": {}})
    choosy = Shape(model="gemini-3-pro", executor="gem", drop=("safetySettings", "labels", "serviceTier"))
    assert lost(asked, choosy) == ["safetySettings:unsupported"]


def test_every_kind_of_item_is_taken() -> None:
    items = (
        SAID,
        ToolCall(call_id="a", name="search", arguments="{}"),
        Message(role="user", parts=(MediaPart(kind="image", data="iVBORw0KGgo="),)),
    )
    taken(build_request(turn(*items), PLAIN))


# -- any conversation -------------------------------------------------------------------------------------

IDS = st.sampled_from(["a", "b", "c", "d"])
WORDS = st.sampled_from(["", "hi", " ", "灵码", "{", '{"n": 1}', "null"])
ITEMS: st.SearchStrategy[Item] = st.one_of(
    st.builds(
        lambda role, words: Message(role=role, parts=tuple(TextPart(one) for one in words)),
        st.sampled_from(["system", "developer", "user", "assistant"]),
        st.lists(WORDS, max_size=3),
    ),
    st.builds(
        lambda role, kind: Message(role=role, parts=(MediaPart(kind=kind, data="AAAA"),)),
        st.sampled_from(["user", "assistant"]),
        st.sampled_from(["image", "audio", "video", "file"]),
    ),
    st.builds(
        lambda text, signature: Reasoning(text=text, signature=signature),
        WORDS,
        st.sampled_from([None, "", "odd", "EqQBCkYIAxgC" + "A" * 40]),
    ),
    st.builds(
        lambda call_id, name, arguments, kind: ToolCall(
            call_id=call_id, name=name, arguments=arguments, kind=kind
        ),
        IDS,
        st.sampled_from(["search", "1st", "mail__send", "x" * 80]),
        WORDS,
        st.sampled_from(["function", "custom"]),
    ),
    st.builds(
        lambda call_id, words, failed: ToolResult(
            call_id=call_id, parts=tuple(TextPart(one) for one in words), is_error=failed
        ),
        IDS,
        st.lists(WORDS, max_size=2),
        st.booleans(),
    ),
    st.just(OpaqueItem(dialect="messages", type="odd", payload={})),
)


def answered(items: list[Item]) -> list[Item]:
    """With each call's result behind the calls, in another order, as clients have them."""
    told: list[Item] = []
    calls: list[str] = []
    seen: set[str] = set()
    for number, item in enumerate(items):
        if isinstance(item, ToolResult):
            continue
        if not isinstance(item, ToolCall) and calls:
            told += [ToolResult(call_id=one, parts=(TextPart("ok"),)) for one in reversed(calls)]
            calls = []
        if isinstance(item, ToolCall):
            item = msgspec.structs.replace(item, call_id=f"{item.call_id}{number}")
            assert item.call_id not in seen
            calls.append(item.call_id)
        told.append(item)
    return told + [ToolResult(call_id=one, parts=(TextPart("ok"),)) for one in calls]


@given(st.lists(ITEMS, max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_conversation_is_taken_or_told_to_be_the_clients_mistake(items: list[Item], sound: bool) -> None:
    asked = turn(*(answered(items) if sound else items) or [SAID], tools=(SEARCH,))
    request = with_user_first(build_request(asked, PLAIN), asked, PLAIN)
    try:
        sent: Any = prepared(request, response_role="user").payload
    except InvalidRequest:
        assert not sound, "calls and results fit together"
        return
    reader, checker = Reader(), Checker(PLAIN.model)
    message = reader.read(sent, REQUEST)
    checker.request(message)
    assert (reader.violations, checker.problems) == ([], [])
    problem = history_problem(
        message["contents"],
        model=PLAIN.model,
        signatures=Signatures(),
        demands=True,
        alternate=True,
        model_responds=False,
    )
    assert problem is None or not sound, "a call that nobody answered is the upstream's to refuse"
