from time import process_time
from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import loads
from gateway.protocols.bodies import check
from gateway.protocols.messages.content import Conversation, flatten_items
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.wire.messages import MessagesRequest


def read(*messages: tuple[str, Any], system: Any = None) -> Conversation:
    body: Any = {"model": "m", "messages": [{"role": role, "content": said} for role, said in messages]}
    if system is not None:
        body["system"] = system
    request = check(MessagesRequest, body)
    conversation = Conversation()
    conversation.system(request.system)
    for index, message in enumerate(request.messages):
        conversation.message(message, f"messages.{index}")
    return conversation


def parts_of(**block: Any) -> tuple[Part, ...]:
    (item,) = read(("user", [block])).items
    assert isinstance(item, Message)
    return item.parts


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def user(*texts: str) -> Message:
    return Message(role="user", parts=tuple(TextPart(said) for said in texts))


def result(*parts: Part, **fields: Any) -> ToolResult:
    return ToolResult(call_id="c1", parts=parts, **fields)


# -- roles and order --------------------------------------------------------------------------------------


def test_lv_88_system_and_two_messages_become_three_in_order() -> None:
    """Given system + u1 + a1: expect three messages in order."""
    assert read(("user", "u1"), ("assistant", "a1"), system="be brief").items == [
        Message(role="system", parts=(TextPart("be brief"),)),
        user("u1"),
        Message(role="assistant", parts=(TextPart("a1"),)),
    ]


def test_cv_69_system_messages_inside_the_conversation_stay_where_they_are() -> None:
    """Given Claude Code's request with role system inside messages: expect it accepted, order kept."""
    items = read(("user", [text("hi")]), ("system", "now this"), ("developer", "and that")).items
    assert [item.role for item in items if isinstance(item, Message)] == ["user", "system", "developer"]


def test_a_system_prompt_of_blocks_is_one_message() -> None:
    items = read(("user", "u"), system=[text("one"), text("two")]).items
    assert items[0] == Message(role="system", parts=(TextPart("one"), TextPart("two")))


@pytest.mark.parametrize("nothing", ["", []])
def test_a_system_prompt_that_says_nothing_is_none(nothing: Any) -> None:
    assert read(("user", "u"), system=nothing).items == [user("u")]


def test_the_billing_marker_is_no_part_of_the_prompt() -> None:
    marker = text("x-anthropic-billing-header: cc_version=2.1; cch=00000;")
    conversation = read(("user", "u"), system=[marker, text("You are")])
    assert conversation.items[0] == Message(role="system", parts=(TextPart("You are"),))
    assert conversation.losses == [Loss("system.0", "billing-marker")]


def test_only_the_line_of_the_billing_marker_goes() -> None:
    conversation = read(("user", "u"), system="x-anthropic-billing-header: a\nYou are\nhere")
    assert conversation.items[0] == Message(role="system", parts=(TextPart("You are\nhere"),))


def test_a_prompt_that_is_a_billing_marker_alone_is_none() -> None:
    assert read(("user", "u"), system=[text("x-anthropic-billing-header: a")]).items == [user("u")]


def test_blocks_of_one_message_stay_together() -> None:
    assert read(("user", [text("a"), text("b")])).items == [user("a", "b")]


