"""Write the pages of docs/reference/ that come from the code, and .env.example. --check: exit 1 on drift.

Idempotent: the same code gives the same bytes. tests/unit/test_house.py calls `pages()` to see that what is
committed is current; `make docs` writes it.
"""

import importlib
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.environ import NAMES_WITHOUT_EFFECT, leaves
from gateway.kernel.errors import ErrorKind, GatewayError
from gateway.kernel.json import loads
from gateway.settings import GatewaySettings
from gateway.store import keys, rights
from gateway.store.address import TLS_OPTIONS
from gateway.turn.events import ErrorInfo
from scripts import docs_logging, docs_losses, docs_metrics, generated
from scripts.generated import ROOT
from workers.settings import WorkerSettings

GENERATED = "<!-- Written by scripts/render_docs.py from the code. Do not edit: `make docs`. -->\n\n"

REFERENCE_ORDER = """
HOST PORT API_KEYS ADMIN_TOKEN METRICS_TOKEN METRICS_PUBLIC LOG_LEVEL DEFAULT_MODEL DEFAULT_ASK_MODE
DEDICATED_DOMAIN_URL GATEWAY_MAX_IN_FLIGHT GATEWAY_QUEUE_TIMEOUT_SEC LINGMA_BIN LINGMA_SOURCE_TYPE
LINGMA_MARKETPLACE_PUBLISHER LINGMA_MARKETPLACE_EXTENSION LINGMA_VSIX_URL LINGMA_BOOTSTRAP_ALWAYS
LINGMA_FORCE_REFRESH LINGMA_WORK_DIR LINGMA_SOCKET_PORT LINGMA_STARTUP_TIMEOUT LINGMA_RPC_TIMEOUT
LINGMA_ACCOUNTS LINGMA_INSTANCE_COUNT LINGMA_USERNAME LINGMA_PASSWORD LINGMA_SESSION_BUNDLE
SESSION_REUSE_ENABLED SESSION_CACHE_MAX_ENTRIES SESSION_CACHE_TTL_SEC AUTO_LOGIN_ENABLED
AUTO_LOGIN_HEADLESS AUTO_LOGIN_TIMEOUT AUTO_LOGIN_MAX_RETRY TOOL_FORWARD_ENABLED TOOL_ALLOWLIST
""".split()  # noqa: SIM905 - read as a list of words
"""The names lingma-openai-gateway knows, in the order its users know them."""

MEANING = {
    ErrorKind.INVALID_REQUEST: "the request is wrong; `param` names the field where there is one",
    ErrorKind.UNAUTHENTICATED: "no key, or one that is not ours",
    ErrorKind.FORBIDDEN: "the key may not do this",
    ErrorKind.MODEL_NOT_FOUND: "nothing maps the name (`MODEL_FALLBACK=strict`), or the key may not use it",
    ErrorKind.CONTEXT_LENGTH: "the conversation is longer than the model takes",
    ErrorKind.RATE_LIMITED: "the key is at its own limit",
    ErrorKind.OVERLOADED: "as many turns wait as may wait",
    ErrorKind.QUEUE_TIMEOUT: "no slot became free in time",
    ErrorKind.UPSTREAM_UNAVAILABLE: "nobody could take the turn: no instance, no login, or shutting down",
    ErrorKind.UPSTREAM_TIMEOUT: "the upstream took too long",
    ErrorKind.UPSTREAM_EOF: "the upstream ended without saying so",
    ErrorKind.UPSTREAM_PROTOCOL: "the upstream refused, or said something that makes no sense",
    ErrorKind.WORKER_LOST: "the worker that ran the turn is gone or silent",
    ErrorKind.STORE_UNAVAILABLE: "the store does not answer",
    ErrorKind.STORE_DATA_LOSS: "the store answers and no longer has the turn",
    ErrorKind.CONTENT_FILTERED: "the upstream withheld the answer",
    ErrorKind.CANCELLED: "the turn was cancelled",
    ErrorKind.INTERNAL: "a defect of the gateway",
}


