"""Build what `make test-apiserver` needs, from Go modules: kube-apiserver, definitions of foreign resources.

Into .venv/apiserver, once. Needs the Go tool chain; etcd is Debian's, which root gets installed. Where one of
them is missing nothing is built, why is said, and the tests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from scripts import go_modules

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv" / "apiserver"
KUBERNETES = "v1.35.4"
BINARY = HOME / f"kube-apiserver-{KUBERNETES}"
DEFINITIONS = HOME / "definitions"
FOREIGN = {
    "sigs.k8s.io/gateway-api@v1.4.0": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    "github.com/kedacore/keda/v2@v2.20.2": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{name}.yaml"
        for name in ("podmonitors", "prometheusrules", "servicemonitors")
    ],
}
"""By Go module: files with the definitions of resources that the chart makes."""


def missing() -> str:
    """What keeps the tests from running, or nothing."""
    if shutil.which("etcd") is None:
        return "no etcd on the PATH (Debian: etcd-server)"
    if not BINARY.is_file() or len(list(DEFINITIONS.glob("*.yaml"))) < sum(map(len, FOREIGN.values())):
        return "no kube-apiserver was built: make test-apiserver, with Go on the PATH"
    return ""


def build() -> None:
    """Kubernetes is a module that others may require only with its own parts put in their places."""
    builder = go_modules.Builder(HOME)
    kubernetes = builder.download(f"k8s.io/kubernetes@{KUBERNETES}")
    parts = sorted(set(re.findall(r"^\s+(k8s\.io/[a-z-]+) v0\.0\.0$", kubernetes.text, re.MULTILINE)))
    version = KUBERNETES.replace("v1.", "v0.", 1)
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    # Charts ask for the version, and Kubernetes has it from whoever builds it.
    told = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    builder.build(
        "k8s.io/kubernetes/cmd/kube-apiserver",
        KUBERNETES,
        kubernetes,
        binary=BINARY,
        replaced=[f"{part} => {part} {version}" for part in parts],
        variables={f"k8s.io/component-base/version.{name}": value for name, value in told.items()},
    )
    fetch_definitions(builder)


def fetch_definitions(builder: go_modules.Builder) -> None:
    DEFINITIONS.mkdir(parents=True, exist_ok=True)
    for name, files in FOREIGN.items():
        folder = builder.download(name).folder
        for file in files:
            shutil.copyfile(folder / file, DEFINITIONS / Path(file).name)


def main() -> int:
    if shutil.which("etcd") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("no etcd on the PATH: installing Debian's package", flush=True)
        # The service of the package is not to be started: tests have etcds of their own.
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-qq"], env=env, check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "etcd-server"], env=env, check=False, stdout=2)
    return go_modules.ensure(f"kube-apiserver {KUBERNETES}", missing, build, "etcd")


if __name__ == "__main__":
    sys.exit(main())
