"""The answer of POST /v1/messages/count_tokens. Its estimate is the one that answers without usage carry."""

from gateway.turn.estimate import input_tokens
from gateway.turn.request import Turn
from gateway.wire.messages import TokenCount


def count(turn: Turn) -> TokenCount:
    """With `context_management` clients look for the figure before it, too; nothing is cleared here."""
    tokens = input_tokens(turn)
    if turn.raw.body.get("context_management") is None:
        return {"input_tokens": tokens}
    return {"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}}