SETTINGS_INTRO = """
Everything is read from the environment, once, at start. An empty value is the same as none. Booleans
take the usual words in any case (`true`, `yes`, `on`, `1`, ...); another word keeps the default and
warns. Secrets may also be named as files, `<NAME>_FILE`, where that is said below. A wrong value
ends the process with exit code 2 and a text that names every variable at fault; `lingma-gateway
check-config` does only that. Unknown names that begin like ours, or are nearly one of ours, are a warning
with the nearest name; unknown `GATEWAY__*` names are an error. Replicas and workers ignore each other's
names, so one file may feed both.
"""
ADDRESS_FORMS = """
redis://[user:password@]host[:6379][/db]                                      rediss:// with TLS
redis+sentinel://[user:password@]host[:26379],host[:26379]/service[/db]       rediss+sentinel:// with TLS
redis+cluster://[user:password@]host[:6379],host[:6379]                       rediss+cluster:// with TLS
unix:///path/to/socket?db=0
"""
ADDRESS = """
User and password are those of Redis itself; a password alone is `:password@`. Percent-encode `@ : / # ? %`
in them, or leave the password out and give it as it is in `REDIS_PASSWORD`. Options follow as
`?name=value&name=value`. Of sentinels: `sentinel_username`, `sentinel_password`.
Of TLS, with paths of files in `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`:
"""
TRACING = """
Set by the standard OpenTelemetry variables, which its SDK reads: `OTEL_EXPORTER_OTLP_ENDPOINT` (HTTP),
`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_SDK_DISABLED` and so on.
`OTEL_TRACES_EXPORTER` is `otlp`, `console` or `none`; unset, naming an endpoint switches tracing on.
No span holds what was said, unless replicas find `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`
to be `true`, `span_only` or `span_and_event`: then those of attempts have `gen_ai.input.messages`,
`gen_ai.system_instructions` and `gen_ai.output.messages`, of 16384 characters at most each, without media
and without what looks like a credential; `gateway.content.cut` says that something was left out.
"""
ERRORS_INTRO = """
What a client can be told. The kind is the gateway's own word; each protocol says it with a status and in
its own envelope before the answer has begun, and as the protocol's own terminal event afterwards. The
code shown is the usual one; an error may carry a more precise one. `Retry-After` is set where a time is
known.
"""


def _prose(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 108)


class Row(NamedTuple):
    """One setting as a page shows it."""

    name: str
    default: str
    description: str
    place: str = ""


def pages() -> dict[Path, str]:
    """Every generated file with what it must hold."""
    reference = ROOT / "docs" / "reference"
    return {
        reference / "settings.md": GENERATED + settings_page(),
        reference / "redis-keys.md": GENERATED + keys.render_markdown() + "\n" + rights.render_markdown(),
        reference / "errors.md": GENERATED + errors_page(),
        reference / "logging.md": GENERATED + docs_logging.logging_page(_prose(docs_logging.INTRO)),
        reference / "losses.md": GENERATED + losses_page(),
        reference / "metrics.md": GENERATED
        + docs_metrics.metrics_page(
            *map(_prose, (docs_metrics.INTRO, docs_metrics.EXEMPLARS, docs_metrics.WORKER_INTRO))
        ),
        ROOT / ".env.example": env_example(),
    }


# -- settings ---------------------------------------------------------------------------------------------


def gateway_rows() -> Iterator[tuple[str, Row]]:
    for leaf in leaves(GatewaySettings):
        yield leaf.section, Row(leaf.env, _default(leaf.field), leaf.field.description or "", leaf.nested)


