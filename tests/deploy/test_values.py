"""What values the chart takes, and what it refuses."""

import json
from typing import Any

import pytest
import yaml

from scripts import helm_engine, render_chart
from tests.deploy import rendered as r

pytestmark = r.needs_helm


def test_generated_files_are_current() -> None:
    """`make chart` writes them: the schema, the names of settings, the table in the README."""
    assert [path.relative_to(r.ROOT).as_posix() for path in render_chart.drifted()] == []


def test_every_value_is_explained() -> None:
    values = list(render_chart.all_values())
    assert len(values) > 130
    assert [value.path for value in values if not value.meaning.endswith(".")] == []
    assert [value.path for value in values if not value.chapter] == []


def test_the_secrets_of_the_example_for_production_are_made_in_its_howto() -> None:
    """Those of images and of the Ingress are no generic ones, and are only named there."""
    said = (r.ROOT / "docs" / "howto" / "kubernetes.md").read_text(encoding="utf-8")
    documents = r.rendered("production")
    made = {document["metadata"]["name"] for document in r.of_kind(documents, "Secret")}
    needed = {
        node["secretKeyRef"]["name"] if "secretKeyRef" in node else node["secretName"]
        for node in r.walk(list(documents))
        if "secretKeyRef" in node or "secretName" in node
    }
    assert len(needed - made) > 5
    for name in needed - made:
        assert f"create secret generic {name} " in said or f"`{name}`" in said


def test_defaults_satisfy_the_schema() -> None:
    assert helm_engine.render(r.CHART, {}, name="a", namespace="b")


