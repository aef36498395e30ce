from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.ids import TurnId
from gateway.sessions.key import (
    KeyMessage,
    build_key,
    hash_branch_context,
    hash_user_context,
    is_eligible,
    lookup_key,
    messages_of,
    normalise_reply,
    order_hash,
    tenant_scope,
    tool_config,
    write_key,
)
from gateway.turn.items import (
    Dialect,
    Item,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    RefusalPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.request import OutputFormat, RawRequest, Turn
from gateway.turn.tools import AUTO, ToolChoice, ToolSpec, fingerprint

LOOKUP: ToolSpec = ToolSpec(name="lookup", raw={"type": "function", "function": {"name": "lookup"}})


def said(role: Role, *texts: str) -> Message:
    return Message(role=role, parts=tuple(map(TextPart, texts)))


def turn_of(
    *items: Item,
    tenant: str = "395812e6b5c6",
    tools: tuple[ToolSpec, ...] = (),
    choice: ToolChoice = AUTO,
    dialect: Dialect = "chat",
    mentioned: bool = False,
    output_format: OutputFormat | None = None,
) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant=tenant,
        created_at_ms=0,
        model="lingma",
        items=items,
        raw=RawRequest(dialect=dialect, body={}),
        tools=tools,
        tool_choice=choice,
        tools_mentioned=mentioned,
        output_format=output_format,
    )


A, R1, B, R2, C = (
    said("user", "A"),
    said("assistant", "R1"),
    said("user", "B"),
    said("assistant", "R2"),
    said("user", "C"),
)


# -- the reference's hashes -------------------------------------------------------------------------------


def test_lv_29_a_tenant_is_a_prefix_of_its_keys_hash() -> None:
    """Given the API key `sk-blue-42`, and none; expected `395812e6b5c6` and `3bc15c8aae3e`."""
    assert tenant_scope("sk-blue-42") == "395812e6b5c6"
    assert tenant_scope(None) == tenant_scope("") == "3bc15c8aae3e"


def test_lv_30_the_user_hash_does_not_see_the_assistant() -> None:
    """Given [system "Be brief", user "Name a tree"], and with assistant "Oak" added;
    expected `a0e0064226a6869122789b837b886b29424aad4e` for both.
    """
    asked = [said("system", "Be brief"), said("user", "Name a tree")]
    expected = "a0e0064226a6869122789b837b886b29424aad4e"
    assert hash_user_context(messages_of(asked)) == expected
    assert hash_user_context(messages_of([*asked, said("assistant", "Oak")])) == expected
    assert (
        hash_user_context([KeyMessage("system", "Be brief"), KeyMessage("user", "Name a tree")]) == expected
    )


def test_lv_31_the_branch_hash_sees_only_the_assistant() -> None:
    """Given no assistant turn, and assistant "Oak"; expected `da39a3ee5e6b4b0d3255bfef95601890afd80709`
    and `f2a1390664cadcb5052c9a8237e9d8e29680b34d`.
    """
    assert hash_branch_context([]) == "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    assert hash_branch_context(messages_of([A])) == "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    oak = "f2a1390664cadcb5052c9a8237e9d8e29680b34d"
    assert hash_branch_context(messages_of([A, said("assistant", "Oak")])) == oak
    assert hash_branch_context([KeyMessage("assistant", "Oak")]) == oak


def test_lv_32_an_image_counts_by_its_place_and_not_by_its_content() -> None:
    """Given [system "Be brief", user parts: text "Hello"] and the same with an image part, flattened to
    "Hello\\n[image]"; expected different hashes, and one hash for two images with equal text.
    """

    def user_hash(*parts: Part) -> str:
        return hash_user_context(messages_of([said("system", "Be brief"), Message(role="user", parts=parts)]))

    hello = TextPart("Hello")
    cat, dog = (MediaPart(kind="image", url=f"https://example.org/{name}.png") for name in ("cat", "dog"))
    assert user_hash(hello) != user_hash(hello, cat) == user_hash(hello, dog)
    assert user_hash(hello, cat) == user_hash(TextPart("Hello\n[image]"))


def test_lv_33_the_tool_fingerprint_does_not_depend_on_the_order_of_members() -> None:
    """Given tool_config {"provider":"openai","tools":[{"type":"function","function":{"name":"lookup"}}],
    "tool_choice":null} in any order of members; expected `da531c02c39789f9`.
    """
    config = tool_config(turn_of(A, tools=(LOOKUP,)))
    assert config is not None
    assert fingerprint(config) == "da531c02c39789f9"
    assert fingerprint(dict(reversed(config.items()))) == "da531c02c39789f9"


def test_a_turn_without_tools_has_no_fingerprint() -> None:
    assert fingerprint(tool_config(turn_of(A))) == "-"
    assert fingerprint({}) != "-"


