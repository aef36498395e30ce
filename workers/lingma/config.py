"""What one instance is made of, as plain data. Built by pool.py from the worker's settings."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

SIMULATOR = "simulator"
"""The value of LINGMA_BIN that starts the bundled stand-in."""

AskStyle: TypeAlias = Literal["request", "notify"]

_PASSED_ON = frozenset(
    {
        "ALL_PROXY", "HOME", "HTTPS_PROXY", "HTTP_PROXY", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME",
        "NO_PROXY", "PATH", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TERM", "TMPDIR", "TZ", "USER",
    }
)  # fmt: skip
_PASSED_ON_PREFIXES = ("COSY_", "GO", "LC_", "LINGMA_SIM_", "PYTHON", "XDG_")


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables a subprocess gets: what programs need to run, never our keys, passwords and addresses."""
    return {
        name: value
        for name, value in environ.items()
        if name.upper() in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceConfig:
    """One Lingma subprocess and how it is dealt with."""

    name: str = "inst-0"
    index: int = 0
    binary: str = SIMULATOR
    """A path, or the word `simulator`."""
    work_dir: Path
    socket_port: int = 0
    """0 takes a free one; so does a port that is taken."""
    http_port: int = 0
    """Of its login pages; likewise."""
    endpoint: str = ""
    """An enterprise domain; empty is the public one."""
    arguments: str | None = None
    """Words in place of `start`, split as a shell would. When they hold a placeholder such as {work_dir}
    they are the whole command line: {socket_port}, {http_port} and {endpoint} are the others."""
    environment: Mapping[str, str] = field(default_factory=lambda: child_environment(os.environ))
    startup_timeout_s: float = 40.0
    rpc_timeout_s: float = 30.0
    stop_grace_s: float = 5.0
    handshake_timeout_s: float = 5.0
    ping_interval_s: float = 25.0
    """Three of them without a sign of life end the connection."""
    capacity: int = 4
    """Turns at the same time; reported, enforced by those who hand out work."""
    ask_style: AskStyle = "request"
    coalesce: bool = True
    """Several frames in one WebSocket message; off for a subprocess that wants one frame a message."""
    buffer_bytes: int = 16 * 1024 * 1024
    """Unread pushes of one ask; beyond it the ask ends with an error."""
    models_ttl_s: float = 600.0
    refresh_interval_s: float = 60.0
    """Between two looks at the login and the models."""
    backoff_s: float = 0.2
    max_backoff_s: float = 30.0


def program(config: InstanceConfig) -> list[str]:
    if config.binary == SIMULATOR:
        return [sys.executable, "-m", "workers.simulator"]
    return [config.binary]


def arguments(config: InstanceConfig, socket_port: int, http_port: int) -> list[str]:
    """What follows the program on the command line."""
    values = {
        "{work_dir}": str(config.work_dir),
        "{socket_port}": str(socket_port),
        "{http_port}": str(http_port),
        "{endpoint}": config.endpoint,
    }
    words = ["start"] if config.arguments is None else shlex.split(config.arguments)
    if any(name in word for word in words for name in values):
        return [_filled(word, values) for word in words]
    words += ["--workDir", values["{work_dir}"]]
    words += ["--socketPort", values["{socket_port}"], "--httpPort", values["{http_port}"]]
    if config.endpoint:
        words += ["--endpoint", config.endpoint]
    return words


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word
