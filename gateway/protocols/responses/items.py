"""Input items of a Responses request to items of a turn. Pure.

What becomes of each type:
- message, with or without its type        a message; of the role tool a result
- function_call, custom_tool_call          a call, its namespace part of the name
- calls of OpenAI's own tools that the client runs (shell, patches, computer, tool search), and of its servers
  that say what came of them (mcp, code interpreter)     calls of a tool of that name, and their results
- *_output                                 a result: text, parts, or any JSON as text
- reasoning                                reasoning; its encrypted content is the signature
- additional_tools, tools of a search      offered like those of the request
- compaction                               a note in its place: nothing here can read what others sealed
- a wish to compact, as the last item      no item: routing finds an upstream that can
- item_reference                           nothing when the item is in the same input, else refused
- anything else                            its text as a user's message; without text it is kept as it is
"""

from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple, cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject, dumps
from gateway.protocols.bodies import check, missing
from gateway.protocols.openai.content import read_parts
from gateway.protocols.responses.objects import as_text
from gateway.protocols.responses.tools import read_tools
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
from gateway.turn.tools import ToolSpec, qualified
from gateway.wire.chat import ContentPart, Object
from gateway.wire.responses import (
    COMPACTED,
    CONTEXT_GONE,
    BuiltInCallIn,
    CallOutputIn,
    CustomCallIn,
    FunctionCallIn,
    McpCallIn,
    MessageIn,
    ReasoningIn,
    ReferenceIn,
    ToolsIn,
)

ROLES = frozenset({"user", "assistant", "system", "developer", "tool"})

_BUILT_IN: dict[str, tuple[str, ...]] = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
    "computer_call": ("computer", "actions", "action"),
    "tool_search_call": ("tool_search", "arguments"),
    "code_interpreter_call": ("code_interpreter", "code"),
}
"""The tool's name and the fields that say what it is called with: the first that is there counts."""

_OUTPUTS = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "computer_call_output",
        "tool_search_output",
    }
)

_RESULT_PARTS = frozenset(
    {"text", "input_text", "output_text", "input_image", "input_file", "computer_screenshot"}
)


class InputRead(NamedTuple):
    items: tuple[Item, ...]
    tools: list[ToolSpec]
    """Offered among the items."""
    losses: list[Loss]
    compacts_at: str | None = None
    """Where the last item asks that everything before it be compacted."""


def read_input(given: str | Object | Sequence[str | Object]) -> InputRead:
    """Raises InvalidRequest naming the item at fault."""
    if isinstance(given, str):
        return InputRead((_user(given),), [], [])
    if isinstance(given, dict):
        return _Reader([cast(JsonObject, given)], indexed=False).read()
    return _Reader(cast(Sequence[str | JsonObject], given)).read()


def _user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text),))


