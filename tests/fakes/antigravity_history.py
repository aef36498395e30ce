"""Which histories a Gemini model takes: who speaks after whom, calls and responses, signatures in place.

Signatures are minted for one part of one model's answer and taken back on that part alone, unaltered: on
the call, on the whole text however many parts it comes in, or on an empty part directly behind that text. The
first call of every step of the current turn must carry one, or a word that skips the check. What else was
signed and comes back without its signature is taken, as the original takes it, and told to the test.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

TEXTS = {"text", "thought"}
SKIPS = {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}

ALTERNATE = "Please ensure that multiturn requests alternate between user and model."
CALL_AFTER = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response "
    "turn."
)
RESPONSE_AFTER = "Please ensure that function response turn comes immediately after a function call turn."
AS_MANY = (
    "Please ensure that the number of function response parts is equal to the number of function call parts "
    "of the function call turn."
)
MISSING = (
    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
    "correctly, and missing thought_signature may lead to degraded model performance. Additional data, "
    "function call `default_api:{name}` , position {position}. Please refer to "
    "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
)
CORRUPTED = "Corrupted thought signature."
INVALID = "Invalid thought signature."

Part = dict[str, Any]


class Step(NamedTuple):
    """What one of them says at a stretch, however many contents it comes in."""

    role: str
    parts: list[Part]


def steps(contents: list[dict[str, Any]]) -> list[Step]:
    found: list[Step] = []
    for content in contents:
        role = speaker(content)
        if found and found[-1].role == role:
            found[-1].parts.extend(content["parts"])
        else:
            found.append(Step(role, list(content["parts"])))
    return found


def speaker(content: dict[str, Any]) -> str:
    """Responses are the user's, whatever role they come under."""
    if all("functionResponse" in part for part in content["parts"]):
        return "user"
    return "model" if content.get("role") == "model" else "user"


class Minted(NamedTuple):
    model: str
    kind: str
    subject: str
    """What it signs: the call, or the whole text."""


class Runs:
    """Follows the parts of an answer: which text a signature that comes now is for."""

    def __init__(self) -> None:
        self._kind = ""
        self._text = ""

    def subject(self, part: Part) -> tuple[str, str]:
        """Of this part: a text with all of it that came before, up to another kind or a signature."""
        kind, subject = _subject(part)
        if kind not in TEXTS:
            self._kind = ""
            return kind, subject
        if not subject and "thought" not in part:
            kind = self._kind or kind  # a part that is there for its signature
        if kind != self._kind:
            self._kind, self._text = kind, ""
        self._text += subject
        return kind, self._text

    def end(self) -> None:
        self._kind = ""


class Signatures:
    """All that one upstream has given out."""

    def __init__(self) -> None:
        self._minted: dict[str, Minted] = {}
        self.stale: set[str] = set()

    @property
    def given_out(self) -> list[str]:
        """Oldest first."""
        return list(self._minted)

    def mint(self, model: str, turn: int, kind: str, subject: str) -> str:
        minted = Minted(model, kind, subject)
        digest = hashlib.sha256(repr((len(self._minted), turn, minted)).encode()).digest()
        payload = b"\x01" + digest + digest[:8]
        inner = bytes([0x0A, len(payload)]) + payload
        signature = base64.b64encode(bytes([0x12, len(inner)]) + inner).decode()
        self._minted[signature] = minted
        return signature

    def forget(self) -> None:
        """From now on they are of a time that is over."""
        self.stale |= self._minted.keys()

    def problem(self, model: str, parts: list[Part], at: int) -> str | None:
        """Of the signature on one part of what the model said at a stretch."""
        signature = parts[at]["thoughtSignature"]
        if signature in SKIPS:
            return None if "functionCall" in parts[at] else INVALID
        minted = self._minted.get(standard(signature))
        if minted is None:
            return CORRUPTED
        if standard(signature) in self.stale or minted.model != model:
            return INVALID
        return None if _signs(minted, parts, at) else CORRUPTED

    def omitted(self, model: str, contents: list[dict[str, Any]]) -> list[str]:
        """Those whose call or text is in the history without them. Equal texts are told apart by number."""
        given = {standard(part.get("thoughtSignature", "")) for one in contents for part in one["parts"]}
        left: dict[tuple[str, str], list[str]] = {}
        for signature, minted in self._minted.items():
            if minted.model == model and signature not in self.stale | given and minted.subject:
                left.setdefault((minted.kind, minted.subject), []).append(signature)
        return [
            left[said].pop(0)
            for step in steps(contents)
            if step.role == "model"
            for said in _unsigned(step.parts)
            if left.get(said)
        ]


