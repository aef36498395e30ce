"""THE KEY CATALOGUE: every Redis key of the product, and the only module that formats one.

Keys touched by one script or one blocking read share a literal Cluster hash tag: `{W}` for what belongs to a
worker, `{b00}`..`{b15}` for turns. What users chose is hashed first. `CATALOGUE` is the same knowledge as
data; the reference page of the docs is rendered from it.
"""

import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

PATTERNS = ("lg:*", "cpa:*")
"""Of our own keys, and of those that HOME nodes share."""
CLUSTER_BUCKETS = 16
"""Hash tags for turns on a Cluster: enough to spread them, few enough for one blocking read each."""

_SPACE = "".join(
    map(
        chr,
        (
            *range(0x9, 0xE),
            0x20,
            0x85,
            0xA0,
            0x1680,
            *range(0x2000, 0x200B),
            0x2028,
            0x2029,
            0x202F,
            0x205F,
            0x3000,
        ),
    )
)
"""Unicode White_Space. str.strip() would also take U+001C..U+001F, and other nodes that share keys do not."""


def trim(text: str) -> str:
    """Without Unicode white space at both ends, exactly as HOME nodes trim."""
    return text.strip(_SPACE)


def hash_key_part(text: str) -> str:
    """Lower-case hex SHA-256, for key parts that a user or an upstream chose."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hash_parts(*parts: str) -> str:
    return hash_key_part("\0".join(parts))


def crc16(text: str) -> int:
    """The CRC that Redis Cluster hashes with (XMODEM)."""
    return binascii.crc_hqx(text.encode(), 0)


def key_slot(key: bytes) -> int:
    """The Cluster slot of a key: of its hash tag where it has one that is not empty."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % 16384


@lru_cache(maxsize=1024)
def replay_key(executor: str, model: str, session: str) -> bytes:
    """Reasoning replay of a scope. The HOME string itself, so that a mixed fleet shares it: no prefix."""
    model_part = hash_key_part(trim(model))
    session_part = hash_key_part(trim(session))
    return f"cpa:{executor}:reasoning-replay:{model_part}:{session_part}".encode()


