"""Which histories a Gemini model takes: who speaks after whom, calls and responses, signatures in place.

Signatures are minted for one part of one model's answer and demanded back on that part, unaltered. The first
call of every step of the current turn must carry one, or the word that skips the check.
"""

import base64
import hashlib
import itertools
import json
from typing import Any, NamedTuple

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


class Signatures:
    """All that one upstream has given out."""

    def __init__(self) -> None:
        self._minted: dict[str, Minted] = {}
        self.stale: set[str] = set()

    @property
    def given_out(self) -> list[str]:
        """Oldest first."""
        return list(self._minted)

    def mint(self, model: str, turn: int, part: Part, whole: str = "") -> str:
        """whole: the text up to here, which a signature at its end is for."""
        kind, subject = _subject(part)
        minted = Minted(model, kind, whole or subject)
        digest = hashlib.sha256(repr((len(self._minted), turn, minted)).encode()).digest()
        payload = b"\x01" + digest + digest[:8]
        inner = bytes([0x0A, len(payload)]) + payload
        signature = base64.b64encode(bytes([0x12, len(inner)]) + inner).decode()
        self._minted[signature] = minted
        return signature

    def forget(self) -> None:
        """From now on they are of a time that is over."""
        self.stale |= self._minted.keys()

    def problem(self, model: str, part: Part) -> str | None:
        signature = part["thoughtSignature"]
        if signature in SKIPS:
            return None if "functionCall" in part else INVALID
        minted = self._minted.get(signature)
        if minted is None:
            return CORRUPTED
        if signature in self.stale or minted.model != model:
            return INVALID
        kind, subject = _subject(part)
        if kind != minted.kind:
            return CORRUPTED
        fits = minted.subject == subject if kind == "call" else minted.subject.endswith(subject)
        return None if fits else CORRUPTED


def _subject(part: Part) -> tuple[str, str]:
    if "functionCall" in part:
        call = part["functionCall"]
        return "call", json.dumps([call.get("id"), call["name"], call.get("args", {})], sort_keys=True)
    return "thought" if part.get("thought") else "text", part.get("text", "")


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
    model_responds: responses may come under the role of the model.
    """
    responses = [content for content in contents if any("functionResponse" in p for p in content["parts"])]
    if not model_responds and any(content.get("role") == "model" for content in responses):
        return RESPONSE_AFTER
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
    for at, step in enumerate(said):
        first = next((part for part in step.parts if "functionCall" in part), None)
        if demands and at > current and first is not None and not first.get("thoughtSignature"):
            name = first["functionCall"]["name"]
            return MISSING.format(name=name, position=at + 1)
        for part in step.parts:
            if part.get("thoughtSignature") and (problem := signatures.problem(model, part)) is not None:
                return problem
    return None


def _asks(step: Step) -> bool:
    """Whether the user has said something, and not only what functions gave back."""
    return any("functionResponse" not in part for part in step.parts)
