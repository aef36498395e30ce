"""How a tree of settings is read from an environment: names, files, booleans, and what is wrong with them.

Knows no setting; gateway/settings.py has them. Every leaf has two names: a flat one (`PORT`) and its place in
the tree (`GATEWAY__SERVER__PORT`). A misspelt name of the second form is an error; a stranger that begins
like one of ours is a warning with the nearest name. No text made here shows a value: it may be a secret.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

NESTED_PREFIX = "GATEWAY__"

OUR_PREFIXES = (
    "ADMIN_",
    "API_KEY",
    "AUTO_LOGIN_",
    "DRAIN_",
    "GATEWAY_",
    "LINGMA_",
    "METRICS_",
    "REPLAY_",
    "SESSION_",
    "TOOL_",
    "TURN_",
    "WORKER_",
)
FOREIGN_NAMES = frozenset({"SESSION_MANAGER", "GATEWAY_INTERFACE"})
"""Set by desktops and by CGI; they only look like ours."""

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on", "enable", "enabled"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off", "disable", "disabled"})


class SettingsError(ValueError):
    """Settings that cannot be used. The text names every variable at fault and shows no value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A node of the tree: sections hold leaves, the root holds sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Leaf(NamedTuple):
    """One setting: where it is in the tree and what it is called outside."""

    section: str
    field_name: str
    field: FieldInfo

    @property
    def env(self) -> str:
        return str(self._extra["env"])

    @property
    def file_variant(self) -> bool:
        """Whether `<NAME>_FILE` may name a file that holds the value."""
        return bool(self._extra["file_variant"])

    @property
    def nested(self) -> str:
        return f"{NESTED_PREFIX}{self.section}__{self.field_name}".upper()

    @property
    def names(self) -> list[str]:
        """All names it goes by, the winner first."""
        names = [self.nested, self.env]
        return names + [f"{name}_FILE" for name in names] if self.file_variant else names

    @property
    def _extra(self) -> dict[str, Any]:
        extra = self.field.json_schema_extra
        assert isinstance(extra, dict)
        return dict(extra)


def leaves(root: type[Section]) -> Iterator[Leaf]:
    """Every setting, in the order of the tree."""
    for section, holder in root.model_fields.items():
        model = holder.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        for field_name, field in model.model_fields.items():
            yield Leaf(section, field_name, field)


class Reading:
    """One pass over an environment: texts by place in the tree, and what to say about them."""

    def __init__(
        self, root: type[Section], environ: Mapping[str, str], *, also_known: frozenset[str]
    ) -> None:
        self._environ = environ
        self._origin: dict[tuple[str, str], str] = {}
        self.warnings: list[str] = []
        self.problems: list[str] = []
        self.tree: dict[str, dict[str, Any]] = {}
        names = {name for leaf in leaves(root) for name in leaf.names}
        for leaf in leaves(root):
            self._take(leaf)
        self._judge_names(names | also_known)

    def _take(self, leaf: Leaf) -> None:
        given = [name for name in leaf.names if self._environ.get(name, "").strip()]
        if not given:
            return
        name = given[0]
        if len(given) > 1:
            self.warnings.append(f"{' and '.join(given)} are set at the same time: {name} is used")
        value: str | bool | None = self._environ[name]
        if leaf.file_variant and name.endswith("_FILE"):
            value = self._read_file(name)
        elif leaf.field.annotation is bool:
            value = self._flag(name, self._environ[name], leaf.field.default)
        if value is not None:
            self._origin[leaf.section, leaf.field_name] = name
            self.tree.setdefault(leaf.section, {})[leaf.field_name] = value

    def _read_file(self, name: str) -> str | None:
        path = Path(self._environ[name].strip())
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{name}: the file {path} cannot be read ({type(error).__name__})")
            return None

    def _flag(self, name: str, text: str, default: bool) -> bool:
        word = text.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        self.warnings.append(f"{name}: neither true nor false; its default {str(default).lower()} is used")
        return default

    def _judge_names(self, known: set[str]) -> None:
        for name in sorted(self._environ):
            if name in known or name in FOREIGN_NAMES or not name.startswith(OUR_PREFIXES):
                continue
            nested = name.startswith(NESTED_PREFIX)
            told = self.problems if nested else self.warnings
            candidates = [k for k in sorted(known) if k.startswith(NESTED_PREFIX) == nested]
            close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
            told.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else ""))

    def told(self, error: ValidationError) -> list[str]:
        """What is wrong, by variable. Messages of pydantic name the rule that was broken, not the value."""
        problems = []
        for detail in error.errors(include_url=False, include_input=False, include_context=False):
            section, field_name = str(detail["loc"][0]), str(detail["loc"][1])
            name = self._origin.get((section, field_name), f"{section}.{field_name}")
            message = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{name}: {message[:1].lower()}{message[1:]}")
        return problems
