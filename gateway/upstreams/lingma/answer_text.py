"""The text of Lingma's answers, freed of what is no answer. Pure, incremental.

Three things hide inside the text of chat/answer:
- `<think>…</think>`: reasoning
- a fence whose info string starts with `think::`: reasoning too
- a fence whose info string is `toolCall::<name>::<id>::<STATUS>`: a card for the IDE, removed

Text that could be the beginning of one of these is held back until that is clear; all else passes at once.
"""

from typing import Literal, NamedTuple

_THINK_OPEN = "<think>"
_THINK_CLOSE = "</think>"
_FENCE = "```"
_CARD = "```toolCall::"
_THINK_FENCE = "```think::"
_MARKERS = (_THINK_OPEN, _CARD, _THINK_FENCE)


class Piece(NamedTuple):
    kind: Literal["message", "reasoning"]
    text: str


class AnswerText:
    def __init__(self) -> None:
        self._held = ""
        self._inside: Literal["", "think", "think_fence", "card"] = ""
        self._swallow_newline = False
        self._thought = False
        """The thoughts at hand have begun."""
        self._visible: list[str] = []

    @property
    def visible(self) -> str:
        """The message text so far, as the answer stands now."""
        return "".join(self._visible)

    def feed(self, text: str) -> list[Piece]:
        """Pieces that are certain now."""
        if (
            not self._held
            and not self._inside
            and not self._swallow_newline
            and "<" not in text
            and "`" not in text
        ):
            self._visible.append(text)
            return [Piece("message", text)]
        self._held += text
        return self._scan(final=False)

    def finish(self) -> list[Piece]:
        """The rest, at the end of the answer. A card without an end stays hidden, such thoughts are kept."""
        pieces = self._scan(final=True)
        self._held, self._inside = "", ""
        return pieces

    def overwrite(self, text: str) -> list[Piece]:
        """The text replaces everything said so far.

        A stream cannot take back what it sent: what can be appended is appended, and when the new text does
        not begin with the old one, it is appended from where both part, so that nothing new is lost.
        """
        said = "".join(self._visible)
        fresh = AnswerText()
        pieces = fresh.feed(text) + fresh.finish()
        whole = "".join(piece.text for piece in pieces if piece.kind == "message")
        self._held, self._inside = "", ""
        common = _common_prefix(said, whole)
        self._visible = [whole]
        rest = whole[common:]
        return [Piece("message", rest)] if rest else []

    def _scan(self, *, final: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while self._held:
            before = len(self._held), self._inside
            self._step(pieces, final=final)
            if (len(self._held), self._inside) == before:
                break
        return pieces

    def _step(self, pieces: list[Piece], *, final: bool) -> None:
        match self._inside:
            case "":
                self._step_outside(pieces, final=final)
            case "think":
                self._step_inside(pieces, _THINK_CLOSE, "reasoning", final=final)
            case "think_fence":
                self._step_inside(pieces, "\n" + _FENCE, "reasoning", final=final)
            case "card":
                self._step_inside(pieces, "\n" + _FENCE, None, final=final)

    def _step_outside(self, pieces: list[Piece], *, final: bool) -> None:
        if self._swallow_newline:
            # The line end of a closing fence, which may come in a later piece.
            self._swallow_newline = False
            self._held = self._held.removeprefix("\n")
        held = self._held
        found = [(at, marker) for marker in _MARKERS if (at := held.find(marker)) >= 0]
        if not found:
            keep = 0 if final else max(_partial(held, marker) for marker in _MARKERS)
            self._say(pieces, held[: len(held) - keep])
            self._held = held[len(held) - keep :]
            return
        at, marker = min(found)
        self._say(pieces, held[:at])
        rest = held[at:]
        if marker == _THINK_OPEN:
            self._inside, self._held = "think", rest[len(marker) :]
            return
        line_end = rest.find("\n")
        if line_end < 0 and not final:
            self._held = rest
            return
        self._inside = "card" if marker == _CARD else "think_fence"
        # The newline stays: the closing fence stands on a line of its own, perhaps the very next.
        self._held = rest[line_end:] if line_end >= 0 else ""

    def _step_inside(
        self, pieces: list[Piece], close: str, kind: Literal["reasoning"] | None, *, final: bool
    ) -> None:
        held = self._held
        at = held.find(close)
        if at >= 0:
            self._think(pieces, kind, held[:at])
            self._inside, self._held = "", held[at + len(close) :]
            self._swallow_newline = close != _THINK_CLOSE
            self._thought = False
            return
        keep = 0 if final else _partial(held, close)
        self._think(pieces, kind, held[: len(held) - keep])
        self._held = held[len(held) - keep :]

    def _think(self, pieces: list[Piece], kind: Literal["reasoning"] | None, text: str) -> None:
        """Thoughts begin with their first word: models that think nothing say line ends."""
        if not self._thought:
            text = text.lstrip("\n")
        if kind and text:
            self._thought = True
            pieces.append(Piece(kind, text))

    def _say(self, pieces: list[Piece], text: str) -> None:
        if text:
            self._visible.append(text)
            pieces.append(Piece("message", text))


def _partial(text: str, marker: str) -> int:
    """Length of the longest end of the text that is a beginning of the marker."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0


def _common_prefix(one: str, other: str) -> int:
    length = min(len(one), len(other))
    for at in range(length):
        if one[at] != other[at]:
            return at
    return length
