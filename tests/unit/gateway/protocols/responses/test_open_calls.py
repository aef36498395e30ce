from typing import Any

import pytest

from gateway.turn.events import ItemDone, ItemStarted, ToolInputDelta, TurnCompleted, TurnEvent
from gateway.turn.items import OpaqueItem, ToolCall
from gateway.turn.losses import Loss
from tests.support.responses import called, in_order, parsed, said, stream, whole
from tests.support.responses_schema import StreamRead

STOP = TurnCompleted("tool_calls")
FIND = ToolCall(call_id="c1", name="find", arguments='{"q":1}')
EXEC: Any = {"type": "custom", "name": "exec"}
GROUP: Any = {"type": "namespace", "name": "functions", "tools": [EXEC, {"type": "function", "name": "wait"}]}


def told(*events: TurnEvent, rewritten: bool = False, **fields: Any) -> StreamRead:
    """The stream; its end must be what the answer without a stream would be."""
    found = stream(parsed(**fields), *events, STOP, rewritten=rewritten)
    assert found.response == whole(parsed(**fields), *events, STOP)
    return found


def test_lv_72_one_call_in_a_stream() -> None:
    """LV-72. Given one call c1 of `pick` with {"n":3}: item added in progress with empty arguments, deltas,
    the whole arguments, item done, completed. As the turn says no text, the call is the first item.
    """
    found = told(*called(ToolCall(call_id="c1", name="pick", arguments='{"n":3}')))
    done = {"type": "function_call", "status": "completed", "call_id": "c1", "name": "pick"}
    item = found.items[0]
    assert item == {**done, "arguments": '{"n":3}', "id": item["id"]}
    assert in_order(
        [
            {"type": "response.created"},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**item, "status": "in_progress", "arguments": ""},
            },
            {"type": "response.function_call_arguments.delta", "delta": '{"n'},
            {"type": "response.function_call_arguments.delta", "delta": '":3}'},
            {"type": "response.function_call_arguments.done", "arguments": '{"n":3}', "output_index": 0},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed"},
        ],
        found.events,
    )
    assert found.response["output"] == [item]


def test_calls_after_text_and_after_each_other() -> None:
    other = ToolCall(call_id="c2", name="sum", arguments="{}")
    found = told(*said("Sure"), *called(FIND, index=1), *called(other, index=2))
    assert [(item["type"], item.get("call_id")) for item in found.items] == [
        ("message", None),
        ("function_call", "c1"),
        ("function_call", "c2"),
    ]
    assert [event["output_index"] for event in found.of("response.output_item.added")] == [0, 1, 2]


def test_an_empty_message_before_a_call_does_not_shift_it() -> None:
    found = told(*said(""), *called(FIND, index=1))
    assert found.of("response.output_item.added")[0]["output_index"] == 0


@pytest.mark.parametrize("fragments", [(), ("",), ('{"q"',)])
def test_the_end_of_a_call_says_what_its_deltas_left_out(fragments: tuple[str, ...]) -> None:
    events = [
        ItemStarted(0, "tool_call", "t", "find", "c1"),
        *(ToolInputDelta(0, fragment) for fragment in fragments),
        ItemDone(0, FIND),
    ]
    found = told(*events)
    deltas = [event["delta"] for event in found.of("response.function_call_arguments.delta")]
    assert "".join(deltas) == '{"q":1}'


def test_a_call_that_learns_its_name_late_is_said_whole() -> None:
    events = [ItemStarted(0, "tool_call", "t"), ToolInputDelta(0, '{"q'), ItemDone(0, FIND)]
    found = told(*events)
    assert [event["delta"] for event in found.of("response.function_call_arguments.delta")] == ['{"q":1}']


def test_a_call_without_an_id_is_known_by_its_item() -> None:
    events = [ItemStarted(0, "tool_call", "item_7", "find"), ItemDone(0, FIND)]
    assert stream(parsed(), *events, STOP).items[0]["call_id"] == "item_7"


def test_arguments_that_change_at_the_end_are_those_of_the_end() -> None:
    events = [ItemStarted(0, "tool_call", "t", "find", "c1"), ToolInputDelta(0, "{}"), ItemDone(0, FIND)]
    assert told(*events, rewritten=True).items[0]["arguments"] == '{"q":1}'


