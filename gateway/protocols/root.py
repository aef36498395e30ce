"""GET and HEAD /: a sign that the gateway is there, for clients and people who try its address first.

Claude Code sends a HEAD before its first request. It carries no key and asks for none.
"""

from collections.abc import Sequence
from importlib.metadata import version

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import Methods
from gateway.protocols.http import EdgeLimits, Exchange

_NAME = "lingma-gateway"


def root_routes(protocol: ClientProtocol) -> Sequence[Route]:
    return [Route("/", Methods(protocol, GET=Root()))]


class Root:
    def __init__(self) -> None:
        self._answer = Answer(200, dumps({"name": _NAME, "version": version(_NAME)}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange(scope, receive, send, EdgeLimits()).answer(self._answer)
