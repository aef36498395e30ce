"""Token usage. None means "not reported", never 0."""

from typing import Final

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Part of the input tokens that the upstream read from a cache."""
    reasoning_tokens: int | None = None
    """Part of the output tokens."""
    estimated: bool = False
    """True when no upstream reported it and we counted characters."""

    @property
    def total_tokens(self) -> int | None:
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)


_MOST: Final = 2**53


def sound(usage: Usage) -> Usage:
    """Without figures that no count of tokens can be."""
    figures = {
        name: figure
        for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
        if (figure := getattr(usage, name)) is not None and not 0 <= figure < _MOST
    }
    return msgspec.structs.replace(usage, **dict.fromkeys(figures)) if figures else usage


def merge(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Later figures win where they are given; a report beats an estimate."""
    if earlier is None or later is None:
        return earlier or later
    if earlier.estimated and not later.estimated:
        return later
    if later.estimated and not earlier.estimated:
        return earlier
    return Usage(
        input_tokens=_pick(earlier.input_tokens, later.input_tokens),
        output_tokens=_pick(earlier.output_tokens, later.output_tokens),
        cached_tokens=_pick(earlier.cached_tokens, later.cached_tokens),
        reasoning_tokens=_pick(earlier.reasoning_tokens, later.reasoning_tokens),
        estimated=earlier.estimated and later.estimated,
    )


def _pick(earlier: int | None, later: int | None) -> int | None:
    return earlier if later is None else later


def estimate_tokens(text: str) -> int:
    """A quarter of the UTF-8 bytes, at least 1 for any text: "" is 0, four Chinese characters are 3."""
    if not text:
        return 0
    return max(1, len(text.encode("utf-8", "surrogatepass")) // 4)
