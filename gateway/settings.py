"""Settings of a gateway replica: one frozen tree, read once from an environment. Nobody else reads variables.

The flat names are those of lingma-openai-gateway where it has one, so that its `.env` goes on working. Names
that only concern workers are known and left alone: one `.env` feeds both. How names become values, and what
is said about wrong ones, is gateway/environ.py. Every description ends with the unit or form of the value;
the reference page and `.env.example` are generated from them (scripts/render_docs.py).
"""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.access.keys import read_key_file
from gateway.environ import (
    STATE_KEYS,
    STORE_LOGIN,
    LogLevel,
    Names,
    RingKeys,
    Secrets,
    Section,
    SettingsError,
    StoreUrl,
    lower,
    read,
    setting,
)
from gateway.kernel.ids import new_hex
from gateway.kernel.json import JsonError, loads
from gateway.settings_turns import ResponsesSettings, TurnSettings
from gateway.settings_upstreams import ReplaySettings, UpstreamSettings
from gateway.store.address import MEMORY_URL, with_password
from gateway.store.outage import WAIT_S

OUR_PREFIXES = (
    "ADMIN_",
    "ANTIGRAVITY_",
    "API_KEY",
    "AUTO_LOGIN_",
    "CODEX_",
    "DRAIN_",
    "GATEWAY_",
    "LINGMA_",
    "METRICS_",
    "REPLAY_",
    "RESPONSES_",
    "SESSION_",
    "TOOL_",
    "TURN_",
    "UPSTREAMS_",
    "WORKER_",
)

WORKER_NAMES = frozenset(
    {
        "AUTO_LOGIN_ENABLED",
        "DEDICATED_DOMAIN_URL",
        "LINGMA_ACCOUNTS",
        "LINGMA_ACCOUNTS_FILE",
        "LINGMA_ACCOUNTS_MODE",
        "LINGMA_ARGS",
        "LINGMA_ASK_STYLE",
        "LINGMA_BIN",
        "LINGMA_BOOTSTRAP_ALWAYS",
        "LINGMA_COALESCE_FRAMES",
        "LINGMA_FIRST_EVENT_TIMEOUT",
        "LINGMA_FORCE_REFRESH",
        "LINGMA_HTTP_PORT",
        "LINGMA_IDLE_TIMEOUT",
        "LINGMA_INSTANCE_COUNT",
        "LINGMA_INSTANCE_MAX_IN_FLIGHT",
        "LINGMA_MARKETPLACE_EXTENSION",
        "LINGMA_MARKETPLACE_PUBLISHER",
        "LINGMA_PASSWORD",
        "LINGMA_PASSWORD_FILE",
        "LINGMA_RPC_TIMEOUT",
        "LINGMA_SHA256",
        "LINGMA_SESSION_BUNDLE",
        "LINGMA_SESSION_BUNDLE_FILE",
        "LINGMA_SOCKET_PORT",
        "LINGMA_SOURCE_TYPE",
        "LINGMA_STARTUP_TIMEOUT",
        "LINGMA_STREAM_TIMEOUT",
        "LINGMA_USERNAME",
        "LINGMA_VSIX_URL",
        "LINGMA_WORK_DIR",
        "WORKER_HOST",
        "WORKER_ID",
        "WORKER_PORT",
    }
)
"""What workers/settings.py reads and we do not. Gateways cannot import it; a test compares the two."""


def _parse_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except JsonError:
        raise ValueError("not valid JSON") from None


def _readable_key_file(value: Path) -> Path:
    """What is wrong with the file is said at start, by the variable's name."""
    try:
        read_key_file(value)
    except OSError as error:
        raise ValueError(f"the file {value} cannot be read ({type(error).__name__})") from None
    return value


