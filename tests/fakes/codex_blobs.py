"""Sealed reasoning of the fake Responses upstream: minted, told apart, demanded back in its place.

A blob has the outer shape of a Fernet token and says nothing by itself: the vault knows which answer of which
conversation it belongs to, for which model and which organisation it was sealed. Like the original it takes
histories that were edited, and reasoning together with its answer in another conversation: that is told to
the test. Reasoning apart from what it led to is refused.
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
    """What an answer's items are recognised by when they come back: kind, and blob, text or call id."""

    number: int
    items: list[tuple[str, str]]

    @property
    def blobs(self) -> list[str]:
        return [key for kind, key in self.items if kind == "reasoning"]

    def has(self, item: Any) -> bool:
        """Reasoning not considered."""
        said = _key(item)
        return said is not None and said[0] != "reasoning" and said in self.items

    def is_last(self, blob: str) -> bool:
        """Nothing but reasoning followed it."""
        behind = self.items[self.items.index(("reasoning", blob)) :]
        return all(kind == "reasoning" for kind, _ in behind)


class Findings(msgspec.Struct):
    """What is taken, and yet is not as it was answered."""

    missing: int = 0
    """Sealed reasoning that should be there, or in another place."""
    foreign: list[str] = []
    """Reasoning of other conversations."""
    unknown: list[str] = []
    """Words and calls of the model's (by id) that no answer in this conversation had."""


class Vault:
    def __init__(self, *, demand: bool) -> None:
        """demand: an input that repeats an answer without its reasoning is refused; else it is counted."""
        self.demand = demand
        self.stale = False
        """Nothing that was sealed before can be opened any more."""
        self.spoiled: set[str] = set()
        """Of what was sealed, what cannot be opened any more."""
        self._numbers = itertools.count(1)
        self._sealed: dict[str, Sealed] = {}
        self._answers: dict[str, list[Answered]] = {}
        """By conversation, oldest first."""
        self._by_number: dict[int, Answered] = {}
        self._by_call: dict[tuple[str, str, str], list[Answered]] = {}
        """By model, organisation and call id."""

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

    def remember(
        self, model: str, organisation: str, conversation: str, number: int, output: Sequence[dict[str, Any]]
    ) -> None:
        """What was answered, so that it is known when it comes back."""
        answer = Answered(number, [key for item in output if (key := _key(item)) is not None])
        self._answers.setdefault(conversation, []).append(answer)
        self._by_number[number] = answer
        for kind, call_id in answer.items:
            if kind == "call":
                self._by_call.setdefault((model, organisation, call_id), []).append(answer)

    # -- what comes back ----------------------------------------------------------------------------------

    def check(
        self, items: Sequence[Any], *, model: str, organisation: str, conversation: str, found: Findings
    ) -> None:
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
        self._check_following(items, conversation, found)
        self._check_preceding(items, model, organisation, conversation, found)

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

    def _check_following(self, items: Sequence[Any], conversation: str, found: Findings) -> None:
        """Behind reasoning, and other reasoning, stands something of the same answer, unaltered."""
        own = {answer.number for answer in self._answers.get(conversation, ())}
        for index, item in enumerate(items):
            blob = item.get("encrypted_content") if kind_of(item) == "reasoning" else None
            if not blob:
                continue
            number = self._sealed[blob].answer
            answer = self._by_number.get(number)
            following = next((one for one in items[index + 1 :] if kind_of(one) != "reasoning"), None)
            if answer is None or not (answer.has(following) or answer.is_last(blob)):
                raise refuse(
                    f"Item '{item.get('id', 'rs_1')}' of type 'reasoning' was provided without its "
                    "required following item.",
                    at("input", index),
                    None,
                )
            if number not in own:
                found.foreign.append(blob)

    def _check_preceding(
        self, items: Sequence[Any], model: str, organisation: str, conversation: str, found: Findings
    ) -> None:
        """Each answer that came back has all of its reasoning."""
        waiting = list(self._answers.get(conversation, ()))
        answer: Answered | None = None
        for index, item in enumerate(items):
            said = _key(item)
            if said is None:
                answer = None
            if said is None or said[0] == "reasoning" or (answer is not None and answer.has(item)):
                continue
            answer = next((one for one in waiting if one.has(item)), None)
            if answer is not None:
                del waiting[: waiting.index(answer) + 1]
            else:
                found.unknown.append(said[1])
                elsewhere = self._by_call.get((model, organisation, said[1]), ())
                answer = elsewhere[0] if said[0] == "call" and len(elsewhere) == 1 else None
            if answer is not None:
                self._demand(items, index, answer, found)

    def _demand(self, items: Sequence[Any], index: int, answer: Answered, found: Findings) -> None:
        """Where it was in the answer, or all of it in front of the first item that came back."""
        start = end = index
        while start and kind_of(items[start - 1]) == "reasoning":
            start -= 1
        while end < len(items) and (kind_of(items[end]) == "reasoning" or answer.has(items[end])):
            end += 1
        given = [said for said in map(_key, items[start:end]) if said in answer.items]
        blobs = [key for kind, key in given if kind == "reasoning"]
        in_front = [key for _, key in given[: len(blobs)]] == blobs == answer.blobs
        if in_front or given == [said for said in answer.items if said[0] == "reasoning" or said in given]:
            return
        found.missing += len(answer.blobs) - len(blobs) or len(blobs)
        if self.demand:
            raise refuse(
                f"Item 'fc_{answer.number}' of type '{kind_of(items[index])}' was provided without its "
                f"required 'reasoning' item: 'rs_{answer.number}'.",
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


def _key(item: Any) -> tuple[str, str] | None:
    """None for what is not the model's."""
    match kind_of(item):
        case "reasoning":
            return "reasoning", str(item.get("encrypted_content"))
        case "message" if item.get("role") == "assistant":
            return "message", text_of(item)
        case kind if kind in CALLS:
            return "call", str(item.get("call_id"))
        case _:
            return None
