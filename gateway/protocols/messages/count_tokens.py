"""POST /v1/messages/count_tokens: what a conversation would cost to read, by estimate.

Reads the body as a turn's, runs nothing: no slot, no instance, no upstream. The estimate is the one that
answers without reported usage carry.
"""

from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer
from gateway.protocols.endpoint import TurnEndpoint
from gateway.protocols.http import Exchange, losses_header
from gateway.turn.estimate import input_tokens
from gateway.turn.request import Turn
from gateway.wire.messages import TokenCount


class CountTokens(TurnEndpoint):
    async def serve(self, exchange: Exchange, turn: Turn) -> None:
        await exchange.answer(Answer(200, dumps(count(turn))), losses_header(turn.losses))


def count(turn: Turn) -> TokenCount:
    """With `context_management` clients look for the figure before it, too; nothing is cleared here."""
    tokens = input_tokens(turn)
    if turn.raw.body.get("context_management") is None:
        return {"input_tokens": tokens}
    return {"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}}
