"""POST /v1/responses: the Responses protocol put together for the shared edge.

A WebSocket is refused with 426, the one answer after which Codex turns to HTTP at once.
"""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import Edge, Methods, TurnEndpoint
from gateway.protocols.openai.errors import error_answer
from gateway.protocols.responses.encode import OnEof, ResponsesEncoder
from gateway.protocols.responses.parse import parse_responses
from gateway.protocols.responses.response import build_response
from gateway.turn.events import ErrorInfo
from gateway.turn.fold import TurnResult
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn

PATHS = ("/v1/responses", "/responses")
"""With and without `/v1`: clients differ in what they take for the base address."""


class Responses:
    """See ClientProtocol."""

    def __init__(self, on_eof: OnEof = "failed") -> None:
        self._on_eof = on_eof

    def encoder(self, turn: Turn, losses: list[Loss]) -> Encoder:
        return ResponsesEncoder(turn, on_eof=self._on_eof, losses=losses)

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        return dumps(build_response(turn, result))

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        return error_answer(error, status=status)


def responses_routes(edge: Edge, *, on_eof: OnEof = "failed") -> Sequence[BaseRoute]:
    protocol = Responses(on_eof)
    endpoint = Methods(protocol, POST=TurnEndpoint(edge, protocol, parse_responses))
    refusal = NoWebSocket(protocol)
    return [route for path in PATHS for route in (Route(path, endpoint), WebSocketRoute(path, refusal))]


class NoWebSocket:
    """Answers the handshake of a WebSocket with 426."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1000})
            return
        info = ErrorInfo(
            kind=ErrorKind.INVALID_REQUEST,
            message="This gateway does not serve WebSockets here; please use HTTP",
            code="websocket_not_supported",
        )
        answer = self._protocol.error(info, status=426)
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        ]
        await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
