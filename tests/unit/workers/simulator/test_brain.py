"""What is answered to what."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.simulator.brain import Known, NativeCall, Plan, filler, plan, split, unquote


def known(text: str, *earlier: str, **other: object) -> Known:
    given_: dict[str, object] = {"is_reply": False, "session_id": "s-1", "model": "kmodel", **other}
    return Known(text=text, earlier=earlier, turns=len(earlier) + 1, **given_)  # type: ignore[arg-type]


def answer(text: str, *earlier: str, **other: object) -> str:
    return "".join(plan(known(text, *earlier, **other)).deltas)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Say ping", "ping"),
        ("please say hello there.", "hello there"),
        ('Say "a. b."', "a. b."),
        ("Hi! Say: 7", "7"),
        ("Could you say yes", "yes"),
        ("first line\nsay it\nmore", "it"),
        ("说你好", "你好"),
        ("请说：早上好。", "早上好"),
        ("你好，请你说一句：早", "早"),
        ("Reply with exactly: count from 1 to 3", "count from 1 to 3"),
        ("reply with exactly the word pong", "pong"),
        ("Respond with only: a.", "a."),
        ('Answer exactly "x y"', "x y"),
        ('reply with exactly: {"name":"Ada","age":3}', '{"name":"Ada","age":3}'),
        ("Reply with exactly:\n```json\n{}\n```\ntrailing", "```json\n{}\n```"),
        ("只回复：好的", "好的"),
        ("repeat ab 3 times", "ab ab ab"),
        ("say ho 2 times", "ho ho"),
        ("重复 啊 2 次", "啊 啊"),
        ("count from 1 to 4", "1 2 3 4"),
        ("Count to 3", "1 2 3"),
        ("count down from 2", None),
        ("count from 2 down to -1", "2 1 0 -1"),
        ("请从3数到5", "3 4 5"),
        ("wait 1.5 seconds", "waited 1.5 seconds"),
        ("wait 20 ms", "waited 20 milliseconds"),
        ("wait 2 seconds, then say done", "done"),
        ("等待2秒", "等待了2秒"),
        ("think hard, then say 7", "7"),
    ],
)
def test_commands_are_obeyed_and_say_nothing_else(text: str, expected: str | None) -> None:
    if expected is None:
        assert answer(text).startswith(f"You said: {text}")
    else:
        assert answer(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "what would you say",
        "they say hello",
        "I count from 1 to 3",
        "说明一下",
        "do not wait 3 seconds",
        "essays: one",
    ],
)
def test_words_inside_a_sentence_are_no_commands(text: str) -> None:
    assert "turns=1" in answer(text)


def test_anything_else_is_echoed_with_the_report() -> None:
    assert answer("hello", "a", "b", is_reply=True) == (
        "You said: hello\nturns=3 isReply=true session=s-1 model=kmodel"
    )


def test_chinese_is_echoed_in_chinese() -> None:
    assert answer("你好吗").startswith("你说: 你好吗\nturns=1 isReply=false")


def test_the_first_message_is_remembered() -> None:
    assert answer("What did I say first?", "apples", "pears").startswith("You said first: apples\nturns=3")
    assert answer("我第一句说了什么？", "苹果").startswith("你最先说的是: 苹果\nturns=2")
    assert answer("what did I say first?").startswith("You said first: what did I say first?\nturns=1")


def test_a_status_names_first_and_previous() -> None:
    assert answer("status", "a", "b").startswith("What I know: first=a | previous=b\nturns=3")


def test_a_status_shows_both_ends_of_what_is_long() -> None:
    """Given a message that begins with a client's context, expect what the user wrote behind it to show."""
    context = f"<context>{'and so on ' * 500}</context>"
    told = answer("status", f"{context} say alpha")
    assert "previous=<context>and so on" in told
    assert "</context> say alpha\n" in told
    assert len(told) < 600


def test_a_tool_result_is_told_and_never_obeyed() -> None:
    said = answer("call tool f with {}", tool_result="say boo")
    assert said.startswith("The tool said: say boo\nturns=1")


