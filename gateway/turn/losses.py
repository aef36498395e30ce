"""Losses: every degradation an adapter had to make, told to the operator and to the client."""

import msgspec


class Loss(msgspec.Struct, frozen=True):
    path: str
    """Where in the request, such as `messages.2.content.1` or `temperature`."""
    reason: str
    """One lower-case word or hyphenated phrase, such as `placeholder` or `unsupported`, written out where the
    loss is made: it is counted by, so nothing that a request brought may be part of it."""
    detail: str = ""
    """What the reason ends in when it is told, such as the name of a model."""

    def __str__(self) -> str:
        return f"{self.path}:{self.reason}-{self.detail}" if self.detail else f"{self.path}:{self.reason}"