@pytest.mark.parametrize("empty", ["", []])
def test_a_message_that_says_nothing_keeps_its_place(empty: Any) -> None:
    items = read(("user", empty), ("assistant", "a")).items
    assert len(items) == 2
    assert isinstance(items[0], Message)


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_message_without_content_is_refused(role: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read((role, None))
    assert caught.value.param == "messages.0.content"


def test_a_system_message_may_carry_settings_alone() -> None:
    assert read(("user", "u"), ("system", None)).items == [user("u")]


# -- calls and results ------------------------------------------------------------------------------------


def test_text_call_and_text_keep_their_order() -> None:
    call = {"type": "tool_use", "id": "c1", "name": "find", "input": {"q": "ä", "n": 1}}
    assert read(("assistant", [text("a"), call, text("b")])).items == [
        Message(role="assistant", parts=(TextPart("a"),)),
        ToolCall(call_id="c1", name="find", arguments='{"q":"ä","n":1}'),
        Message(role="assistant", parts=(TextPart("b"),)),
    ]


def test_a_call_without_input_has_an_empty_object() -> None:
    (item,) = read(("assistant", [{"type": "tool_use", "id": "c1", "name": "find"}])).items
    assert item == ToolCall(call_id="c1", name="find", arguments="{}")


def test_a_result_knows_the_name_of_its_call() -> None:
    items = read(
        ("assistant", [{"type": "tool_use", "id": "c1", "name": "find", "input": {}}]),
        ("user", [{"type": "tool_result", "tool_use_id": "c1", "content": "ok"}, text("go on")]),
    ).items
    assert items[1:] == [result(TextPart("ok"), name="find"), user("go on")]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ()),
        ("", (TextPart(""),)),
        ("ok", (TextPart("ok"),)),
        ([text("a"), text("b")], (TextPart("a"), TextPart("b"))),
        (
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}],
            (MediaPart(kind="image", mime_type="image/png", data="AA"),),
        ),
        (
            [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}],
            (TextPart("D"),),
        ),
        ([{"type": "tool_reference", "tool_name": "grep"}], (TextPart("[tool_reference] grep"),)),
        ([{"type": "hologram", "x": [1]}], (TextPart('{"type":"hologram","x":[1]}'),)),
        (
            [{"type": "tool_use", "id": "c2", "name": "find", "input": {"q": 1}}],
            (TextPart('{"id":"c2","name":"find","input":{"q":1}}'),),
        ),
    ],
)
def test_results_carry_everything_in_them(content: Any, parts: tuple[Part, ...]) -> None:
    block = {"type": "tool_result", "tool_use_id": "c1", "content": content}
    assert read(("user", [block])).items == [result(*parts)]


def test_a_failed_result_says_so() -> None:
    block = {"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": True}
    assert read(("user", [block])).items == [result(TextPart("no"), is_error=True)]


def test_tools_that_servers_ran_are_calls_and_results_too() -> None:
    call = {"type": "server_tool_use", "id": "c1", "name": "web_search", "input": {"query": "x"}}
    page = {"type": "web_search_result", "title": "T", "url": "u", "encrypted_content": "s3cret"}
    found = {"type": "web_search_tool_result", "tool_use_id": "c1", "content": [page]}
    conversation = read(("assistant", [call, found, text("It is")]))
    called, answered, said = conversation.items
    assert called == ToolCall(call_id="c1", name="web_search", arguments='{"query":"x"}')
    assert isinstance(answered, ToolResult)
    assert answered.name == "web_search"
    assert isinstance(answered.parts[0], TextPart)
    assert loads(answered.parts[0].text) == [{"type": "web_search_result", "title": "T", "url": "u"}]
    assert said == Message(role="assistant", parts=(TextPart("It is"),))
    assert conversation.losses == [Loss("messages.0.content.1", "encrypted")]


def test_what_is_sealed_is_told_once_for_each_result_however_many_there_are() -> None:
    page = {"type": "web_search_result", "encrypted_content": "x", "encrypted_index": "y"}
    found = {"type": "web_search_tool_result", "tool_use_id": "c1", "content": [page, page]}
    many = 20_000
    body = [found] * many
    begun = process_time()
    losses = read(("assistant", body)).losses
    assert process_time() - begun < 10, "to look through all losses for each takes minutes"
    assert losses == [Loss(f"messages.0.content.{index}", "encrypted") for index in range(many)]


def test_files_in_results_of_servers_are_left_out() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "A" * 100}
    fetched = {"type": "web_fetch_result", "url": "u", "content": {"type": "document", "source": source}}
    conversation = read(
        ("assistant", [{"type": "web_fetch_tool_result", "tool_use_id": "c1", "content": fetched}])
    )
    (item,) = conversation.items
    assert isinstance(item, ToolResult)
    assert "AAAA" not in str(item.parts)
    assert conversation.losses == [Loss("messages.0.content.0", "placeholder")]


# -- thinking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "item"),
    [
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning(text="hm", signature="s")),
        ({"type": "thinking", "thinking": "hm", "signature": ""}, Reasoning(text="hm")),
        ({"type": "thinking", "thinking": "hm"}, Reasoning(text="hm")),
        ({"type": "redacted_thinking", "data": "sealed"}, Reasoning(signature="sealed")),
    ],
)
def test_thinking_comes_back_with_its_signature(block: Any, item: Item) -> None:
    assert read(("assistant", [block, text("a")])).items[0] == item


