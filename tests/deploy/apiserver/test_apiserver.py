"""A real kube-apiserver takes what the chart makes: installed, upgraded, rolled back, taken away."""

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import helm_engine
from tests.deploy import rendered as r
from tests.deploy.apiserver.conftest import Cluster

NAME = "demo"
WORKLOADS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """One for each test. Its pods have to satisfy the strictest of the standards of Kubernetes."""
    name = f"t{abs(hash(request.node.name)) % 10**10}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create(
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
    )
    return name


@pytest.fixture
def helm(cluster: Cluster, namespace: str) -> Iterator[Any]:
    with helm_engine.helm_python.Config(kubeconfig_content=cluster.kubeconfig, namespace=namespace) as config:
        yield config


def stored(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Workloads and secrets of the chart as the server has them, by kind and name."""
    found = {}
    for kind, plural in WORKLOADS.items():
        for item in cluster.get(f"/apis/apps/v1/namespaces/{namespace}/{plural}")["items"]:
            found[f"{kind}/{item['metadata']['name']}"] = item
    for item in cluster.get(f"/api/v1/namespaces/{namespace}/secrets")["items"]:
        if item["type"] == "Opaque":
            found[f"Secret/{item['metadata']['name']}"] = item
    return found


def replicas_and_tag(values: r.Json) -> r.Json:
    """The same deployment, a version later and with another setting."""
    later = copy.deepcopy(values)
    later["image"] = {**later.get("image", {}), "tag": "9.9.9", "digest": ""}
    later["config"] = {**later.get("config", {}), "LOG_LEVEL": "DEBUG"}
    return later


@r.by_value_file
def test_install_upgrade_and_rollback(cluster: Cluster, helm: Any, namespace: str, case: str) -> None:
    values = r.read_case(case)
    assert helm.install(r.CHART, NAME, values)["status"] == "deployed"
    first = stored(cluster, namespace)
    expected = {r.named(d) for d in r.rendered(case) if d["kind"] in (*WORKLOADS, "Secret")}
    assert first.keys() == expected

    helm.upgrade(r.CHART, NAME, values)
    same = stored(cluster, namespace)
    for name, document in first.items():
        unchanged = "data" if name.startswith("Secret/") else "spec"
        assert same[name][unchanged] == document[unchanged], f"an upgrade to the same changed {name}"

    helm.upgrade(r.CHART, NAME, replicas_and_tag(values))
    later = stored(cluster, namespace)
    for name, document in first.items():
        if name.startswith("Secret/"):
            assert later[name]["data"] == document["data"], "keys must outlive upgrades"
    (gateway,) = pods(later, "gateway")
    assert gateway["containers"][0]["image"].endswith(":9.9.9")

    helm.rollback(NAME, version=1)
    back = stored(cluster, namespace)
    for name, document in first.items():
        unchanged = "data" if name.startswith("Secret/") else "spec"
        assert back[name][unchanged] == document[unchanged], f"a rollback did not bring {name} back"

    helm.uninstall(NAME)
    assert stored(cluster, namespace) == {}


def pods(found: dict[str, Any], component: str) -> list[Any]:
    return [
        document["spec"]["template"]["spec"]
        for name, document in found.items()
        if name.split("/")[0] in WORKLOADS and name.endswith(f"-{component}")
    ]


@r.by_value_file
def test_pods_satisfy_the_restricted_standard(cluster: Cluster, helm: Any, namespace: str, case: str) -> None:
    helm.install(r.CHART, NAME, r.read_case(case))
    for name, document in stored(cluster, namespace).items():
        if name.split("/")[0] not in WORKLOADS:
            continue
        template = document["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "labels": template["metadata"]["labels"]},
            "spec": {k: v for k, v in template["spec"].items() if k != "priorityClassName"},
        }
        claims = {c["metadata"]["name"] for c in document["spec"].get("volumeClaimTemplates", [])}
        pod["spec"]["volumes"] = [
            *pod["spec"].get("volumes", []),
            *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in sorted(claims)),
        ]
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
        status, answer = cluster.ask("POST", path, pod)
        if case == "daemonset" and name.startswith("DaemonSet/"):
            assert status == 403, "a directory of the node is beyond that standard, as the page says"
            assert "hostPath" in answer["message"]
        else:
            assert status == 201, answer


def test_a_made_key_is_found_again(cluster: Cluster, helm: Any, namespace: str) -> None:
    """By `lookup`, which only a server answers; also after the values named keys for a while."""
    path = f"/api/v1/namespaces/{namespace}/secrets/{NAME}-lingma-gateway-gateway"
    helm.install(r.CHART, NAME, {})
    made = cluster.get(path)["data"]
    helm.upgrade(r.CHART, NAME, {"auth": {"adminToken": "given"}})
    given = cluster.get(path)["data"]
    assert given["API_KEYS"] == made["API_KEYS"]
    assert given["ADMIN_TOKEN"] != made["ADMIN_TOKEN"]
    helm.upgrade(r.CHART, NAME, {})
    assert cluster.get(path)["data"] == given


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_workers_can_become_the_other_kind(cluster: Cluster, helm: Any, namespace: str, kind: str) -> None:
    other = {"StatefulSet": "DaemonSet", "DaemonSet": "StatefulSet"}[kind]
    helm.install(r.CHART, NAME, {"worker": {"kind": kind}})
    helm.upgrade(r.CHART, NAME, {"worker": {"kind": other}})
    kinds = {name.split("/")[0] for name in stored(cluster, namespace) if name.endswith("-worker")}
    assert kinds == {other}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on the PATH")
def test_the_plain_manifests_can_be_applied(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.kubeconfig, encoding="utf-8")
    for _ in range(2):
        applied = subprocess.run(
            ["kubectl", "--kubeconfig", config, "apply", "--server-side", "-k", r.ROOT / "deploy" / "k8s"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert applied.returncode == 0, applied.stderr
    manifests = yaml.safe_load_all(
        subprocess.run(
            ["kubectl", "kustomize", r.ROOT / "deploy" / "k8s"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert len(applied.stdout.splitlines()) == len(list(manifests))
