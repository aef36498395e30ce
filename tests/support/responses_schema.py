"""Whether the bytes of a Responses answer are what the world knows as Responses.

`validate_stream` and `validate_response` check every object twice, against the public Open Responses schema
(the package openresponses-types) and strictly against the types of the official SDK, and a stream's order
besides: numbers without gaps, items and parts that open and close, deltas that add up, one terminal event,
`[DONE]`.

Where the schema knows less than the API, what it does not know is left out before it is asked:
- items and tools of other types than messages, function calls, their results, reasoning and compaction, with
  the events of custom tools' input; choices of such tools; annotations other than citations of addresses
- `response.reasoning_text.*` is called `response.reasoning.*` there
- the schema of a JSON format may only be null there
- efforts that only newer or older models have
Where the SDK's types are narrower than its own service:
- codes of errors and reasons of incomplete responses beyond its lists (`context_length_exceeded`, early ends)
Events and items that neither knows (what a newer upstream said) are not checked. `keepalive` is no event of
either; it must repeat the number before it.
"""

import enum
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import openresponses_types as open_responses
from openai.types.responses import Response, ResponseOutputItem, ResponseStreamEvent
from openai.types.responses.response_output_text import Annotation
from pydantic import BaseModel

from gateway.kernel.json import loads
from gateway.wire.sse import SseSplitter

TERMINAL = {"response.completed", "response.failed", "response.incomplete"}
_KNOWN_ITEMS = {"message", "function_call", "function_call_output", "reasoning", "compaction"}
_KNOWN_EFFORTS = {None, *(member.value for member in open_responses.ReasoningEffortEnum)}
_SDK_CODES = {"context_length_exceeded": "server_error"}
_SDK_REASONS = {"max_output_tokens", "content_filter"}


class StreamRead(msgspec.Struct):
    events: list[dict[str, Any]]
    """Without keep-alives and [DONE]."""
    keepalives: int = 0
    done: bool = False

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def response(self) -> dict[str, Any]:
        """The response as the terminal event gives it."""
        assert self.events[-1]["type"] in TERMINAL
        return self.events[-1]["response"]  # type: ignore[no-any-return]

    @property
    def items(self) -> list[dict[str, Any]]:
        """What the stream said to be finished."""
        return [event["item"] for event in self.of("response.output_item.done")]

    @property
    def text(self) -> str:
        return "".join(event["delta"] for event in self.of("response.output_text.delta"))

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type_]


# -- one object -------------------------------------------------------------------------------------------


def validate_response(response: dict[str, Any]) -> Response:
    """A response object; gives it as the SDK's type."""
    assert_named(response)
    open_responses.ResponseResource.model_validate(_response_as_schema(response))
    return Response.model_validate(_response_as_sdk(response))


def assert_named(response: dict[str, Any]) -> None:
    """Every member that the schema names is there, asked for or not."""
    missing = set(open_responses.ResponseResource.model_fields) - response.keys()
    assert not missing, f"the response lacks {sorted(missing)}"


def validate_event(event: dict[str, Any]) -> None:
    if "response" in event:
        validate_response(event["response"])
    _check_schema(event)
    _check_sdk(event)


