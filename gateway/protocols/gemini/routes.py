"""Gemini's generateContent, streamGenerateContent, countTokens and models, put together for the shared edge.

A method stands behind the last colon of its address, and the model before it may hold slashes and colons
itself. A stream comes in one of three forms: server-sent events where `alt=sse` asks for them, in the dialect
of Google's SDKs where one of these asks, and one JSON array else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.tiers import GOOGLE_KEY, presented_keys
from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import CountEndpoint, Edge, Methods, TurnEndpoint
from gateway.protocols.gemini.answer import build_response
from gateway.protocols.gemini.count_tokens import count
from gateway.protocols.gemini.encode import GeminiEncoder
from gateway.protocols.gemini.errors import error_answer
from gateway.protocols.gemini.framing import ArrayFraming, EventFraming, Framing, SdkFraming
from gateway.protocols.gemini.models import Models
from gateway.protocols.gemini.names import is_model, model_name
from gateway.protocols.gemini.parse import STREAM, parse_count, parse_generate
from gateway.protocols.gemini.rename import ModelName
from gateway.protocols.http import EdgeLimits, Exchange
from gateway.protocols.models import ModelCatalog
from gateway.turn.events import ErrorInfo, Finish
from gateway.turn.fold import TurnResult
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn

_SDK_HEADER: Final = b"x-goog-api-client"
"""Google's SDKs send it, and programs built on them."""

_GOOGLES_HEADERS: Final = frozenset({_SDK_HEADER, b"x-goog-api-key"})

_GOOGLES: Final = frozenset(
    {
        "asyncBatchEmbedContent",
        "batchEmbedContents",
        "batchEmbedText",
        "batchGenerateContent",
        "bidiGenerateContent",
        "computeTokens",
        "countTextTokens",
        "embedContent",
        "embedText",
        "generateAnswer",
        "generateImages",
        "generateText",
        "predict",
        "predictLongRunning",
    }
)
"""Methods that Google's models have and ours do not."""


class Gemini(ClientProtocol):
    """See ClientProtocol."""

    def __init__(self, framing: Callable[[], Framing] = EventFraming) -> None:
        self._framing = framing

    def encoder(self, turn: Turn, losses: list[Loss]) -> Encoder:
        return GeminiEncoder(turn, self._framing(), losses=losses)

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        return dumps(build_response(turn, result))

    def passed_on(self, turn: Turn, raw: bytes, finish: Finish) -> bytes | None:
        return ModelName(turn.model).put(raw)

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        return error_answer(error, status=status)


GEMINI = Gemini()
GEMINI_SDK = Gemini(SdkFraming)
GEMINI_ARRAY = Gemini(ArrayFraming)


def google_key(scope: Scope) -> Sequence[bytes]:
    """`x-goog-api-key`, where `?key=` has been moved to, or Bearer."""
    return presented_keys(scope["headers"], GOOGLE_KEY)


def gemini_routes(edge: Edge, catalog: ModelCatalog) -> Sequence[Route]:
    """To be mounted before the list of models at `/v1`, where Google's clients ask for theirs, too."""
    call = ModelMethods(edge)
    models = Methods(GEMINI, GET=Models(edge, catalog, GEMINI))
    routes: list[Route] = [
        _PostRoute("/v1/models/{model:path}:{method}", call),
        _GooglesPostRoute("/v1/{model:path}:{method}", call),
        _GooglesRoute("/v1/models", models),
        _GooglesRoute("/v1/models/{model:path}", models),
    ]
    for version in ("/v1beta", "/v1beta1", "/v1alpha"):
        routes += [
            _PostRoute(f"{version}/{{model:path}}:{{method}}", call),
            Route(f"{version}/models", models),
            Route(f"{version}/models/{{model:path}}", models),
        ]
    return routes


class _PostRoute(Route):
    """A path that means nothing for other methods: another route may take those, or refuse them."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if scope.get("method") == "POST" else (Match.NONE, {})


class _GooglesRoute(Route):
    """A path that others ask, too: taken when the request has a header that only Google's clients send."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if any(name in _GOOGLES_HEADERS for name, _ in scope.get("headers", ())):
            return super().matches(scope)
        return Match.NONE, {}


class _GooglesPostRoute(_GooglesRoute, _PostRoute):
    pass


class ModelMethods:
    """POST to a method of a model: finds the endpoint, and tells it the model."""

    def __init__(self, edge: Edge) -> None:
        self._whole: Mapping[str, ASGIApp] = {
            "generateContent": TurnEndpoint(edge, GEMINI, parse_generate, google_key),
            "countTokens": CountEndpoint(edge, GEMINI, parse_count, google_key, count),
        }
        self._array = TurnEndpoint(edge, GEMINI_ARRAY, parse_generate, google_key)
        self._events = TurnEndpoint(edge, GEMINI, parse_generate, google_key)
        self._sdk = TurnEndpoint(edge, GEMINI_SDK, parse_generate, google_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        resource, _, method = scope["path"].split("/", 2)[2].rpartition(":")
        endpoint = self._endpoint(scope, method) if is_model(resource) else None
        if endpoint is None:
            answer = _no_method(scope["path"], method if is_model(resource) else "")
            await Exchange(scope, receive, send, EdgeLimits()).answer(answer)
            return
        named = {"model": model_name(resource), "method": method}
        await endpoint({**scope, "path_params": named}, receive, send)

    def _endpoint(self, scope: Scope, method: str) -> ASGIApp | None:
        if method != STREAM:
            return self._whole.get(method)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if (query.get("alt") or query.get("$alt", "")).lower() != "sse":
            return self._array
        official = any(name == _SDK_HEADER for name, _ in scope["headers"])
        return self._sdk if official else self._events


def _no_method(path: str, method: str) -> Answer:
    """501 for what Google has and we have not, 404 for what nobody has."""
    if method in _GOOGLES:
        status, message, code = 501, f"'{method}' is not available here", "unsupported_method"
    else:
        status, message, code = 404, f"Unknown path: POST {path}", "unknown_url"
    info = ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message=message, code=code)
    return GEMINI.error(info, status=status)
