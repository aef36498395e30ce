"""deploy/k8s is what the chart says, and can be applied as it is."""

import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from scripts import render_manifests
from tests.deploy import rendered as r

pytestmark = r.needs_helm

TARGET = r.ROOT / "deploy" / "k8s"


def documents() -> list[r.Json]:
    kustomization = yaml.safe_load((TARGET / "kustomization.yaml").read_text(encoding="utf-8"))
    return [
        document
        for name in kustomization["resources"]
        for document in yaml.safe_load_all((TARGET / name).read_text(encoding="utf-8"))
    ]


def test_manifests_are_current() -> None:
    """`make chart` writes them."""
    assert [path.relative_to(r.ROOT).as_posix() for path in render_manifests.drifted()] == []


@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
def test_every_manifest_is_valid(version: str) -> None:
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)


def test_there_is_everything_that_a_trial_needs() -> None:
    assert sorted(r.named(document) for document in documents()) == [
        "Deployment/lingma-gateway-gateway",
        "Deployment/lingma-gateway-redis",
        "Namespace/lingma-gateway",
        "PodDisruptionBudget/lingma-gateway-gateway",
        "PodDisruptionBudget/lingma-gateway-worker",
        "Service/lingma-gateway-gateway",
        "Service/lingma-gateway-redis",
        "Service/lingma-gateway-worker",
        "ServiceAccount/lingma-gateway-gateway",
        "ServiceAccount/lingma-gateway-worker",
        "StatefulSet/lingma-gateway-worker",
    ]


def test_secrets_are_named_and_how_to_make_them_is_said() -> None:
    said = (TARGET / "kustomization.yaml").read_text(encoding="utf-8")
    needed: dict[str, set[str]] = {}
    for node in r.walk(documents()):
        if "secretKeyRef" in node:
            reference = node["secretKeyRef"]
            needed.setdefault(reference["name"], set()).add(reference["key"])
        if "secretName" in node:
            needed.setdefault(node["secretName"], set()).add("login.bundle")
    assert needed == {
        "lingma-gateway-auth": {"API_KEYS", "ADMIN_TOKEN", "METRICS_TOKEN"},
        "lingma-gateway-login": {"login.bundle"},
    }
    for name, keys in needed.items():
        assert f"create secret generic {name} " in said
        for key in keys:
            assert _argument(key) in said


def _argument(key: str) -> str:
    """How `kubectl create secret` names it."""
    return f"--from-file={key}" if "." in key else f"--from-literal={key}="


def test_nothing_of_helm_is_left() -> None:
    for path in TARGET.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert "helm.sh/" not in text, path.name
        assert "managed-by" not in text, path.name


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on the PATH")
def test_kustomize_takes_it() -> None:
    built = subprocess.run(["kubectl", "kustomize", TARGET], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    names = sorted(r.named(document) for document in yaml.safe_load_all(built.stdout))
    assert names == sorted(r.named(document) for document in documents())
