from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import dumps
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Reasoning,
    RefusalPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.upstreams.antigravity.contents import BLANK, build_history, part_out, with_user_first
from gateway.upstreams.antigravity.names import made_call_id
from tests.fakes.antigravity_brain import PIXEL
from tests.support.signature_chains import fc, fr, gemini_signature, model, text, thought, user

SIGNED = gemini_signature("one")
OURS = Origin(executor="gem", dialect="gemini", signature=SIGNED)
THEIRS = Origin(executor="other", dialect="gemini", signature=SIGNED)


def said(role: Role, *texts: str, origin: Origin | None = None) -> Message:
    return Message(role=role, parts=tuple(TextPart(one) for one in texts), origin=origin)


def called(call_id: str, arguments: str = '{"p":1}', **fields: Any) -> ToolCall:
    return ToolCall(call_id=call_id, name="read", arguments=arguments, **fields)


def gave(call_id: str, *texts: str, **fields: Any) -> ToolResult:
    return ToolResult(call_id=call_id, parts=tuple(TextPart(one) for one in texts), **fields)


def contents(*items: Item, **how: Any) -> list[Any]:
    return build_history(items, executor="gem", **how).contents


def output(call_id: str, said: str) -> Any:
    part: Any = fr(call_id)
    part["functionResponse"]["response"] = {"output": said}
    return part


def test_a_conversation() -> None:
    history = build_history(
        (
            said("system", "be brief", ""),
            said("developer", "be kind"),
            said("user", "hi", "there"),
            said("assistant", "hello"),
            said("user", "bye"),
        ),
        executor="gem",
    )
    assert history.system == {"parts": [text("be brief"), text("be kind")]}
    assert history.contents == [user("hi", "there"), model("hello"), user("bye")]


def test_instructions_in_the_middle_are_the_users() -> None:
    assert contents(said("user", "a"), said("system", "b"), said("assistant", "c")) == [
        user("a", "b"),
        model("c"),
    ]


def test_nothing_is_ever_empty() -> None:
    history = build_history((said("system", "only"),), executor="gem")
    assert history == (None, [user("only")])
    assert contents() == contents(said("user", ""), said("assistant")) == [user(BLANK)]
    assert contents(said("user", "a"), said("assistant", ""), said("user", "b")) == [user("a", "b")]


def test_calls_and_their_results() -> None:
    assert contents(
        said("user", "go"),
        said("assistant", "looking"),
        called("a"),
        called("b", "{}"),
        gave("a", "one"),
        gave("b", "two", "lines"),
        said("user", "and now"),
    ) == [
        user("go"),
        model("looking", fc("a"), fc("b", {})),
        user(output("a", "one"), output("b", "two\nlines"), "and now"),
    ]


def test_results_stand_first_in_what_the_user_says() -> None:
    built = contents(said("user", "go"), called("a"), said("user", "hurry"), gave("a", "one"))
    assert built[-1] == user(output("a", "one"), "hurry")


def test_results_come_in_the_order_of_their_calls() -> None:
    calls = [called(name) for name in "abc"]
    given = [gave("c", "3"), said("user", "well?"), gave("x", "?"), gave("a", "1"), gave("b", "2")]
    built = contents(said("user", "go"), *calls, *given)
    assert [part.get("functionResponse", {}).get("id") for part in built[-1]["parts"]] == [
        "a",
        "b",
        "c",
        "x",
        None,
    ]


def test_ids_that_were_made_here_are_not_the_upstreams() -> None:
    made = made_call_id("t", 1)
    assert contents(said("user", "go"), called(made), gave(made, "one"))[1:] == [
        model(fc("")),
        user({"functionResponse": {"name": "read", "response": {"output": "one"}}}),
    ]


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (gave("a", "plain"), {"output": "plain"}),
        (gave("a"), {"output": ""}),
        (gave("a", ' {"n": 1}'), {"n": 1}),
        (gave("a", "{broken"), {"output": "{broken"}),
        (gave("a", "[1]"), {"output": "[1]"}),
        (gave("a", '{"n": 1}', is_error=True), {"error": '{"n": 1}'}),
    ],
)
def test_what_a_tool_gave_back(result: ToolResult, response: Any) -> None:
    built = contents(said("user", "go"), called("a"), result)
    assert built[-1]["parts"][0]["functionResponse"]["response"] == response


