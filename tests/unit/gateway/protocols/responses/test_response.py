from typing import Any, get_args

import pytest

from gateway.kernel.errors import ErrorKind
from gateway.protocols.responses.response import (
    Ending,
    build_response,
    ended,
    ending_of,
    error_out,
    last_incomplete,
    response_id,
    response_out,
    usage_out,
)
from gateway.turn.events import ErrorInfo, Finish, TurnCompleted
from gateway.turn.fold import TurnResult
from gateway.turn.items import Message, RefusalPart, TextPart
from gateway.turn.usage import Usage
from tests.support.responses import CREATED, TURN_ID, codex, parsed, said, thought, whole
from tests.support.responses_schema import validate_response

FATAL_FOR_CODEX = {"invalid_prompt", "context_length_exceeded"}


def begun(**fields: Any) -> dict[str, Any]:
    response: Any = response_out(parsed(**fields))
    validate_response(response)
    return response  # type: ignore[no-any-return]


# -- what is echoed ---------------------------------------------------------------------------------------


def test_a_response_begins_with_every_default() -> None:
    assert begun() == {
        "id": f"resp_{TURN_ID}",
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "asked",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def test_what_was_asked_is_echoed() -> None:
    asked = {
        "instructions": "i",
        "max_output_tokens": 5,
        "max_tool_calls": 2,
        "parallel_tool_calls": False,
        "prompt_cache_key": "p",
        "safety_identifier": "s",
        "temperature": 0.0,
        "top_p": 0.5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "top_logprobs": 3,
        "truncation": "auto",
        "user": "u",
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low", "summary": "auto"},
    }
    response = begun(**asked)
    assert {name: response[name] for name in asked} == asked


def test_nothing_is_stored_whatever_was_asked() -> None:
    assert begun(store=True)["store"] is False
    assert begun(service_tier="flex")["service_tier"] == "default"


def test_metadata_are_texts() -> None:
    assert begun(metadata={"a": 1, "b": {"c": True}})["metadata"] == {"a": "1", "b": '{"c": true}'}


@pytest.mark.parametrize("asked", ["none", "alien", None])
def test_a_summary_that_the_schema_does_not_know_is_none(asked: str | None) -> None:
    response = begun(reasoning={"summary": asked})
    validate_response(response)
    assert response["reasoning"] == {"effort": None, "summary": None}


def test_tools_are_echoed_flat_and_whole() -> None:
    custom = {"type": "custom", "name": "sh"}
    search = {"type": "web_search", "search_context_size": "low"}
    group = {"type": "namespace", "name": "n", "tools": [custom]}
    tools = begun(
        tools=[
            {"type": "function", "name": "f", "strict": True, "parameters": {"type": "object"}},
            {"type": "function", "function": {"name": "g", "description": "d"}},
            custom,
            search,
            group,
        ]
    )["tools"]
    assert tools == [
        {
            "description": None,
            "parameters": {"type": "object"},
            "strict": True,
            "type": "function",
            "name": "f",
        },
        {"description": "d", "parameters": None, "strict": None, "type": "function", "name": "g"},
        custom,
        search,
        {"description": "", **group},
    ]


@pytest.mark.parametrize(
    ("choice", "echo"),
    [
        (None, "auto"),
        ("none", "none"),
        ("any", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
        ({"type": "custom", "name": "f"}, {"type": "custom", "name": "f"}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
    ],
)
def test_the_choice_is_echoed_flat(choice: Any, echo: Any) -> None:
    assert begun(tool_choice=choice, tools=[{"type": "function", "name": "f"}])["tool_choice"] == echo


@pytest.mark.parametrize(
    ("text", "echo"),
    [
        ({"verbosity": "low"}, {"format": {"type": "text"}, "verbosity": "low"}),
        ({"verbosity": "alien"}, {"format": {"type": "text"}, "verbosity": "medium"}),
        ({"format": {"type": "json_object"}}, {"format": {"type": "json_object"}, "verbosity": "medium"}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": None}},
            {
                "format": {
                    "name": "n",
                    "description": None,
                    "strict": False,
                    "type": "json_schema",
                    "schema": {"a": 1},
                },
                "verbosity": "medium",
            },
        ),
    ],
)
def test_text_settings_are_echoed_whole(text: Any, echo: Any) -> None:
    assert begun(text=text)["text"] == echo


def test_the_id_is_the_turns() -> None:
    assert response_id(parsed()) == f"resp_{TURN_ID}"


# -- usage ------------------------------------------------------------------------------------------------


def test_usage_has_both_details() -> None:
    reported = Usage(input_tokens=5, output_tokens=3, cached_tokens=2, reasoning_tokens=1)
    assert usage_out(reported) == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }


def test_estimated_usage_says_so_and_none_is_null() -> None:
    estimated = usage_out(Usage(input_tokens=1, estimated=True))
    assert estimated is not None
    assert (estimated["estimated"], estimated["total_tokens"]) == (True, 1)
    assert usage_out(None) is None


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ErrorKind))
@pytest.mark.parametrize("for_codex", [False, True])
def test_every_kind_of_error_has_a_code(kind: ErrorKind, for_codex: bool) -> None:
    error = error_out(ErrorInfo(kind=kind, message="why"), codex=for_codex)
    assert error["message"] == "why"
    assert error["code"] in {"server_error", "rate_limit_exceeded", *FATAL_FOR_CODEX}


