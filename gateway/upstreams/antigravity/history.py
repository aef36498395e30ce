"""The history in a Gemini request: where it is, what its parts are, what came before each content. Pure.

A payload is a request with `contents`, or Code Assist's envelope around one (`request`). Nothing here changes
what it is given: functions return new values and share what they did not touch. What may stand between call
and response is pairing.py's; what is replayed into a history is replay_apply.py's.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import SENTINELS, Kind
from gateway.replay.lookups import at, text_of
from gateway.replay.values import canonical_json
from gateway.store.keys import trim

CONTEXT_MEMBERS: Final = ("systemInstruction", "tools", "toolConfig")

_SIGNATURE = "thoughtSignature"
_ALIAS = "thought_signature"
_OPENAI_PATH = ("extra_content", "google", _ALIAS)
_CARRIERS = frozenset({_SIGNATURE, _ALIAS, _OPENAI_PATH[0]})
_RESERVED = re.compile(r"cpa_gemini_[0-9a-fA-F]{32}")
_RESERVED_PREFIX = "cpa_gemini_"
_DEGRADED = "antigravity-degraded-tool-call"


# -- payloads ---------------------------------------------------------------------------------------------


def request_of(payload: JsonObject) -> JsonObject:
    """The request, without an envelope."""
    inner = payload.get("request")
    return inner if isinstance(inner, dict) and "contents" not in payload else payload


def contents_path(payload: JsonObject) -> str:
    return "contents" if request_of(payload) is payload else "request.contents"


def contents_of(payload: JsonObject) -> list[Json]:
    contents = request_of(payload).get("contents")
    return contents if isinstance(contents, list) else []


def with_contents(payload: JsonObject, contents: list[Json]) -> JsonObject:
    """The payload itself where the contents are the same list."""
    request = request_of(payload)
    if request.get("contents") is contents:
        return payload
    changed: JsonObject = {**request, "contents": contents}
    return changed if request is payload else {**payload, "request": changed}


# -- contents and parts -----------------------------------------------------------------------------------


def word_of(value: Json) -> str:
    """A name, an id or a signature as it is compared; empty for what is none."""
    if isinstance(value, str):
        return trim(value)
    return "" if isinstance(value, dict | list) else text_of(value)


def role_of(content: Json) -> str:
    return word_of(content.get("role")).lower() if isinstance(content, dict) else ""


def parts_of(content: Json) -> list[Json]:
    parts = content.get("parts") if isinstance(content, dict) else None
    return parts if isinstance(parts, list) else []


def with_parts(content: Json, parts: list[Json]) -> Json:
    return {**content, "parts": parts} if isinstance(content, dict) else content


def call_of(part: Json) -> JsonObject | None:
    call = part.get("functionCall") if isinstance(part, dict) else None
    return call if isinstance(call, dict) else None


def response_of(part: Json) -> JsonObject | None:
    response = part.get("functionResponse") if isinstance(part, dict) else None
    return response if isinstance(response, dict) else None


def id_of(call: JsonObject) -> str:
    """Of a call or a response; empty when it has none."""
    return word_of(call.get("id"))


def name_of(call: JsonObject) -> str:
    return word_of(call.get("name"))


def args_of(call: JsonObject) -> Json:
    """No arguments at all are empty ones."""
    return call.get("args", {})


def carried_signature(part: Json) -> str:
    """What stands in the place of a signature, sentinels included."""
    if not isinstance(part, dict) or _CARRIERS.isdisjoint(part):
        return ""
    signature = word_of(part.get(_SIGNATURE)) or word_of(part.get(_ALIAS))
    return signature or (word_of(at(part, *_OPENAI_PATH)) if "extra_content" in part else "")


def signature_of(part: Json) -> str:
    """Empty for none and for a sentinel."""
    signature = carried_signature(part)
    return "" if signature in SENTINELS else signature


def without_signature(part: JsonObject) -> JsonObject:
    """Without any of the members that carry one; the part itself when it has none of them."""
    elsewhere = at(part, *_OPENAI_PATH) is not None
    if not elsewhere and _SIGNATURE not in part and _ALIAS not in part:
        return part
    bare = {name: value for name, value in part.items() if name not in (_SIGNATURE, _ALIAS)}
    if elsewhere:
        extra = _without(bare.pop("extra_content"), "google")
        if google := _without(at(part, "extra_content", "google"), _ALIAS):
            extra["google"] = google
        if extra:
            bare["extra_content"] = extra
    return bare


def with_signature(part: JsonObject, signature: str) -> JsonObject:
    """In the member where the upstream looks for it."""
    return {**without_signature(part), _SIGNATURE: signature}


def is_signed_with(part: JsonObject, signature: str) -> bool:
    """Whether with_signature() would change nothing."""
    return part.get(_SIGNATURE) == signature and _ALIAS not in part and at(part, *_OPENAI_PATH) is None


def _without(value: Json, dropped: str) -> JsonObject:
    members = value.items() if isinstance(value, dict) else ()
    return {name: member for name, member in members if name != dropped}


def segment_of(part: Json) -> tuple[Kind, str] | None:
    """The kind and the text of a part that is text or a thought; None for any other."""
    if not isinstance(part, dict) or "functionCall" in part or "functionResponse" in part:
        return None
    text = part.get("text")
    if not isinstance(text, str):
        return None
    return "thought" if part.get("thought") is True else "text", text


def text_hash(kind: Kind, text: str) -> str:
    return hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


# -- ids of calls -----------------------------------------------------------------------------------------


def canonical(value: Json) -> bytes:
    """Equal values give equal bytes. Raises InvalidRequest for what is nested too deep to be sent."""
    try:
        return canonical_json(value)
    except ValueError:
        raise InvalidRequest("the history holds JSON that is nested too deep", param="contents") from None


def claude_call_id(call_id: str, name: str, args: Json) -> str:
    """The id under which Claude's clients see a call: it proves that they gave the call back unchanged.

    Empty for a call without an id or a name of its own.
    """
    call_id, name = trim(call_id), trim(name)
    if not call_id or not name:
        return ""
    digest = hashlib.sha256(b"\0".join((call_id.encode(), name.encode(), canonical(args))))
    return _RESERVED_PREFIX + digest.hexdigest()[:32]


def is_reserved_id(call_id: str) -> bool:
    """Whether it is one of claude_call_id(), whoever made it."""
    return call_id.startswith(_RESERVED_PREFIX) and _RESERVED.fullmatch(call_id) is not None


def degraded_call_id(reserved: str) -> str:
    """What an id that nothing resolves is sent as: the same one for call and response, and every time."""
    digest = hashlib.sha256(f"{_DEGRADED}\0{reserved}".encode()).hexdigest()
    return f"call_{digest[:12]}"


def with_degraded_id(part: Json) -> Json:
    """The part itself when its call or response has no reserved id."""
    for member, call in (("functionCall", call_of(part)), ("functionResponse", response_of(part))):
        if call is not None and isinstance(part, dict) and is_reserved_id(call_id := id_of(call)):
            return {**part, member: {**call, "id": degraded_call_id(call_id)}}
    return part


# -- what came before -------------------------------------------------------------------------------------


class Contexts:
    """Fingerprints of all that comes before each content, signatures aside.

    Each content is hashed once, however often fingerprints are asked for, and nothing before the first is.
    The contents may change as long as forget() is told. Ids that nothing has resolved count as what they will
    be sent as.
    """

    def __init__(self, request: JsonObject, contents: Sequence[Json]) -> None:
        self._contents = contents
        self._request = request
        self._rooted = any(name in request for name in CONTEXT_MEMBERS)
        self._hashes: list[hashlib._Hash] = []
        """By how many contents they cover."""

    def before(self, index: int) -> str:
        """Empty when there is nothing before the content, and for one that there could not be."""
        if not 0 <= index <= len(self._contents) or (index == 0 and not self._rooted):
            return ""
        if not self._hashes:
            self._hashes.append(self._root())
        while len(self._hashes) <= index:
            hashed = self._hashes[-1].copy()
            hashed.update(_hashable(self._contents[len(self._hashes) - 1]))
            self._hashes.append(hashed)
        return self._hashes[index].hexdigest()

    def _root(self) -> "hashlib._Hash":
        root = hashlib.sha256()
        for name in CONTEXT_MEMBERS:
            if name in self._request:
                root.update(b"request.%b\0%b\0" % (name.encode(), canonical(self._request[name])))
        return root

    def matches(self, context_hash: str, index: int) -> bool:
        return not context_hash or context_hash == self.before(index)

    def forget(self, index: int) -> None:
        """The content there is another one now, or has another meaning."""
        del self._hashes[index + 1 :]


def _hashable(content: Json) -> bytes:
    pieces = [role_of(content).encode("utf-8", "surrogatepass")]
    for part in parts_of(content):
        bare = without_signature(part) if isinstance(part, dict) else part
        pieces.append(canonical(with_degraded_id(bare)))
    return b"".join(piece + b"\0" for piece in pieces)
