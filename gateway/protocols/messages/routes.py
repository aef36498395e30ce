"""POST /v1/messages and its token count: the Messages protocol put together for the shared edge."""

from collections.abc import Sequence

from starlette.routing import Route
from starlette.types import Scope

from gateway.access.tiers import KEY_OR_BEARER, presented_keys
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.endpoint import CountEndpoint, Edge, Methods, TurnEndpoint
from gateway.protocols.messages.blocks import build_message
from gateway.protocols.messages.count_tokens import count
from gateway.protocols.messages.encode import MessagesEncoder
from gateway.protocols.messages.errors import error_answer
from gateway.protocols.messages.parse import parse_count, parse_messages
from gateway.turn.events import ErrorInfo
from gateway.turn.fold import TurnResult
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn


class Messages(ClientProtocol):
    """See ClientProtocol."""

    def encoder(self, turn: Turn, losses: list[Loss]) -> Encoder:
        return MessagesEncoder(turn, losses=losses)

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        return dumps(build_message(turn, result))

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        return error_answer(error, status=status)


MESSAGES = Messages()


def either_key(scope: Scope) -> Sequence[bytes]:
    """`x-api-key` or Bearer: Anthropic's clients send one or the other, and either alone is enough."""
    return presented_keys(scope["headers"], KEY_OR_BEARER)


def messages_routes(edge: Edge) -> Sequence[Route]:
    """With and without `/v1`: clients differ in what they take for the base address."""
    ask = Methods(MESSAGES, POST=TurnEndpoint(edge, MESSAGES, parse_messages, either_key))
    tokens = Methods(MESSAGES, POST=CountEndpoint(edge, MESSAGES, parse_count, either_key, count))
    return [
        *(Route(path, ask) for path in ("/v1/messages", "/messages")),
        *(Route(f"{path}/count_tokens", tokens) for path in ("/v1/messages", "/messages")),
    ]
