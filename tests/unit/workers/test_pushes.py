"""What a worker reads of pushes, and what it must not stumble over."""

import pytest

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from workers import pushes


def push(method: str, **params: object) -> pushes.Push:
    return pushes.read(dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))


def test_reads_method_and_session_of_an_answer() -> None:
    answer = push("chat/answer", requestId="r", sessionId="s-1", text="hi")
    assert answer.method == "chat/answer"
    assert pushes.text(answer.params(), "sessionId") == "s-1"
    assert pushes.ending(answer) is None
    assert pushes.tool_ask(answer) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nonsense", b'{"method": 3}', b"\xff\xfe", b'{"method":"chat/finish"']
)
def test_foreign_bytes_are_a_push_without_meaning(body: bytes) -> None:
    found = pushes.read(body)
    assert found.method == ""
    assert pushes.ending(found) is None
    assert found.params() == {}


@pytest.mark.parametrize("params", [b"[1]", b"null", b'"x"', b"3"])
def test_parameters_that_are_no_object_count_as_empty(params: bytes) -> None:
    found = pushes.read(b'{"method":"chat/finish","params":' + params + b"}")
    assert found.params() == {}
    assert pushes.ending(found) == pushes.Ending(None)


@pytest.mark.parametrize("status", [None, 0, 200])
def test_finish_without_an_error_status_is_a_success(status: int | None) -> None:
    fields = {"reason": "success", "sessionId": "s-9"} | ({} if status is None else {"statusCode": status})
    assert pushes.ending(push("chat/finish", **fields)) == pushes.Ending(None, "", "s-9")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, ErrorKind.UPSTREAM_TIMEOUT),
        (500, ErrorKind.UPSTREAM_PROTOCOL),
        (429, ErrorKind.UPSTREAM_PROTOCOL),
        ("200", ErrorKind.UPSTREAM_PROTOCOL),
        ([], ErrorKind.UPSTREAM_PROTOCOL),
    ],
)
def test_finish_with_another_status_is_a_failure_that_names_the_reason(
    status: object, kind: ErrorKind
) -> None:
    ended = pushes.ending(push("chat/finish", statusCode=status, reason="no luck", sessionId="s"))
    assert ended is not None
    assert ended.error is kind
    assert "no luck" in ended.message


def test_a_cancel_that_nobody_asked_for_is_never_a_success() -> None:
    ended = pushes.ending(push("chat/finish", statusCode=200, reason="cancelled"))
    assert ended is not None
    assert ended.error is ErrorKind.UPSTREAM_EOF


def test_a_reported_error_ends_the_answer() -> None:
    ended = pushes.ending(push("error/notificationError", errorMessage="quota"))
    assert ended == pushes.Ending(ErrorKind.UPSTREAM_PROTOCOL, "quota", "")


def test_a_reason_of_any_length_is_cut() -> None:
    ended = pushes.ending(push("chat/finish", statusCode=500, reason="x" * 10_000))
    assert ended is not None
    assert len(ended.message) < 1000


@pytest.mark.parametrize(
    "params",
    [
        {"toolCallId": "t-1", "name": "find", "parameters": {"q": 1}},
        {"tool_call_id": "t-1", "toolName": "find"},
        {"toolCall": {"id": "t-1", "name": "find"}},
        {"tool_call": {"toolCallId": "t-1", "tool_name": "find"}},
        {"tool": {"id": "t-1"}, "name": "find"},
        {"data": {"toolCall": {"id": "t-1", "name": "find"}}},
        {"results": [{"toolCallId": "t-1", "name": "find"}]},
    ],
)
def test_a_tool_call_is_found_wherever_it_is_kept(params: dict[str, object]) -> None:
    for method in ("tool/call/sync", "tool/invoke"):
        ask = pushes.tool_ask(push(method, requestId="r", **params))
        assert ask is not None
        assert (ask.tool_id, ask.name) == ("t-1", "find")


def test_lv_53_a_result_that_came_with_the_event_is_kept() -> None:
    """LV-53. Given: results with result "ok". Expected: the event's result, to be sent back."""
    ask = pushes.tool_ask(push("tool/call/sync", toolCall={"id": "t-1", "name": "find", "result": "ok"}))
    assert ask == pushes.ToolAsk("t-1", "find", "ok")


def test_lv_54_an_event_without_any_id_has_none() -> None:
    """LV-54. Given: an event without any id. Expected: no id, so nothing is approved."""
    ask = pushes.tool_ask(push("tool/invoke", name="find", parameters={}))
    assert ask == pushes.ToolAsk("", "find", None)


def test_a_tool_without_a_name_is_called_tool() -> None:
    ask = pushes.tool_ask(push("tool/invoke", toolCallId="t-2"))
    assert ask == pushes.ToolAsk("t-2", "tool", None)
