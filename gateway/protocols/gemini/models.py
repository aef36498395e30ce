"""GET /v1beta/models and /v1beta/models/{name}: the catalog's entries as Google's clients read them."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from gateway.access.tiers import GOOGLE_KEY, presented_keys
from gateway.kernel.errors import ErrorKind, GatewayError, InvalidRequest
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import Edge
from gateway.protocols.gemini.names import model_name
from gateway.protocols.http import Exchange
from gateway.protocols.models import ModelCatalog, ModelEntry
from gateway.turn.events import ErrorInfo, error_info
from gateway.wire.gemini import ModelList, ModelOut

METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")
PAGE: Final = 50
MAX_PAGE: Final = 1000


class Models:
    def __init__(self, edge: Edge, catalog: ModelCatalog, protocol: ClientProtocol) -> None:
        self._edge = edge
        self._catalog = catalog
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._edge.limits)
        wanted = scope["path_params"].get("model")
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            principal = self._edge.tiers.client(presented_keys(scope["headers"], GOOGLE_KEY))
            entries = [entry for entry in await self._catalog.list() if principal.may_use(entry.id)]
            answer = _list(entries, query) if wanted is None else self._one(entries, f"models/{wanted}")
        except GatewayError as error:
            answer = self._protocol.error(error_info(error))
        await exchange.answer(answer)

    def _one(self, entries: Sequence[ModelEntry], resource: str) -> Answer:
        wanted = model_name(resource)
        for entry in entries:
            if entry.id == wanted:
                return Answer(200, dumps(_model_out(entry)))
        unknown = ErrorInfo(
            kind=ErrorKind.MODEL_NOT_FOUND, message=f"There is no model named '{wanted[:80]}'", param="name"
        )
        return self._protocol.error(unknown)


def _list(entries: Sequence[ModelEntry], query: Mapping[str, str]) -> Answer:
    size = _page_size(query.get("pageSize") or query.get("page_size"))
    token = query.get("pageToken") or query.get("page_token")
    start = _place(entries, token) if token else 0
    page = entries[start : start + size]
    body: ModelList = {"models": [_model_out(entry) for entry in page]}
    if start + size < len(entries):
        body["nextPageToken"] = page[-1].id
    return Answer(200, dumps(body))


def _page_size(text: str | None) -> int:
    """As Google does it: more than there may be is as much as there may be, and 0 is the usual."""
    if not text:
        return PAGE
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest("'pageSize' must be a whole number", param="pageSize")
    return min(int(text[:9]), MAX_PAGE) or PAGE


def _place(entries: Sequence[ModelEntry], token: str) -> int:
    """Behind the model that ended the page before."""
    for place, entry in enumerate(entries, 1):
        if entry.id == token:
            return place
    raise InvalidRequest("'pageToken' is none that was given out", param="pageToken")


def _model_out(entry: ModelEntry) -> ModelOut:
    name = entry.display_name or entry.id
    out: ModelOut = {
        "name": f"models/{entry.id}",
        "baseModelId": entry.id,
        "version": "1",
        "displayName": name,
        "description": name,
        "inputTokenLimit": entry.context_window,
        "supportedGenerationMethods": list(METHODS),
    }
    if entry.reasoning:
        out["thinking"] = True
    return out