def test_a_result_is_named_after_its_call() -> None:
    def name(*items: Item) -> str:
        named: str = contents(said("user", "go"), *items)[-1]["parts"][0]["functionResponse"]["name"]
        return named

    assert name(called("a"), gave("a", "x", name="other")) == "read"
    assert name(gave("a", "x", name="mine")) == "mine"
    assert name(gave("a", "x")) == "unknown"
    long = ToolCall(call_id="a", name="1" * 70, arguments="")
    built = contents(said("user", "go"), long, gave("a", "x"))
    sent = built[1]["parts"][0]["functionCall"]["name"]
    assert built[2]["parts"][0]["functionResponse"]["name"] == sent != long.name


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (called("a", ""), {}),
        (called("a", '{"p": [1]}'), {"p": [1]}),
        (called("a", "{broken"), {"input": "{broken"}),
        (called("a", "[1]"), {"input": [1]}),
        (called("a", "*** patch", kind="custom"), {"input": "*** patch"}),
        (called("a", '{"p":1}', kind="custom"), {"input": '{"p":1}'}),
    ],
)
def test_arguments_are_an_object(call: ToolCall, args: Any) -> None:
    assert contents(said("user", "go"), call)[-1]["parts"][0]["functionCall"]["args"] == args


def test_media_of_a_result_come_behind_all_results() -> None:
    picture = MediaPart(kind="image", data=PIXEL)
    shown = ToolResult(call_id="a", parts=(TextPart("see"), picture))
    built = contents(said("user", "go"), called("a"), called("b"), shown, gave("b", "two"))
    assert [next(iter(part)) for part in built[-1]["parts"]] == [
        "functionResponse",
        "functionResponse",
        "inlineData",
    ]


# -- signatures -------------------------------------------------------------------------------------------


def test_signatures_of_our_own_go_back() -> None:
    built = contents(
        said("user", "go"),
        Reasoning(summary=("hm", "hm"), origin=OURS),
        said("assistant", "a", "b", origin=OURS),
        called("a", origin=OURS),
    )
    assert built[1] == model(thought("hm\n\nhm", SIGNED), "a", text("b", SIGNED), fc("a", signature=SIGNED))


def test_signatures_of_others_do_not() -> None:
    built = contents(
        said("user", "go"),
        Reasoning(text="hm", origin=THEIRS),
        Reasoning(text="hm", signature="EqQBCkYIAxgC" + "A" * 40),
        Reasoning(text="hm", signature=""),
        said("assistant", "a", origin=THEIRS),
        called("a", origin=THEIRS),
    )
    assert built[1] == model("a", fc("a"))


def test_what_has_the_shape_of_ours_is_tried_until_it_is_refused() -> None:
    brought = Reasoning(text="hm", signature=SIGNED)
    items = (said("user", "go"), brought, said("assistant", "a", origin=OURS), called("a", origin=OURS))
    assert contents(*items)[1]["parts"][0] == thought("hm", SIGNED)
    assert contents(*items, signatures=False)[1] == model("a", fc("a"))


def test_a_refusal_is_text_and_what_nobody_knows_is_left_out() -> None:
    refusal = Message(role="assistant", parts=(RefusalPart("no"),))
    odd = OpaqueItem(dialect="messages", type="odd", payload={})
    assert contents(said("user", "go"), odd, refusal) == [user("go"), model("no")]


# -- media ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "mime_type"),
    [
        (MediaPart(kind="image", data=PIXEL), "image/png"),
        (MediaPart(kind="image", data="/9j/4AAQ"), "image/jpeg"),
        (MediaPart(kind="image", data="UklGRiQA"), "image/webp"),
        (MediaPart(kind="audio", data="UklGRiQA"), "audio/wav"),
        (MediaPart(kind="file", data="JVBERi0x"), "application/pdf"),
        (MediaPart(kind="file", data="eA==", name="a.TXT"), "text/plain"),
        (MediaPart(kind="file", data="eA=="), "application/octet-stream"),
        (MediaPart(kind="audio", mime_type="audio/mp3", data="UklGRiQA"), "audio/mp3"),
        (MediaPart(kind="image", url="https://x.example/a.webp?b.png#c"), "image/webp"),
        (MediaPart(kind="image", url="http://[broken"), "image/png"),
        (MediaPart(kind="video", url="https://x.example/watch"), "video/mp4"),
    ],
)
def test_media(part: MediaPart, mime_type: str) -> None:
    (written,) = part_out(part).values()
    assert written == (
        {"mimeType": mime_type, "data": part.data}
        if part.data is not None
        else {"mimeType": mime_type, "fileUri": part.url}
    )


def test_files_that_are_elsewhere_cannot_be_sent() -> None:
    with pytest.raises(InvalidRequest, match="stored elsewhere"):
        contents(Message(role="user", parts=(MediaPart(kind="file", file_id="file-1"),)))
    assert part_out(MediaPart(kind="audio")) == {"text": "[audio]"}


def test_a_conversation_begins_with_the_user() -> None:
    begun = [user("a")]
    assert with_user_first(begun) is begun
    for unnamed in ([{"parts": [{"text": "a"}]}], [{"role": "function", "parts": []}]):
        listed: Any = unnamed
        assert with_user_first(listed) is listed
    assert with_user_first([model("a")]) == [user(BLANK), model("a")]
    assert with_user_first([]) == [user(BLANK)]


def test_the_same_turn_is_the_same_bytes() -> None:
    items = (said("user", "a"), called("x"), gave("x", "y"))
    assert dumps(contents(*items)) == dumps(contents(*items))