def worker_rows() -> Iterator[Row]:
    for leaf in leaves(WorkerSettings):
        yield Row(leaf.env, _default(leaf.field), leaf.field.description or "")


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value is PydanticUndefined or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _table(rows: Iterable[Row], *, place: bool) -> list[str]:
    lines = ["| name | default |" + (" place in the tree |" if place else "") + " meaning |"]
    lines.append("|---|---|" + ("---|" if place else "") + "---|")
    for row in rows:
        default = f"`{row.default}`" if row.default else "unset"
        middle = f" `{row.place}` |" if place else ""
        lines.append(f"| `{row.name}` | {default} |{middle} {row.description.replace('|', chr(92) + '|')} |")
    return lines


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        *_prose(SETTINGS_INTRO),
        "",
        "## Gateway",
        "",
        "Every setting has a second name, its place in the tree; when both are set the place wins.",
    ]
    sections = dict(GatewaySettings.model_fields.items())
    rows = list(gateway_rows())
    for section, holder in sections.items():
        title = (getattr(holder.annotation, "__doc__", "") or "").strip().rstrip(".")
        lines += ["", f"### {title}", "", *_table((row for s, row in rows if s == section), place=True)]
    file_names = [f"`{leaf.env}_FILE`" for leaf in leaves(GatewaySettings) if leaf.file_variant]
    lines += ["", f"Secrets that may be named as files: {', '.join(file_names)}."]
    lines += ["", "## Worker", "", *_table(worker_rows(), place=False)]
    ignored = ", ".join(f"`{name}`" for name in sorted(NAMES_WITHOUT_EFFECT))
    lines += ["", f"Names of lingma-openai-gateway that have no effect here: {ignored}."]
    lines += [
        "",
        "## Address of Redis",
        "",
        "```",
        *ADDRESS_FORMS.strip().splitlines(),
        "```",
        "",
        *_prose(f"{ADDRESS.strip()} {', '.join(f'`{name}`' for name in sorted(TLS_OPTIONS))}."),
        "",
        "## Tracing",
        "",
        *_prose(TRACING),
    ]
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """All settings for people, commented out, those of lingma-openai-gateway first."""
    rows = {row.name: row for row in worker_rows()}
    shared = {row.name for _, row in gateway_rows()} & rows.keys()
    rows.update({row.name: row for _, row in gateway_rows()})
    first = [name for name in REFERENCE_ORDER if name in rows]
    rest = [name for name in rows if name not in first]
    gateway = [row.name for _, row in gateway_rows()]
    rest.sort(key=lambda name: gateway.index(name) if name in gateway else len(gateway))
    lines = [
        "# Every setting, with its default. Copy to .env, take away the # of what you change, load it in the",
        "# shell that starts the gateway: set -a; . ./.env; set +a   (Docker Compose reads it by itself)",
        "# The same file feeds replicas and workers. Details: docs/reference/settings.md",
        "# Written by scripts/render_docs.py from the code. Do not edit: make docs",
        "",
        "# ==== names that lingma-openai-gateway knows too ====",
    ]
    for name in first:
        lines += ["", *_env_entry(rows[name], shared=name in shared)]
    lines += ["", "", "# ==== further names ===="]
    for name in rest:
        lines += ["", *_env_entry(rows[name], shared=name in shared)]
    return "\n".join(lines) + "\n"


def _env_entry(row: Row, *, shared: bool) -> list[str]:
    text = row.description + (" Replicas and workers read it." if shared else "")
    return [*(f"# {line}" for line in textwrap.wrap(text, 96)), f"#{row.name}={row.default}"]


# -- errors -----------------------------------------------------------------------------------------------


def errors_page() -> str:
    protocols = _protocol_errors()
    retryable = {cls.kind for cls in _tree(GatewayError) if cls.retryable and "kind" in vars(cls)}
    lines = [
        "# Errors",
        "",
        *_prose(ERRORS_INTRO),
        "",
        "| kind | meaning | worth repeating |" + "".join(f" {name}: status, code |" for name in protocols),
        "|---|---|---|" + "---|" * len(protocols),
    ]
    for kind in ErrorKind:
        answers = [answer(ErrorInfo(kind=kind, message="")) for answer in protocols.values()]
        cells = "".join(f" {a.status}, `{_code(a.body)}` |" for a in answers)
        lines.append(f"| `{kind}` | {MEANING[kind]} | {'yes' if kind in retryable else 'no'} |{cells}")
    return "\n".join(lines) + "\n"


def _protocol_errors() -> dict[str, Any]:
    packages = sorted(p.parent.name for p in (ROOT / "gateway" / "protocols").glob("*/errors.py"))
    return {
        name: importlib.import_module(f"gateway.protocols.{name}.errors").error_answer for name in packages
    }


def _code(body: bytes) -> str:
    """The most telling word of an envelope."""
    value = loads(body)
    error = value.get("error") if isinstance(value, dict) else None
    assert isinstance(error, dict)
    code = error.get("code")
    return str(code if isinstance(code, str) else error.get("status") or error.get("type"))


def _tree(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


# -- losses -----------------------------------------------------------------------------------------------


def losses_page() -> str:
    return docs_losses.losses_page(
        _prose(docs_losses.INTRO), _prose(docs_losses.PLACES), _prose(docs_losses.STRICT)
    )


# -- what is current --------------------------------------------------------------------------------------


def drifted() -> list[Path]:
    """Generated files that are not what the code says."""
    return generated.stale(pages())


def main(arguments: list[str]) -> int:
    """Write what has changed, or with --check only say so."""
    texts = pages()
    return generated.write_or_check(generated.stale(texts), texts, arguments, "docs")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
