"""Write deploy/k8s from the chart, with the values in deploy/k8s/values.yaml. --check: exit 1 on drift.

What only Helm needs is left out: its labels and the pod of `helm test`. No secret is among the manifests, for
one that is made at random would be another one each time.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from scripts import generated, helm_engine
from scripts.generated import ROOT

TARGET = ROOT / "deploy" / "k8s"
NAME = "lingma-gateway"
HEAD = "# Rendered from helm/ by scripts/render_manifests.py. Do not edit: `make chart`.\n"
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
KUSTOMIZATION = f"""{HEAD}
# Gateways, workers and a Redis for trials. Two secrets have to be there, for no manifest should hold them:
#
#   kubectl create namespace {NAME}
#   kubectl create secret generic {NAME}-auth --namespace {NAME} \\
#     --from-literal=API_KEYS="sk-$(openssl rand -hex 20)" \\
#     --from-literal=ADMIN_TOKEN="$(openssl rand -hex 20)" \\
#     --from-literal=METRICS_TOKEN="$(openssl rand -hex 20)"
#   kubectl create secret generic {NAME}-login --namespace {NAME} --from-file=login.bundle
#   kubectl apply -k deploy/k8s
#
# docs/howto/lingma-login.md says where login.bundle comes from. For anything else: helm/, or an overlay.
"""


def manifests() -> dict[str, list[dict[str, Any]]]:
    """By file: its documents."""
    values = yaml.safe_load((TARGET / "values.yaml").read_text(encoding="utf-8"))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
    files: dict[str, list[dict[str, Any]]] = {"namespace.yaml": [namespace]}
    for document in helm_engine.render(ROOT / "helm", values, name=NAME, namespace=NAME):
        if "helm.sh/hook" in document["metadata"].get("annotations", {}):
            continue
        if document["kind"] == "Secret":
            raise ValueError(f"a secret would be rendered: {document['metadata']['name']}")
        labels = document["metadata"]["labels"]
        for label in HELM_LABELS:
            labels.pop(label)
        files.setdefault(f"{labels['app.kubernetes.io/component']}.yaml", []).append(document)
    for documents in files.values():
        documents.sort(key=lambda document: (document["kind"], document["metadata"]["name"]))
    return files


def images(files: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """Those of the project, for a kustomization to say where they come from."""
    pods = [
        doc["spec"]["template"]["spec"]
        for docs in files.values()
        for doc in docs
        if "template" in doc.get("spec", {})
    ]
    named = {container["image"] for pod in pods for container in pod["containers"]}
    ours = sorted(image.rpartition(":")[::2] for image in named if image.startswith(NAME))
    return [{"name": name, "newName": name, "newTag": tag} for name, tag in ours]


def files() -> dict[Path, str]:
    """Every rendered file with what it must hold."""
    rendered = manifests()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAME,
        "resources": list(rendered),
        "images": images(rendered),
    }
    texts = {name: HEAD + _dump_all(documents) for name, documents in rendered.items()}
    texts["kustomization.yaml"] = KUSTOMIZATION + _dump_all([kustomization])
    return {TARGET / name: text for name, text in texts.items()}


def _dump_all(documents: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=120, explicit_start=True, allow_unicode=True)


def drifted() -> list[Path]:
    """Rendered files that are not what the chart says, and files that nothing renders."""
    return _drifted(files())


def _drifted(texts: dict[Path, str]) -> list[Path]:
    return generated.stale(texts) + [
        path for path in sorted(TARGET.glob("*.yaml")) if path not in texts and path.name != "values.yaml"
    ]


def main(arguments: list[str]) -> int:
    """Write what has changed, or with --check only say so."""
    texts = files()
    return generated.write_or_check(_drifted(texts), texts, arguments, "chart")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
