"""Content as one text, for places that know only text: session keys and prompts of upstreams without images.

The placeholders are those of lingma-openai-gateway, so that equal conversations give equal session keys.
"""

from collections.abc import Sequence

from gateway.turn.items import MediaPart, Part
from gateway.turn.losses import Loss


def flatten_parts(parts: Sequence[Part]) -> str:
    """The parts in order, one line break between them; media become `[image]`, `[audio]` and so on."""
    return "\n".join(f"[{part.kind}]" if isinstance(part, MediaPart) else part.text for part in parts)


def flatten_parts_with_losses(parts: Sequence[Part], path: str) -> tuple[str, list[Loss]]:
    """Also a loss for each part that became a placeholder; `path` is where the parts stand in the request."""
    losses = [
        Loss(f"{path}.{index}", "placeholder")
        for index, part in enumerate(parts)
        if isinstance(part, MediaPart)
    ]
    return flatten_parts(parts), losses
