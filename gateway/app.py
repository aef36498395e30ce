"""The application: its routes and the order of its middleware, and nothing else.

The composition root builds the dependencies and hands them in; tests hand in fakes.
"""

from collections.abc import Sequence
from typing import Protocol

from starlette.routing import BaseRoute, Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.tiers import Tiers
from gateway.admin.routes import AdminPorts, admin_routes
from gateway.kernel.clock import Clock
from gateway.kernel.errors import ErrorKind
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.chat.routes import CHAT, chat_routes
from gateway.protocols.endpoint import Edge, UnknownPath
from gateway.protocols.gemini.routes import GEMINI, gemini_routes
from gateway.protocols.http import EdgeLimits, Engine
from gateway.protocols.messages.routes import MESSAGES, messages_routes
from gateway.protocols.middleware import HideQueryKey, RequestContext
from gateway.protocols.models import ModelCatalog, model_routes
from gateway.protocols.responses.compact import compact_routes
from gateway.protocols.responses.encode import OnEof
from gateway.protocols.responses.routes import responses_routes
from gateway.protocols.root import root_routes
from gateway.protocols.websocket import Sockets
from gateway.turn.events import ErrorInfo

ENVELOPES: tuple[tuple[str, ClientProtocol], ...] = (
    ("/v1/messages", MESSAGES),
    ("/v1beta", GEMINI),
    ("/v1alpha", GEMINI),
    ("/", CHAT),
)
"""Whose errors a path speaks: the first prefix that fits. OpenAI's are the last resort."""


class Deps(Protocol):
    """What the application is made of."""

    @property
    def engine(self) -> Engine: ...

    @property
    def tiers(self) -> Tiers: ...

    @property
    def catalog(self) -> ModelCatalog: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def limits(self) -> EdgeLimits: ...

    @property
    def responses_on_eof(self) -> OnEof: ...

    @property
    def sockets(self) -> Sockets: ...

    @property
    def admin(self) -> AdminPorts: ...

    def draining(self) -> bool:
        """Whether this replica is about to stop, so that clients had better connect elsewhere."""
        ...

    def instrument(self, app: ASGIApp) -> ASGIApp:
        """Put the server span around the application; the same application when tracing is off."""
        ...


def build_app(deps: Deps) -> ASGIApp:
    edge = Edge(engine=deps.engine, tiers=deps.tiers, clock=deps.clock, limits=deps.limits)
    routes = [
        *root_routes(CHAT),
        *chat_routes(edge),
        *responses_routes(edge, deps.sockets, on_eof=deps.responses_on_eof),
        *compact_routes(edge),
        *messages_routes(edge),
        *gemini_routes(edge, deps.catalog),
        *model_routes(edge, deps.catalog, openai=CHAT, anthropic=MESSAGES),
        *admin_routes(deps.admin),
    ]
    app: ASGIApp = Paths(routes, UnknownPath(protocol_of))
    app = RequestContext(app, draining=deps.draining, defect=internal_error)
    return HideQueryKey(deps.instrument(app))


class Paths(Router):
    """Starlette's router, which asks only those routes that begin as the path does: most are for others.

    A path is what it is: no redirects to the same path with another slash.
    """

    def __init__(self, routes: Sequence[BaseRoute], default: ASGIApp) -> None:
        super().__init__(routes, redirect_slashes=False, default=default)
        self._beginnings = [(getattr(route, "path", "").partition("{")[0], route) for route in routes]

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().app(scope, receive, send)
            return
        path: str = scope["path"]
        for beginning, route in self._beginnings:
            if path.startswith(beginning):
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope["route"] = route
                    scope.update(found)
                    await route.handle(scope, receive, send)
                    return
        await self.default(scope, receive, send)


def protocol_of(path: str) -> ClientProtocol:
    """Of the first prefix that fits. A target that is no path (`*`, a whole URL) gets the last resort."""
    return next((protocol for prefix, protocol in ENVELOPES if path.startswith(prefix)), ENVELOPES[-1][1])


def internal_error(path: str) -> Answer:
    """A defect of ours: the client learns nothing but that."""
    info = ErrorInfo(kind=ErrorKind.INTERNAL, message="The gateway failed to handle the request")
    return protocol_of(path).error(info)
