"""Build what `make test-apiserver` needs, from Go modules: kube-apiserver, definitions of foreign resources.

Into .venv/apiserver, once. Needs the Go tool chain; etcd is Debian's, which root gets installed. Where one of
them is missing nothing is built, why is said, and the tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def _go(*words: str) -> str:
    """What it prints; what it says on the way only when it fails, for it names every module."""
    run = subprocess.run(["go", *words], cwd=HOME, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"go {words[0]} failed:\n{run.stderr[-4000:]}")
    return run.stdout


def build() -> None:
    """Kubernetes is a module that others may require only with its own parts put in their places."""
    HOME.mkdir(parents=True, exist_ok=True)
    module = HOME / "go.mod"
    module.write_text("module apiserver\n", encoding="utf-8")
    downloaded = json.loads(_go("mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES}"))
    its_module = Path(downloaded["GoMod"]).read_text(encoding="utf-8")
    parts = sorted(set(re.findall(r"^\s+(k8s\.io/[a-z-]+) v0\.0\.0$", its_module, re.MULTILINE)))
    version = KUBERNETES.replace("v1.", "v0.", 1)
    replaced = "".join(f"\t{part} => {part} {version}\n" for part in parts)
    language = re.search(r"^go .*$", its_module, re.MULTILINE)
    module.write_text(
        f"module apiserver\n\n{language[0] if language else ''}\n\nreplace (\n{replaced})\n", encoding="utf-8"
    )
    command = "k8s.io/kubernetes/cmd/kube-apiserver"
    _go("get", f"{command}@{KUBERNETES}")
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    # Charts ask for the version, and Kubernetes has it from whoever builds it.
    told = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in told.items())
    _go("build", f"-ldflags=-s -w {flags}", "-o", str(BINARY), command)


def fetch_definitions() -> None:
    DEFINITIONS.mkdir(parents=True, exist_ok=True)
    for name, files in FOREIGN.items():
        folder = Path(json.loads(_go("mod", "download", "-json", name))["Dir"])
        for file in files:
            shutil.copyfile(folder / file, DEFINITIONS / Path(file).name)


def main() -> int:
    if shutil.which("etcd") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("no etcd on the PATH: installing Debian's package", flush=True)
        # The service of the package is not to be started: tests have etcds of their own.
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "update", "-qq"], env=env, check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "etcd-server"], env=env, check=False, stdout=2)
    if not missing():
        return 0
    if shutil.which("go") is None or shutil.which("etcd") is None:
        print("Skipped: needs Go and etcd (Debian: etcd-server) on the PATH.", file=sys.stderr)
        return 0
    print(f"building kube-apiserver {KUBERNETES} (minutes, first run only)", flush=True)
    build()
    fetch_definitions()
    return 0


if __name__ == "__main__":
    sys.exit(main())