@pytest.mark.parametrize(
    "kind",
    [
        ErrorKind.INVALID_REQUEST,
        ErrorKind.MODEL_NOT_FOUND,
        ErrorKind.CONTENT_FILTERED,
        ErrorKind.CONTEXT_LENGTH,
        ErrorKind.INTERNAL,
        ErrorKind.CANCELLED,
    ],
)
def test_codex_does_not_repeat_what_is_hopeless(kind: ErrorKind) -> None:
    assert error_out(ErrorInfo(kind=kind, message="m"), codex=True)["code"] in FATAL_FOR_CODEX


@pytest.mark.parametrize(
    "kind", [ErrorKind.UPSTREAM_EOF, ErrorKind.WORKER_LOST, ErrorKind.UPSTREAM_TIMEOUT, ErrorKind.INTERNAL]
)
def test_codex_repeats_what_may_pass(kind: ErrorKind) -> None:
    error = error_out(ErrorInfo(kind=kind, message="m", retryable=True), codex=True)
    assert error["code"] == "server_error"


def test_cv_18_a_conversation_that_is_too_long_has_its_own_code() -> None:
    """CV-18. Given a context that is too long: `context_length_exceeded`, on which Codex gives up at once."""
    error = error_out(ErrorInfo(kind=ErrorKind.CONTEXT_LENGTH, message="m"), codex=False)
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("after", "says"), [(1.5, "Please try again in 1.5s"), (2.0, "Please try again in 2s"), (0.25, "0.25s")]
)
@pytest.mark.parametrize(
    "kind", [ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED, ErrorKind.UPSTREAM_UNAVAILABLE]
)
def test_cv_15_a_known_time_is_told_in_words(kind: ErrorKind, after: float, says: str) -> None:
    """CV-15. Given a limit that ends in 1.5 s: `rate_limit_exceeded` with "try again in 1.5s", which Codex
    waits for.
    """
    error = error_out(ErrorInfo(kind=kind, message="Busy.", retryable=True, retry_after_s=after), codex=True)
    assert error["code"] == "rate_limit_exceeded"
    assert error["message"].startswith("Busy. ")
    assert error["message"].endswith(says)


def test_a_time_that_is_told_already_is_not_told_twice() -> None:
    error = ErrorInfo(kind=ErrorKind.RATE_LIMITED, message="Please try again in 3s", retry_after_s=3)
    assert error_out(error, codex=False)["message"] == "Please try again in 3s"


# -- how it ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("paused", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_endings(finish: Finish, status: str, reason: str | None) -> None:
    ending = ending_of(finish, codex=False)
    assert (ending.status, ending.reason, ending.error) == (status, reason, None)


def test_cv_19_codex_gets_a_long_answer_completed() -> None:
    """CV-19. Given a stop because of length: `completed` for Codex, which repeats what is incomplete."""
    assert ending_of("length", codex=True) == Ending("completed")
    filtered = ending_of("content_filter", codex=True)
    assert filtered.status == "failed"
    assert filtered.error is not None
    assert filtered.error["code"] in FATAL_FOR_CODEX


def test_every_finish_has_an_ending() -> None:
    for finish in get_args(Finish):
        for is_codex in (False, True):
            assert ending_of(finish, codex=is_codex).status in ("completed", "incomplete", "failed")


def test_the_last_item_of_a_cut_answer_is_incomplete() -> None:
    first: Any = {"type": "message", "status": "completed"}
    assert last_incomplete([first, dict(first)]) == [first, {"type": "message", "status": "incomplete"}]
    reasoning: Any = {"type": "reasoning"}
    assert last_incomplete([reasoning]) == [reasoning]
    assert last_incomplete([]) == []


def test_an_end_changes_only_what_ends() -> None:
    response = response_out(parsed())
    failed: Any = ended(response, Ending("failed", error={"code": "server_error", "message": "m"}), [], None)
    validate_response(failed)
    changed = {name for name in failed if failed[name] != response[name]}  # type: ignore[literal-required]
    assert changed == {"status", "error"}


# -- whole answers ----------------------------------------------------------------------------------------


def test_a_whole_answer_holds_reasoning_text_and_usage() -> None:
    usage = Usage(input_tokens=3, output_tokens=2, reasoning_tokens=1)
    answer = whole(parsed(), *thought("hmm"), *said("A", "B", index=1), TurnCompleted("stop", usage))
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message"]
    assert answer["output"][1]["content"][0]["text"] == "AB"
    assert answer["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}
    assert answer["status"] == "completed"


def test_a_whole_answer_that_was_cut_is_incomplete() -> None:
    answer = whole(parsed(), *said("A"), TurnCompleted("length"))
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["status"] == "incomplete"
    assert whole(codex(), *said("A"), TurnCompleted("length"))["output"][0]["status"] == "completed"


def test_all_text_is_there_at_once() -> None:
    parts = (TextPart("a"), RefusalPart("no"), TextPart("b"))
    items = (Message(role="assistant", parts=parts), Message(role="assistant", parts=(TextPart("c"),)))
    response: Any = build_response(parsed(), TurnResult(finish="stop", items=items))
    assert response["output_text"] == "abc"
    assert validate_response(response).output_text == "abc"
