"""Take secrets out of log fields and of texts that come from elsewhere. Pure.

A second line of defence: nobody logs secrets on purpose. Used for every log record, and for upstream error
texts before a client sees them. Works by names of fields and by shapes of well-known credentials; what looks
like neither passes.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

REDACTED: Final = "[redacted]"

_SECRET_WORDS = frozenset(
    {
        "apikey",
        "authorization",
        "blob",
        "body",
        "bundle",
        "cookie",
        "credential",
        "credentials",
        "passwd",
        "password",
        "prompt",
        "secret",
        "token",
    }
)
_SECRET_NAMES = frozenset(
    {"api_key", "api_keys", "x_api_key", "access_key", "private_key", "encrypted_content"}
)

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i:\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,})"), rf"\1 {REDACTED}"),
    (re.compile(r"\b(?:sk|pk|ghp|gho|ghs|xox[abp]|lgk)[-_][A-Za-z0-9_-]{8,}"), REDACTED),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{20,}"), REDACTED),
    (re.compile(r"\bya29\.[A-Za-z0-9_-]{6,}"), REDACTED),
    (re.compile(r"\b(?:org|proj)-[A-Za-z0-9]{8,}"), REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,2}"), REDACTED),
    (
        re.compile(
            r"(?i:\b((?:api|access|refresh|private)[_-]?(?:key|token)|token|password|passwd|secret)=[^\s&\"',;]+)"
        ),
        rf"\1={REDACTED}",
    ),
    (
        re.compile(
            r"(?i:\"((?:api|access|refresh|private)[_-]?(?:key|token)|token|password|secret)\"(\s?:\s?)\"[^\"]*\")"
        ),
        rf'"\1"\2"{REDACTED}"',
    ),
    (re.compile(r"([?&]key=)[^\s&\"']+"), rf"\1{REDACTED}"),
    (re.compile(r"(://)[^/\s:@]*:[^/\s@]+@"), rf"\1{REDACTED}@"),
)
_ANY = re.compile("|".join(pattern.pattern for pattern, _ in _PATTERNS))
"""Nearly every text holds nothing of the kind: one look instead of ten."""


def redact_text(text: str) -> str:
    """The text with everything that has the shape of a credential replaced."""
    if _ANY.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name is expected to hold something that must not be shown."""
    words = [word.lower() for word in _WORD.findall(name)]
    return "_".join(words) in _SECRET_NAMES or not _SECRET_WORDS.isdisjoint(words)


def redact_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields of a log record, made safe. Numbers pass whatever their name: `prompt_tokens` is a count."""
    return {name: _redact(name, value) for name, value in fields.items()}


def _redact(name: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if is_secret_name(name):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(key): _redact(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(name, inner) for inner in value]
    return redact_text(str(value))