KeyFile: TypeAlias = Annotated[Path, AfterValidator(_readable_key_file)]
Aliases: TypeAlias = Annotated[dict[str, str], BeforeValidator(_parse_json)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ServerSettings(Section):
    """Listening and answering."""

    host: str | None = setting(
        "HOST",
        None,
        "Address to listen on. IP or name; unset: all interfaces, but loopback for `up` without a key.",
    )
    port: int = setting("PORT", 8317, "Port to listen on. TCP port; 0 takes a free one.", ge=0, le=65535)
    log_level: LogLevel = setting(
        "LOG_LEVEL",
        "INFO",
        "Least severe level that is logged. DEBUG, INFO, WARNING, ERROR or CRITICAL; unset, `up` logs "
        "WARNING.",
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES", 128 * 1024 * 1024, "Largest request body; beyond it 413. Bytes.", ge=1
    )
    first_byte_hold_s: Seconds = setting(
        "FIRST_BYTE_HOLD_S",
        5.0,
        "How long headers wait for the first content, so that an early failure has its real status. Seconds.",
    )
    keepalive_s: float = setting(
        "KEEPALIVE_S", 10.0, "Longest silence of a stream before a keep-alive is sent. Seconds.", gt=0
    )
    send_deadline_s: float = setting(
        "SEND_DEADLINE_S",
        30.0,
        "How long a client may take to read what was sent before it counts as gone. Seconds.",
        gt=0,
    )
    drain_listen_s: Seconds = setting(
        "DRAIN_LISTEN_S",
        5.0,
        "After a stop was asked for: how long new requests are still served while load balancers look away. "
        "Seconds.",
    )
    drain_deadline_s: Seconds = setting(
        "DRAIN_DEADLINE_S",
        120.0,
        "After a stop was asked for: how long running turns may take to end by themselves. Seconds.",
    )
    replica_id: str = setting(
        "REPLICA_ID",
        None,
        "Unique name of this replica. Text; unset: the host name and six random digits.",
        default_factory=lambda: f"{socket.gethostname()}-{new_hex(6)}",
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9._-]+$",
    )


class AccessSettings(Section):
    """Who may do what."""

    api_keys: Secrets = setting(
        "API_KEYS",
        (),
        "Keys of clients. Secrets by comma or line; empty: /v1 is open, with a warning at start.",
        file_variant=True,
    )
    key_file: KeyFile | None = setting(
        "KEY_FILE",
        None,
        "JSON file of further keys, each with its tenant, max_in_flight and models if it has any: names as "
        "clients ask for them, before aliases and routes. Path; see docs/howto/api-keys.md.",
    )
    admin_token: SecretStr | None = setting(
        "ADMIN_TOKEN",
        None,
        "Token of /internal. Secret; unset: any client key opens it; no key either: 503.",
        file_variant=True,
    )
    metrics_token: SecretStr | None = setting(
        "METRICS_TOKEN",
        None,
        "Token of /metrics. Secret; unset: any client key opens it; no key either: 503.",
        file_variant=True,
    )
    metrics_public: bool = setting("METRICS_PUBLIC", False, "Open /metrics to everybody. Boolean.")


class ModelSettings(Section):
    """Which model a name means."""

    default_model: str = setting(
        "DEFAULT_MODEL",
        "org_auto",
        "Model that answers for a name nothing maps. Lingma model key.",
        min_length=1,
    )
    aliases: Aliases = setting(
        "MODEL_ALIASES",
        {},
        'Public names for models. JSON object, such as {"gpt-4o": "dashscope_qwen3_coder"}.',
    )
    fallback: Annotated[Literal["default", "strict"], BeforeValidator(lower)] = setting(
        "MODEL_FALLBACK",
        "default",
        "What happens to a name nothing maps. default: DEFAULT_MODEL answers; strict: 400 model_not_found.",
    )


class LingmaSettings(Section):
    """What is asked of Lingma."""

    default_ask_mode: Annotated[Literal["chat", "agent"], BeforeValidator(lower)] = setting(
        "DEFAULT_ASK_MODE", "chat", "Mode of a request that does not imply one. chat or agent."
    )


class AdmissionSettings(Section):
    """How many turns run and wait."""

    max_in_flight: int = setting(
        "GATEWAY_MAX_IN_FLIGHT",
        0,
        "Turns running at the same time in the whole cluster. Count; 0 or less: as many as there are slots.",
    )
    queue_timeout_s: Seconds = setting(
        "GATEWAY_QUEUE_TIMEOUT_SEC",
        30.0,
        "How long a turn waits for a slot before 429, or before 503 when no instance was ready. Seconds.",
    )
    queue_max: int = setting(
        "GATEWAY_QUEUE_MAX", 256, "Turns that may wait in one replica; beyond it 429 at once. Count.", ge=0
    )