# -- media and other texts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (
            {"type": "base64", "media_type": "image/webp", "data": "AA"},
            MediaPart(kind="image", mime_type="image/webp", data="AA"),
        ),
        ({"type": "url", "url": "https://x/y.png"}, MediaPart(kind="image", url="https://x/y.png")),
        (
            {"type": "url", "url": "data:image/png;base64,AA"},
            MediaPart(kind="image", mime_type="image/png", data="AA"),
        ),
        ({"type": "file", "file_id": "file_1"}, MediaPart(kind="image", file_id="file_1")),
    ],
)
def test_images_keep_what_leads_to_them(source: Any, part: Part) -> None:
    assert parts_of(type="image", source=source) == (part,)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (
            {"source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}, "title": "T"},
            (MediaPart(kind="file", mime_type="application/pdf", data="AA", name="T"),),
        ),
        (
            {"source": {"type": "url", "url": "https://x/y.pdf"}, "context": "read it"},
            (TextPart("read it"), MediaPart(kind="file", url="https://x/y.pdf")),
        ),
        ({"source": {"type": "file", "file_id": "f"}}, (MediaPart(kind="file", file_id="f"),)),
        ({"source": {"type": "text", "media_type": "text/plain", "data": "D"}}, (TextPart("D"),)),
        (
            {"source": {"type": "text", "data": "D"}, "title": "T", "context": "C"},
            (TextPart("T\nC\n\nD"),),
        ),
        ({"source": {"type": "content", "content": "D"}, "title": "T"}, (TextPart("T"), TextPart("D"))),
        (
            {"source": {"type": "content", "content": [{"type": "text", "text": "D"}]}},
            (TextPart("D"),),
        ),
    ],
)
def test_documents_are_their_text_or_a_file(block: Any, parts: tuple[Part, ...]) -> None:
    assert parts_of(type="document", **block) == parts


def test_citations_that_are_wanted_are_a_loss() -> None:
    source = {"type": "text", "data": "D"}
    wanted = {"type": "document", "source": source, "citations": {"enabled": True}}
    unwanted = {"type": "document", "source": source, "citations": {"enabled": False}}
    assert read(("user", [wanted, unwanted])).losses == [
        Loss("messages.0.content.0.citations", "unsupported")
    ]


def test_a_search_result_is_its_text_with_its_source() -> None:
    parts = parts_of(type="search_result", source="https://x", title="T", content=[text("a"), text("b")])
    assert parts == (TextPart("T\nhttps://x\n\na\n\nb"),)


def test_a_file_for_a_container_is_a_file() -> None:
    assert parts_of(type="container_upload", file_id="f") == (MediaPart(kind="file", file_id="f"),)


def test_a_compaction_is_its_summary() -> None:
    assert parts_of(type="compaction", content="so far") == (TextPart("so far"),)
    sealed = read(("assistant", [{"type": "compaction", "content": None, "encrypted_content": "x"}]))
    assert (sealed.items, sealed.losses) == ([], [Loss("messages.0.content.0", "encrypted")])


def test_a_block_that_nobody_knows_is_kept_and_told() -> None:
    block = {"type": "hologram", "depth": 3}
    conversation = read(("user", [text("a"), block, text("b")]))
    assert conversation.items == [
        user("a"),
        OpaqueItem(dialect="messages", type="hologram", payload={"type": "hologram", "depth": 3}),
        user("b"),
    ]
    assert conversation.losses == [Loss("messages.0.content.1", "unknown-block")]


# -- hashing ----------------------------------------------------------------------------------------------


def test_lv_87_calls_and_results_are_marked_in_the_text_for_hashing() -> None:
    """Given Anthropic text, tool_use, tool_result (flattened for hashing): expect the text to contain
    `[tool_use]` and `[tool_result] ok`.
    """
    items = read(
        ("assistant", [text("hi"), {"type": "tool_use", "id": "c1", "name": "find", "input": {"q": 1}}]),
        ("user", [{"type": "tool_result", "tool_use_id": "c1", "content": "ok"}]),
    ).items
    assert flatten_items(items) == 'hi\n[tool_use] find {"q":1}\n[tool_result] ok'


def test_thoughts_and_unknown_blocks_count_in_the_text_for_hashing() -> None:
    items = read(("assistant", [{"type": "thinking", "thinking": "hm"}, {"type": "hologram"}])).items
    assert flatten_items(items) == 'hm\n[hologram] {"type":"hologram"}'