class _Reader:
    def __init__(self, items: Sequence[str | JsonObject], *, indexed: bool = True) -> None:
        self._given = items
        self._indexed = indexed
        self._losses: list[Loss] = []
        self._tools: list[ToolSpec] = []
        self._ids = {
            item["id"]
            for item in items
            if isinstance(item, dict) and isinstance(item.get("id"), str) and _type(item) != "item_reference"
        }
        self._readers: dict[str, Callable[[JsonObject, str], Iterator[Item]]] = {
            "message": self._message,
            "function_call": self._function_call,
            "custom_tool_call": self._custom_call,
            "mcp_call": self._mcp_call,
            "reasoning": self._reasoning,
            "additional_tools": self._additional_tools,
            "item_reference": self._reference,
            **dict.fromkeys(_BUILT_IN, self._built_in_call),
            **dict.fromkeys(_OUTPUTS, self._output),
            **dict.fromkeys(COMPACTED, self._compacted),
        }

    def read(self) -> InputRead:
        items: list[Item] = []
        for index, item in enumerate(self._given):
            path = f"input.{index}" if self._indexed else "input"
            if isinstance(item, str):
                items.append(_user(item))
                continue
            if index == len(self._given) - 1 and _is_trigger(item):
                return InputRead(tuple(items), self._tools, self._losses, compacts_at=path)
            items += self._readers.get(_type(item), self._unknown)(item, path)
        return InputRead(tuple(items), self._tools, self._losses)

    # -- messages and reasoning ---------------------------------------------------------------------------

    def _message(self, item: JsonObject, path: str) -> Iterator[Item]:
        message = check(MessageIn, item, at=path)
        parts = read_parts(message.content, f"{path}.content", self._losses)
        if message.role == "tool":
            call_id = message.call_id or message.tool_call_id
            if call_id is None:
                raise missing(f"{path}.call_id")
            yield ToolResult(call_id=call_id, parts=parts, name=message.name, id=message.id)
            return
        calls = message.tool_calls or []
        if not calls or any(isinstance(part, MediaPart) or part.text for part in parts):
            yield Message(role=message.role, parts=parts, name=message.name, id=message.id)
        for index, call in enumerate(calls):
            if call.custom is not None:
                name, arguments = call.custom.name, call.custom.input
                yield ToolCall(call_id=call.id, name=name, arguments=arguments, kind="custom")
            elif call.function is not None:
                yield ToolCall(call_id=call.id, name=call.function.name, arguments=call.function.arguments)
            else:
                raise missing(f"{path}.tool_calls.{index}.function")

    def _reasoning(self, item: JsonObject, path: str) -> Iterator[Item]:
        reasoning = check(ReasoningIn, item, at=path)
        yield Reasoning(
            summary=tuple(piece.text for piece in reasoning.summary or ()),
            text="".join(piece.text for piece in reasoning.content or ()),
            signature=reasoning.encrypted_content,
            id=reasoning.id,
        )

    def _compacted(self, item: JsonObject, path: str) -> Iterator[Item]:
        self._losses.append(Loss(path, "foreign-compaction"))
        yield _user(CONTEXT_GONE)

    # -- calls and their results --------------------------------------------------------------------------

    def _function_call(self, item: JsonObject, path: str) -> Iterator[Item]:
        call = check(FunctionCallIn, item, at=path)
        arguments = call.arguments if isinstance(call.arguments, str) else dumps(call.arguments).decode()
        yield ToolCall(
            call_id=call.call_id, name=qualified(call.namespace, call.name), arguments=arguments, id=call.id
        )

    def _custom_call(self, item: JsonObject, path: str) -> Iterator[Item]:
        call = check(CustomCallIn, item, at=path)
        name = qualified(call.namespace, call.name)
        yield ToolCall(call_id=call.call_id, name=name, arguments=call.input, kind="custom", id=call.id)

    def _built_in_call(self, item: JsonObject, path: str) -> Iterator[Item]:
        call = check(BuiltInCallIn, item, at=path)
        name, *fields = _BUILT_IN[_type(item)]
        call_id = call.call_id or call.id
        if call_id is None:
            raise missing(f"{path}.call_id")
        given = next((item[field] for field in fields if item.get(field) not in (None, [])), None)
        yield ToolCall(call_id=call_id, name=name, arguments=as_text(given), id=call.id)
        if item.get("outputs") is not None:
            # Of the code interpreter, which has run it already.
            said = (TextPart(as_text(item["outputs"])),)
            yield ToolResult(call_id=call_id, parts=said, name=name, is_error=_failed(item))

    def _mcp_call(self, item: JsonObject, path: str) -> Iterator[Item]:
        call = check(McpCallIn, item, at=path)
        name = qualified(call.server_label, call.name)
        yield ToolCall(call_id=call.id, name=name, arguments=call.arguments, id=call.id)
        said = [text for text in (call.output, as_text(call.error)) if text] or [""]
        failed = call.error is not None or _failed(item)
        yield ToolResult(call_id=call.id, parts=tuple(map(TextPart, said)), name=name, is_error=failed)

    def _output(self, item: JsonObject, path: str) -> Iterator[Item]:
        output = check(CallOutputIn, item, at=path)
        call_id = output.call_id or output.id
        if call_id is None:
            raise missing(f"{path}.call_id")
        said = item.get("output")
        if _type(item) == "tool_search_output":
            self._tools += read_tools(check(ToolsIn, item, at=path).tools, f"{path}.tools")
            said = item["tools"]
        parts = self._result_parts(said, f"{path}.output")
        yield ToolResult(call_id=call_id, parts=parts, id=output.id, is_error=_failed(item))

    def _result_parts(self, said: Json, path: str) -> tuple[Part, ...]:
        parts = [said] if _is_part(said, {"computer_screenshot"}) else said
        if isinstance(parts, list) and parts and all(_is_part(part, _RESULT_PARTS) for part in parts):
            read = [
                check(ContentPart, cast(JsonObject, part), at=f"{path}.{index}")
                for index, part in enumerate(parts)
            ]
            return read_parts(read, path, self._losses)
        return (TextPart(as_text(said)),)

    # -- the rest -----------------------------------------------------------------------------------------

    def _additional_tools(self, item: JsonObject, path: str) -> Iterator[Item]:
        tools = check(ToolsIn, item, at=path).tools
        self._tools += read_tools(tools, f"{path}.tools")
        yield from ()

    def _reference(self, item: JsonObject, path: str) -> Iterator[Item]:
        reference = check(ReferenceIn, item, at=path)
        if reference.id not in self._ids:
            raise InvalidRequest(
                f"Item '{reference.id[:80]}' is not in the input, and this gateway does not store items; "
                "please send the item itself",
                param=f"{path}.id",
                code="item_not_found",
            )
        yield from ()

    def _unknown(self, item: JsonObject, path: str) -> Iterator[Item]:
        if isinstance(role := item.get("role"), str) and role in ROLES:
            yield from self._message(item, path)
            return
        self._losses.append(Loss(path, "unknown-item"))
        if text := _any_text(item):
            yield _user(text)
        else:
            given_id = item.get("id")
            yield OpaqueItem(
                dialect="responses",
                type=_type(item),
                payload=item,
                id=given_id if isinstance(given_id, str) else None,
            )


def _type(item: JsonObject) -> str:
    """Of an item without one: what its fields make it."""
    given = item.get("type")
    if isinstance(given, str):
        return given
    if "role" in item:
        return "message"
    return "item_reference" if set(item) <= {"id", "type"} else "unknown"


def _failed(item: JsonObject) -> bool:
    return item.get("status") == "failed"


def _is_part(value: Json, types: Set[str]) -> bool:
    """Lists of objects that tools give as their result are no parts, even where they have types."""
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in types:
        return False
    return isinstance(value.get("text"), str) or not kind.endswith("text")


def _is_trigger(item: JsonObject) -> bool:
    """The last item may ask that everything before it be compacted."""
    match item.get("type"):
        case "compaction_trigger":
            return True
        case "context_compaction":
            return item.get("encrypted_content") is None
        case _:
            return False


def _any_text(item: JsonObject) -> str:
    """What a model could read in an item of unknown type."""
    content = item.get("content", item.get("text"))
    pieces = content if isinstance(content, list) else [content]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    return "\n".join(text for text in texts if isinstance(text, str) and text)
