"""The knobs: how a test or a demo steers a running simulator.

Each field of Knobs is read from `LINGMA_SIM_<NAME>` and from the key of the same name in
`<workDir>/sim.json`; the file wins and is looked at again for every request. All times are milliseconds. A
time may also be named without its `_ms`.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PREFIX = "LINGMA_SIM_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_AFTER = re.compile(r"(?P<fail>[a-z0-9_]+)_after_(?P<after>\d+)")

Read = Callable[[object], object]


def _knob(default: object, read: Read) -> Any:
    return dataclasses.field(default=default, metadata={"read": read})


def _ms(default: float) -> Any:
    def read(value: object) -> float:
        number = float(str(value))
        if not 0 <= number <= 86_400_000:
            raise ValueError("not a number of milliseconds")
        return number

    return _knob(default, read)


def _count(default: int) -> Any:
    def read(value: object) -> int:
        number = int(str(value))
        if number < 0:
            raise ValueError("negative")
        return number

    return _knob(default, read)


def _flag(default: bool) -> Any:
    def read(value: object) -> bool:
        word = str(value).strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError("neither yes nor no")
        return word in _TRUE

    return _knob(default, read)


def _choice(default: str, *others: str) -> Any:
    def read(value: object) -> str:
        # JSON booleans stand for the words, so that {"ids": false} means what it says.
        word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        if word not in (default, *others):
            raise ValueError(f"not one of {', '.join((default, *others))}")
        return str(word)

    return _knob(default, read)


def _text(default: str) -> Any:
    return _knob(default, str)


def _json(kind: type) -> Read:
    def read(value: object) -> object:
        if isinstance(value, str):
            if value.strip().lower() in _FALSE:
                return None
            value = json.loads(value)
        if value is None or value is False:
            return None
        if not isinstance(value, kind):
            raise ValueError(f"not a JSON {kind.__name__}")
        return value

    return read


@dataclasses.dataclass(frozen=True, slots=True)
class Knobs:
    """What the simulator does; README.md explains each."""

    start_delay_ms: float = _ms(0)
    info_delay_ms: float = _ms(0)
    info_format: str = _choice("text", "json", "both")
    die_with_parent: bool = _flag(False)

    login: str = _choice("auto", "in", "out")
    logged_in: bool = _flag(False)
    login_url: str = _text("https://devops.aliyun.com/lingma/login")
    models: dict[str, Any] | None = dataclasses.field(default=None, metadata={"read": _json(dict)})

    ttft_ms: float = _ms(30)
    delta_gap_ms: float = _ms(5)
    slow_gap_ms: float = _ms(20)
    tokens: int = _count(0)
    answer: str = _text("")
    script: list[dict[str, Any]] | None = dataclasses.field(default=None, metadata={"read": _json(list)})
    thinking: str = _choice("push", "inline", "fence")

    require_initialize: bool = _flag(True)
    ids: str = _choice("on", "off", "strict", "dup-id")
    ack_timeout_ms: float = _ms(2000)
    ask_reply: str = _choice("yes", "no", "error", "rpc_error", "is_success")
    ask_error_code: str = _text("Q1")
    ask_error_message: str = _text("quota")
    fragment: str = _choice("none", "random", "byte")
    ws_type: str = _choice("text", "binary", "random")
    burst: int = _count(1)

    unknown_session: str = _choice("new", "new_late", "error", "silent")
    finish_session: str = _text("")
    persist: bool = _flag(False)

    concurrency: int = _count(0)
    over_limit: str = _choice("queue", "error")

    tools: list[dict[str, Any]] | None = dataclasses.field(default=None, metadata={"read": _json(list)})
    tool_timeout_ms: float = _ms(120_000)

    fail: str = _choice(
        "never",
        "crash_after_n",
        "hang",
        "hang_after_n",
        "close_ws",
        "finish_408",
        "empty",
        "stderr_flood",
        "ignore_sigterm",
    )
    fail_after: int = _count(2)

    record: bool = _flag(True)


_FIELDS = {field.name: field for field in dataclasses.fields(Knobs)}
_NAMES = _FIELDS.keys() | {name.removesuffix("_ms") for name in _FIELDS}


def read_knobs(values: Mapping[str, object], base: Knobs, complain: Callable[[str], None]) -> Knobs:
    """Lay values over base. What cannot be used is named to complain and left out."""
    changes: dict[str, Any] = {}
    for name, value in _spelled_out(values).items():
        field = _FIELDS.get(name) or _FIELDS.get(f"{name}_ms")
        if field is None:
            complain(f"unknown knob: {name}")
            continue
        try:
            changes[field.name] = field.metadata["read"](value)
        except (ValueError, TypeError) as error:
            complain(f"knob {name} ignored: {error}")
    return dataclasses.replace(base, **changes)


def _spelled_out(values: Mapping[str, object]) -> dict[str, object]:
    """`"1 byte"` as the file formats have it, and `"crash_after_2"` for the pair fail and fail_after."""
    spelled = dict(values)
    if str(spelled.get("fragment")) in {"1", "1 byte", "1byte"}:
        spelled["fragment"] = "byte"
    match = _AFTER.fullmatch(str(spelled.get("fail", "")))
    if match is not None:
        kind = match["fail"]
        spelled["fail"] = f"{kind}_after_n" if kind in {"crash", "hang"} else kind
        spelled["fail_after"] = match["after"]
    return spelled


class KnobReader:
    """The knobs as they are now: environment at start, file at every look."""

    def __init__(self, path: Path, environ: Mapping[str, str], complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        named = {
            key[len(PREFIX) :].lower(): value for key, value in environ.items() if key.startswith(PREFIX)
        }
        self._base = read_knobs(named, Knobs(), complain)
        self._seen: bytes | None = None
        self.current = self._base

    def read(self) -> Knobs:
        """Look at the file again. A file that is not (yet) JSON leaves the knobs as they were."""
        try:
            content = self._path.read_bytes()
        except OSError:
            content = b""
        # Compared by content: two writes within one tick of the file system's clock must both count.
        if content == self._seen:
            return self.current
        try:
            values = json.loads(content) if content.strip() else {}
        except ValueError as error:
            self._complain(f"sim.json ignored: {error}")
            return self.current
        self._seen = content
        if isinstance(values, dict):
            self.current = read_knobs(values, self._base, self._complain)
        else:
            self._complain("sim.json ignored: not an object")
        return self.current
