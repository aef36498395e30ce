from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.lingma.answer_text import AnswerText, Piece


def said(*texts: str) -> tuple[str, str]:
    """Message text and reasoning of an answer that comes in these pieces."""
    answer = AnswerText()
    pieces = [piece for text in texts for piece in answer.feed(text)] + answer.finish()
    message = "".join(piece.text for piece in pieces if piece.kind == "message")
    return message, "".join(piece.text for piece in pieces if piece.kind == "reasoning")


def test_plain_text_passes_at_once() -> None:
    assert AnswerText().feed("hello") == [Piece("message", "hello")]


def test_a_possible_marker_is_held_until_it_is_clear() -> None:
    answer = AnswerText()
    assert answer.feed("a <th") == [Piece("message", "a ")]
    assert answer.feed("e> b") == [Piece("message", "<the> b")]


def test_an_ordinary_code_fence_is_text() -> None:
    code = "```python\nprint(1)\n```\n"
    assert said(code) == (code, "")
    assert said(*code) == (code, "")


def test_think_tags_and_think_fences_are_reasoning() -> None:
    assert said("<think>one</think>two") == ("two", "one")
    assert said("```think::x\none\n```\ntwo") == ("two", "one")


def test_a_card_is_dropped_even_when_it_never_ends() -> None:
    assert said("a\n```toolCall::grep::1::DONE\n{}") == ("a\n", "")


def test_an_empty_card_is_dropped() -> None:
    assert said("a\n```toolCall::grep::1::DONE\n```\nb") == ("a\nb", "")


def test_an_unfinished_marker_at_the_end_is_text() -> None:
    assert said("a ``") == ("a ``", "")


def test_overwrite_appends_what_is_new() -> None:
    answer = AnswerText()
    answer.feed("abc")
    assert answer.overwrite("abcd") == [Piece("message", "d")]
    assert answer.overwrite("ab") == []
    assert answer.visible == "ab"


@given(st.text(alphabet="ab<>`\n/thinktoolCall:", max_size=60), st.data())
def test_any_cut_says_the_same(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    assert said(text[:cut], text[cut:]) == said(text)


def test_the_line_end_of_a_fence_may_come_later() -> None:
    assert said("```toolCall::r::1::DONE\n", "``", "`", "\n", "x") == ("x", "")
    assert said("```toolCall::r::1::DONE\n\n```", "x") == ("x", "")