# -- custom tools and namespaces --------------------------------------------------------------------------


def test_a_custom_tool_is_called_with_free_text() -> None:
    call = ToolCall(call_id="c1", name="exec", arguments="ls -l", kind="custom")
    found = told(*called(call), tools=[EXEC])
    assert found.types[2:-1] == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]
    assert found.items[0]["input"] == "ls -l"
    assert found.items[0]["id"].startswith("ctc_")


def test_cv_9_a_freeform_tool_offered_as_a_function_is_called_as_itself() -> None:
    """CV-9. Given the call of a function `functions__exec` with {"input": …}: a `custom_tool_call` of `exec`
    in its namespace, its input told only when it is known.
    """
    call = ToolCall(call_id="c1", name="functions__exec", arguments='{"input": "a\\nb"}')
    found = told(*called(call), tools=[GROUP])
    item = found.items[0]
    assert (item["type"], item["namespace"], item["name"], item["input"]) == (
        "custom_tool_call",
        "functions",
        "exec",
        "a\nb",
    )
    assert [event["delta"] for event in found.of("response.custom_tool_call_input.delta")] == ["a\nb"]
    assert found.of("response.output_item.added")[0]["item"]["namespace"] == "functions"


def test_free_text_that_begins_like_json_is_told_at_its_end() -> None:
    call = ToolCall(call_id="c1", name="exec", arguments="{ a = 1 }", kind="custom")
    found = told(*called(call, "  ", "{ a", " = 1 }"), tools=[EXEC], rewritten=False)
    assert [event["delta"] for event in found.of("response.custom_tool_call_input.delta")] == ["{ a = 1 }"]
    spaced = ToolCall(call_id="c1", name="exec", arguments="  ls", kind="custom")
    found = told(*called(spaced, " ", " l", "s"), tools=[EXEC])
    assert [event["delta"] for event in found.of("response.custom_tool_call_input.delta")] == ["  l", "s"]


def test_a_function_in_a_namespace_gets_its_own_name_back() -> None:
    call = ToolCall(call_id="c1", name="functions__wait", arguments="{}")
    item = told(*called(call), tools=[GROUP]).items[0]
    assert (item["type"], item["namespace"], item["name"]) == ("function_call", "functions", "wait")


def test_a_tool_that_nobody_offered_is_called_as_it_is() -> None:
    item = told(*called(ToolCall(call_id="c1", name="a__b", arguments="{}"))).items[0]
    assert (item["name"], "namespace" in item) == ("a__b", False)


def test_a_call_that_turns_out_custom_stays_what_it_was_announced_as() -> None:
    call = ToolCall(call_id="c1", name="find", arguments="x", kind="custom")
    assert stream(parsed(), *called(call), STOP).items[0]["type"] == "function_call"


# -- calls that the upstream ran, and foreign items -------------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "kind"), [([], "function_call_output"), ([EXEC], "custom_tool_call_output")]
)
def test_the_result_of_a_call_is_an_item_of_its_own(tools: Any, kind: str) -> None:
    call = ToolCall(call_id="c1", name="exec", arguments="{}", result="ok")
    found = told(*called(call), *said("Done", index=1), tools=tools)
    assert [item["type"] for item in found.items][1:] == [kind, "message"]
    assert (found.items[1]["output"], found.items[1]["call_id"]) == ("ok", "c1")
    assert [event["output_index"] for event in found.of("response.output_item.done")] == [0, 1, 2]


def test_an_item_of_this_dialect_goes_through_whole() -> None:
    payload: Any = {
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q", "queries": ["q"]},
    }
    item = OpaqueItem(dialect="responses", type="web_search_call", payload=payload)
    found = told(ItemStarted(0, "opaque", "o"), ItemDone(0, item), *said("A", index=1))
    assert found.items[0] == {**payload, "type": "web_search_call"}
    assert found.items[1]["type"] == "message"


def test_an_item_of_another_dialect_is_a_loss() -> None:
    losses: list[Loss] = []
    item = OpaqueItem(dialect="gemini", type="executableCode", payload={})
    found = stream(parsed(), ItemStarted(0, "opaque", "o"), ItemDone(0, item), STOP, losses=losses)
    assert found.items == []
    assert losses == [Loss("executableCode", "not-in-responses")]
