import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.kernel.ids import TurnId
from gateway.turn.events import (
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    ReasoningDelta,
    TextDelta,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.grammar import check
from gateway.turn.usage import Usage
from gateway.upstreams.lingma.decode import LingmaDecoder
from tests.playbook import Playbook, push

TURN = TurnId("0123456789abcdef0123456789")


def decoder() -> LingmaDecoder:
    return LingmaDecoder(TURN, "org_auto", 1_790_000_000, prompt_tokens=3)


def answer(text: str, **more: object) -> bytes:
    return push("chat/answer", requestId="r", sessionId="s", text=text, **more)


def think(text: str, step: str = "start") -> bytes:
    return push("chat/think", requestId="r", sessionId="s", text=text, step=step)


def finish(full: str = "", status: int = 200, reason: str = "success", session: str = "s") -> bytes:
    return push(
        "chat/finish", requestId="r", sessionId=session, reason=reason, statusCode=status, fullAnswer=full
    )


def result_of(*messages: bytes) -> TurnResult:
    dec = decoder()
    frames = [dec.feed(message, number) for number, message in enumerate(messages, 1)]
    if (last := dec.eof()) is not None:
        frames.append(last)
    check(event for frame in frames for event in frame.events)
    return fold(frames)


def deltas_of(*messages: bytes) -> list[str]:
    dec = decoder()
    frames = [dec.feed(message, number) for number, message in enumerate(messages, 1)]
    return [e.text for frame in frames for e in frame.events if isinstance(e, TextDelta)]


def test_a_plain_answer_event_by_event() -> None:
    book = Playbook(decoder())
    book >> push("chat/process_step_callback", requestId="r", sessionId="s", step="step_start", status="done")
    book << TurnStarted(model="org_auto", created_at=1_790_000_000, input_tokens_estimate=3)
    book << Heartbeat()
    book >> answer("pi") << ItemStarted << TextDelta(0, "pi")
    book >> answer("")  # says nothing
    book >> answer("ng") << TextDelta(0, "ng")
    book >> finish("ping") << ItemDone
    book << TurnCompleted("stop", Usage(input_tokens=3, output_tokens=1, estimated=True))
    book.eof().end()


def test_lv_22_the_full_answer_does_not_repeat_the_deltas() -> None:
    """Given deltas "Ja", "", "cka" and finish 200 with fullAnswer "Jacka"; expect the text "Jacka" once."""
    messages = (answer("Ja"), answer(""), answer("cka"), finish("Jacka"))
    assert result_of(*messages).text == "Jacka"
    assert deltas_of(*messages) == ["Ja", "cka"]


def test_lv_23_a_full_answer_without_deltas_is_the_answer() -> None:
    """Given no deltas and finish 200 with fullAnswer "Lindön"; expect the text "Lindön"."""
    messages = (finish("Lindön"),)
    assert result_of(*messages).text == "Lindön"
    assert deltas_of(*messages) == ["Lindön"]


def test_lv_24_an_overwrite_replaces_what_was_said() -> None:
    """Given "abc", then overwrite "abX", then "Y"; expect the final text "abXY".

    A stream cannot take back: it appends the part of the new text behind what both have in common.
    """
    messages = (answer("abc"), answer("abX", overwrite=True), answer("Y"), finish())
    assert result_of(*messages).text == "abXY"
    assert deltas_of(*messages) == ["abc", "X", "Y"]


def test_lv_25_thoughts_are_reasoning_and_count_as_tokens() -> None:
    """Given think "hmm", done, then the answer "7"; expect content "7" and reasoning "hmm", both counted."""
    result = result_of(think("hmm"), think("", "done"), answer("7"), finish("7"))
    assert result.text == "7"
    assert result.reasoning == "hmm"
    assert result.usage == Usage(input_tokens=3, output_tokens=2, estimated=True)


def test_lv_26_tool_cards_are_removed_from_the_text() -> None:
    """Given answer text with a fenced toolCall::read_file::t-5::FINISHED card; expect it gone."""
    text = "Before.\n```toolCall::read_file::t-5::FINISHED\n{}\n```\nAfter."
    assert result_of(answer(text), finish(text)).text == "Before.\nAfter."


def test_lv_27_a_finish_with_408_is_a_timeout() -> None:
    """Given "par" and then finish 408 "timeout"; expect a timeout error after the text."""
    result = result_of(answer("par"), finish("", 408, "timeout"))
    assert result.text == "par"
    assert result.error is not None
    assert result.error.kind is ErrorKind.UPSTREAM_TIMEOUT


def test_an_upstream_that_ends_early_fails_and_closes_its_item() -> None:
    dec = decoder()
    frames = [dec.feed(answer("par"), 1)]
    last = dec.eof()
    assert last is not None
    check(event for frame in [*frames, last] for event in frame.events)
    error = fold([*frames, last]).error
    assert error is not None
    assert error.kind is ErrorKind.UPSTREAM_EOF
    assert dec.eof() is None


def test_a_finish_without_any_text_is_an_error() -> None:
    result = result_of(finish())
    assert result.error is not None
    assert result.error.kind is ErrorKind.UPSTREAM_PROTOCOL


def test_a_missing_or_zero_status_is_fine() -> None:
    assert result_of(answer("a"), push("chat/finish", requestId="r", sessionId="s")).finish == "stop"
    assert result_of(answer("a"), finish("", 0)).finish == "stop"


def test_an_answer_that_somebody_else_stopped_is_no_success() -> None:
    result = result_of(answer("half"), finish("half", 200, "cancelled"))
    assert result.error is not None
    assert result.error.kind is ErrorKind.UPSTREAM_EOF
    assert result.text == "half"


def test_filtered_content_finishes_as_content_filter() -> None:
    result = result_of(answer("par", isFiltered=True), finish())
    assert result.finish == "content_filter"


def test_unknown_pushes_become_opaque_events() -> None:
    frame = decoder().feed(push("chat/new_thing", requestId="r", n=4), 1)
    assert isinstance(frame.events[1], OpaqueEvent)
    assert frame.events[1].type == "chat/new_thing"


def test_what_is_for_the_ide_alone_says_nothing() -> None:
    dec = decoder()
    assert dec.feed(push("session/title/update", sessionId="s", sessionTitle="Say"), 1).events == ()
    assert dec.first_session_id == "s"


def test_bytes_that_are_no_message_fail_the_turn() -> None:
    frame = decoder().feed(b"\xff", 1)
    assert isinstance(frame.events[-1], TurnFailed)
    assert frame.events[-1].error.kind is ErrorKind.UPSTREAM_PROTOCOL


def test_pushes_behind_the_finish_say_nothing() -> None:
    dec = decoder()
    dec.feed(answer("a"), 1)
    dec.feed(finish(), 2)
    assert dec.feed(answer("late"), 3).events == ()


def test_the_finish_has_the_last_word_on_the_session() -> None:
    dec = decoder()
    dec.feed(answer("a"), 1)
    dec.feed(finish(session="s-9"), 2)
    assert (dec.first_session_id, dec.session_id) == ("s", "s-9")


def test_two_decoders_of_one_turn_give_the_same_frames() -> None:
    messages = [think("hm"), answer("a"), finish("a")]
    one, other = decoder(), decoder()
    assert [one.feed(m, n) for n, m in enumerate(messages)] == [
        other.feed(m, n) for n, m in enumerate(messages)
    ]


_chunks = st.lists(
    st.sampled_from(
        [
            "a",
            "<",
            "<think>",
            "</think>",
            "``",
            "`",
            "toolCall::x",
            "\n",
            "```toolCall::r::1::DONE\n",
            "\n```\n",
        ]
    ),
    max_size=12,
)


@given(_chunks)
def test_the_text_does_not_depend_on_how_it_was_cut(chunks: list[str]) -> None:
    whole = "".join(chunks)
    in_pieces = result_of(*(answer(chunk) for chunk in chunks), finish(whole))
    at_once = result_of(answer(whole), finish(whole))
    assert in_pieces.text == at_once.text
    assert in_pieces.reasoning == at_once.reasoning


@given(_chunks, st.booleans())
def test_any_answer_is_a_legal_stream(chunks: list[str], ends: bool) -> None:
    dec = decoder()
    frames: list[Frame] = [dec.feed(answer(chunk), n) for n, chunk in enumerate(chunks, 1)]
    if ends:
        frames.append(dec.feed(finish("".join(chunks)), 99))
    if (last := dec.eof()) is not None:
        frames.append(last)
    events: list[TurnEvent] = [event for frame in frames for event in frame.events]
    check(events)


def test_inline_thoughts_become_reasoning_deltas_at_once() -> None:
    dec = decoder()
    dec.feed(answer("<think>"), 1)
    frame = dec.feed(answer("so"), 2)
    assert ReasoningDelta(0, "so") in frame.events


def test_upstream_words_are_shown_without_secrets() -> None:
    result = result_of(answer("a"), finish("", 500, "Authorization: Bearer abcdefghijkl"))
    assert result.error is not None
    assert "abcdefghijkl" not in result.error.message


@pytest.mark.parametrize("full", ["", '```json\n{"a": 1}\n```'])
def test_a_fence_around_json_goes_when_json_was_asked_for(full: str) -> None:
    deltas = [] if full else [answer("``"), answer('`json\n{"a"'), answer(": 1}\n"), answer("```\nDone!")]
    subject = LingmaDecoder(TURN, "org_auto", 1_790_000_000, prompt_tokens=3, json_only=True)
    frames = [subject.feed(raw, seq) for seq, raw in enumerate([*deltas, finish(full)], start=1)]
    check([event for frame in frames for event in frame.events])
    result = fold(frames)
    assert result.text == subject.reply_text == '{"a": 1}'
    said = [event.text for frame in frames for event in frame.events if isinstance(event, TextDelta)]
    assert "".join(said) == '{"a": 1}'


def test_an_overwritten_answer_loses_its_fence_too() -> None:
    subject = LingmaDecoder(TURN, "org_auto", 1_790_000_000, prompt_tokens=3, json_only=True)
    pushes = [answer('```json\n{"a"'), answer('```json\n{"a": 2}\n```', overwrite=True), finish()]
    frames = [subject.feed(raw, seq) for seq, raw in enumerate(pushes, start=1)]
    check([event for frame in frames for event in frame.events])
    assert fold(frames).text == '{"a": 2}'


@pytest.mark.parametrize(
    ("said", "bare"), [("   \n", "   \n"), ('```json {"a": 1} ```', '{"a": 1}'), ("```json", "```json")]
)
def test_the_full_answer_does_not_repeat_what_the_fence_still_holds(said: str, bare: str) -> None:
    subject = LingmaDecoder(TURN, "org_auto", 1_790_000_000, prompt_tokens=3, json_only=True)
    result = fold([subject.feed(answer(said), 1), subject.feed(finish(said), 2)])
    assert (result.text, result.error) == (bare, None)


def test_an_empty_fence_is_an_empty_answer() -> None:
    subject = LingmaDecoder(TURN, "org_auto", 1_790_000_000, prompt_tokens=3, json_only=True)
    frames = [
        subject.feed(raw, seq)
        for seq, raw in enumerate([answer("```json\n"), answer("```"), finish("```json\n```")], 1)
    ]
    check(event for frame in frames for event in frame.events)
    result = fold(frames)
    assert result.text == ""
    assert result.error is not None
    assert result.error.kind is ErrorKind.UPSTREAM_PROTOCOL
