"""How settings are read from an environment: names, files, booleans, and what is wrong with them.

Knows no setting: gateway/settings.py has those of a replica, workers/settings.py those of a worker. A setting
has a flat name (`PORT`); where settings are a tree, its place there (`GATEWAY__SERVER__PORT`) is another. A
misspelt name of the second form is an error; a stranger that begins like one of ours is a warning with the
nearest name. No text made here shows a value: it may be a secret.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.store.address import parse_redis_url
from gateway.store.sealing import SealRing, parse_ring

NESTED_PREFIX = "GATEWAY__"

FOREIGN_NAMES = frozenset({"SESSION_MANAGER", "GATEWAY_INTERFACE", "CODEX_HOME"})
"""Set by desktops, by CGI and by Codex; they only look like ours."""
FOREIGN_PREFIXES = ("LINGMA_SIM_",)
"""Options of the bundled simulator."""
NAMES_WITHOUT_EFFECT = frozenset({"AUTO_LOGIN_HEADLESS", "AUTO_LOGIN_MAX_RETRY", "AUTO_LOGIN_TIMEOUT"})
"""Of lingma-openai-gateway, whose `.env` is no mistake: there is no browser login to be set."""

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on", "enable", "enabled"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off", "disable", "disabled"})


class SettingsError(ValueError):
    """Settings that cannot be used. The text names every variable at fault and shows no value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A node of the tree: it holds sections or leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


T = TypeVar("T", bound=Section)

STORE_LOGIN = (
    "The password of Redis, where REDIS_URL holds none. Text, as it is: nothing of it is percent-encoded. "
    "`REDIS_PASSWORD_FILE` names a file that holds it."
)
STATE_KEYS = (
    "Keys under which state in Redis is sealed: the first seals, all open. `name:base64 of 32 bytes` by "
    "comma or line; empty: nothing is sealed. The same for all replicas and workers; see "
    "docs/howto/seal-state.md."
)


def _store_address(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _split(value: Any) -> Any:
    """Commas or lines, trimmed, blanks dropped."""
    if not isinstance(value, str):
        return value
    return [part for part in map(str.strip, re.split(r"[,\n]", value)) if part]


def _ring(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    seal_ring(value)
    return value


def seal_ring(entries: tuple[SecretStr, ...]) -> SealRing | None:
    """The ring that a setting of type RingKeys describes; None when there is none."""
    return parse_ring([entry.get_secret_value() for entry in entries]) if entries else None


Secrets: TypeAlias = Annotated[tuple[SecretStr, ...], BeforeValidator(_split)]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split)]
RingKeys: TypeAlias = Annotated[Secrets, AfterValidator(_ring)]
StoreUrl: TypeAlias = Annotated[SecretStr, AfterValidator(_store_address)]
LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]


def setting(
    name: str, default: Any, description: str, *, file_variant: bool = False, shared: str = "", **more: Any
) -> Any:
    """A leaf. `file_variant` ones may also be named as a file by `<NAME>_FILE`.

    `shared` is a name of somebody else that counts when there is no `name`.
    """
    extra: dict[str, Any] = {"env": name, "file_variant": file_variant, "shared": shared}
    if "default_factory" in more:
        return Field(description=description, json_schema_extra=extra, **more)
    return Field(default, description=description, json_schema_extra=extra, **more)


class Leaf(NamedTuple):
    """One setting: where it is in the tree and what it is called outside."""

    section: str
    """Empty where settings are no tree."""
    field_name: str
    field: FieldInfo

    @property
    def env(self) -> str:
        return str(self._extra["env"])

    @property
    def shared(self) -> str:
        """The name it may have in common with somebody else's setting, or empty."""
        return str(self._extra.get("shared", ""))

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
        names = [self.nested, self.env] if self.section else [self.env]
        if self.shared:
            names.append(self.shared)
        return names + [f"{name}_FILE" for name in names] if self.file_variant else names

    @property
    def _extra(self) -> dict[str, Any]:
        extra = self.field.json_schema_extra
        assert isinstance(extra, dict)
        return dict(extra)


def leaves(root: type[Section]) -> Iterator[Leaf]:
    """Every setting, in the order of the tree."""
    for name, field in root.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Section):
            for field_name, leaf in model.model_fields.items():
                yield Leaf(name, field_name, leaf)
        else:
            yield Leaf("", name, field)


def read(
    root: type[T], environ: Mapping[str, str], *, prefixes: tuple[str, ...], also_known: frozenset[str]
) -> tuple[T, list[str]]:
    """The settings, and what an operator should be told about names and words.

    An empty value is the same as none. Strangers that begin with one of `prefixes` are told of, unless
    `also_known`. Raises SettingsError with everything that is wrong at once.
    """
    reading = Reading(root, environ, prefixes=prefixes, also_known=also_known | NAMES_WITHOUT_EFFECT)
    try:
        settings = root.model_validate(reading.tree)
    except ValidationError as error:
        raise SettingsError(reading.problems + reading.told(error)) from None
    if reading.problems:
        raise SettingsError(reading.problems)
    return settings, reading.warnings


_TELLING = 7
"""Characters of a name that resembles few others."""


class Reading:
    """One pass over an environment: texts by place in the tree, and what to say about them."""

    def __init__(
        self,
        root: type[Section],
        environ: Mapping[str, str],
        *,
        prefixes: tuple[str, ...],
        also_known: frozenset[str],
    ) -> None:
        self._environ = environ
        self._prefixes = prefixes
        self._origin: dict[str, str] = {}
        """By place in the tree, the name that gave the value."""
        self.warnings: list[str] = []
        self.problems: list[str] = []
        self.tree: dict[str, Any] = {}
        names = {name for leaf in leaves(root) for name in leaf.names}
        for leaf in leaves(root):
            self._take(leaf)
        self._judge_names(names | also_known)

    def _take(self, leaf: Leaf) -> None:
        given = [name for name in leaf.names if self._environ.get(name, "").strip()]
        if not given:
            return
        name = given[0]
        rivals = [other for other in given if other != leaf.shared]
        if len(rivals) > 1:
            self.warnings.append(f"{' and '.join(rivals)} are set at the same time: {name} is used")
        value: str | bool | None = self._environ[name].strip()
        if leaf.file_variant and name.endswith("_FILE"):
            value = self._read_file(name)
        elif leaf.field.annotation is bool:
            value = self._flag(name, self._environ[name], leaf.field.default)
        if value is not None:
            self._origin[f"{leaf.section}.{leaf.field_name}"] = name
            holder = self.tree.setdefault(leaf.section, {}) if leaf.section else self.tree
            holder[leaf.field_name] = value

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
            if name in known or name in FOREIGN_NAMES or name.startswith(FOREIGN_PREFIXES):
                continue
            if not name.startswith(self._prefixes):
                if meant := _slip_of(name, known):
                    self.warnings.append(f"{name} is not a setting; did you mean {meant}?")
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
            place = [str(part) for part in detail["loc"]]
            name = self._origin.get(".".join(place[:2])) or self._origin.get(f".{place[0]}")
            message = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{name or '.'.join(place[:2])}: {message[:1].lower()}{message[1:]}")
        return problems


def _slip_of(name: str, known: Iterable[str]) -> str | None:
    """Which of them a name of nobody in particular was probably meant to be; None for most."""
    near = [k for k in known if k[0] == name[:1] and len(k) >= _TELLING and abs(len(k) - len(name)) <= 2]
    return next(iter(difflib.get_close_matches(name, sorted(near), n=1, cutoff=0.85)), None)
