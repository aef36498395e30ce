"""Settings of a worker, from the environment. Frozen, read once, and nobody else reads the environment.

The names are those of lingma-openai-gateway where it has one, so that its `.env` goes on working;
a replica's own names in the same file are ignored. A secret may also be named as a file: `<NAME>_FILE`.
"""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.fields import FieldInfo

from workers.lingma.config import SIMULATOR

MEMORY_URL = "memory://"


class SettingsProblem(ValueError):
    """Settings that cannot be used. Names the variables and says what to change; never shows a value."""


def _or_default(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Take the default for text that makes no sense, as lingma-openai-gateway does for these settings."""
    try:
        return handler(value)
    except ValidationError:
        fields = WorkerSettings.model_fields
        return fields[info.field_name or ""].get_default(call_default_factory=False)


Flag: TypeAlias = Annotated[bool, WrapValidator(_or_default)]
OptionalCount: TypeAlias = Annotated[Annotated[int, Field(ge=1)] | None, WrapValidator(_or_default)]


def _named(name: str, default: Any, description: str, **more: Any) -> Any:
    return Field(default, validation_alias=name, description=description, **more)


def _seconds(name: str, default: float, description: str) -> Any:
    return Field(default, gt=0, validation_alias=name, description=f"{description} Seconds.")


def _secret(name: str, description: str) -> Any:
    """A field that may also be named as a file by `<NAME>_FILE`; the inline value wins when both are set."""
    return Field(
        SecretStr(""),
        validation_alias=name,
        description=f"{description} Secret; `{name}_FILE` names a file that holds it.",
        json_schema_extra={"file_variant": True},
    )


class WorkerSettings(BaseModel):
    """Everything a worker can be told."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, validate_by_alias=True, hide_input_in_errors=True
    )

    # -- the process --------------------------------------------------------------------------------------
    worker_id: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9._-]+$",
        validation_alias="WORKER_ID",
        description="Stable name of this worker, unique in the fleet. Text; default: the host name.",
    )
    redis_url: SecretStr = Field(
        SecretStr(MEMORY_URL),
        validation_alias="REDIS_URL",
        description="The store shared with the replicas: redis://, rediss://, redis+sentinel:// or "
        "redis+cluster://. URL; `REDIS_URL_FILE` names a file that holds it. memory:// only works in `up`.",
        json_schema_extra={"file_variant": True},
    )
    host: str = Field(
        "127.0.0.1",
        validation_alias=AliasChoices("WORKER_HOST", "HOST"),
        description="Address of the health endpoint. IP or name; WORKER_HOST wins over HOST.",
    )
    port: int = Field(
        8318,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("WORKER_PORT", "PORT"),
        description="Port of the health endpoint. TCP port; WORKER_PORT wins over PORT; 0 takes a free one.",
    )
    log_level: str = _named(
        "LOG_LEVEL", "INFO", "Least severe level that is logged. DEBUG shows the stderr of Lingma."
    )
    drain_deadline_s: float = _seconds(
        "DRAIN_DEADLINE_S",
        120,
        "How long running turns may take to end by themselves after a stop was asked for.",
    )

    # -- Lingma -------------------------------------------------------------------------------------------
    lingma_bin: str = _named(
        "LINGMA_BIN",
        "data/bin/Lingma",
        "The Lingma executable. Path (/app/data/bin/Lingma in the image), or the word `simulator`.",
    )
    lingma_args: str | None = _named(
        "LINGMA_ARGS",
        None,
        "Words in place of `start` on its command line. Text; with {work_dir}, {socket_port}, {http_port} or "
        "{endpoint} in it, the whole command line.",
    )
    lingma_work_dir: Path = _named(
        "LINGMA_WORK_DIR",
        Path("data/.lingma/vscode/sharedClientCache"),
        "Directory of the only instance; several instances live below `pool/inst-<i>` two levels up. Path.",
    )
    lingma_socket_port: int = _named(
        "LINGMA_SOCKET_PORT",
        36510,
        "WebSocket port of the only instance; several take free ports. TCP port; 0 takes a free one.",
        ge=0,
        le=65535,
    )
    lingma_startup_timeout_s: float = _seconds(
        "LINGMA_STARTUP_TIMEOUT", 40, "How long an instance may take until it answers."
    )
    lingma_rpc_timeout_s: float = _seconds("LINGMA_RPC_TIMEOUT", 30, "Limit of one status or model request.")
    lingma_stream_timeout_s: float = _seconds(
        "LINGMA_STREAM_TIMEOUT", 600, "Limit of one answer from its start, however lively."
    )
    lingma_first_event_timeout_s: float = _seconds(
        "LINGMA_FIRST_EVENT_TIMEOUT", 60, "How long an answer may take to begin."
    )
    lingma_idle_timeout_s: float = _seconds(
        "LINGMA_IDLE_TIMEOUT", 60, "How long an answer may pause between two events."
    )
    lingma_ask_style: Literal["request", "notify"] = _named(
        "LINGMA_ASK_STYLE",
        "request",
        "Send chat/ask with an id (refusals are seen at once) or as a notification.",
    )
    dedicated_domain_url: str = _named(
        "DEDICATED_DOMAIN_URL", "", "Endpoint of an enterprise domain. URL; empty: the public one."
    )

    # -- instances and accounts ---------------------------------------------------------------------------
    lingma_instance_count: OptionalCount = _named(
        "LINGMA_INSTANCE_COUNT",
        None,
        "Number of instances: of all workers together when exclusive accounts are configured, else of this "
        "worker. Count; default: one for each account, else 1.",
    )
    lingma_instance_max_in_flight: int = _named(
        "LINGMA_INSTANCE_MAX_IN_FLIGHT", 4, "Turns one instance runs at the same time. Count.", ge=1
    )
    lingma_accounts: SecretStr = _secret(
        "LINGMA_ACCOUNTS",
        "Accounts: `user:password` by comma or line, or a JSON array of "
        "{username, password, session_bundle, session_bundle_file}.",
    )
    lingma_username: str = _named(
        "LINGMA_USERNAME", "", "The only account's user, when LINGMA_ACCOUNTS is empty."
    )
    lingma_password: SecretStr = _secret("LINGMA_PASSWORD", "The only account's password.")
    lingma_session_bundle: SecretStr = _secret(
        "LINGMA_SESSION_BUNDLE", "Exported login state, base64 of a tar.gz; alone it makes one account."
    )
    lingma_accounts_mode: Literal["exclusive", "replicate"] = _named(
        "LINGMA_ACCOUNTS_MODE",
        "exclusive",
        "exclusive: each account is used by one worker at a time, another one takes over when that is gone; "
        "replicate: by every worker that knows it.",
    )
    auto_login_enabled: Flag = _named(
        "AUTO_LOGIN_ENABLED",
        False,
        "Browser login is not part of this release: true is answered in the log with what to do instead. "
        "Boolean.",
    )

    # -- getting the binary -------------------------------------------------------------------------------
    lingma_source_type: Literal["marketplace", "vsix"] = _named(
        "LINGMA_SOURCE_TYPE", "marketplace", "Where the binary is taken from when it is absent."
    )
    lingma_marketplace_publisher: str = _named(
        "LINGMA_MARKETPLACE_PUBLISHER", "Alibaba-Cloud", "Publisher of the extension that carries the binary."
    )
    lingma_marketplace_extension: str = _named(
        "LINGMA_MARKETPLACE_EXTENSION", "tongyi-lingma", "Name of the extension that carries the binary."
    )
    lingma_vsix_url: str = _named(
        "LINGMA_VSIX_URL", "", "Package to download with `vsix`, and when the marketplace fails. URL."
    )
    lingma_sha256: str = _named(
        "LINGMA_SHA256",
        "",
        "SHA-256 that the binary must have. Hex digits; empty: any.",
        pattern="^([0-9a-fA-F]{64})?$",
    )
    lingma_bootstrap_always: Flag = _named(
        "LINGMA_BOOTSTRAP_ALWAYS", True, "Look for a newer binary at every start. Boolean."
    )
    lingma_force_refresh: Flag = _named(
        "LINGMA_FORCE_REFRESH", False, "Download again although a binary is there. Boolean."
    )

    @property
    def simulated(self) -> bool:
        """Whether the instances are the bundled stand-in."""
        return self.lingma_bin == SIMULATOR

    def check(self) -> None:
        """Refuse what cannot work in a process of its own. Raises SettingsProblem."""
        if self.redis_url.get_secret_value().startswith(MEMORY_URL):
            raise SettingsProblem(
                "a worker of its own needs the store that the replicas use: set REDIS_URL to a redis:// "
                "address (memory:// works only when gateway and worker share a process: lingma-gateway up)"
            )


def load(environ: Mapping[str, str]) -> WorkerSettings:
    """Read the settings of a process. An empty value is the same as none. Raises SettingsProblem."""
    values: dict[str, str] = {}
    for field in WorkerSettings.model_fields.values():
        for name in names_of(field):
            if text := environ.get(name, "").strip():
                values[name] = text
            elif _may_be_a_file(field) and (path := environ.get(f"{name}_FILE", "").strip()):
                values[name] = _read_secret(f"{name}_FILE", path)
    try:
        return WorkerSettings.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        problems = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details]
        raise SettingsProblem("\n".join(problems)) from None


def names_of(field: FieldInfo) -> list[str]:
    """The variables a field is read from, the winner first."""
    alias = field.validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def _may_be_a_file(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("file_variant"))


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsProblem(f"{variable} names a file that cannot be read: {path}") from error
