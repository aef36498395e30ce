"""What an operator says about HTTP upstreams and routes: a YAML or JSON file, or a few variables. Pure data.

    upstreams:
      - name: openai
        kind: codex                       # codex: the Responses API; antigravity: the Gemini API
        base_url: https://api.openai.com/v1
        credentials:
          - {id: team, api_key_env: OPENAI_API_KEY, weight: 3}
          - {id: spare, api_key_file: /run/secrets/openai}
        models: [gpt-5.2, {id: gpt-5.2-codex, context_window: 400000}]
    routes:
      - models: [best]
        candidates:
          - {upstream: openai, model: gpt-5.2}
          - {upstream: lingma}

Read by gateway/settings.py, made into objects by the composition root. Unknown names are errors: a misspelt
limit would otherwise be none. No error shows a value, for it may be a secret.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

LINGMA = "lingma"
"""The upstream that is always there; routes may name it."""

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _http_address(value: str) -> str:
    """Raises ValueError, which never shows the address: it may hold a password."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("an address begins with http:// or https://")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or any(character.isspace() for character in value):
        raise ValueError("this is no address with a host and, where there is one, a port")
    if parts.query or parts.fragment:
        raise ValueError("an address has no query and no fragment")
    return value.rstrip("/")


def _base_address(value: str) -> str:
    if urlsplit(value).username is not None:
        raise ValueError("an address holds no user and no password; keys belong to credentials")
    if value.endswith("/responses"):
        raise ValueError("an address ends before /responses, which is added to it")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


HttpAddress: TypeAlias = Annotated[str, AfterValidator(_http_address)]
BaseAddress: TypeAlias = Annotated[HttpAddress, AfterValidator(_base_address)]


def _printable(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("a header holds printable ASCII alone")
    return value


HeaderName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue: TypeAlias = Annotated[str, AfterValidator(_printable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CredentialConfig(_Part):
    """One account of an upstream. Exactly one of the three says its key."""

    id: Name
    api_key: SecretStr | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    """Read again when it changes, so that keys rotate without a restart."""
    auth: Literal["bearer", "api_key"] | None = None
    """How the key is sent; by default as the kind of upstream wants it."""
    headers: Mapping[HeaderName, HeaderValue] = {}
    """Sent with every request, such as an organisation's id."""
    project: str | None = None
    """The Google Cloud project of a Code Assist account."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if [self.api_key, self.api_key_env, self.api_key_file].count(None) != 2:
            raise ValueError("give exactly one of api_key, api_key_env and api_key_file")
        return self


class UpstreamModelConfig(_Part):
    id: str = Field(min_length=1)
    """The upstream's own name, and the public one unless a route or an alias gives another."""
    name: str = ""
    """For people."""
    context_window: int | None = Field(None, gt=0)
    images: bool = True
    reasoning: bool = True


def _as_model(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class TimeoutConfig(_Part):
    connect_s: Seconds = 10.0
    first_byte_s: Seconds = 120.0
    """Until the headers of an answer."""
    idle_s: Seconds = 300.0
    """The longest silence inside an answer."""


class UpstreamConfig(_Part):
    name: Name
    kind: Literal["codex", "antigravity"]
    base_urls: Annotated[tuple[BaseAddress, ...], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        alias="base_url"
    )
    """Tried in order where the protocol of the upstream wants that; most have one."""
    credentials: tuple[CredentialConfig, ...] = Field(min_length=1)
    models: tuple[Annotated[UpstreamModelConfig, BeforeValidator(_as_model)], ...] = Field(min_length=1)
    timeouts: TimeoutConfig = TimeoutConfig()
    proxy: HttpAddress | None = None
    ca_file: Path | None = None
    stream_only: bool = False
    """Ask for a stream even when the client does not, for upstreams that know nothing else."""
    compaction: bool = False
    """codex: the upstream has `/responses/compact` and compaction items of its own."""
    pseudonyms: bool = False
    """codex: ids of clients (installation, window, turn, conversation) are told as others, one for each
    credential.
    """
    drop: tuple[str, ...] = ()
    """Fields of requests that the upstream refuses, such as `prompt_cache_retention`."""
    envelope: Literal["plain", "code_assist"] = "plain"
    """antigravity: bodies as the Gemini API has them, or inside the Code Assist envelope."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.name == LINGMA:
            raise ValueError(f"'{LINGMA}' is the name of the built-in upstream")
        ids = [credential.id for credential in self.credentials]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two credentials have the id '{_twice(ids)}'")
        if self.envelope == "code_assist" and not all(one.project for one in self.credentials):
            raise ValueError("every credential of Code Assist needs its project")
        if self.kind == "codex" and (len(self.base_urls) > 1 or self.envelope != "plain"):
            raise ValueError("several addresses and envelopes are for the kind antigravity")
        if self.kind == "antigravity" and (self.compaction or self.pseudonyms):
            raise ValueError("compaction and pseudonyms are for the kind codex")
        return self

    def reasons(self, model: str) -> bool:
        """Models that nobody has described are taken to reason, as all newer ones do."""
        return next((one.reasoning for one in self.models if one.id == model), True)


class CandidateConfig(_Part):
    upstream: Name
    model: str | None = None
    """The upstream's name for it; by default the name that was asked for."""
    credentials: tuple[str, ...] = ()
    """Those of the upstream's that may be asked; by default all of them."""
    rank: int = 0
    """Candidates of the lowest rank are tried first."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Share of the conversations among candidates of one rank."""


class RouteConfig(_Part):
    models: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
    candidates: tuple[CandidateConfig, ...] = Field(min_length=1)


class UpstreamsConfig(_Part):
    upstreams: tuple[UpstreamConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = [upstream.name for upstream in self.upstreams]
        if len(set(names)) != len(names):
            raise ValueError(f"two upstreams have the name '{_twice(names)}'")
        for route in self.routes:
            for candidate in route.candidates:
                if candidate.upstream not in {*names, LINGMA}:
                    raise ValueError(f"a route names the upstream '{candidate.upstream}', which is not there")
                known = [
                    one.id
                    for upstream in self.upstreams
                    if upstream.name == candidate.upstream
                    for one in upstream.credentials
                ]
                if unknown := [name for name in candidate.credentials if name not in known]:
                    raise ValueError(
                        f"a route names the credential '{unknown[0]}', which "
                        f"{candidate.upstream} does not have"
                    )
        public = [model for route in self.routes for model in route.models]
        if len(set(public)) != len(public):
            raise ValueError(f"two routes serve the model name '{_twice(public)}'")
        return self


def _twice(names: Sequence[str]) -> str:
    return next(name for number, name in enumerate(names) if name in names[:number])


NOTHING = UpstreamsConfig()


def read_upstreams_file(path: Path) -> UpstreamsConfig:
    """From YAML, of which JSON is a part. Raises ValueError naming the place, and OSError."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # What a tag makes of a value may fail in many ways, and would tell the value.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{path} is no valid YAML{where}") from None
    if document is None:
        return NOTHING
    try:
        return UpstreamsConfig.model_validate(document)
    except ValidationError as error:
        raise ValueError("; ".join(_told(path, error))) from None


def _told(path: Path, error: ValidationError) -> list[str]:
    """Places and rules, never values."""
    problems = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{path}: {place}: {message}" if place else f"{path}: {message}")
    return problems