class Keys:
    """Formats keys for one deployment. `buckets` is 1, or CLUSTER_BUCKETS on a Cluster (see connect.py)."""

    def __init__(self, prefix: str = "lg", *, buckets: int = 1) -> None:
        if not prefix or any(c in "{}" or c.isspace() for c in prefix):
            raise ValueError("the key prefix must be a word without braces")
        self.prefix = prefix
        self.buckets = buckets
        self._root = f"{prefix}:v1:"

    def _key(self, rest: str) -> bytes:
        return (self._root + rest).encode()

    # workers

    @property
    def workers(self) -> bytes:
        """Index of workers: zset of names by the end of their records."""
        return self._key("workers")

    def worker(self, worker: str) -> bytes:
        return self._key(f"worker:{{{worker}}}")

    def commands(self, worker: str) -> bytes:
        return self._key(f"worker:{{{worker}}}:commands")

    def slots(self, worker: str, index: int) -> bytes:
        return self._key(f"worker:{{{worker}}}:slots:{index}")

    # turns

    def bucket_of(self, turn_id: str) -> int:
        return crc16(turn_id) % self.buckets

    def _turn(self, kind: str, turn_id: str, rest: str = "") -> bytes:
        return self._key(f"{{b{self.bucket_of(turn_id):02}}}:{kind}:{turn_id}{rest}")

    def turn(self, turn_id: str) -> bytes:
        return self._turn("turn", turn_id)

    def frames(self, turn_id: str) -> bytes:
        return self._turn("turn", turn_id, ":frames")

    def lease(self, turn_id: str) -> bytes:
        return self._turn("turn", turn_id, ":lease")

    def blob(self, turn_id: str) -> bytes:
        return self._turn("blob", turn_id)

    def wake(self, replica: str, bucket: int) -> bytes:
        return self._key(f"{{b{bucket:02}}}:wake:{replica}")

    def wakes(self, replica: str) -> Sequence[bytes]:
        """The wake streams of a replica, one a bucket, in the order of bucket_of()."""
        return [self.wake(replica, bucket) for bucket in range(self.buckets)]

    def probe(self, name: str, bucket: int) -> bytes:
        return self._key(f"{{b{bucket:02}}}:probe:{name}")

    # cluster-wide state

    def session(self, session_key: str) -> bytes:
        return self._key(f"session:{hash_key_part(session_key)}")

    @property
    def session_index(self) -> bytes:
        return self._key("sessions")

    @property
    def session_stats(self) -> bytes:
        return self._key("sessions:stats")

    @property
    def inflight(self) -> bytes:
        return self._key("inflight")

    def inflight_of(self, key_id: str) -> bytes:
        """Turns in flight of one API key, by its id (not the key itself)."""
        return self._key(f"inflight:{key_id}")

    def idempotency(self, tenant: str, key: str) -> bytes:
        return self._key(f"idem:{_hash_parts(tenant, key)}")

    def response(self, tenant: str, response_id: str) -> bytes:
        return self._key(f"response:{_hash_parts(tenant, response_id)}")

    def account(self, account_id: str) -> bytes:
        return self._key(f"account:{hash_key_part(account_id)}")

    def account_users(self, account_ids: Sequence[str]) -> bytes:
        """The workers that share exactly these accounts."""
        return self._key(f"accounts:{_hash_parts(*sorted(account_ids))}")

    def cooldown(self, upstream: str, credential: str, model: str, kind: str) -> bytes:
        """Of a credential, or of one model with it."""
        return self._key(f"cooldown:{_hash_parts(upstream, credential, model, kind)}")

    def reply(self, request_id: str) -> bytes:
        return self._key(f"reply:{request_id}")

    def stat(self, name: str) -> bytes:
        """One counter that all replicas add to."""
        return self._key(f"stats:{name}")

    @property
    def replicas(self) -> bytes:
        """Index of replicas: a lease for each one that lives."""
        return self._key("replicas")

    def replica(self, replica: str) -> bytes:
        return self._key(f"replica:{replica}")

    @property
    def dead(self) -> bytes:
        return self._key("dead")


class KeySpec(NamedTuple):
    """One row of the catalogue. `<x>` in the pattern stands for a value, `<h x>` for its hash."""

    name: str
    """The method or property of Keys, or the function of this module."""
    pattern: str
    type: str
    writer: str
    reader: str
    ttl: str
    """How long it lives, and who says so."""


