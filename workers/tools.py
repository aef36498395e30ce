"""The round trip of native tool calls of one answer, each call once, by the policy of the turn.

approve   let Lingma go on with an empty result, as if its plugin had run the tool
reject    refuse the call
stop      say nothing: the gateway hands the call to its client and stops the answer

A client's own answer (ToolReply) goes the same way. Nothing is ever executed here. Called by runner.py.
"""

import logging

from gateway.jobs.messages import Submit, ToolReply
from gateway.kernel.json import Json
from workers.ports import UpstreamClient
from workers.pushes import ToolAsk

log = logging.getLogger(__name__)


class ToolDesk:
    def __init__(self, client: UpstreamClient, submit: Submit) -> None:
        self._client = client
        self._policy = submit.tool_roundtrip
        self._request_id = submit.upstream_request_id
        self._done: set[str] = set()

    async def ask(self, tool: ToolAsk, session_id: str) -> None:
        """Answer a call of Lingma's by the policy. Raises LingmaNotReady."""
        if not tool.tool_id:
            log.warning("turn.tool_without_id", extra={"upstream_request_id": self._request_id})
            return
        if self._policy != "stop":
            approve = self._policy == "approve"
            await self._tell(tool.tool_id, tool.name, session_id, approve=approve, result=tool.result)

    async def reply(self, reply: ToolReply, session_id: str) -> None:
        """Pass on what a client answered. Raises LingmaNotReady."""
        await self._tell(
            reply.tool_call_id, reply.name, session_id, approve=reply.approve, result=reply.result
        )

    async def _tell(self, tool_id: str, name: str, session_id: str, *, approve: bool, result: Json) -> None:
        if tool_id in self._done:
            return
        self._done.add(tool_id)
        # Pushes need not name the session; it is the one the answer was seen in.
        await self._client.approve_tool(
            request_id=self._request_id, session_id=session_id, tool_call_id=tool_id, approval=approve
        )
        if approve:
            await self._client.send_tool_result(
                request_id=self._request_id,
                tool_call_id=tool_id,
                name=name,
                result={} if result is None else result,
            )
