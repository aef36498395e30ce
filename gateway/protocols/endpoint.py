"""The endpoint that all protocols share: authenticate, read, parse, run, deliver.

A protocol package hands in its parser, its ClientProtocol and where its clients put their key. Endpoints that
need more (loading a stored response, a WebSocket) use the same steps in their own order.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.keys import Principal
from gateway.access.tiers import BEARER, CREDENTIALS, Tiers, presented_keys
from gateway.kernel.clock import Clock
from gateway.kernel.errors import GatewayError, InvalidRequest, ModelNotFound
from gateway.kernel.ids import new_turn_id
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.bodies import TurnContext
from gateway.protocols.delivery import deliver
from gateway.protocols.http import (
    ClientGone,
    EdgeLimits,
    Engine,
    Exchange,
    Refused,
    losses_header,
    refuse_handshake,
    request_id_of,
)
from gateway.turn.events import error_info
from gateway.turn.model_name import split_name
from gateway.turn.request import Turn

log = logging.getLogger(__name__)


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """What endpoints work with; one for all of them."""

    engine: Engine
    tiers: Tiers
    clock: Clock
    limits: EdgeLimits


MAX_MODEL_NAME = 256
"""Characters. Every chunk of an answer repeats the name."""

TurnParser = Callable[[bytes, TurnContext], Turn]
KeyReader = Callable[[Scope], Sequence[bytes]]


def bearer_keys(scope: Scope) -> Sequence[bytes]:
    return presented_keys(scope["headers"], BEARER)


class TurnEndpoint:
    def __init__(
        self, edge: Edge, protocol: ClientProtocol, parse: TurnParser, keys: KeyReader = bearer_keys
    ) -> None:
        self._edge = edge
        self._protocol = protocol
        self._parse = parse
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._edge.limits)
        try:
            principal = self._edge.tiers.client(self._keys(scope))
            turn = self._parse(await exchange.read_body(), context_of(self._edge, exchange.scope, principal))
            check_model(turn, principal)
        except GatewayError as error:
            log.info("http.refused", extra={"kind": str(error.kind), "param": error.param})
            await exchange.answer(self._protocol.error(error_info(error)))
        except Refused as refused:
            await exchange.refuse(self._protocol, refused)
        except ClientGone:
            pass
        else:
            await self.serve(exchange, turn)

    async def serve(self, exchange: Exchange, turn: Turn) -> None:
        """Run the turn and deliver its answer. Endpoints that only look at turns put something else here."""
        await deliver(exchange, self._edge.engine.run_turn(turn), turn, self._protocol)


class CountEndpoint(TurnEndpoint):
    """What a conversation would cost to read, by estimate, in the words of the protocol.

    Reads the body as a turn's and runs nothing: no slot, no instance, no upstream.
    """

    def __init__(
        self,
        edge: Edge,
        protocol: ClientProtocol,
        parse: TurnParser,
        keys: KeyReader,
        count: Callable[[Turn], Mapping[str, object]],
    ) -> None:
        super().__init__(edge, protocol, parse, keys)
        self._count = count

    async def serve(self, exchange: Exchange, turn: Turn) -> None:
        await exchange.answer(Answer(200, dumps(self._count(turn))), losses_header(turn.losses))


def check_model(turn: Turn, principal: Principal) -> None:
    """Raises InvalidRequest or ModelNotFound."""
    if len(turn.model) > MAX_MODEL_NAME:
        raise InvalidRequest(f"'model' must not be longer than {MAX_MODEL_NAME} characters", param="model")
    if not (principal.may_use(turn.model) or principal.may_use(split_name(turn.model)[0])):
        raise ModelNotFound("This API key may not use that model", param="model")


def context_of(edge: Edge, scope: Scope, principal: Principal) -> TurnContext:
    """Of a turn that begins now."""
    now_ms = edge.clock.now_ms()
    return TurnContext(
        id=new_turn_id(now_ms),
        created_at_ms=now_ms,
        tenant=principal.tenant,
        key_id=principal.key_id,
        key_max_in_flight=principal.max_in_flight,
        request_id=request_id_of(scope),
        path_params=scope.get("path_params", {}),
        headers=_headers(scope),
    )


def _headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reversed(scope["headers"])
        if name not in CREDENTIALS
    }


class Methods:
    """One path, one application for each method; any other is 405 in the protocol's envelope."""

    def __init__(self, protocol: ClientProtocol, **apps: ASGIApp) -> None:
        self._protocol = protocol
        self._apps = apps
        if "GET" in apps:
            self._apps.setdefault("HEAD", apps["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._apps.get(scope["method"])
        if app is not None:
            await app(scope, receive, send)
            return
        refused = Refused(405, f"{scope['method']} is not allowed on {scope['path']}", "method_not_allowed")
        allow = (b"allow", ", ".join(sorted(self._apps)).encode())
        answer = self._protocol.error(refused.info, status=405)
        await Exchange(scope, receive, send, EdgeLimits()).answer(answer, [allow])


_DOUBLED = re.compile(r"(/v1(?:beta|alpha)?)/v1(?:beta|alpha)?/")
"""A client that adds its version to a base address which has one already."""


class UnknownPath:
    """What answers where no route does: 404 in the envelope of the protocol whose prefix the path carries."""

    def __init__(self, protocol_of: Callable[[str], ClientProtocol]) -> None:
        self._protocol_of = protocol_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        doubled = _DOUBLED.match(path)
        hint = f"; the base address of this client should end before {doubled[1]}" if doubled else ""
        asked = scope.get("method", "a WebSocket at")
        refused = Refused(404, f"Unknown path: {asked} {path}{hint}", "unknown_url")
        protocol = self._protocol_of(path[len(doubled[1]) :] if doubled else path)
        answer = protocol.error(refused.info, status=404)
        if scope["type"] == "websocket":
            await refuse_handshake(scope, send, answer)
        else:
            await Exchange(scope, receive, send, EdgeLimits()).answer(answer)
