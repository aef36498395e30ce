"""Settings about HTTP upstreams and what is remembered for them: a part of gateway/settings.py."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, model_validator

from gateway.environ import Names, Secrets, Section, lower, setting
from gateway.upstreams.config import UpstreamConfig, UpstreamsConfig, read_upstreams_file


def _readable_upstreams_file(value: Path) -> Path:
    try:
        read_upstreams_file(value)
    except OSError as error:
        raise ValueError(f"the file {value} cannot be read ({type(error).__name__})") from None
    return value


UpstreamsFile: TypeAlias = Annotated[Path, AfterValidator(_readable_upstreams_file)]


class UpstreamSettings(Section):
    """HTTP upstreams beside Lingma: a file for everything, variables for one upstream of each kind."""

    file: UpstreamsFile | None = setting(
        "UPSTREAMS_FILE",
        None,
        "Upstreams, their credentials and models, and routes. Path of a YAML or JSON file; see the howto.",
    )
    codex_base_url: str | None = setting(
        "CODEX_BASE_URL",
        None,
        "A Responses endpoint, served as the upstream `codex`. URL that `/responses` is added to.",
    )
    codex_api_keys: Secrets = setting(
        "CODEX_API_KEYS", (), "Its credentials. Secrets by comma or line.", file_variant=True
    )
    codex_models: Names = setting("CODEX_MODELS", (), "Its models. Names by comma or line.")
    antigravity_base_url: str | None = setting(
        "ANTIGRAVITY_BASE_URL",
        None,
        "A Gemini endpoint, served as the upstream `antigravity`. URL that `/v1beta/models/…` is added to.",
    )
    antigravity_api_keys: Secrets = setting(
        "ANTIGRAVITY_API_KEYS", (), "Its credentials. Secrets by comma or line.", file_variant=True
    )
    antigravity_models: Names = setting("ANTIGRAVITY_MODELS", (), "Its models. Names by comma or line.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.config()
        return self

    def config(self) -> UpstreamsConfig:
        """File and variables together. Raises ValueError when they contradict each other."""
        config = read_upstreams_file(self.file) if self.file is not None else UpstreamsConfig()
        named = [
            _upstream("codex", self.codex_base_url, self.codex_api_keys, self.codex_models),
            _upstream(
                "antigravity", self.antigravity_base_url, self.antigravity_api_keys, self.antigravity_models
            ),
        ]
        upstreams = (*config.upstreams, *(one for one in named if one is not None))
        return UpstreamsConfig(upstreams=upstreams, routes=config.routes)


def _upstream(
    kind: Literal["codex", "antigravity"], base_url: str | None, keys: Secrets, models: Names
) -> UpstreamConfig | None:
    given = (("BASE_URL", base_url), ("API_KEYS", keys), ("MODELS", models))
    lacking = [f"{kind.upper()}_{name}" for name, value in given if not value]
    if lacking:
        if len(lacking) == len(given):
            return None
        raise ValueError(f"an upstream {kind} needs {' and '.join(lacking)} as well")
    credentials = [{"id": f"key-{n}", "api_key": key} for n, key in enumerate(keys, start=1)]
    return UpstreamConfig.model_validate(
        {"name": kind, "kind": kind, "base_url": base_url, "credentials": credentials, "models": list(models)}
    )


class ReplaySettings(Section):
    """Reasoning of stateless clients, remembered for the upstreams that want it back."""

    enabled: bool = setting("REPLAY_ENABLED", True, "Remember reasoning and give it back. Boolean.")
    isolation: Annotated[Literal["tenant", "shared"], BeforeValidator(lower)] = setting(
        "REPLAY_ISOLATION",
        "tenant",
        "Who shares what is remembered, and an upstream's cached prompts by their key. tenant: keys of one "
        "tenant; shared: all, as HOME nodes do.",
    )
    clients: Annotated[Literal["all", "messages"], BeforeValidator(lower)] = setting(
        "REPLAY_CLIENTS",
        "all",
        "Whose reasoning is remembered for Responses upstreams. all: Messages, Chat and Gemini clients; "
        "messages: those alone, as HOME nodes do.",
    )
    strict: bool = setting(
        "REPLAY_STRICT",
        False,
        "Fail a request whose reasoning cannot be read, instead of asking without. Boolean.",
    )