def test_lv_94_a_key_has_two_colons_without_a_branch_and_three_with_one() -> None:
    """Given the parts of a key, without and with a branch hash; expected two colons, and three."""
    scope = tenant_scope("sk-blue-42")
    user, branch = hash_user_context([]), hash_branch_context([])
    assert build_key(scope, user, "-") == f"{scope}:{user}:-"
    assert build_key(scope, user, "-", branch) == f"{scope}:{user}:-:{branch}"
    assert write_key(turn_of(A), [R1]).count(":") == 3


# -- which keys a turn has --------------------------------------------------------------------------------


def test_what_one_turn_writes_the_next_one_looks_up() -> None:
    first, second = turn_of(A), turn_of(A, R1, B)
    assert lookup_key(first) is None, "there is nothing to continue"
    assert lookup_key(second) == write_key(first, [R1])
    assert lookup_key(turn_of(A, R1, B, R2, C)) == write_key(second, [R2])
    assert lookup_key(second) != write_key(second, [R2])


@pytest.mark.parametrize(
    "items",
    [
        [],
        [A],
        [R1],
        [A, R1],
        [A, said("system", "Hurry")],
        [A, ToolResult(call_id="c", parts=())],
        [Reasoning(text="hm"), A],
    ],
)
def test_nothing_is_continued_without_a_newest_user_message_and_one_before_it(items: Sequence[Item]) -> None:
    assert lookup_key(turn_of(*items)) is None


def test_a_turn_whose_answer_was_not_said_does_not_pass_for_one_that_was() -> None:
    assert lookup_key(turn_of(A, B)) is not None
    assert write_key(turn_of(A), []) != lookup_key(turn_of(A, B))
    assert write_key(turn_of(A), []) == write_key(turn_of(A), [said("assistant", "")])


@pytest.mark.parametrize(
    ("changed", "eligible"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"ask_mode": "agent"}, False),
        ({"mentioned": True}, False),
    ],
)
def test_only_plain_chats_use_sessions(changed: dict[str, object], eligible: bool) -> None:
    turn = turn_of(A, R1, B, mentioned=bool(changed.get("mentioned")))
    mode, enabled = str(changed.get("ask_mode", "chat")), bool(changed.get("enabled", True))
    assert is_eligible(turn, mode, enabled=enabled) is eligible


# -- the reply --------------------------------------------------------------------------------------------

SAID = "Use\n\n    oak\n\nor elm."
SAME: dict[str, list[Item]] = {
    "as it was": [said("assistant", SAID)],
    "space around it": [said("assistant", f"\n  {SAID} \t\n")],
    "carriage returns": [said("assistant", SAID.replace("\n", "\r\n"))],
    "in parts": [said("assistant", SAID[:7], SAID[7:])],
    "in messages": [said("assistant", SAID[:7]), said("assistant", SAID[7:])],
    "after a reasoning item": [Reasoning(text="hm", signature="s"), said("assistant", SAID)],
    "around a reasoning item": [
        said("assistant", SAID[:7]),
        Reasoning(summary=("hm",)),
        said("assistant", SAID[7:]),
    ],
    "with thinking folded in": [said("assistant", f"<think>\nhm\n</think>\n\n{SAID}")],
    "as a refusal": [Message(role="assistant", parts=(RefusalPart(SAID),))],
    "with an id, a name and an origin": [
        Message(
            role="assistant",
            parts=(TextPart(SAID),),
            id="msg_1",
            name="lingma",
            origin=Origin(executor="lingma", dialect="lingma"),
        )
    ],
}
OTHER: dict[str, list[Item]] = {
    "a word more": [said("assistant", SAID + " Or ash.")],
    "another case": [said("assistant", SAID.upper())],
    "another indentation": [said("assistant", SAID.replace("    ", "  "))],
    "a line less": [said("assistant", SAID.replace("\n\n", "\n"))],
    "words run together": [said("assistant", SAID.replace(" ", ""))],
    "nothing": [said("assistant", "")],
    "thinking alone": [Reasoning(text=SAID)],
    "thinking that has not ended": [said("assistant", f"<think>{SAID}")],
    "another role": [said("user", SAID)],
    "a call beside it": [said("assistant", SAID), ToolCall(call_id="c", name="f", arguments="{}")],
    "an image beside it": [Message(role="assistant", parts=(TextPart(SAID), MediaPart(kind="image")))],
    "something unknown beside it": [
        said("assistant", SAID),
        OpaqueItem(dialect="responses", type="x", payload={}),
    ],
}