def branches(schema: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where the schema has properties of its own."""
    if not isinstance(schema, dict) or "properties" not in schema:
        return []
    found = [path]
    for name, below in schema["properties"].items():
        found += branches(below, (*path, name))
    return found


SCHEMA = json.loads((r.CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", branches(SCHEMA), ids=".".join)
def test_a_misspelt_value_is_refused_wherever_it_is(path: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"misspelt": 1}
    for name in reversed(path):
        values = {name: values}
    with pytest.raises(helm_engine.HelmError, match="misspelt"):
        r.render(values)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ("gateway: {replicas: two}", "replicas"),
        ("worker: {kind: Deployment}", "kind"),
        ("worker: {antiAffinity: hard}", "antiAffinity"),
        ("config: {LOG_LEVEL: LOUD}", "LOG_LEVEL"),
        ("config: {GATEWAY_MAX_IN_FLIHGT: 3}", "GATEWAY_MAX_IN_FLIHGT"),
        ("config: {API_KEYS: sk-secret}", "API_KEYS"),
        ("config: {PORT: 8000}", "PORT"),
        ("config: {DRAIN_DEADLINE_S: 10}", "DRAIN_DEADLINE_S"),
        ("config: {REPLICA_ID: all-the-same}", "REPLICA_ID"),
        ("config: {MAX_BODY_BYTES: true}", "MAX_BODY_BYTES"),
        ("redis: {url: 'memory://'}", "url"),
        ("redis: {url: 'http://redis'}", "url"),
        ("tracing: {protocol: grpc}", "protocol"),
        ("tracing: {sampler: sometimes}", "sampler"),
        ("image: {digest: latest}", "digest"),
        ("stateKeys: {values: [no-name]}", "values"),
        ("gateway: {extraEnv: [{nam: A}]}", "extraEnv"),
        ("worker: {resources: {request: {cpu: 1}}}", "request"),
        ("ingress: {annotations: {a: 1}}", "annotations"),
        ("drain: {deadlineSeconds: 0}", "deadlineSeconds"),
    ],
)
def test_a_wrong_value_is_refused(values: str, word: str) -> None:
    with pytest.raises(helm_engine.HelmError, match=word):
        r.render(yaml.safe_load(values))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ("redis: {trial: {enabled: false}}", "redis.url"),
        ("gateway: {autoscaling: {enabled: true}, keda: {enabled: true}}", "gateway.keda"),
        ("gateway: {autoscaling: {enabled: true, targetCPUPercent: 0}}", "targetInFlight"),
        ("gateway: {keda: {enabled: true}}", "prometheusAddress"),
        ("worker: {kind: DaemonSet, keda: {enabled: true}}", "DaemonSet"),
        ("httpRoute: {enabled: true}", "parentRefs"),
        ("lingma: {existingSecret: s}", "existingSecretKeys"),
        ("worker: {persistence: {hostPath: /d}}", "hostPath"),
        ("worker: {affinity: {podAntiAffinity: {a: 1}}}", "antiAffinity"),
        ("auth: {existingSecret: s, existingSecretKeys: {apiKeys: ''}}", "apiKeys"),
        (
            "{auth: {existingSecret: s, existingSecretKeys: {metricsToken: ''}}, "
            "monitoring: {serviceMonitor: {enabled: true}}}",
            "metricsToken",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: str, word: str) -> None:
    with pytest.raises(helm_engine.HelmError, match=word):
        r.render(yaml.safe_load(values))


@pytest.mark.parametrize("relation", ["required", "preferred", "none"])
def test_how_much_workers_avoid_each_other_is_a_value(relation: str) -> None:
    worker = r.workload(r.render({"worker": {"antiAffinity": relation}}), "worker")
    found = worker.pod.get("affinity", {}).get("podAntiAffinity", {})
    assert list(found) == (
        [] if relation == "none" else [f"{relation}DuringSchedulingIgnoredDuringExecution"]
    )


def test_workers_avoid_each_other_by_default() -> None:
    worker = r.workload(r.rendered("defaults"), "worker")
    (term,) = worker.pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"].items() <= worker.labels.items()


def test_persistence_can_be_off() -> None:
    worker = r.workload(r.render({"worker": {"persistence": {"enabled": False}}}), "worker")
    assert "volumeClaimTemplates" not in worker.document["spec"]
    assert {"name": "data", "emptyDir": {}} in worker.pod["volumes"]


def test_without_workers_nothing_of_theirs_is_made() -> None:
    values = r.read_case("everything-on")
    values["worker"] = {"enabled": False, "keda": {"enabled": True}}
    components = {
        document["metadata"]["labels"]["app.kubernetes.io/component"] for document in r.render(values)
    }
    assert components == {"dashboard", "gateway", "jaeger", "redis", "store", "test"}


def test_an_address_of_redis_wins_over_the_one_for_trials() -> None:
    documents = r.render({"redis": {"url": "redis://elsewhere:6379/0"}})
    assert [r.named(d) for d in documents if "redis" in d["metadata"]["name"]] == []
    assert r.secrets(documents)[f"{r.FULL}-store"] == {"REDIS_URL": "redis://elsewhere:6379/0"}


@pytest.mark.parametrize("held", [{"url": "redis://elsewhere:6379/0"}, {"existingSecret": "address"}])
def test_a_secret_may_hold_the_password_of_redis_alone(held: dict[str, str]) -> None:
    documents = r.render({"redis": {**held, "passwordSecret": "shared", "passwordSecretKey": "pw"}})
    for name in ("gateway", "worker"):
        told = r.env(r.workload(documents, name).container)["REDIS_PASSWORD"]
        assert told["valueFrom"]["secretKeyRef"] == {"name": "shared", "key": "pw"}


def test_the_redis_for_trials_is_told_no_password() -> None:
    documents = r.render({"redis": {"passwordSecret": "shared"}})
    assert "REDIS_PASSWORD" not in r.env(r.workload(documents, "gateway").container)


def test_redis_for_trials_evicts_nothing() -> None:
    arguments = r.workload(r.rendered("defaults"), "redis").container["args"]
    assert arguments[arguments.index("--maxmemory-policy") + 1] == "noeviction"


def test_a_key_is_made_when_none_is_given() -> None:
    first, second = (r.secrets(r.render({}))[f"{r.FULL}-gateway"] for _ in range(2))
    assert first.keys() == {"API_KEYS", "ADMIN_TOKEN", "METRICS_TOKEN"}
    assert first["API_KEYS"].startswith("sk-")
    assert all(len(value) >= 40 and first[key] != second[key] for key, value in first.items())


def test_keys_made_at_random_restart_no_pod() -> None:
    """An upgrade that changes nothing must change nothing, though `lookup` finds nothing here."""
    first, second = ([d for d in r.render({}) if d["kind"] not in ("Secret",)] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"auth": {"apiKeys": ["sk-1"]}}, {"gateway"}),
        ({"upstreams": {"codexApiKeys": ["sk-1"]}}, {"gateway"}),
        ({"lingma": {"password": "p"}}, {"worker"}),
        ({"redis": {"url": "redis://a"}}, {"gateway", "worker"}),
        ({"config": {"LINGMA_IDLE_TIMEOUT": 30}}, {"worker"}),
        ({"config": {"KEEPALIVE_S": 30}}, {"gateway"}),
        ({"config": {"LOG_LEVEL": "DEBUG"}}, {"gateway", "worker"}),
    ],
)
def test_what_changes_replaces_the_pods_it_concerns(values: dict[str, Any], changed: set[str]) -> None:
    def pods(documents: list[r.Json]) -> dict[str, Any]:
        return {
            one.component: one.document["spec"]["template"]
            for one in r.workloads(documents)
            if one.component in ("gateway", "worker")
        }

    before, after = pods(r.render({})), pods(r.render(values))
    assert {component for component in before if before[component] != after[component]} == changed


def test_an_ingress_lets_streams_through() -> None:
    (ingress,) = r.of_kind(r.rendered("production"), "Ingress")
    said = {
        name.removeprefix("nginx.ingress.kubernetes.io/"): value
        for name, value in ingress["metadata"]["annotations"].items()
    }
    assert said["proxy-buffering"] == said["proxy-request-buffering"] == "off"
    assert said["proxy-http-version"] == "1.1"
    assert min(int(said["proxy-read-timeout"]), int(said["proxy-send-timeout"])) >= 3600
    assert said["proxy-body-size"] == "128m"
    (everything,) = r.of_kind(r.rendered("everything-on"), "Ingress")
    assert "nginx.ingress.kubernetes.io/proxy-body-size" not in everything["metadata"]["annotations"]
