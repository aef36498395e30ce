"""Tables of medians over repeated runs, and the machine they were measured on."""

import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from scripts.ensure_redis import find

REPEATS = 3


class Samples:
    """What was measured, by name, one value a repeat."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self._values[name])

    def text(self, name: str, digits: int = 1) -> str:
        """`median (lowest to highest)`."""
        values = self._values[name]
        low, high = min(values), max(values)
        return f"{self.median(name):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "  " + "  ".join((first, *rest)).rstrip()

    print(f"\n{title}")
    print(line(head))
    print("  " + "  ".join("-" * width for width in widths))
    for row in rows:
        print(line(row), flush=True)


def verdict(value: float, limit: float, unit: str = "") -> str:
    """Whether a target is met. Informs; nothing fails by it."""
    return f"<= {limit:g}{unit}: {'met' if value <= limit else 'MISSED'}"


def machine() -> str:
    """Cores, processor and versions; no names of hosts or files."""
    lines = [
        f"processor  {_processor()}, {psutil.cpu_count()} cores usable, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"system     {platform.system()} {platform.release().partition('-')[0]}, "
        f"load {psutil.getloadavg()[0]:.1f} at the start",
        f"python     {platform.python_implementation()} {platform.python_version()}",
        "libraries  "
        + ", ".join(f"{name} {version(name)}" for name in ("hypercorn", "starlette", "redis", "hiredis")),
        f"redis      {_redis_version()}",
    ]
    return "\n".join(lines)


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _redis_version() -> str:
    binary = find()
    if binary is None:
        return "none"
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word[2:] for word in said.split() if word.startswith("v=")), said.strip())


def repeated(measure: Callable[[Samples], None], repeats: int = REPEATS) -> Samples:
    samples = Samples()
    for _ in range(repeats):
        measure(samples)
    return samples
