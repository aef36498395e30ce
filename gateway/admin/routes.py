"""Routes for probes, scrapers and operators. Not for clients: nothing here runs a turn.

/healthz /livez /readyz are open, since probes have no keys, and show no account. /metrics and /internal have
their tiers (access/tiers.py). app.py mounts what `admin_routes` returns.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.access.tiers import BEARER, Tiers, presented_keys
from gateway.admin import views
from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    InstanceAmbiguous,
    InstanceNotFound,
    StoreError,
)
from gateway.kernel.json import dumps
from gateway.telemetry.exposition import Format, negotiated, whole
from gateway.telemetry.metrics import render_reference

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

T = TypeVar("T")

GUARD_METRICS = ("in_flight", "queued", "accepted_total", "rejected_total", "max_in_flight")

_STATUS = {
    ErrorKind.INVALID_REQUEST: 400,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.RATE_LIMITED: 429,
    ErrorKind.QUEUE_TIMEOUT: 429,
    ErrorKind.OVERLOADED: 503,
    ErrorKind.UPSTREAM_UNAVAILABLE: 503,
    ErrorKind.WORKER_LOST: 503,
    ErrorKind.STORE_UNAVAILABLE: 503,
    ErrorKind.UPSTREAM_TIMEOUT: 504,
    ErrorKind.UPSTREAM_EOF: 502,
    ErrorKind.UPSTREAM_PROTOCOL: 502,
}
"""Kinds that operators can meet; any other is 500."""


class AdminPorts(NamedTuple):
    """Where the figures come from; see views.py for what each gives."""

    replica_id: str
    tiers: Tiers
    pool: views.PoolView
    admission: views.AdmissionStats
    chat: views.ChatCounters
    cluster: views.StatsView
    sessions: views.SessionStats
    readiness: views.Readiness
    models: views.RawModels
    instruments: Callable[[Format], str]
    """What has labels and histograms, in the format that is asked for."""
    upstreams: Callable[[], Mapping[str, bool]]
    """HTTP upstreams by name, and whether one of their credentials may be asked."""


def admin_routes(ports: AdminPorts) -> list[Route]:
    """The route list of this package, for app.py."""
    pages = _Pages(ports)
    return [
        Route("/healthz", _Page(pages.healthz)),
        Route("/livez", _Page(pages.livez)),
        Route("/readyz", _Page(pages.readyz)),
        Route("/metrics", _Page(pages.metrics)),
        Route("/internal/stats", _Page(pages.stats)),
        Route("/internal/models/raw", _Page(pages.models_raw)),
    ]


class _Pages:
    def __init__(self, ports: AdminPorts) -> None:
        self._ports = ports

    async def healthz(self, _request: Request) -> Response:
        """Always 200: a gateway without a worker is up, and says so in `ok`."""
        return _json(views.health(self._ports.pool.instances(), self._ports.upstreams()))

    async def livez(self, _request: Request) -> Response:
        return _json({"ok": True})

    async def readyz(self, _request: Request) -> Response:
        reason = await self._ports.readiness.why_not_ready()
        if reason is None:
            return _json({"ready": True})
        return _json({"ready": False, "reason": reason}, status=503)

    async def metrics(self, request: Request) -> Response:
        ports = self._ports
        ports.tiers.metrics(presented_keys(request.scope["headers"], BEARER))
        guard = {**views.concurrency(ports.admission), "max_in_flight": max(0, ports.admission.max_in_flight)}
        figures = {**{name: guard[name] for name in GUARD_METRICS}, **ports.chat.counters()}
        sessions = await _or_empty(ports.sessions.prometheus_lines(), [])
        block = render_reference(figures, ports.pool.instances(), sessions)
        form = negotiated(request.headers.get("accept", ""))
        page = whole(form, block, ports.instruments(form))
        return Response(page, headers={"content-type": form, "vary": "accept"})

    async def stats(self, request: Request) -> Response:
        ports = self._ports
        self._operator(request)
        return _json(
            views.statistics(
                replica_id=ports.replica_id,
                chat=ports.chat.counters(),
                guard=views.concurrency(ports.admission),
                max_in_flight=ports.admission.max_in_flight,
                sums=await ports.cluster.sums(),
                instances=ports.pool.instances(),
                session_cache=await _or_empty(ports.sessions.stats(), {}),
            )
        )

    async def models_raw(self, request: Request) -> Response:
        self._operator(request)
        return _json(await self._ports.models.raw_models(request.query_params.get("instance") or None))

    def _operator(self, request: Request) -> None:
        self._ports.tiers.admin(presented_keys(request.scope["headers"], BEARER))


async def _or_empty(asked: Awaitable[T], empty: T) -> T:
    """What was asked for, or nothing while the store is away: the rest of a page is worth having."""
    try:
        return await asked
    except StoreError:
        return empty


class _Page:
    """Something to GET. Errors are JSON, in the shape OpenAI's clients know; so is any other method's 405."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.method in ("GET", "HEAD"):
            try:
                response = await self._handler(request)
            except GatewayError as error:
                response = error_response(error)
        else:
            response = _wrong_method(request.method)
        await response(scope, receive, send)


def _wrong_method(method: str) -> Response:
    message = f"{method} is not allowed here"
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": "method_not_allowed"}
    return _json({"error": body}, status=405, headers={"allow": "GET, HEAD"})


def error_response(error: GatewayError) -> Response:
    status = _STATUS.get(error.kind, 500)
    if isinstance(error, InstanceNotFound):
        status = 404
    elif isinstance(error, InstanceAmbiguous):
        status = 409
    code = error.code or ("service_unavailable" if status == 503 else str(error.kind))
    kind = (
        "authentication_error"
        if status == 401
        else "invalid_request_error"
        if status < 500
        else "server_error"
    )
    body = {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return _json(body, status=status, headers=headers)


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        dumps(value),
        status_code=status,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )
