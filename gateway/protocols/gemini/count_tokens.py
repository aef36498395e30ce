"""POST {model}:countTokens: what a conversation would cost to read, by estimate.

Reads the body as a turn's, runs nothing: no slot, no instance, no upstream. The estimate is the one that
answers without reported usage carry.
"""

from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer
from gateway.protocols.endpoint import TurnEndpoint
from gateway.protocols.http import Exchange, losses_header
from gateway.turn.estimate import input_tokens
from gateway.turn.request import Turn
from gateway.wire.gemini import CountResponse


class CountTokens(TurnEndpoint):
    async def serve(self, exchange: Exchange, turn: Turn) -> None:
        body: CountResponse = {"totalTokens": input_tokens(turn)}
        await exchange.answer(Answer(200, dumps(body)), losses_header(turn.losses))