CATALOGUE: tuple[KeySpec, ...] = (
    KeySpec(
        "workers",
        "<prefix>:v1:workers",
        "zset",
        "workers",
        "gateways",
        "none; members end 10 s after the last heartbeat",
    ),
    KeySpec(
        "worker", "<prefix>:v1:worker:{<worker>}", "string", "that worker, every 2 s", "gateways", "10 s"
    ),
    KeySpec(
        "commands",
        "<prefix>:v1:worker:{<worker>}:commands",
        "stream",
        "gateways",
        "that worker, group `owner`",
        "1 h after its last heartbeat",
    ),
    KeySpec(
        "slots",
        "<prefix>:v1:worker:{<worker>}:slots:<index>",
        "zset",
        "gateways reserve, that worker renews",
        "gateways",
        "members end by themselves: 10 s after reserve or renew",
    ),
    KeySpec(
        "turn",
        "<prefix>:v1:{b<NN>}:turn:<turn>",
        "hash",
        "gateways and the owning worker",
        "both",
        "life of the turn, then `TURN_RETENTION_S`: 900 s when resumable, else 60 s",
    ),
    KeySpec(
        "frames",
        "<prefix>:v1:{b<NN>}:turn:<turn>:frames",
        "stream",
        "the owning worker, or the gateway that runs the turn",
        "any gateway",
        "as the turn",
    ),
    KeySpec(
        "lease",
        "<prefix>:v1:{b<NN>}:turn:<turn>:lease",
        "string",
        "the gateway that serves the turn, every 2 s",
        "the owning worker",
        "the grace: 30 s when resumable, else 5 s",
    ),
    KeySpec(
        "blob",
        "<prefix>:v1:{b<NN>}:blob:<turn>",
        "string",
        "gateways",
        "the owning worker",
        "life of the turn",
    ),
    KeySpec(
        "wake",
        "<prefix>:v1:{b<NN>}:wake:<replica>",
        "stream",
        "that replica",
        "that replica's blocked read",
        "1 h after its last use",
    ),
    KeySpec(
        "probe", "<prefix>:v1:{b<NN>}:probe:<name>", "string", "replicas, twice a second", "nobody", "10 s"
    ),
    KeySpec(
        "session",
        "<prefix>:v1:session:<h session key>",
        "hash",
        "gateways",
        "gateways",
        "session TTL + 60 s",
    ),
    KeySpec(
        "session_index",
        "<prefix>:v1:sessions",
        "zset",
        "gateways",
        "gateways",
        "none; as many members as sessions",
    ),
    KeySpec("session_stats", "<prefix>:v1:sessions:stats", "hash", "gateways", "gateways", "none"),
    KeySpec(
        "inflight",
        "<prefix>:v1:inflight",
        "zset",
        "gateways",
        "gateways",
        "members end by themselves unless renewed",
    ),
    KeySpec(
        "inflight_of",
        "<prefix>:v1:inflight:<key id>",
        "zset",
        "gateways",
        "gateways",
        "members end by themselves unless renewed",
    ),
    KeySpec(
        "idempotency",
        "<prefix>:v1:idem:<h tenant, key>",
        "string",
        "gateways",
        "gateways",
        "as the turn it names",
    ),
    KeySpec(
        "response",
        "<prefix>:v1:response:<h tenant, response id>",
        "string",
        "gateways",
        "gateways",
        "`RESPONSE_TTL_SEC`",
    ),
    KeySpec(
        "account",
        "<prefix>:v1:account:<h account>",
        "string",
        "the worker that holds the account, every second",
        "workers that know the account",
        "10 s",
    ),
    KeySpec(
        "account_users",
        "<prefix>:v1:accounts:<h accounts>",
        "zset",
        "workers that may use these accounts, every second",
        "the same",
        "members end 10 s after the last renewal",
    ),
    KeySpec(
        "cooldown",
        "<prefix>:v1:cooldown:<h upstream, credential, model, kind>",
        "string",
        "the gateway that met a limit",
        "gateways, every second",
        "the rest that is due",
    ),
    KeySpec("reply", "<prefix>:v1:reply:<request>", "string", "workers", "the gateway that asked", "60 s"),
    KeySpec("stat", "<prefix>:v1:stats:<name>", "string", "gateways", "gateways", "none"),
    KeySpec(
        "replicas",
        "<prefix>:v1:replicas",
        "zset",
        "gateways, twice a second",
        "gateways",
        "members end by themselves unless renewed",
    ),
    KeySpec(
        "replica",
        "<prefix>:v1:replica:<replica>",
        "string",
        "that replica, twice a second",
        "gateways",
        "10 s",
    ),
    KeySpec("dead", "<prefix>:v1:dead", "stream", "anyone", "operators", "none; bounded length"),
    KeySpec(
        "replay_key",
        "cpa:<executor>:reasoning-replay:<h model>:<h session>",
        "string",
        "gateways (and HOME nodes)",
        "gateways (and HOME nodes)",
        "1 h, renewed by every read",
    ),
)


def render_markdown() -> str:
    """The catalogue as the page of the reference docs."""
    lines = [
        "# Redis keys",
        "",
        "`<prefix>` is `lg`, always. `<h x>` is the lower-case hex SHA-256 of x. Braces are",
        "literal: they are Cluster hash tags. `<NN>` is the CRC16 of the turn id modulo 16 on a Cluster,",
        "else `00`.",
        "",
        "| key | type | writer | reader | life |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| `{s.pattern}` | {s.type} | {s.writer} | {s.reader} | {s.ttl} |" for s in CATALOGUE]
    return "\n".join(lines) + "\n"
