"""The two forms in which Prometheus reads metrics, and which of them a scraper wants.

The plain text format for whoever asks for nothing else, and OpenMetrics, which alone can name a trace beside
a histogram's bucket. What is written by hand (the names of lingma-openai-gateway, a worker's counters) is
written once, as plain text, and put into the other form here. Pure; used by admin/routes.py and by workers.
"""

import re
from enum import StrEnum


class Format(StrEnum):
    """By their content types."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_END = "# EOF\n"
_COUNTER = re.compile(r"^# TYPE (\w+?)(_total)? counter$", re.MULTILINE)


def negotiated(accept: str) -> Format:
    """What an Accept header prefers; the plain text format where it names neither, or both alike."""
    weights = {form: _weight(accept, form) for form in Format}
    return max(Format, key=lambda form: weights[form])


def _weight(accept: str, form: Format) -> float:
    """Of the range that names the format and a version that we write, or no version; 0 without one."""
    kind, version, _ = form.split("; ")
    best = 0.0
    for offer in accept.lower().split(","):
        named, *told = (word.strip() for word in offer.split(";"))
        if named != kind or any(word.startswith("version=") and word != version for word in told):
            continue
        weight = next((word[2:] for word in told if word.startswith("q=")), "1")
        best = max(best, float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0)
    return best


def whole(form: Format, by_hand: str, generated: str = "") -> str:
    """One exposition: what a registry generated in this form, and a block that was written as plain text."""
    if form is Format.TEXT:
        return generated + by_hand
    return generated.removesuffix(_END) + _COUNTER.sub(_openmetrics_type, by_hand) + _END


def _openmetrics_type(line: re.Match[str]) -> str:
    """A counter's family is named without `_total`; what lacks it may be no counter there, but unknown."""
    name, total = line.groups()
    return f"# TYPE {name} counter" if total else f"# TYPE {name} unknown"
