"""POST /v1/chat/completions: the Chat protocol put together for the shared edge."""

from collections.abc import Sequence

from starlette.routing import Route

from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, ClientProtocol
from gateway.protocols.chat.answer import build_completion, wants_usage
from gateway.protocols.chat.encode import ChatEncoder
from gateway.protocols.chat.parse import parse_chat
from gateway.protocols.endpoint import Edge, Methods, TurnEndpoint
from gateway.protocols.openai.errors import error_answer
from gateway.turn.events import ErrorInfo
from gateway.turn.fold import TurnResult
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn


class Chat(ClientProtocol):
    """See ClientProtocol."""

    def encoder(self, turn: Turn, losses: list[Loss]) -> Encoder:
        return ChatEncoder(turn, wants_usage(turn), losses=losses)

    def result(self, turn: Turn, result: TurnResult) -> bytes:
        return dumps(build_completion(turn, result))

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        return error_answer(error, status=status)


CHAT = Chat()


def chat_routes(edge: Edge) -> Sequence[Route]:
    """With and without `/v1`: clients differ in what they take for the base address."""
    endpoint = Methods(CHAT, POST=TurnEndpoint(edge, CHAT, parse_chat))
    return [Route("/v1/chat/completions", endpoint), Route("/chat/completions", endpoint)]
