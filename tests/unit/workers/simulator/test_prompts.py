"""Finding the user turns of a prompt."""

import pytest

from workers.simulator.prompts import read_prompt


def users(text: str, *, follow_up: bool = False) -> tuple[str, ...]:
    return read_prompt(text, follow_up=follow_up).users


def test_plain_text_is_one_user_message() -> None:
    assert users("  hello\nworld ") == ("hello\nworld",)


@pytest.mark.parametrize(
    "transcript",
    [
        "system: be brief\n\nuser: one\n\nassistant: a\n\nuser: two\nlines",
        "System: be brief\nUser: one\nAssistant: a\nUser: two\nlines\n\nAssistant:",
        "[system] be brief\n[user] one\n[assistant] a\n[user]: two\nlines",
        "### System\nbe brief\n\n### User\none\n\n### Assistant\na\n\n### User:\ntwo\nlines",
        "**User:** one\n\n**Assistant:** a\n\n**User:** two\nlines",
        "<user>one</user>\n<assistant>a</assistant>\n<user>\ntwo\nlines\n</user>",
        "be brief, all of you\n\nHuman: one\n\nAssistant: a\n\nHuman: two\nlines",
        "用户：one\n助手：a\n用户：two\nlines",
    ],
)
def test_role_labels_come_in_many_shapes(transcript: str) -> None:
    assert users(transcript) == ("one", "two\nlines")


def test_a_label_needs_its_mark() -> None:
    text = "user guide\n## User guide\n<user_id>7</user_id>\nassistants: two"
    assert users(text) == (text,)


def test_a_transcript_without_a_user_is_one_message() -> None:
    assert users("system: do it") == ("system: do it",)


def test_in_a_follow_up_only_a_label_on_the_first_line_makes_a_transcript() -> None:
    assert users("look at this\nuser: root", follow_up=True) == ("look at this\nuser: root",)
    assert users("user: a\nuser: b", follow_up=True) == ("a", "b")


@pytest.mark.parametrize(
    "ending",
    [
        "tool: [tool_result c1] 42",
        "Tool result for c1: 42",
        "user: [tool_result] 42",
        "function: 42\n\nAssistant:",
    ],
)
def test_a_tool_result_at_the_end_is_what_has_to_be_answered(ending: str) -> None:
    prompt = read_prompt(f"user: call it\n\nassistant: [tool_call c1] f {{}}\n\n{ending}", follow_up=False)
    assert (prompt.users, prompt.tool_result) == (("call it",), "42")


def test_a_tool_result_that_was_answered_is_history() -> None:
    prompt = read_prompt("user: a\ntool: 42\nassistant: b\nuser: c", follow_up=False)
    assert (prompt.last, prompt.tool_result) == ("c", None)
