"""Items of Gemini's signatures, for tests of their store and of what is done with them."""

from gateway.kernel.json import JsonObject
from gateway.replay.antigravity_items import CallPart, ThoughtSignature

G1 = "sigAAAAAAAAAAAA1"
G2 = "sigAAAAAAAAAAAA2"
"""As short as signatures may be. They have not the shape of Gemini's."""


def signed(name: str) -> ThoughtSignature:
    return ThoughtSignature(signature=f"{name:a<16}", content_index=1, part_index=0)


def call(call_id: str, args: JsonObject | None = None, signature: str = "") -> CallPart:
    return CallPart(name="read", args=args or {}, call_id=call_id, signature=signature)
