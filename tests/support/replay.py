"""Items as the replay vectors write them: SIG_A and SIG_B, and one letter for each kind of input item."""

import base64

from gateway.kernel.json import JsonObject

SIG_A = "gAAAAABqAAAAAAECAwQFBgcICQoLDA0OD8PDw8PDw8PDw8PDw8PDw8NaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWg=="
"""73 bytes: 0x80, the time 0x6A000000, an IV of 0..15, 16 times 0xC3, 32 times 0x5A."""
SIG_B = (
    "gAAAAABqAAAAAAECAwQFBgcICQoLDA0OD8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDWlpaWlpaWlpaWlpaWlpaWlpa"
    "WlpaWlpaWlpaWlpaWlo="
)
"""The same with 32 times 0xC3."""


def signature(number: int) -> str:
    """A valid one of its own for each number below 65536."""
    raw = b"\x80" + (0x6A000000).to_bytes(8, "big") + number.to_bytes(16, "big") + b"\xc3" * 16 + b"\x5a" * 32
    return base64.urlsafe_b64encode(raw).decode()


def D(text: str) -> JsonObject:
    return message("developer", text)


def U(text: str) -> JsonObject:
    return message("user", text)


def A(text: str) -> JsonObject:
    return message("assistant", text)


def R(blob: str = SIG_A) -> JsonObject:
    return {"type": "reasoning", "summary": [], "content": None, "encrypted_content": blob}


def C(call_id: str) -> JsonObject:
    return {"type": "function_call", "call_id": call_id, "name": "ls", "arguments": "{}"}


def O(call_id: str) -> JsonObject:  # noqa: E743 - the letter of the vectors
    return {"type": "function_call_output", "call_id": call_id, "output": "ok"}


def message(role: str, text: str) -> JsonObject:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
