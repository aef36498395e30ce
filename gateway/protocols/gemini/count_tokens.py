"""The answer of POST {model}:countTokens. Its estimate is the one that answers without usage carry."""

from gateway.turn.estimate import input_tokens
from gateway.turn.request import Turn
from gateway.wire.gemini import CountResponse


def count(turn: Turn) -> CountResponse:
    return {"totalTokens": input_tokens(turn)}
