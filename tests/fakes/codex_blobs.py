"""Sealed reasoning of the fake Responses upstream: minted, told apart, demanded back in its place.

A blob has the outer shape of a Fernet token and says nothing by itself: the vault knows which answer of which
conversation it belongs to, for which model and which organisation it was sealed.
"""

import base64
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.fakes.codex_rules import Refusal, at, refuse

MOMENT = 1_790_000_000


class Sealed(msgspec.Struct):
    blob: str
    model: str
    organisation: str
    answer: int
    """Which answer it is part of, over all conversations."""


class Answered(msgspec.Struct):
    """What an answer's items are recognised by when they come back."""

    number: int
    blobs: list[str]
    texts: list[str]
    calls: list[str]


class Vault:
    def __init__(self, *, demand: bool) -> None:
        """demand: an input that repeats an answer without its reasoning is refused; else it is counted."""
        self.demand = demand
        self.missing = 0
        self.stale = False
        """Nothing that was sealed before can be opened any more."""
        self.spoiled: set[str] = set()
        """Of what was sealed, what cannot be opened any more."""
        self._numbers = itertools.count(1)
        self._sealed: dict[str, Sealed] = {}
        self._answers: dict[str, list[Answered]] = {}
        """By conversation, oldest first."""

    # -- minting ------------------------------------------------------------------------------------------

    def answer(self) -> int:
        return next(self._numbers)

    def seal(self, model: str, organisation: str, answer: int) -> str:
        seed = hashlib.sha256(f"{model}\0{organisation}\0{answer}\0{len(self._sealed)}".encode()).digest()
        body = hashlib.sha256(seed).digest() * 2
        raw = b"\x80" + MOMENT.to_bytes(8, "big") + seed[:16] + body + seed
        blob = base64.urlsafe_b64encode(raw).decode()
        self._sealed[blob] = Sealed(blob, model, organisation, answer)
        return blob

    def remember(self, conversation: str, number: int, output: Sequence[dict[str, Any]]) -> None:
        """What was answered, so that it is known when it comes back."""
        blobs = [item["encrypted_content"] for item in output if item["type"] == "reasoning"]
        texts = [text_of(item) for item in output if item["type"] == "message"]
        calls = [item["call_id"] for item in output if item["type"] in CALLS]
        self._answers.setdefault(conversation, []).append(Answered(number, blobs, texts, calls))

    # -- what comes back ----------------------------------------------------------------------------------

    def check(self, items: Sequence[Any], *, model: str, organisation: str, conversation: str) -> None:
        """Raises Refusal as the vendor refuses what cannot be opened, is misplaced or missing."""
        seen: set[str] = set()
        for index, item in enumerate(items):
            blob = item.get("encrypted_content") if isinstance(item, dict) else None
            if blob is None:
                continue
            self._open(blob, item, model, organisation)
            if blob in seen:
                raise refuse(f"Duplicate item found with id {item.get('id')}.", at("input", index), None)
            seen.add(blob)
        self._check_places(items, conversation)

    def _open(self, blob: str, item: dict[str, Any], model: str, organisation: str) -> None:
        sealed = self._sealed.get(blob)
        spoiled = self.stale or blob in self.spoiled
        known = sealed is not None and not spoiled and sealed.organisation == organisation
        if sealed is not None and known and (sealed.model == model or item["type"] != "reasoning"):
            return
        raise Refusal(
            400,
            f"The encrypted content {blob[:4]}...{blob[-4:]} could not be verified. Reason: Encrypted "
            "content could not be decrypted or parsed.",
            code="invalid_encrypted_content",
        )

    def _check_places(self, items: Sequence[Any], conversation: str) -> None:
        """Each answer's reasoning stands directly before the first of its items that came back."""
        waiting = list(self._answers.get(conversation, ()))
        answer: Answered | None = None
        for index, item in enumerate(items):
            kind = kind_of(item)
            if kind == "reasoning" and item.get("encrypted_content"):
                following = next((i for i in items[index + 1 :] if kind_of(i) != "reasoning"), None)
                owner = self._sealed[item["encrypted_content"]].answer
                if _owner(following, waiting, owner) is None and (answer is None or answer.number != owner):
                    raise refuse(
                        f"Item '{item.get('id', 'rs_1')}' of type 'reasoning' was provided without its "
                        "required following item.",
                        at("input", index),
                        None,
                    )
                continue
            if answer is not None and _belongs(item, answer):
                continue
            answer = _owner(item, waiting, None)
            if answer is None:
                continue
            del waiting[: waiting.index(answer) + 1]
            self._demand(items[:index], answer, kind)

    def _demand(self, before: Sequence[Any], answer: Answered, kind: str) -> None:
        given: list[str] = []
        for item in reversed(before):
            if kind_of(item) != "reasoning":
                break
            given.insert(0, item.get("encrypted_content"))
        if given == answer.blobs:
            return
        self.missing += len(answer.blobs) - len(given)
        if self.demand:
            raise refuse(
                f"Item 'fc_{answer.number}' of type '{kind}' was provided without its required 'reasoning' "
                f"item: 'rs_{answer.number}'.",
                "input",
                None,
            )


CALLS = frozenset({"function_call", "custom_tool_call"})


def kind_of(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    return str(item.get("type") or ("message" if "role" in item else ""))


def text_of(item: Any) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", part.get("refusal", "")) for part in content or ())


def _belongs(item: Any, answer: Answered) -> bool:
    match kind_of(item):
        case "message":
            return item.get("role") == "assistant" and text_of(item) in answer.texts
        case "function_call" | "custom_tool_call":
            return item.get("call_id") in answer.calls
        case _:
            return False


def _owner(item: Any, answers: Sequence[Answered], number: int | None) -> Answered | None:
    return next(
        (one for one in answers if number in (None, one.number) and _belongs(item, one)),
        None,
    )
