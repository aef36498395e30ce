"""GET /v1/models and /v1/models/{id}: what a client may ask for, from the catalog's entries.

One answer for all who ask that path: OpenAI's list, whose entries carry what Anthropic's clients look for,
with Codex's catalogue beside it. Pages are Anthropic's; who asks for none gets everything. Errors come in the
envelope of whose client it is, and Anthropic's always say their version. No `x-models-etag` is sent: Codex
asks anew whenever it sees one that it does not know.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.access.tiers import KEY_OR_BEARER, presented_keys
from gateway.kernel.errors import ErrorKind, GatewayError, InvalidRequest
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import Edge, Methods
from gateway.protocols.http import Exchange
from gateway.protocols.models_codex import codex_catalogue
from gateway.turn.events import ErrorInfo, error_info
from gateway.wire.models import ModelList, ModelOut

DEFAULT_CONTEXT_WINDOW: Final = 128_000
"""Tokens, of a model whose upstream does not say. Rather too low: a client that knows compacts in time."""
MAX_PAGE: Final = 1000


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    display_name: str = ""
    created: int = 0
    """Unix seconds."""
    owned_by: str = ""
    reasoning: bool = False
    images: bool = False
    """Whether images reach the model, on the way that its upstream offers."""
    context_window: int = DEFAULT_CONTEXT_WINDOW
    """Tokens."""


class ModelCatalog(Protocol):
    async def list(self) -> Sequence[ModelEntry]:
        """The default model first. May raise GatewayError."""
        ...


class _ByVersion:
    """Anthropic's clients say their version; all others are taken for OpenAI's."""

    def __init__(self, openai: Methods, anthropic: Methods) -> None:
        self._openai = openai
        self._anthropic = anthropic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        versioned = any(name == b"anthropic-version" for name, _ in scope["headers"])
        await (self._anthropic if versioned else self._openai)(scope, receive, send)


def model_routes(
    edge: Edge, catalog: ModelCatalog, *, openai: ClientProtocol, anthropic: ClientProtocol
) -> Sequence[Route]:
    """With and without `/v1`: clients differ in what they take for the base address."""
    every = _ByVersion(
        *(Methods(told, GET=ModelsEndpoint(edge, catalog, told)) for told in (openai, anthropic))
    )
    return [
        Route(path, every) for base in ("/v1/models", "/models") for path in (base, f"{base}/{{model:path}}")
    ]


class ModelsEndpoint:
    def __init__(self, edge: Edge, catalog: ModelCatalog, protocol: ClientProtocol) -> None:
        self._edge = edge
        self._catalog = catalog
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._edge.limits)
        wanted = scope["path_params"].get("model")
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            principal = self._edge.tiers.client(presented_keys(scope["headers"], KEY_OR_BEARER))
            entries = [entry for entry in await self._catalog.list() if principal.may_use(entry.id)]
            answer = _list(entries, query) if wanted is None else self._one(entries, wanted)
        except GatewayError as error:
            answer = self._protocol.error(error_info(error))
        await exchange.answer(answer)

    def _one(self, entries: Sequence[ModelEntry], wanted: str) -> Answer:
        for entry in entries:
            if entry.id == wanted:
                return Answer(200, dumps(_model_out(entry)))
        unknown = ErrorInfo(
            kind=ErrorKind.MODEL_NOT_FOUND, message=f"There is no model named '{wanted[:80]}'", param="model"
        )
        return self._protocol.error(unknown, status=404)


def _list(entries: Sequence[ModelEntry], query: Mapping[str, str]) -> Answer:
    page = page_of(entries, query)
    data = [_model_out(entry) for entry in page.entries]
    body: ModelList = {
        "object": "list",
        "data": data,
        "has_more": page.has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "models": codex_catalogue(page.entries),
    }
    return Answer(200, dumps(body))


def _model_out(entry: ModelEntry) -> ModelOut:
    name = entry.display_name or entry.id
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owned_by,
        "name": name,
        "context_window": entry.context_window,
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(entry.created, UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": entry.context_window,
    }


# -- pages ------------------------------------------------------------------------------------------------


class Page(NamedTuple):
    entries: Sequence[ModelEntry]
    has_more: bool
    """In the direction that was asked for."""


def page_of(entries: Sequence[ModelEntry], query: Mapping[str, str]) -> Page:
    """The entries after `after_id` or before `before_id`, at most `limit`. Raises InvalidRequest."""
    limit = _limit(query.get("limit"))
    after, before = query.get("after_id"), query.get("before_id")
    if after and before:
        raise InvalidRequest("Only one of 'after_id' and 'before_id' may be given", param="before_id")
    if before:
        end = _place(entries, before, "before_id")
        start = max(0, end - limit)
        return Page(entries[start:end], start > 0)
    start = _place(entries, after, "after_id") + 1 if after else 0
    return Page(entries[start : start + limit], start + limit < len(entries))


def _limit(text: str | None) -> int:
    if not text:
        return sys.maxsize
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {MAX_PAGE}", param="limit")
    return limit


def _place(entries: Sequence[ModelEntry], cursor: str, param: str) -> int:
    for place, entry in enumerate(entries):
        if entry.id == cursor:
            return place
    raise InvalidRequest(f"There is no model of the name in '{param}'", param=param)