def _events_of(classes: Iterator[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    found = {}
    for cls in classes:
        kind = cls.model_fields["type"].annotation
        values = [m.value for m in kind] if _is_enum(kind) else get_args(kind)  # type: ignore[union-attr]
        found.update(dict.fromkeys(map(str, values), cls))
    return found


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


_SCHEMA_EVENTS = _events_of(
    value for name, value in vars(open_responses).items() if name.endswith("StreamingEvent")
)
_SDK_EVENTS = _events_of(iter(get_args(get_args(ResponseStreamEvent)[0])))
_SDK_ITEMS = _events_of(iter(get_args(get_args(ResponseOutputItem)[0])))
_SDK_NOTES = _events_of(iter(get_args(get_args(Annotation)[0])))


def _check_schema(event: dict[str, Any]) -> None:
    name = event["type"].replace("reasoning_text", "reasoning")
    if (cls := _SCHEMA_EVENTS.get(name)) is None:
        return
    event = {**event, "type": name}
    if "response" in event:
        event["response"] = _response_as_schema(event["response"])
    if "item" in event:
        if event["item"]["type"] not in _KNOWN_ITEMS:
            return
        event["item"] = _item_as_schema(event["item"])
    if "part" in event:
        event["part"] = _part_as_schema(event["part"])
    if "annotation" in event and event["annotation"]["type"] != "url_citation":
        return
    cls.model_validate(event)


def _check_sdk(event: dict[str, Any]) -> None:
    if (cls := _SDK_EVENTS.get(event["type"])) is None:
        return
    if "response" in event:
        event = {**event, "response": _response_as_sdk(event["response"])}
    for member, known in (("item", _SDK_ITEMS), ("annotation", _SDK_NOTES)):
        if member in event and event[member]["type"] not in known:
            return
    cls.model_validate(_with_known_notes(event))


def _response_as_schema(response: dict[str, Any]) -> dict[str, Any]:
    known = [_item_as_schema(item) for item in response["output"] if item["type"] in _KNOWN_ITEMS]
    tools = [tool for tool in response["tools"] if tool["type"] == "function"]
    choice = response["tool_choice"]
    if isinstance(choice, dict) and choice["type"] not in ("function", "allowed_tools"):
        choice = "auto"
    if isinstance(choice, dict) and any(tool["type"] != "function" for tool in choice.get("tools", ())):
        choice = "auto"
    text = response["text"]
    if text["format"]["type"] == "json_schema":
        text = {**text, "format": {**text["format"], "schema": None}}
    reasoning = response["reasoning"]
    if reasoning["effort"] not in _KNOWN_EFFORTS:
        reasoning = {**reasoning, "effort": None}
    return {
        **response,
        "output": known,
        "tools": tools,
        "tool_choice": choice,
        "text": text,
        "reasoning": reasoning,
    }


def _response_as_sdk(response: dict[str, Any]) -> dict[str, Any]:
    response = {key: value for key, value in response.items() if key != "output_text"}
    if (error := response["error"]) is not None:
        response["error"] = {**error, "code": _SDK_CODES.get(error["code"], error["code"])}
    response["output"] = [item for item in response["output"] if item["type"] in _SDK_ITEMS]
    details = response["incomplete_details"]
    if details is not None and details["reason"] not in _SDK_REASONS:
        response["incomplete_details"] = None
    return _with_known_notes(response)  # type: ignore[no-any-return]


def _with_known_notes(value: Any) -> Any:
    """The same without annotations that the SDK does not know."""
    if isinstance(value, list):
        return [_with_known_notes(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _with_known_notes(item) for name, item in value.items()}
    if isinstance(notes := found.get("annotations"), list):
        found["annotations"] = [note for note in notes if note["type"] in _SDK_NOTES]
    return found


def _item_as_schema(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] != "message":
        return item
    return {**item, "content": [_part_as_schema(part) for part in item["content"]]}


def _part_as_schema(part: dict[str, Any]) -> dict[str, Any]:
    if "annotations" not in part:
        return part
    known = [note for note in part["annotations"] if note["type"] == "url_citation"]
    return {**part, "annotations": known}


# -- a stream ---------------------------------------------------------------------------------------------


def read_stream(raw: bytes) -> StreamRead:
    """The events of a stream, each named as its data says; nothing else is checked."""
    splitter = SseSplitter()
    found = StreamRead([])
    for event in splitter.feed(raw):
        assert not found.done, "something after [DONE]"
        assert event.data is not None, f"a line without data: {event.raw!r}"
        if event.data == b"[DONE]":
            found.done = True
            continue
        data: Any = loads(event.data)
        assert event.event == data["type"]
        if data["type"] == "keepalive":
            found.keepalives += 1
            last = found.events[-1]["sequence_number"] if found.events else data["sequence_number"]
            assert data["sequence_number"] == last
        else:
            found.events.append(data)
    assert splitter.pending == b""
    return found


def validate_stream(raw: bytes, *, rewritten: bool = False, starting_after: int = -1) -> StreamRead:
    """A whole stream, or the rest of one that is resumed after an event.

    rewritten: texts may end as something else than what their deltas added up to.
    """
    found = read_stream(raw)
    numbers = [event["sequence_number"] for event in found.events]
    first = starting_after + 1
    assert numbers == list(range(first, first + len(numbers)))
    for event in found.events:
        validate_event(event)
    assert found.done, "no [DONE]"
    if starting_after < 0:
        _Life(rewritten).follow(found.events)
    return found


class _Life:
    """Follows a stream from its first event to its last."""

    def __init__(self, rewritten: bool) -> None:
        self._rewritten = rewritten
        self._done: list[dict[str, Any]] = []
        self._item: dict[str, Any] | None = None
        self._parts: dict[str, list[dict[str, Any]]] = {}
        self._part: list[str] | None = None
        self._annotations = 0

    def follow(self, events: list[dict[str, Any]]) -> None:
        assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
        assert events[0]["response"] == events[1]["response"]
        assert events[0]["response"]["status"] == "in_progress"
        assert events[0]["response"]["output"] == []
        for event in events[2:-1]:
            self._take(event)
        self._end(events[-1], events[0]["response"])

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                self._added(event)
            case "output_item.done":
                self._finished(event)
            case "content_part.added":
                self._open("content", event, "content_index")
            case "reasoning_summary_part.added":
                self._open("summary", event, "summary_index")
            case (
                "output_text.delta"
                | "refusal.delta"
                | "reasoning_text.delta"
                | "reasoning_summary_text.delta"
                | "function_call_arguments.delta"
                | "custom_tool_call_input.delta"
            ):
                assert event["delta"], "an empty delta"
                self._texts(event).append(event["delta"])
            case "output_text.annotation.added":
                assert event["annotation_index"] == self._annotations
                self._annotations += 1
            case "output_text.done" | "reasoning_text.done" | "reasoning_summary_text.done":
                self._adds_up(event, "text")
            case "refusal.done":
                self._adds_up(event, "refusal")
            case "function_call_arguments.done":
                self._adds_up(event, "arguments")
            case "custom_tool_call_input.done":
                self._adds_up(event, "input")
            case "content_part.done":
                self._close("content", event)
            case "reasoning_summary_part.done":
                self._close("summary", event)
            case other:
                assert event["type"] not in TERMINAL | {"response.created", "response.in_progress"}, other

    def _added(self, event: dict[str, Any]) -> None:
        assert self._item is None, "an item inside an item"
        assert event["output_index"] == len(self._done)
        self._item = event["item"]
        self._parts = {"content": [], "summary": []}
        if self._item["type"] in ("function_call", "custom_tool_call"):
            assert not (self._item.get("arguments") or self._item.get("input"))
            self._part = []

    def _place(self, event: dict[str, Any]) -> None:
        assert self._item is not None
        assert (event["item_id"], event["output_index"]) == (self._item["id"], len(self._done))

    def _open(self, kind: str, event: dict[str, Any], index: str) -> None:
        self._place(event)
        assert self._part is None, "a part inside a part"
        assert event[index] == len(self._parts[kind])
        self._part, self._annotations = [], 0

    def _texts(self, event: dict[str, Any]) -> list[str]:
        self._place(event)
        assert self._part is not None, "a delta outside of a part"
        return self._part

    def _adds_up(self, event: dict[str, Any], field: str) -> None:
        said = "".join(self._texts(event))
        assert self._rewritten or event[field] == said

    def _close(self, kind: str, event: dict[str, Any]) -> None:
        said = "".join(self._texts(event))
        part = event["part"]
        text = part["refusal"] if part["type"] == "refusal" else part["text"]
        assert self._rewritten or text == said
        assert len(part.get("annotations", ())) == self._annotations
        self._parts[kind].append(part)
        self._part, self._annotations = None, 0

    def _finished(self, event: dict[str, Any]) -> None:
        assert self._item is not None, "an item that was not added"
        item = event["item"]
        assert event["output_index"] == len(self._done)
        assert (item["type"], item["id"]) == (self._item["type"], self._item["id"])
        match item["type"]:
            case "function_call" | "custom_tool_call":
                said = item["arguments"] if item["type"] == "function_call" else item["input"]
                assert self._rewritten or said == "".join(self._part or ())
                for member in ("call_id", "name", "namespace"):
                    assert item.get(member) == self._item.get(member)
            case "message":
                assert self._part is None, "a part that was not closed"
                assert self._rewritten or item["content"] == self._parts["content"]
            case "reasoning":
                assert self._part is None, "a part that was not closed"
                assert self._rewritten or item["summary"] == self._parts["summary"]
                assert self._rewritten or item.get("content", []) == self._parts["content"]
        self._done.append(item)
        self._item = self._part = None

    def _end(self, event: dict[str, Any], first: dict[str, Any]) -> None:
        assert event["type"] in TERMINAL, f"the stream ends with {event['type']}"
        last = event["response"]
        assert last["status"] == event["type"].removeprefix("response.")
        assert self._item is None or last["status"] == "failed", "an item that was not finished"
        assert (last["error"] is not None) or last["status"] != "failed"
        assert (last["incomplete_details"] is not None) == (last["status"] == "incomplete")
        output = last["output"]
        if output and last["status"] == "incomplete":
            output = [*output[:-1], {**output[-1], "status": self._done[-1].get("status")}]
            if "status" not in self._done[-1]:
                del output[-1]["status"]
        assert output == self._done, "the response holds other items than its stream"
        changing = ("status", "output", "usage", "error", "incomplete_details", "completed_at")
        for member in first.keys() - set(changing):
            assert last[member] == first[member], f"{member} changed"