class SessionSettings(Section):
    """Reuse of conversations that Lingma still holds."""

    reuse_enabled: bool = setting(
        "SESSION_REUSE_ENABLED", True, "Continue the upstream session of a known conversation. Boolean."
    )
    cache_max_entries: int | None = setting(
        "SESSION_CACHE_MAX_ENTRIES",
        None,
        "Sessions remembered in the whole cluster. Count; unset: 256 for each live instance; 0: none.",
    )
    cache_ttl_s: float = setting(
        "SESSION_CACHE_TTL_SEC",
        1800.0,
        "Age at which a session is forgotten. Seconds; 0 or less: never.",
        allow_inf_nan=False,
    )
    sticky_wait_s: Seconds = setting(
        "SESSION_STICKY_WAIT_SEC",
        5.0,
        "How long a turn waits for its session's busy instance before another one takes it. Seconds.",
    )


class ToolSettings(Section):
    """Function calling over Lingma."""

    forward_enabled: bool = setting(
        "TOOL_FORWARD_ENABLED",
        True,
        "Offer the client's tools upstream. Boolean; an explicit TOOL_MODE wins over it.",
    )
    allowlist: Names | None = setting(
        "TOOL_ALLOWLIST",
        None,
        "Tools that may be offered. Names by comma or line; unset: all; only separators: none.",
    )
    mode: Annotated[Literal["auto", "forward", "off"], BeforeValidator(lower)] | None = setting(
        "TOOL_MODE",
        None,
        "How tools are offered. auto, forward: in the payload; off: not at all. Unset: auto, or off when "
        "TOOL_FORWARD_ENABLED is false.",
    )

    @property
    def effective_mode(self) -> Literal["auto", "forward", "off"]:
        if self.mode is not None:
            return self.mode
        return "auto" if self.forward_enabled else "off"


class StoreSettings(Section):
    """Where state lives."""

    redis_url: StoreUrl = setting(
        "REDIS_URL",
        SecretStr(MEMORY_URL),
        "The store: memory://, redis://, rediss://, redis+sentinel:// or redis+cluster://. URL, kept secret "
        "since it may hold a password; memory:// serves one process only.",
        file_variant=True,
    )
    redis_password: SecretStr = setting("REDIS_PASSWORD", SecretStr(""), STORE_LOGIN, file_variant=True)
    keys: RingKeys = setting("STATE_KEYS", (), STATE_KEYS, file_variant=True)
    wait_s: Seconds = setting(
        "STORE_WAIT_S",
        WAIT_S,
        "How long new turns wait for a store that has just gone, and the replica stays ready, in seconds. "
        "Counted from the loss: longer outages are told at once.",
    )
    kv_dialect: Annotated[Literal["redis", "home"], BeforeValidator(lower)] = setting(
        "KV_DIALECT",
        "redis",
        "Compare-and-swap of the store. redis: by script; home: the CAS command first.",
    )

    @property
    def url(self) -> str:
        """With the password."""
        return with_password(self.redis_url.get_secret_value(), self.redis_password.get_secret_value())


class GatewaySettings(Section):
    """Everything a replica can be told."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    access: AccessSettings = AccessSettings()
    models: ModelSettings = ModelSettings()
    lingma: LingmaSettings = LingmaSettings()
    admission: AdmissionSettings = AdmissionSettings()
    sessions: SessionSettings = SessionSettings()
    tools: ToolSettings = ToolSettings()
    upstreams: UpstreamSettings = UpstreamSettings()
    replay: ReplaySettings = ReplaySettings()
    turns: TurnSettings = TurnSettings()
    responses: ResponsesSettings = ResponsesSettings()
    store: StoreSettings = StoreSettings()

    def require_shared_store(self) -> None:
        """Refuse a store that only this process can see. Raises SettingsError."""
        if self.store.redis_url.get_secret_value().startswith(MEMORY_URL):
            raise SettingsError(
                [
                    "REDIS_URL: a replica of its own needs the store that its workers use: set a redis:// "
                    "address (memory:// works only where both share a process: lingma-gateway up)"
                ]
            )


def load(environ: Mapping[str, str]) -> tuple[GatewaySettings, list[str]]:
    """Read a replica's settings: the tree, and what an operator should be told about names and words.

    An empty value is the same as none. Raises SettingsError with everything that is wrong at once.
    """
    return read(GatewaySettings, environ, prefixes=OUR_PREFIXES, also_known=WORKER_NAMES)
