"""`python -m tests.bench [section ...]`: what an event and a turn cost, as CPU and as ratios.

Nothing is asserted about time; the exit code is 1 only when something could not be measured. Every section
repeats its runs and prints the median with the lowest and the highest value. docs/reference/performance.md
holds figures of one machine and the targets.
"""

import importlib
import sys
import time

from gateway.kernel.errors import GatewayError
from tests.bench.measure import NotMeasured
from tests.bench.report import machine

SECTIONS = {
    "pipeline": "tests.bench.pipeline:run",
    "protocols": "tests.bench.pipeline:protocols",
    "lanes": "tests.bench.lanes:run",
    "injection": "tests.bench.injection:run",
    "tracing": "tests.bench.tracing:run",
    "record": "tests.bench.record:run",
    "hub": "tests.bench.hub:run",
    "publish": "tests.bench.publish:run",
    "busy": "tests.bench.live:busy",
    "sparse": "tests.bench.live:sparse",
    "ttft": "tests.bench.live:ttft",
    "memory": "tests.bench.live:memory",
}


def main(wanted: list[str]) -> int:
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        print(f"unknown section {', '.join(unknown)}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    print(machine())
    failed = False
    for name in wanted or SECTIONS:
        began = time.monotonic()
        module, _, function = SECTIONS[name].partition(":")
        try:
            getattr(importlib.import_module(module), function)()
        except (NotMeasured, GatewayError, AssertionError, OSError, RuntimeError, ExceptionGroup) as error:
            failed = True
            print(f"\n{name}: could not be measured: {error}", file=sys.stderr)
        print(f"  [{time.monotonic() - began:.0f} s]", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
