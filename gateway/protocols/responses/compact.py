"""POST /v1/responses/compact: a conversation made shorter by an upstream that can, as one JSON answer.

The request is that of a response without its stream, the answer goes out as the upstream gave it. Where no
upstream of the model can compact, the answer is 404: Codex takes that as final, and repeats server errors.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.routing import BaseRoute, Route

from gateway.kernel.errors import COMPACTION_UNSUPPORTED, InvalidRequest
from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.answers import Answer
from gateway.protocols.bodies import TurnContext, load_object
from gateway.protocols.endpoint import Edge, Methods, TurnEndpoint
from gateway.protocols.openai.errors import error_answer
from gateway.protocols.responses.lane import whole_response
from gateway.protocols.responses.objects import output_of
from gateway.protocols.responses.parse import turn_of
from gateway.protocols.responses.response import response_id, usage_out
from gateway.protocols.responses.routes import PATHS, Responses
from gateway.turn.events import ErrorInfo, Finish
from gateway.turn.fold import TurnResult
from gateway.turn.request import Turn

NOT_FOUND: Final = 404


class Compact(Responses):
    """See ClientProtocol."""

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        return dumps(
            {
                "id": response_id(turn),
                "object": "response.compaction",
                "created_at": turn.created_at_ms // 1000,
                "output": output_of(turn, result.items),
                "usage": usage_out(result.usage),
            }
        )

    def passed_on(self, turn: Turn, raw: bytes, finish: Finish) -> bytes | None:
        return whole_response(raw, turn, codex=False)

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        if status is None and error.code == COMPACTION_UNSUPPORTED:
            return error_answer(error, status=NOT_FOUND)
        return super().error(error, status=status)


COMPACT = Compact()


def parse_compact(body: bytes, context: TurnContext) -> Turn:
    """Raises InvalidRequest naming the field at fault."""
    raw = load_object(body)
    if raw.get("stream") is True:
        raise InvalidRequest(
            "Streaming not supported for compact responses", param="stream", code="unsupported_value"
        )
    whole: JsonObject = {name: value for name, value in raw.items() if name != "stream"}
    return msgspec.structs.replace(turn_of(whole, context), operation="compact")


def compact_routes(edge: Edge) -> Sequence[BaseRoute]:
    endpoint = Methods(COMPACT, POST=TurnEndpoint(edge, COMPACT, parse_compact))
    return [Route(f"{path}/compact", endpoint) for path in PATHS]
