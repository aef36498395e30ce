"""Tool calls the simulated model makes with its own tools: what it waits for and what it was told."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class ToolCall:
    """One call; both answers may arrive before they are waited for."""

    id: str
    request_id: str
    session_id: str
    name: str
    parameters: dict[str, Any]
    status: str = "INIT"
    results: list[Any] = field(default_factory=list)
    approval: "asyncio.Future[bool]" = field(default_factory=_future)
    result: "asyncio.Future[dict[str, Any]]" = field(default_factory=_future)

    def approve(self, approval: bool) -> None:
        if not self.approval.done():
            self.approval.set_result(approval)

    def tell(self, result: dict[str, Any]) -> None:
        """Take the result; one that comes late or twice is dropped."""
        if not self.result.done():
            self.result.set_result(result)

    def sync(self, *, with_name: bool, error: str = "") -> dict[str, Any]:
        """The parameters of tool/call/sync for its present status."""
        return {
            "sessionId": self.session_id,
            "requestId": self.request_id,
            "projectPath": "",
            "toolCallId": self.id,
            **({"name": self.name} if with_name else {}),
            "toolCallStatus": self.status,
            "parameters": self.parameters,
            "results": self.results,
            "errorCode": "ERROR" if error else "",
            "errorMsg": error,
        }


class ToolDesk:
    """The open tool calls of the process."""

    def __init__(self) -> None:
        self._open: list[ToolCall] = []

    def add(self, call: ToolCall) -> None:
        self._open.append(call)

    def remove(self, call: ToolCall) -> None:
        self._open.remove(call)

    def find(self, call_id: object, request_id: object) -> ToolCall | None:
        """By id; the request id, which not every client sends, decides between equal ones."""
        named = [call for call in self._open if call.id == call_id]
        return next((call for call in named if call.request_id == request_id), named[0] if named else None)

    def of_session(self, session_id: object) -> Iterator[ToolCall]:
        return (call for call in self._open if call.session_id == session_id)
