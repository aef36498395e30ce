"""Model names that say how much to think: `gpt-5.4(high)`, `gemini-3-pro(8192)`. Pure.

The wish in brackets is one of the known words or a number of tokens; brackets that hold anything else are
part of the name. It wins over what the body says, for people write it where they cannot set the body.
"""

import re
from typing import Final

import msgspec

from gateway.turn.request import ReasoningRequest, Turn

_WISH: Final = re.compile(
    r"(.+)\((-1|none|auto|minimal|low|medium|high|xhigh|max|\d{1,10})\)", re.IGNORECASE | re.DOTALL | re.ASCII
)
_MOST_TOKENS: Final = 2**31 - 1
_SPACE: Final = " \t\n\v\f\r"


def split_name(model: str) -> tuple[str, str]:
    """The name without its wish, and the wish in lower case; an empty one where there is none."""
    model = model.strip(_SPACE)
    found = _WISH.fullmatch(model)
    if found is None or (found[2].isdecimal() and int(found[2]) > _MOST_TOKENS):
        return model, ""
    return found[1].strip(_SPACE), found[2].lower()


def with_named_effort(turn: Turn) -> Turn:
    """The turn as its model's name wants it; the same one when the name says nothing."""
    if not turn.model.endswith(")"):
        return turn
    _, wish = split_name(turn.model)
    if not wish:
        return turn
    summary = turn.reasoning.summary if turn.reasoning is not None else None
    wanted = ReasoningRequest(summary=summary)
    if wish.isdecimal():
        wanted = ReasoningRequest(budget_tokens=int(wish), summary=summary)
    elif wish not in ("-1", "auto"):
        wanted = ReasoningRequest(effort=wish, summary=summary)
    return msgspec.structs.replace(turn, reasoning=wanted, effort_named=True)
