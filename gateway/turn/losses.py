"""Losses: every degradation an adapter had to make, told to the operator and to the client."""

import msgspec


class Loss(msgspec.Struct, frozen=True):
    path: str
    """Where in the request, such as `messages.2.content.1` or `temperature`."""
    reason: str
    """One lower-case word or hyphenated phrase, such as `placeholder` or `unsupported`."""

    def __str__(self) -> str:
        return f"{self.path}:{self.reason}"
