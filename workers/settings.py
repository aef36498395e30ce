"""Settings of a worker, from the environment. Frozen, read once, and nobody else reads the environment.

The names are those of lingma-openai-gateway where it has one, so that its `.env` goes on working; a replica's
own names in the same file are ignored. How names become values is gateway/environ.py.
"""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from gateway.environ import (
    STATE_KEYS,
    STORE_LOGIN,
    LogLevel,
    RingKeys,
    Section,
    SettingsError,
    StoreUrl,
    read,
    setting,
)
from gateway.store.address import MEMORY_URL, with_password
from workers.lingma.config import SIMULATOR

OUR_PREFIXES = ("AUTO_LOGIN_", "LINGMA_", "WORKER_")
"""Only workers have names that begin so."""


def _or_none(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Text that makes no sense is as good as none, as in lingma-openai-gateway."""
    try:
        return handler(value)
    except ValidationError:
        return None


OptionalCount: TypeAlias = Annotated[Annotated[int, Field(ge=1)] | None, WrapValidator(_or_none)]


def _seconds(name: str, default: float, description: str) -> Any:
    return setting(name, default, f"{description} Seconds.", gt=0)


def _secret(name: str, description: str) -> Any:
    text = f"{description} Secret; `{name}_FILE` names a file that holds it."
    return setting(name, SecretStr(""), text, file_variant=True)


class WorkerSettings(Section):
    """Everything a worker can be told."""

    # -- the process --------------------------------------------------------------------------------------
    worker_id: str = setting(
        "WORKER_ID",
        None,
        "Stable name of this worker, unique in the fleet. Text; default: the host name.",
        default_factory=socket.gethostname,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9._-]+$",
    )
    redis_url: StoreUrl = setting(
        "REDIS_URL",
        SecretStr(MEMORY_URL),
        "The store shared with the replicas: redis://, rediss://, redis+sentinel:// or redis+cluster://. "
        "URL; `REDIS_URL_FILE` names a file that holds it. memory:// only works in `up`.",
        file_variant=True,
    )
    redis_password: SecretStr = setting("REDIS_PASSWORD", SecretStr(""), STORE_LOGIN, file_variant=True)
    state_keys: RingKeys = setting("STATE_KEYS", (), STATE_KEYS, file_variant=True)
    host: str = setting(
        "WORKER_HOST",
        "127.0.0.1",
        "Address of the health endpoint. IP or name; WORKER_HOST wins over HOST.",
        shared="HOST",
    )
    port: int = setting(
        "WORKER_PORT",
        8318,
        "Port of the health endpoint. TCP port; WORKER_PORT wins over PORT; 0 takes a free one.",
        shared="PORT",
        ge=0,
        le=65535,
    )
    log_level: LogLevel = setting(
        "LOG_LEVEL",
        "INFO",
        "Least severe level that is logged. DEBUG shows the stderr of Lingma; unset, `up` logs WARNING.",
    )
    drain_deadline_s: float = _seconds(
        "DRAIN_DEADLINE_S",
        120,
        "How long running turns may take to end by themselves after a stop was asked for.",
    )

    # -- Lingma -------------------------------------------------------------------------------------------
    lingma_bin: str = setting(
        "LINGMA_BIN",
        "data/bin/Lingma",
        "The Lingma executable. Path, or the word `simulator`; where the file is absent `work` downloads it "
        "(LINGMA_SOURCE_TYPE), and `up` takes the simulator unless this is set.",
    )
    lingma_args: str | None = setting(
        "LINGMA_ARGS",
        None,
        "Words in place of `start` on its command line. Text; with {work_dir}, {socket_port}, {http_port} or "
        "{endpoint} in it, the whole command line.",
    )
    lingma_work_dir: Path = setting(
        "LINGMA_WORK_DIR",
        Path("data/.lingma/vscode/sharedClientCache"),
        "Directory of the only instance; several instances live below `pool/inst-<i>` two levels up. Path.",
    )
    lingma_socket_port: int = setting(
        "LINGMA_SOCKET_PORT",
        36510,
        "WebSocket port of the only instance; several take free ports. TCP port; 0 takes a free one.",
        ge=0,
        le=65535,
    )
    lingma_http_port: int = setting(
        "LINGMA_HTTP_PORT",
        37510,
        "Port of the only instance's login pages; several take free ports. TCP port; a free one in place "
        "of 0 and of one that is taken.",
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
    lingma_ask_style: Literal["request", "notify"] = setting(
        "LINGMA_ASK_STYLE",
        "request",
        "Send chat/ask with an id (refusals are seen at once) or as a notification.",
    )
    lingma_coalesce_frames: bool = setting(
        "LINGMA_COALESCE_FRAMES",
        True,
        "Send what waits for Lingma together in one WebSocket message; false: one message each. Boolean.",
    )
    dedicated_domain_url: str = setting(
        "DEDICATED_DOMAIN_URL", "", "Endpoint of an enterprise domain. URL; empty: the public one."
    )

    # -- instances and accounts ---------------------------------------------------------------------------
    lingma_instance_count: OptionalCount = setting(
        "LINGMA_INSTANCE_COUNT",
        None,
        "Number of instances: of all workers together when exclusive accounts are configured, else of this "
        "worker. Count; default: one for each account, else 1.",
    )
    lingma_instance_max_in_flight: int = setting(
        "LINGMA_INSTANCE_MAX_IN_FLIGHT", 4, "Turns one instance runs at the same time. Count.", ge=1
    )
    lingma_accounts: SecretStr = _secret(
        "LINGMA_ACCOUNTS",
        "Accounts: `user:password` by comma or line, or a JSON array of "
        "{username, password, session_bundle, session_bundle_file}.",
    )
    lingma_username: str = setting(
        "LINGMA_USERNAME", "", "The only account's user, when LINGMA_ACCOUNTS is empty."
    )
    lingma_password: SecretStr = _secret("LINGMA_PASSWORD", "The only account's password.")
    lingma_session_bundle: SecretStr = _secret(
        "LINGMA_SESSION_BUNDLE",
        "Exported login state, base64 of a tar.gz, see docs/howto/lingma-login.md; alone it makes an "
        "account.",
    )
    lingma_accounts_mode: Literal["exclusive", "replicate"] = setting(
        "LINGMA_ACCOUNTS_MODE",
        "exclusive",
        "exclusive: each account is used by one worker at a time, another one takes over when that is gone; "
        "replicate: by every worker that knows it.",
    )
    auto_login_enabled: bool = setting(
        "AUTO_LOGIN_ENABLED",
        False,
        "Browser login is not part of this release: true is answered in the log with what to do instead. "
        "Boolean.",
    )

    # -- getting the binary -------------------------------------------------------------------------------
    lingma_source_type: Literal["marketplace", "vsix"] = setting(
        "LINGMA_SOURCE_TYPE",
        "marketplace",
        "Where the binary is taken from when it is absent. marketplace: the extension of "
        "LINGMA_MARKETPLACE_PUBLISHER, when that fails LINGMA_VSIX_URL; vsix: LINGMA_VSIX_URL alone.",
    )
    lingma_marketplace_publisher: str = setting(
        "LINGMA_MARKETPLACE_PUBLISHER", "Alibaba-Cloud", "Publisher of the extension that carries the binary."
    )
    lingma_marketplace_extension: str = setting(
        "LINGMA_MARKETPLACE_EXTENSION", "tongyi-lingma", "Name of the extension that carries the binary."
    )
    lingma_vsix_url: str = setting(
        "LINGMA_VSIX_URL", "", "Package to download with `vsix`, and when the marketplace fails. URL."
    )
    lingma_sha256: str = setting(
        "LINGMA_SHA256",
        "",
        "SHA-256 that the binary must have. Hex digits; empty: any.",
        pattern="^([0-9a-fA-F]{64})?$",
    )
    lingma_bootstrap_always: bool = setting(
        "LINGMA_BOOTSTRAP_ALWAYS", True, "Look for a newer binary at every start. Boolean."
    )
    lingma_force_refresh: bool = setting(
        "LINGMA_FORCE_REFRESH", False, "Download again although a binary is there. Boolean."
    )

    @property
    def store_url(self) -> str:
        """With the password."""
        return with_password(self.redis_url.get_secret_value(), self.redis_password.get_secret_value())

    @property
    def simulated(self) -> bool:
        """Whether the instances are the bundled stand-in."""
        return self.lingma_bin == SIMULATOR

    def check(self) -> None:
        """Refuse what cannot work in a process of its own. Raises SettingsError."""
        if self.redis_url.get_secret_value().startswith(MEMORY_URL):
            raise SettingsError(
                [
                    "REDIS_URL: a worker of its own needs the store that the replicas use: set a redis:// "
                    "address (memory:// works only where both share a process: lingma-gateway up)"
                ]
            )


def load(environ: Mapping[str, str]) -> tuple[WorkerSettings, list[str]]:
    """Read a worker's settings, and what an operator should be told about names and words.

    An empty value is the same as none. Raises SettingsError with everything that is wrong at once.
    """
    return read(WorkerSettings, environ, prefixes=OUR_PREFIXES, also_known=frozenset())
