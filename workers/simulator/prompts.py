"""Take a prompt apart: which user turns it holds, and what has to be answered. Pure.

A prompt is either one user message or a transcript whose paragraphs begin with a role: `user: hi`,
`[assistant] hi`, `### System`, `<user>`, `用户：你好`. In a follow-up the prompt counts as a transcript
only when its very first line has a role, because there it should be the newest user message and nothing else.
"""

import re
from dataclasses import dataclass

_ROLES = {
    "system": "system",
    "developer": "system",
    "系统": "system",
    "user": "user",
    "human": "user",
    "用户": "user",
    "assistant": "assistant",
    "助手": "assistant",
    "tool": "tool",
    "function": "tool",
    "工具": "tool",
}
_NAME = "|".join(_ROLES)
# One pattern over the whole text: prompts of megabytes are normal and lines in them are many.
_LABEL = re.compile(
    rf"""^[ \t]*(?:
        (?P<plain>{_NAME}|tool[ _]result(?:[ ]for[ ][^:\s]+)?)[ \t]*[:\uff1a]
      | \[(?P<box>{_NAME})\][ \t]*[:\uff1a]?
      | \*\*(?P<bold>{_NAME})[:\uff1a]?\*\*[ \t]*[:\uff1a]?
      | <\|?(?P<tag>{_NAME})\|?>
      | \#{{1,6}}[ \t]*(?P<heading>{_NAME})[ \t]*[:\uff1a]?[ \t]*$
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_CLOSING = re.compile(rf"\s*</(?:{_NAME})>\s*$", re.IGNORECASE)
_RESULT = re.compile(r"\[tool_result[^\]]*\]\s*")


@dataclass(frozen=True, slots=True)
class Prompt:
    users: tuple[str, ...]
    """User messages in order; never empty."""
    tool_result: str | None = None
    """Set when the prompt ends with the result of a tool instead of a user message."""

    @property
    def last(self) -> str:
        return self.users[-1]


def read_prompt(text: str, *, follow_up: bool) -> Prompt:
    """Find the user turns of a prompt; text without any user turn is one user message."""
    text = text.strip()
    labels = list(_LABEL.finditer(text))
    if not labels or (follow_up and labels[0].start() > 0):
        return Prompt(users=(text,))
    ends = [*(label.start() for label in labels[1:]), len(text)]
    entries = [
        (_role(label), _CLOSING.sub("", text[label.end() : end]).strip())
        for label, end in zip(labels, ends, strict=True)
    ]
    # Messages clients send the result of a tool inside a user paragraph.
    entries = [("tool" if _RESULT.match(said) else role, said) for role, said in entries if said]
    users = tuple(said for role, said in entries if role == "user")
    if not users:
        return Prompt(users=(text,))
    role, said = entries[-1]
    return Prompt(users=users, tool_result=_RESULT.sub("", said, count=1) if role == "tool" else None)


def _role(label: re.Match[str]) -> str:
    assert label.lastgroup is not None
    return _ROLES.get(label[label.lastgroup].lower(), "tool")
