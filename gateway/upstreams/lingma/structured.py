"""JSON from a model that knows no output format: asked for in the prompt, freed of its code fence. Pure.

Nothing is enforced: a model may still answer otherwise, which is why the format is told as a loss.
"""

import re
from typing import Final, Literal

from gateway.kernel.json import dumps
from gateway.turn.request import OutputFormat

_ASK: Final = (
    "Answer with exactly one JSON value and nothing else: no explanation before or after it, no code fence."
)
_ABOUT: Final = "What the answer is for: "
_ASK_SCHEMA: Final = " The value must be valid against this JSON Schema:\n"
_FENCE: Final = "```"
_CLOSE: Final = re.compile(r"\n[ \t]*```")
_CLOSING: Final = re.compile(r"\n[ \t]*`{0,2}\Z")
"""What may yet become the end of a fence."""
_OPENING: Final = re.compile(r"```[ \t]*[A-Za-z]*[ \t\r]*")
"""The fence and the name of its language; letters that begin a value, as in `true`, are taken for a name."""


def wants_json(wanted: OutputFormat | None) -> bool:
    return wanted is not None and wanted.kind != "text"


def instruction(wanted: OutputFormat | None) -> str:
    """What to add to the prompt; nothing when any text will do."""
    if wanted is None or wanted.kind == "text":
        return ""
    about = f"{_ABOUT}{wanted.description}\n" if wanted.description else ""
    schema = "" if wanted.schema is None else _ASK_SCHEMA + dumps(wanted.schema).decode()
    return about + _ASK + schema


class Unfenced:
    """Takes away the fence around a whole answer, and what is said behind it.

    A line of JSON never begins with backticks, indented or not, because a string holds no line end: the
    first such line is the end of the fence, so an empty fence is an empty answer. Where the value stands on
    the very line that opens the fence, the fence ends with the answer. An answer that begins otherwise passes
    as it is.
    """

    def __init__(self) -> None:
        self._held = ""
        self._begun = False
        """Whether something of the value in the fence was passed on."""
        self._state: Literal["start", "plain", "inside", "inline", "after"] = "start"

    def feed(self, text: str) -> str:
        """What is certain now."""
        match self._state:
            case "plain":
                return text
            case "after":
                return ""
            case "inside":
                return self._inside(text)
            case "inline":
                return self._inline(text)
            case "start":
                return self._start(text)

    def finish(self) -> str:
        """The rest, at the end of the answer."""
        held, self._held = self._held, ""
        if self._state == "inline":
            return held.rstrip().removesuffix(_FENCE).rstrip()
        return self._begin(held) if self._state == "inside" else held

    def _start(self, text: str) -> str:
        self._held += text
        begun = self._held.lstrip()
        if len(begun) < len(_FENCE) and _FENCE.startswith(begun):
            return ""
        opening = _OPENING.match(begun)
        if opening is None:
            self._state = "plain"
            return self.finish()
        if opening.end() == len(begun):
            return ""  # what comes next may still belong to the fence
        self._held = ""
        if begun[opening.end()] == "\n":
            self._state = "inside"
            return self._inside(begun[opening.end() :])
        self._state = "inline"
        return self._inline(begun[opening.end() :])

    def _inside(self, text: str) -> str:
        """From the line end of the opening fence on, for the next line may already be the closing one."""
        held = self._held + text
        if (end := _CLOSE.search(held)) is not None:
            self._held, self._state = "", "after"
            return self._begin(held[: end.start()])
        closing = _CLOSING.search(held)
        sure = len(held) if closing is None else closing.start()
        self._held = held[sure:]
        return self._begin(held[:sure])

    def _begin(self, text: str) -> str:
        """Without the space in front of the value."""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def _inline(self, text: str) -> str:
        held = self._held + text
        sure = len(held.rstrip("` \t\r\n"))
        self._held = held[sure:]
        return held[:sure]


def unfenced(text: str) -> str:
    """A whole answer without its fence."""
    filter_ = Unfenced()
    return filter_.feed(text) + filter_.finish()