@pytest.mark.parametrize("given_back", SAME.values(), ids=SAME)
@pytest.mark.parametrize("reply", SAME.values(), ids=SAME)
def test_lv_34b_the_form_of_a_reply_does_not_matter(reply: list[Item], given_back: list[Item]) -> None:
    """Given a reply with surrounding space, CRLF, thinking parts, or as parts instead of a string, as it was
    produced and as the client gives it back; expected the next turn's lookup key to be the write key.
    """
    assert lookup_key(turn_of(A, *given_back, B)) == write_key(turn_of(A), reply)


@pytest.mark.parametrize("given_back", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("reply", SAME.values(), ids=SAME)
def test_lv_34b_the_meaning_of_a_reply_matters(reply: list[Item], given_back: list[Item]) -> None:
    """Given a reply that the client gives back with another meaning; expected different keys."""
    assert lookup_key(turn_of(A, *given_back, B)) != write_key(turn_of(A), reply)


def test_lv_34b_the_other_meanings_are_told_apart_from_each_other() -> None:
    """Given replies of different meanings; expected as many keys."""
    empty = ("nothing", "thinking alone")
    keys = {write_key(turn_of(A), reply) for name, reply in OTHER.items() if name not in empty}
    assert len(keys) == len(OTHER) - len(empty)


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_only_replies_are_normalised(role: Role) -> None:
    assert messages_of([said(role, " A\r\n", "<think></think>B ")]) == [
        KeyMessage(role, " A\r\n\n<think></think>B ")
    ]


def test_thinking_in_the_middle_of_a_reply_is_part_of_it() -> None:
    assert normalise_reply("a <think>b</think> c") == "a <think>b</think> c"
    assert normalise_reply("<think>a</think> <think>b</think>c") == "c"


# -- what else counts -------------------------------------------------------------------------------------


def test_tools_the_choice_and_the_provider_count() -> None:
    named = ToolChoice("named", ("lookup",))
    configs = [
        turn_of(A),
        turn_of(A, tools=(LOOKUP,)),
        turn_of(A, tools=(LOOKUP,), choice=named),
        turn_of(A, choice=ToolChoice("none")),
        turn_of(A, tools=(LOOKUP, LOOKUP)),
        turn_of(A, tools=(ToolSpec(name="lookup"),)),
        turn_of(A, tools=(ToolSpec(name="lookup", parameters={"type": "object"}),)),
        turn_of(A, tools=(LOOKUP,), dialect="messages"),
        turn_of(A, tools=(LOOKUP,), dialect="gemini"),
    ]
    assert len({write_key(turn, [R1]) for turn in configs}) == len(configs)


def test_a_session_is_continued_in_its_own_output_format_only() -> None:
    """The instruction to answer in JSON is in the session for good."""
    plain = (None, OutputFormat(kind="text"))
    formats = (
        None,
        OutputFormat(kind="json_object"),
        OutputFormat(kind="json_schema", schema={"type": "object"}),
        OutputFormat(kind="json_schema", schema={"type": "array"}),
    )
    for first in formats:
        written = write_key(turn_of(A, output_format=first), [R1])
        for second in formats:
            looked_up = lookup_key(turn_of(A, R1, B, output_format=second))
            assert (looked_up == written) is (first == second)
    assert len({write_key(turn_of(A, output_format=wanted), [R1]) for wanted in plain}) == 1


def test_calls_and_results_count() -> None:
    call = ToolCall(call_id="c1", name="f", arguments="{}")
    result = ToolResult(call_id="c1", parts=(TextPart("ok"),))
    histories: list[list[Item]] = [
        [A, call, result],
        [A, ToolCall(call_id="c2", name="f", arguments="{}"), result],
        [A, ToolCall(call_id="c1", name="g", arguments="{}"), result],
        [A, ToolCall(call_id="c1", name="f", arguments="{ }"), result],
        [A, ToolCall(call_id="c1", name="f", arguments="{}", kind="custom"), result],
        [A, call, call, result],
        [A, call, ToolResult(call_id="c2", parts=(TextPart("ok"),))],
        [A, call, ToolResult(call_id="c1", parts=(TextPart("no"),))],
        [A, said("assistant", "f"), result],
    ]
    assert len({lookup_key(turn_of(*history, B)) for history in histories}) == len(histories)


def test_messages_of_other_tenants_have_other_keys() -> None:
    assert write_key(turn_of(A, tenant="a"), [R1]) != write_key(turn_of(A, tenant="b"), [R1])


def test_a_tenants_name_cannot_spell_the_key_of_another_tenant() -> None:
    [_, user, tools, rest] = write_key(turn_of(A, tenant="t"), [R1]).split(":")
    branch = rest.partition("~")[0]
    for name in (f"t:{user}", f"t:{user}:{tools}", f"t:{user}:{tools}:{branch}", f"t:{user}:{tools}:{rest}"):
        assert write_key(turn_of(A, tenant=name), [R1]) != write_key(turn_of(A, tenant="t"), [R1])


def test_what_the_reference_confuses_is_told_apart() -> None:
    """Its two hashes know neither how the sides took turns nor where a message ends."""
    pairs: list[tuple[list[Item], list[Item]]] = [
        ([A, R1, B], [A, B, R1]),
        ([A, R1, B, R2], [R1, A, R2, B]),
        ([said("user", "A\x1euser\x1fB"), R1], [A, B, R1]),
        ([said("user", "A\x1euser\x1fB"), C, R1], [A, said("user", "B\x1euser\x1fC"), R1]),
    ]
    for one, other in pairs:
        hashes = [(hash_user_context(m), hash_branch_context(m)) for m in map(messages_of, (one, other))]
        assert hashes[0] == hashes[1], "the example shows what it is meant to show"
        assert lookup_key(turn_of(*one, C)) != lookup_key(turn_of(*other, C))


TEXTS = st.text(alphabet="ab \r\n\x1e\x1f", max_size=4) | st.sampled_from(["user\x1fa", "a\x1euser\x1fb"])
ROLES: st.SearchStrategy[Role] = st.sampled_from(["system", "developer", "user", "assistant"])
MESSAGES = st.lists(st.builds(said, ROLES, TEXTS), min_size=1, max_size=5)


def meaning(items: Sequence[Message]) -> list[tuple[str, str]]:
    """An independent account of what makes two conversations one: who says what, replies put together."""
    spoken: list[tuple[str, str]] = []
    for item in items:
        text = "\n".join(part.text for part in item.parts if isinstance(part, TextPart))
        if item.role == "assistant" and spoken and spoken[-1][0] == "assistant":
            spoken[-1] = ("assistant", spoken[-1][1] + text)
        else:
            spoken.append((item.role, text))
    return [
        (role, text.replace("\r\n", "\n").replace("\r", "\n").strip() if role == "assistant" else text)
        for role, text in spoken
    ]


@given(MESSAGES, MESSAGES)
def test_keys_are_equal_exactly_when_conversations_are(one: list[Message], other: list[Message]) -> None:
    same = lookup_key(turn_of(*one, C)) == lookup_key(turn_of(*other, C))
    assert same is (meaning(one) == meaning(other))


@given(MESSAGES, st.randoms(use_true_random=False))
def test_another_order_is_another_key(items: list[Message], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    same = lookup_key(turn_of(*items, C)) == lookup_key(turn_of(*shuffled, C))
    assert same is (meaning(items) == meaning(shuffled))


@given(st.data(), MESSAGES)
def test_any_change_of_one_message_changes_the_key(data: st.DataObject, items: list[Message]) -> None:
    at = data.draw(st.integers(0, len(items) - 1))
    role, text = data.draw(ROLES), data.draw(TEXTS)
    changed = [*items[:at], said(role, text), *items[at + 1 :]]
    same = lookup_key(turn_of(*items, C)) == lookup_key(turn_of(*changed, C))
    assert same is (meaning(items) == meaning(changed))


@given(MESSAGES, TEXTS, st.text(alphabet=" \t\r\n", max_size=3), st.integers(0, 4))
def test_a_reply_given_back_in_another_form_is_found(
    items: list[Message], text: str, space: str, cut: int
) -> None:
    asked = [*items, A]
    form = space + text.replace("\n", "\r\n").replace("\r\r\n", "\r\n") + space
    given_back: list[Item] = [Reasoning(text="hm"), said("assistant", form[:cut], form[cut:])]
    assert lookup_key(turn_of(*asked, *given_back, B)) == write_key(
        turn_of(*asked), [said("assistant", text)]
    )


@given(st.text(alphabet="a \r\n<>think/", max_size=30))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise_reply(text)
    assert normalise_reply(once) == once


@given(
    st.lists(st.builds(KeyMessage, ROLES, TEXTS, TEXTS, TEXTS), max_size=4),
    st.lists(st.builds(KeyMessage, ROLES, TEXTS, TEXTS, TEXTS), max_size=4),
)
def test_with_the_order_the_hashes_hold_the_whole_conversation(
    one: list[KeyMessage], other: list[KeyMessage]
) -> None:
    """Of client messages only role and text are hashed."""

    def hashes(messages: list[KeyMessage]) -> tuple[str, str, str]:
        return hash_user_context(messages), hash_branch_context(messages), order_hash(messages)

    def kept(messages: list[KeyMessage]) -> list[tuple[str, ...]]:
        return [
            tuple(m) if m.role == "assistant" else (m.role, m.text, *map(str, (len(m[2]), len(m[3]))))
            for m in messages
        ]

    assert (hashes(one) == hashes(other)) is (kept(one) == kept(other))
