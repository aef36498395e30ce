"""Build the Jaeger that `make test-jaeger` asks, from its Go module, into .venv/jaeger, once.

All in one process, with its traces in memory, as its container image is without arguments. The module brings
no user interface. Where Go is missing nothing is built, why is said, and the tests are skipped.
"""

import shutil
import sys
from pathlib import Path

from scripts import go_modules

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv" / "jaeger"
RELEASE = "2.13.0"
"""The tag of its images; helm/ and docker-compose.yml name the same."""
MODULE, VERSION = "github.com/jaegertracing/jaeger", "v1.76.0"
"""Go's name for that release: the tags v1.76.0 and v2.13.0 are the same commit."""
BINARY = HOME / f"jaeger-{RELEASE}"
CONFIGURATION = HOME / f"all-in-one-{RELEASE}.yaml"
"""What it has in it and takes where it is given none."""
ARGUMENTS = ("--set=extensions.jaeger_storage.backends.some_storage.memory.max_traces=20000",)
"""What helm/ and docker-compose.yml start it with, and so do tests: of its own accord it keeps 100000."""


def missing() -> str:
    """What keeps the tests from running, or nothing."""
    if BINARY.is_file() and CONFIGURATION.is_file():
        return ""
    return "no Jaeger was built: make test-jaeger, with Go on the PATH"


def build() -> None:
    builder = go_modules.Builder(HOME)
    jaeger = builder.download(f"{MODULE}@{VERSION}")
    shutil.copyfile(jaeger.folder / "cmd" / "jaeger" / "internal" / "all-in-one.yaml", CONFIGURATION)
    builder.build(
        f"{MODULE}/cmd/jaeger",
        VERSION,
        jaeger,
        binary=BINARY,
        variables={f"{MODULE}/internal/version.latestVersion": f"v{RELEASE}"},
    )


if __name__ == "__main__":
    sys.exit(go_modules.ensure(f"Jaeger {RELEASE}", missing, build))
