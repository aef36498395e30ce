"""The shapes that admin/routes.py answers with, and the ports the figures come from. Pure.

The container hands over whatever satisfies the ports; the engine's and the stores' own objects do.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from gateway.jobs.messages import LOGIN_REMEDY, InstanceRecord
from gateway.kernel.json import Json, JsonObject

Counters: TypeAlias = Mapping[str, int]


class PoolView(Protocol):
    """The instances of all live workers, as last heard of; no store is asked."""

    def instances(self) -> Sequence[InstanceRecord]:
        """Named as clients may name them: `worker/inst-0`, or `inst-0` in `up`."""
        ...


class AdmissionCounts(Protocol):
    in_flight: int
    queued: int
    accepted_total: int
    rejected_total: int


class AdmissionStats(Protocol):
    max_in_flight: int

    def counts(self) -> AdmissionCounts: ...


class SessionStats(Protocol):
    """Both raise StoreError while the store is away."""

    async def stats(self) -> JsonObject:
        """enabled, size, max, ttl_sec, hit_total, miss_total, hit_rate, evict_total and so on."""
        ...

    async def prometheus_lines(self) -> list[str]: ...


class ChatCounters(Protocol):
    def counters(self) -> Mapping[str, int]: ...


class StatsView(Protocol):
    """Sums over all replicas."""

    async def sums(self) -> Mapping[str, int] | None:
        """By the same names as the replica's own; None when the store does not answer."""
        ...


class RawModels(Protocol):
    async def raw_models(self, instance: str | None) -> Json:
        """The untouched answer of an instance's model query.

        Raises InstanceNotFound, InstanceAmbiguous, UpstreamUnavailable and what the worker said.
        """
        ...


class Readiness(Protocol):
    """Whether this replica wants new requests."""

    async def why_not_ready(self) -> str | None:
        """One word, such as `draining` or `store_unavailable`; None when ready."""
        ...


def health(instances: Sequence[InstanceRecord], upstreams: Mapping[str, bool] | None = None) -> JsonObject:
    """`ok` when anybody could take a turn right now. `upstreams` are shown where there are any."""
    ready = sum(instance.ready for instance in instances)
    told: JsonObject = {
        "ok": ready > 0 or any((upstreams or {}).values()),
        "pool_size": len(instances),
        "pool_ready": ready,
        "instances": [_instance(instance) for instance in instances],
    }
    return {**told, "upstreams": dict(upstreams)} if upstreams else told


def _instance(instance: InstanceRecord) -> JsonObject:
    shown: JsonObject = {
        "name": instance.name,
        "idx": instance.index,
        "state": instance.state,
        "ready": instance.ready,
        "in_flight": instance.in_flight,
        "capacity": instance.capacity,
        "login": instance.login,
        "restarts": instance.restarts,
    }
    if instance.login == "login_required":
        shown["remedy"] = LOGIN_REMEDY
    return shown


def concurrency(admission: AdmissionStats) -> dict[str, int]:
    """The guard's figures by reference name."""
    counts = admission.counts()
    return {
        "in_flight": counts.in_flight,
        "queued": counts.queued,
        "accepted_total": counts.accepted_total,
        "rejected_total": counts.rejected_total,
    }


def statistics(
    *,
    replica_id: str,
    chat: Counters,
    guard: Counters,
    max_in_flight: int,
    sums: Counters | None,
    instances: Sequence[InstanceRecord],
    session_cache: JsonObject,
) -> JsonObject:
    """Sums over all replicas on top; what this replica alone has seen in the `replica` block.

    Without sums (the store is away) the replica's own figures take their place and `cluster` is false.
    """
    own: Counters = {**chat, **guard}
    top = own if sums is None else sums
    return {
        "cluster": sums is not None,
        "stats": _picked(top, chat),
        "concurrency": {**_picked(top, guard), "max_in_flight": max_in_flight},
        "pool": health(instances),
        "session_cache": session_cache,
        "replica": {"id": replica_id, "stats": _picked(chat, chat), "concurrency": _picked(guard, guard)},
    }


def _picked(figures: Counters, names: Iterable[str]) -> JsonObject:
    return {name: figures.get(name, 0) for name in names}