def standard(signature: str) -> str:
    """The bytes are what counts: either alphabet of base64 says them."""
    return signature.replace("-", "+").replace("_", "/")


def _signs(minted: Minted, parts: list[Part], at: int) -> bool:
    kind, said = _subject(parts[at])
    if minted.kind not in TEXTS or kind not in TEXTS:
        return (kind, said) == (minted.kind, minted.subject)
    if kind != minted.kind and (said or "thought" in parts[at]):
        return False
    for before in reversed(parts[:at]):
        if said == minted.subject or _subject(before)[0] != minted.kind or before.get("thoughtSignature"):
            break
        said = before["text"] + said
    return said == minted.subject


def _unsigned(parts: list[Part]) -> Iterator[tuple[str, str]]:
    """Calls, and texts as long as they go on, that carry no signature of an upstream's."""
    runs = Runs()
    open_text: tuple[str, str] | None = None
    for part in parts:
        kind, subject = runs.subject(part)
        if open_text is not None and kind != open_text[0]:
            yield open_text
        open_text = (kind, subject) if kind in TEXTS else None
        if part.get("thoughtSignature", "") not in {"", *SKIPS}:
            runs.end()
            open_text = None
        elif kind not in TEXTS:
            yield kind, subject
    if open_text is not None:
        yield open_text


def _subject(part: Part) -> tuple[str, str]:
    if "functionCall" in part:
        call = part["functionCall"]
        return "call", json.dumps([call.get("id"), call["name"], call.get("args", {})], sort_keys=True)
    if "text" in part:
        return "thought" if part.get("thought") else "text", part["text"]
    return "other", " ".join(sorted(part.keys() - {"thoughtSignature", "thought"}))


def history_problem(
    contents: list[dict[str, Any]],
    *,
    model: str,
    signatures: Signatures,
    demands: bool,
    alternate: bool,
    model_responds: bool,
) -> str | None:
    """The first thing that is wrong.

    demands: signatures that are not given back. alternate: contents of one speaker may not follow each other.
    model_responds: contents of responses come under the role of the model, and not the user's.
    """
    for content in contents:
        given_back = ["functionResponse" in part for part in content["parts"]]
        by_model = content.get("role") == "model"
        if any(given_back) and by_model != (model_responds and all(given_back)):
            return RESPONSE_AFTER
        if not by_model and any(part.get("thoughtSignature") for part in content["parts"]):
            return INVALID
    speakers = [speaker(content) for content in contents]
    if alternate and any(one == next_ for one, next_ in itertools.pairwise(speakers)):
        return ALTERNATE
    said = steps(contents)
    return _pairing(said) or _signing(said, model, signatures, demands=demands)


def _pairing(said: list[Step]) -> str | None:
    before: Step | None = None
    for step in said:
        calls = [part["functionCall"] for part in step.parts if "functionCall" in part]
        responses = [part["functionResponse"] for part in step.parts if "functionResponse" in part]
        open_calls = (
            [part["functionCall"] for part in before.parts if "functionCall" in part] if before else []
        )
        if calls and before is None:
            return CALL_AFTER
        if responses and not open_calls:
            return RESPONSE_AFTER
        if len(responses) != len(open_calls):
            return AS_MANY
        if any("functionResponse" not in part for part in step.parts[: len(responses)]):
            return RESPONSE_AFTER
        for call, response in zip(open_calls, responses, strict=True):
            if response.get("name") != call["name"] or response.get("id") != call.get("id"):
                return AS_MANY
        before = step
    return None


def _signing(said: list[Step], model: str, signatures: Signatures, *, demands: bool) -> str | None:
    current = max(
        (at for at, step in enumerate(said) if step.role == "user" and _asks(step)),
        default=-1,
    )
    seen: set[str] = set()
    for at, step in enumerate(said):
        first = next((part for part in step.parts if "functionCall" in part), None)
        if demands and at > current and first is not None and not first.get("thoughtSignature"):
            name = first["functionCall"]["name"]
            return MISSING.format(name=name, position=at + 1)
        for number, part in enumerate(step.parts):
            signature = standard(part.get("thoughtSignature", ""))
            if signature and (problem := signatures.problem(model, step.parts, number)) is not None:
                return problem
            if signature in seen:
                return CORRUPTED
            if part.get("thoughtSignature", "") not in {"", *SKIPS}:
                seen.add(signature)
    return None


def skips(contents: list[dict[str, Any]]) -> bool:
    """Whether a word that skips the check stands anywhere."""
    return any(part.get("thoughtSignature") in SKIPS for one in contents for part in one["parts"])


def _asks(step: Step) -> bool:
    """Whether the user has said something, and not only what functions gave back."""
    return any("functionResponse" not in part for part in step.parts)
