"""What a store URL names. Pure: nothing is opened here.

memory://
redis://[user:password@]host[:6379][/db]?option=value          rediss:// with TLS
unix:///path/to/socket?db=0
redis+sentinel://[user:password@]host[:26379],host.../service[/db]?...      rediss+sentinel:// with TLS
redis+cluster://[user:password@]host[:6379],host...?...                     rediss+cluster:// with TLS

User and password are those of Redis itself; sentinels have the options `sentinel_username` and
`sentinel_password`. An error names the part that is wrong and never repeats a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MEMORY_URL = "memory://"
"""Serves one process."""

Kind: TypeAlias = Literal["memory", "standalone", "sentinel", "cluster"]
Host: TypeAlias = tuple[str, int]

_SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "memory": ("memory", False),
    "unix": ("standalone", False),
    "redis": ("standalone", False),
    "rediss": ("standalone", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
TLS_OPTIONS = frozenset(
    "ssl_" + name
    for name in ("ca_certs", "ca_path", "ca_data", "certfile", "keyfile", "password", "cert_reqs", "ciphers")
) | {"ssl_check_hostname"}
_CERT_REQS = ("none", "optional", "required")


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    kind: Kind
    tls: bool = False
    hosts: tuple[Host, ...] = ()
    path: str = ""
    """Of a unix socket, else empty."""
    db: int = 0
    service: str = ""
    """The name that sentinels have for the master."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    options: Mapping[str, str | bool] = field(default_factory=dict, repr=False)
    """TLS options by the names of redis-py."""

    def redacted(self) -> str:
        """The address without secrets, for logs and for people."""
        if self.kind == "memory":
            return MEMORY_URL
        if self.path:
            return f"unix://{self.path}?db={self.db}"
        scheme = next(s for s, kind in _SCHEMES.items() if kind == (self.kind, self.tls) and s != "unix")
        user = quote(self.username, safe="") if self.username else ""
        login = f"{user}:***@" if self.password else f"{user}@" if user else ""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = "".join(f"/{part}" for part in (self.service, self.db or "") if part)
        return f"{scheme}://{login}{hosts}{path}"


def parse_redis_url(url: str) -> StoreAddress:
    """Raises ValueError with a sentence for the operator."""
    scheme, colon, rest = url.strip().partition("://")
    if not colon or scheme.lower() not in _SCHEMES:
        raise ValueError(f"the store URL must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    scheme = scheme.lower()
    kind, tls = _SCHEMES[scheme]
    if kind == "memory":
        if rest:
            raise ValueError("nothing may follow memory:// in the store URL")
        return StoreAddress(kind=kind)
    # urlsplit knows no comma-separated hosts; under a neutral scheme it splits the rest.
    try:
        parts = urlsplit("//" + rest)
    except ValueError:  # its text repeats what it met
        raise ValueError("the hosts in the store URL cannot be read") from None
    login, _, hosts = parts.netloc.rpartition("@")
    if parts.fragment:
        raise ValueError("the store URL has a #: percent-encode it (%23) in the password")
    username, _, password = login.partition(":")
    options = _options(parts.query, tls=tls, sentinel=kind == "sentinel")
    unix = scheme == "unix"
    service, db = _path(parts.path, kind, unix=unix)
    if (named := options.pop("db", None)) is not None:
        db = _number(named, "the option db")
    if kind == "cluster" and db:
        raise ValueError("a Cluster has database 0 only: the store URL must not name another")
    if unix and not parts.path:
        raise ValueError("the store URL names no socket: unix:///path/to/socket")
    return StoreAddress(
        kind=kind,
        tls=tls,
        hosts=() if unix else _hosts(hosts, 26379 if kind == "sentinel" else 6379),
        path=unquote(parts.path) if unix else "",
        db=db,
        service=service,
        username=unquote(username) or options.pop("username", None) or None,
        password=unquote(password) or options.pop("password", None) or None,
        sentinel_username=options.pop("sentinel_username", None),
        sentinel_password=options.pop("sentinel_password", None),
        options={name: _option(name, value) for name, value in options.items()},
    )


def with_password(url: str, password: str) -> str:
    """The URL with that password, unless it holds one of its own."""
    address = parse_redis_url(url)
    if not password or address.password or address.kind == "memory":
        return url
    scheme, _, rest = url.strip().partition("://")
    login, _, place = rest.rpartition("@")
    if set(login) & set("/?"):  # the @ is one of the path or of the options
        login, place = "", rest
    return f"{scheme}://{login.rstrip(':')}:{quote(password, safe='')}@{place}"


def _hosts(text: str, default_port: int) -> tuple[Host, ...]:
    hosts = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, str(default_port)
        host = unquote(host).removeprefix("[").removesuffix("]")
        if not host:
            raise ValueError("the store URL names no host, or an empty one")
        number = _number(port, "a port (encode / ? # @ : in the password, as %2F %3F %23 %40 %3A)")
        if not 0 < number < 65536:
            raise ValueError("a port in the store URL is out of range")
        hosts.append((host, number))
    return tuple(hosts)


def _path(path: str, kind: Kind, *, unix: bool) -> tuple[str, int]:
    """The service and the database that the path names."""
    if unix:
        return "", 0
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError("the store URL names no service: redis+sentinel://host:26379/service")
        service = parts.pop(0)
    if len(parts) > 1:
        raise ValueError("the path of the store URL has too many parts")
    return service, _number(parts[0], "the database") if parts else 0


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{what} in the store URL is not a number")
    return int(text)


def _options(query: str, *, tls: bool, sentinel: bool) -> dict[str, str]:
    known = {"db", "username", "password"}
    known |= TLS_OPTIONS if tls else set()
    known |= {"sentinel_username", "sentinel_password"} if sentinel else set()
    options = dict(parse_qsl(query, keep_blank_values=True))
    if options.keys() - known:  # not named: it may be the rest of a password with a bare ? in it
        raise ValueError(f"unknown option in the store URL; known here: {', '.join(sorted(known))}")
    return options


def _option(name: str, value: str) -> str | bool:
    if name == "ssl_check_hostname":
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError("the option ssl_check_hostname in the store URL is not true or false")
        return value.lower() in ("true", "yes", "1")
    if name == "ssl_cert_reqs" and value not in _CERT_REQS:
        raise ValueError(f"the option ssl_cert_reqs in the store URL is not one of {', '.join(_CERT_REQS)}")
    return value
