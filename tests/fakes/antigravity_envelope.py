"""What Code Assist puts around a Gemini request, and where it wants another one than the plain service."""

import re
from typing import Any

from tests.fakes.antigravity_fields import CONFIG, FUNCTION, REQUEST, TOOL, Spec

_CODE_ASSIST_CONFIG = {
    name: kind for name, kind in CONFIG.items() if name not in ("maxOutputTokens", "responseJsonSchema")
}
_CODE_ASSIST_FUNCTION = {name: kind for name, kind in FUNCTION.items() if name != "parametersJsonSchema"}
ENVELOPE: Spec = {
    "model": str,
    "userAgent": str,
    "requestType": str,
    "project": str,
    "requestId": str,
    "request": {
        **{name: kind for name, kind in REQUEST.items() if name != "safetySettings"},
        "generationConfig": _CODE_ASSIST_CONFIG,
        "tools": [{**TOOL, "functionDeclarations": [_CODE_ASSIST_FUNCTION]}],
        "sessionId": str,
    },
}

REQUEST_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
SESSION_ID = re.compile(r"-?[0-9]{1,20}")
"""A number of 64 bits."""


def wrong_envelope(message: dict[str, Any]) -> str | None:
    """What is wrong with one whose fields are known and of their types."""
    image = "image" in message["model"]
    wanted = {"model", "userAgent", "requestType", "project", "requestId", "request"}
    if message.keys() != wanted:
        return f"Request must have exactly {sorted(wanted)}"
    kind = "image_gen" if image else "agent"
    if message["requestType"] != kind:
        return "Unknown request type."
    prefix, _, unique = message["requestId"].partition("-")
    if prefix != kind or not REQUEST_ID.fullmatch(unique):
        return "Request ids are their type and a UUID."
    if "google" in message["userAgent"].lower() or message["userAgent"] == "antigravity":
        return "This is not the client it says it is."
    session_id = message["request"].get("sessionId")
    if image == (session_id is not None):
        return "Session ids are for conversations."
    if session_id is not None and not SESSION_ID.fullmatch(session_id):
        return "Session ids are numbers."
    return None
