"""Tool calls and foreign items of a Responses stream while they are open; see open_items.py. Pure."""

from collections.abc import Callable

from gateway.protocols.responses.objects import (
    call_out,
    call_prefix,
    item_id,
    named,
    opaque_out,
    result_out,
    said_by,
)
from gateway.protocols.responses.open_items import Output
from gateway.protocols.responses.tools import CallName
from gateway.turn.events import ItemStarted
from gateway.turn.items import Item, OpaqueItem, ToolCall
from gateway.wire.responses import ItemStatus


class OpenCall:
    """A call is told when its name is known; the input of a custom tool when it can be told from JSON."""

    def __init__(self, out: Output, started: ItemStarted) -> None:
        self._out = out
        self._started = started
        self._texts: list[str] = []
        self._id = ""
        self._called: CallName | None = None
        self._call_id = ""
        self._told = 0
        """How many of the texts were told."""
        self._held = False
        """The input of a custom tool looks like JSON: perhaps the argument of a function in its place."""
        if started.name is not None:
            self._announce(out.names.of(started.name), started.call_id or started.item_id)

    def fragment(self, text: str) -> None:
        if text:
            self._texts.append(text)
            self._tell()

    def so_far(self) -> Item | None:
        if self._started.name is None:
            return None
        return ToolCall(
            call_id=self._started.call_id or self._started.item_id,
            name=self._started.name,
            arguments="".join(self._texts),
        )

    def done(self, item: Item, status: ItemStatus) -> None:
        assert isinstance(item, ToolCall)
        called = named(item, self._out.names)
        if self._called is None:
            self._announce(called, item.call_id)
        elif self._called.custom != called.custom:
            called = self._called
        text = said_by(item, called)
        told = "".join(self._texts[: self._told])
        if rest := text.removeprefix(told) if text.startswith(told) else "":
            self._delta(rest)
        if called.custom:
            self._event("response.custom_tool_call_input.done", input=text)
        else:
            self._event("response.function_call_arguments.done", arguments=text)
        self._out.finished(call_out(self._id, called, self._call_id, text, status))
        if item.result is not None:
            result = result_out(self._out.turn, self._out.index, item, called)
            self._out.added({**result, "status": "in_progress", "output": ""})
            self._out.finished(result)

    def _announce(self, called: CallName, call_id: str) -> None:
        self._called, self._call_id = called, call_id
        self._id = item_id(self._out.turn, call_prefix(called), self._out.index)
        self._out.added(call_out(self._id, called, call_id, "", "in_progress"))

    def _tell(self) -> None:
        if self._called is None or self._held:
            return
        if self._called.custom and self._told == 0:
            begin = "".join(self._texts).lstrip()[:1]
            self._held = begin == "{"
            if self._held or not begin:
                return
        self._delta("".join(self._texts[self._told :]))
        self._told = len(self._texts)

    def _delta(self, text: str) -> None:
        custom = self._called is not None and self._called.custom
        kind = "custom_tool_call_input" if custom else "function_call_arguments"
        self._event(f"response.{kind}.delta", delta=text)

    def _event(self, type_: str, **fields: object) -> None:
        place = {"item_id": self._id, "output_index": self._out.index}
        self._out.writer.event(type_, {**place, **fields})


class OpenOpaque:
    """An item of another kind: told whole at its end where this dialect has it."""

    def __init__(self, out: Output, lose: Callable[[str], None]) -> None:
        self._out = out
        self._lose = lose

    def so_far(self) -> Item | None:
        return None

    def done(self, item: Item, status: ItemStatus) -> None:
        assert isinstance(item, OpaqueItem)
        opaque = opaque_out(self._out.turn, item, self._out.index)
        if opaque is None:
            self._lose(item.type)
            return
        self._out.added(opaque)
        self._out.finished(opaque)
