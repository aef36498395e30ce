"""The documents of the chart agree with each other, and its test pod with the gateway."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import helm_engine
from tests.deploy import rendered as r
from tests.support.processes import up

pytestmark = r.needs_helm


# -- references -------------------------------------------------------------------------------------------


@r.by_value_file
def test_selectors_select_the_pods_they_are_meant_for(case: str) -> None:
    documents = r.rendered(case)
    pods = r.workloads(documents)
    for one in pods:
        if one.document["kind"] != "Pod":
            own = one.document["spec"]["selector"]["matchLabels"]
            assert [other.name for other in pods if own.items() <= other.labels.items()] == [one.name]
    for document in r.of_kind(documents, "PodDisruptionBudget"):
        selector = document["spec"]["selector"]["matchLabels"]
        (selected,) = [one for one in pods if selector.items() <= one.labels.items()]
        assert selected.document["metadata"]["name"] == document["metadata"]["name"]
        assert selected.document["kind"] != "DaemonSet", "evictions do not ask these"
    for one in pods:
        for constraint in one.pod.get("topologySpreadConstraints", []):
            assert constraint["labelSelector"]["matchLabels"].items() <= one.labels.items()
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


@pytest.mark.parametrize("case", ["production", "everything-on"])
def test_network_policies_select_pods_and_ports_that_are_there(case: str) -> None:
    documents = r.rendered(case)
    pods = r.workloads(documents)
    covered = set()
    for policy in r.of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        (guarded,) = [one for one in pods if spec["podSelector"]["matchLabels"].items() <= one.labels.items()]
        covered.add(guarded.component)
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        for rule in spec["ingress"]:
            for port in rule["ports"]:
                assert port["port"] in {*guarded.ports, *guarded.ports.values()}
        for peer in [peer for rule in [*spec["ingress"], *spec.get("egress", [])] for peer in _peers(rule)]:
            if "podSelector" in peer:
                wanted = peer["podSelector"]["matchLabels"]
                assert [one for one in pods if wanted.items() <= one.labels.items()]
    assert covered == {one.component for one in pods} - {"test"}


def _peers(rule: r.Json) -> list[r.Json]:
    return [*rule.get("from", []), *rule.get("to", [])]


@r.by_value_file
def test_what_pods_mount_and_read_of_the_chart_is_made(case: str) -> None:
    documents = r.rendered(case)
    made = r.secrets(documents)
    accounts = {d["metadata"]["name"] for d in r.of_kind(documents, "ServiceAccount")}
    for one in r.workloads(documents):
        volumes = {volume["name"] for volume in one.pod.get("volumes", [])}
        claims = {c["metadata"]["name"] for c in one.document["spec"].get("volumeClaimTemplates", [])}
        assert {m["name"] for m in one.container.get("volumeMounts", [])} == volumes | claims, one.name
        assert one.pod.get("serviceAccountName", "default") in accounts | {"default"}
        for node in r.walk(one.pod):
            name, key = node.get("name"), node.get("key")
            if key is not None and isinstance(name, str) and name.startswith(r.FULL):
                assert key in made[name], f"{one.name}: {name} has no {key}"
            if str(node.get("secretName", "")).startswith(r.FULL):
                assert node["secretName"] in made
                assert {item["key"] for item in node.get("items", [])} <= made[node["secretName"]].keys()


@r.by_value_file
def test_a_stateful_set_has_its_headless_service_and_its_claim(case: str) -> None:
    for document in r.of_kind(r.rendered(case), "StatefulSet"):
        service = r.one(r.rendered(case), f"Service/{document['spec']['serviceName']}")
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True
        (claim,) = document["spec"]["volumeClaimTemplates"]
        assert claim["metadata"]["name"] == "data"
        assert document["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"
        assert document["spec"]["podManagementPolicy"] == "Parallel"


def test_names_are_not_too_long() -> None:
    """A StatefulSet's pods have its name and a hash of ten in one label of at most 63."""
    long = helm_engine.render(r.CHART, {"nameOverride": "n" * 60}, name="r" * 50, namespace="n")
    for one in r.workloads(long):
        assert len(one.document["metadata"]["name"]) + len("-0123456789") <= 63


# -- the pod of `helm test` -------------------------------------------------------------------------------


def test_the_test_pod_tells_a_gateway_that_serves_from_one_that_does_not(tmp_path: Path) -> None:
    pod = r.workload(r.rendered("defaults"), "test")
    assert pod.document["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod.container["command"] == ["python3", "-c"]
    (script,) = pod.container["args"]

    def verdict(url: str, keys: str) -> int:
        command = [sys.executable, "-c", script]
        asked = subprocess.run(command, env={"GATEWAY": url, "KEYS": keys}, check=False, capture_output=True)
        return asked.returncode

    with up(tmp_path, API_KEYS="sk-one,sk-two") as gateway:
        gateway.ready("/readyz", lambda answer: answer == {"ready": True})
        assert verdict(gateway.url, "sk-one,sk-two") == 0
        assert verdict(gateway.url, " sk-two\nsk-one") == 0
        assert verdict(gateway.url, "sk-wrong") == 1
    assert verdict(gateway.url, "sk-one") != 0
