"""GET /v1/models and /v1/models/{id}: what a client may ask for, from the catalog's entries.

The list is OpenAI's and carries what Anthropic's clients look for in theirs, since both ask the same path.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.access.tiers import KEY_OR_BEARER, presented_keys
from gateway.kernel.errors import ErrorKind, GatewayError
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import Edge, Methods
from gateway.protocols.http import Exchange
from gateway.turn.events import ErrorInfo, error_info
from gateway.wire.chat import ModelList, ModelOut


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    display_name: str = ""
    created: int = 0
    """Unix seconds."""
    owned_by: str = ""


class ModelCatalog(Protocol):
    async def list(self) -> Sequence[ModelEntry]:
        """May raise GatewayError."""
        ...


def model_routes(edge: Edge, catalog: ModelCatalog, protocol: ClientProtocol) -> Sequence[Route]:
    """With and without `/v1`: clients differ in what they take for the base address."""
    every = Methods(protocol, GET=ModelsEndpoint(edge, catalog, protocol))
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
        try:
            principal = self._edge.tiers.client(presented_keys(scope["headers"], KEY_OR_BEARER))
            entries = [entry for entry in await self._catalog.list() if principal.may_use(entry.id)]
        except GatewayError as error:
            await exchange.answer(self._protocol.error(error_info(error)))
            return
        await exchange.answer(self._list(entries) if wanted is None else self._one(entries, wanted))

    def _list(self, entries: Sequence[ModelEntry]) -> Answer:
        data = [_model_out(entry) for entry in entries]
        body: ModelList = {
            "object": "list",
            "data": data,
            "has_more": False,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }
        return Answer(200, dumps(body))

    def _one(self, entries: Sequence[ModelEntry], wanted: str) -> Answer:
        for entry in entries:
            if entry.id == wanted:
                return Answer(200, dumps(_model_out(entry)))
        unknown = ErrorInfo(
            kind=ErrorKind.MODEL_NOT_FOUND, message="There is no model of that name", param="model"
        )
        return self._protocol.error(unknown, status=404)


def _model_out(entry: ModelEntry) -> ModelOut:
    name = entry.display_name or entry.id
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owned_by,
        "name": name,
        "type": "model",
        "display_name": name,
    }