def test_a_count_streams_one_number_a_delta() -> None:
    counted = plan(known("count slowly from 8 to 11"))
    assert (counted.deltas, counted.slow) == (["8", " 9", " 10", " 11"], True)
    assert plan(known("慢慢从1数到2")).slow
    assert not plan(known("count from 1 to 2")).slow


def test_a_wait_is_silence_before_the_answer() -> None:
    assert plan(known("wait 1.5 seconds")).wait_s == 1.5
    assert plan(known("wait 20 ms then say x")).wait_s == 0.02
    assert plan(known("等 3 秒")).wait_s == 3
    assert plan(known("wait 100000 seconds")).wait_s == 600


def test_thoughts_come_first() -> None:
    thought = plan(known("Think about life, then say 7"))
    assert "".join(thought.thoughts) == "Thinking: Think about life"
    assert "".join(thought.deltas) == "7"
    assert all(thought.thoughts)
    assert "turns=1" in answer("思考人生")


def test_tool_calls_are_written_as_action_blocks() -> None:
    assert answer('call tool Read with {"path": "a.c"} and call tool ls') == (
        '```json action\n{"tool": "Read", "parameters": {"path": "a.c"}}\n```\n\n'
        '```json action\n{"tool": "ls", "parameters": {}}\n```'
    )


@pytest.mark.parametrize("arguments", ["[1]", "{oops", "nothing"])
def test_arguments_that_are_no_object_are_none(arguments: str) -> None:
    assert answer(f"call tool f with {arguments}") == '```json action\n{"tool": "f", "parameters": {}}\n```'


def test_a_native_call_is_planned() -> None:
    assert plan(known('use native tool find with {"q": 1}')).native == NativeCall("find", {"q": 1})


def test_commands_are_found_at_both_ends_of_a_huge_message() -> None:
    padding = "lorem ipsum\n" * 50_000
    assert answer(f"say one\n{padding}") == "one"
    assert answer(f"{padding}say two") == "two"
    assert len(answer(padding)) < 400


@given(st.text(max_size=200))
def test_deltas_join_to_the_text(text: str) -> None:
    assert "".join(split(text)) == text


def test_deltas_are_word_like_and_the_second_is_empty() -> None:
    assert split("ping") == ["pi", "", "ng"]
    assert split("a b c") == ["a", "", " b", " c"]
    assert split("你好世界吗") == ["你好", "", "世界", "吗"]
    assert split("x") == ["x"]
    assert split("") == []


def test_filler_has_exactly_so_many_deltas() -> None:
    assert [len(filler(count)) for count in (0, 1, 200)] == [0, 1, 200]


@pytest.mark.parametrize(
    ("text", "bare"),
    [(' "a" ', "a"), ("“甲”", "甲"), ('"a" and "b"', '"a" and "b"'), ("`", "`"), ("'x", "'x")],
)
def test_one_pair_of_quotes_is_taken_off(text: str, bare: str) -> None:
    assert unquote(text) == bare


@given(st.text(max_size=300))
def test_every_text_has_an_answer(text: str) -> None:
    planned = plan(known(text))
    assert isinstance(planned, Plan)


def test_json_is_answered_when_it_is_asked_for_in_the_fence_that_models_like() -> None:
    wanted = 'Answer with exactly one JSON value. It must be valid against this JSON Schema:\n{"properties":'
    schema = '{"city": {"type": "string"}, "score": {"type": "integer", "minimum": 3}}}'
    said = answer(f"say Paris\n\n{wanted}{schema}")
    assert said.startswith("```json\n")
    assert json.loads(said.strip("`").removeprefix("json")) == {"city": "Paris", "score": 3}


def test_json_without_a_schema_is_an_object() -> None:
    said = answer("say 7\n\nAnswer with exactly one JSON value and nothing else: no code fence.")
    assert said == "7"
    said = answer("say Paris\n\nAnswer with exactly one JSON value and nothing else: no code fence.")
    assert json.loads(said.strip("`").removeprefix("json")) == {"answer": "Paris"}
