"""POST /v1/responses, and the same as a WebSocket: the Responses protocol put together for the shared edge.

To Codex a turn that failed before it said anything is told inside a stream, in words that it understands: it
repeats what HTTP calls a server's error thirty times, and some releases give up on a 429. On a WebSocket it
does the same, and goes over to HTTP in the end.
"""

from collections.abc import Sequence

import msgspec
from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.delivery import deliver
from gateway.protocols.endpoint import Edge, Methods, TurnEndpoint
from gateway.protocols.http import Exchange
from gateway.protocols.openai.errors import error_answer
from gateway.protocols.responses.encode import OnEof, ResponsesEncoder
from gateway.protocols.responses.lane import whole_response
from gateway.protocols.responses.parse import parse_responses
from gateway.protocols.responses.response import build_response, is_codex
from gateway.protocols.responses.websocket import ResponsesSocket
from gateway.protocols.websocket import Sockets
from gateway.turn.events import ErrorInfo, Finish, TurnFailed
from gateway.turn.fold import TurnResult
from gateway.turn.frame import Frame
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn
from gateway.wire.sse import CONTENT_TYPE

PATHS = ("/v1/responses", "/responses")
"""With and without `/v1`: clients differ in what they take for the base address."""


class Responses(ClientProtocol):
    """See ClientProtocol."""

    def __init__(self, on_eof: OnEof = "failed") -> None:
        self._on_eof = on_eof

    def encoder(self, turn: Turn, losses: list[Loss]) -> Encoder:
        return ResponsesEncoder(turn, on_eof=self._on_eof, losses=losses)

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        return dumps(build_response(turn, result))

    def passed_on(self, turn: Turn, raw: bytes, finish: Finish) -> bytes | None:
        codex = is_codex(turn)
        return None if codex and finish == "content_filter" else whole_response(raw, turn, codex=codex)

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        if error.param == "messages":
            # Upstreams know no protocol and call the conversation what most do.
            error = msgspec.structs.replace(error, param="input")
        return error_answer(error, status=status)


_AT_FAULT = frozenset(
    {
        ErrorKind.INVALID_REQUEST,
        ErrorKind.UNAUTHENTICATED,
        ErrorKind.FORBIDDEN,
        ErrorKind.MODEL_NOT_FOUND,
        ErrorKind.CONTENT_FILTERED,
    }
)
"""Errors of the client's own, which Codex shows at once when they come as 400."""


class CodexStream(Responses):
    """How one streamed turn of Codex is told."""

    def __init__(self, turn: Turn, on_eof: OnEof) -> None:
        super().__init__(on_eof)
        self._turn = turn

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        if status is not None or error.kind in _AT_FAULT:
            return super().error(error, status=status)
        body = ResponsesEncoder(self._turn).encode([Frame((TurnFailed(error),))])
        return Answer(200, body, ((b"cache-control", b"no-cache, no-transform"),), CONTENT_TYPE)


class ResponsesEndpoint(TurnEndpoint):
    def __init__(self, edge: Edge, on_eof: OnEof) -> None:
        super().__init__(edge, Responses(on_eof), parse_responses)
        self._on_eof = on_eof

    def told(self, turn: Turn) -> ClientProtocol:
        """How that turn is told to its client."""
        return CodexStream(turn, self._on_eof) if turn.stream and is_codex(turn) else self._protocol

    async def serve(self, exchange: Exchange, turn: Turn) -> None:
        await deliver(exchange, self._edge.engine.run_turn(turn), turn, self.told(turn))


def responses_routes(edge: Edge, sockets: Sockets, *, on_eof: OnEof = "failed") -> Sequence[BaseRoute]:
    protocol = Responses(on_eof)
    turns = ResponsesEndpoint(edge, on_eof)
    endpoint = Methods(protocol, POST=turns)
    socket = ResponsesSocket(edge, sockets, protocol, turns.told)
    return [route for path in PATHS for route in (Route(path, endpoint), WebSocketRoute(path, socket))]
