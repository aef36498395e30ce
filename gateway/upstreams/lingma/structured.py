"""JSON from a model that knows no output format: asked for in the prompt, freed of its code fence. Pure.

Nothing is enforced: a model may still answer otherwise, which is why the format is told as a loss.
"""

from typing import Final, Literal

from gateway.kernel.json import dumps
from gateway.turn.request import OutputFormat

_ASK: Final = (
    "Answer with exactly one JSON value and nothing else: no explanation before or after it, no code fence."
)
_ASK_SCHEMA: Final = " The value must be valid against this JSON Schema:\n"
_FENCE: Final = "```"
_CLOSE: Final = "\n```"


def wants_json(wanted: OutputFormat | None) -> bool:
    return wanted is not None and wanted.kind != "text"


def instruction(wanted: OutputFormat | None) -> str:
    """What to add to the prompt; nothing when any text will do."""
    if wanted is None or wanted.kind == "text":
        return ""
    if wanted.schema is None:
        return _ASK
    return _ASK + _ASK_SCHEMA + dumps(wanted.schema).decode()


class Unfenced:
    """Takes away the fence around a whole answer, and what is said behind it.

    A line of JSON never begins with backticks, because a string holds no line end: the first such line is the
    end of the fence. An answer that begins otherwise passes as it is.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["start", "plain", "inside", "after"] = "start"

    def feed(self, text: str) -> str:
        """What is certain now."""
        match self._state:
            case "plain":
                return text
            case "after":
                return ""
            case "inside":
                return self._inside(text)
            case "start":
                return self._start(text)

    def finish(self) -> str:
        """The rest, at the end of the answer."""
        held, self._held = self._held, ""
        return held

    def _start(self, text: str) -> str:
        self._held += text
        begun = self._held.lstrip()
        if _FENCE.startswith(begun[:3]) and len(begun) < len(_FENCE):
            return ""
        if not begun.startswith(_FENCE):
            self._state = "plain"
            return self.finish()
        line_end = begun.find("\n")
        if line_end < 0:
            return ""
        self._held, self._state = "", "inside"
        return self._inside(begun[line_end + 1 :])

    def _inside(self, text: str) -> str:
        held = self._held + text
        end = held.find(_CLOSE)
        if end >= 0:
            self._held, self._state = "", "after"
            return held[:end]
        keep = next((n for n in range(min(len(held), len(_CLOSE)), 0, -1) if held.endswith(_CLOSE[:n])), 0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]


def unfenced(text: str) -> str:
    """A whole answer without its fence."""
    filter_ = Unfenced()
    return filter_.feed(text) + filter_.finish()
