"""What a worker counts, and how it is written for a scraper. Plain numbers: one event loop, no locks.

No label holds what a user could choose.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.jobs.messages import InstanceRecord


@dataclass(slots=True)
class WorkerStats:
    """Counters since the process began."""

    turns: Counter[str] = field(default_factory=Counter)
    """Attempts by outcome; `fenced` are those that somebody else ended."""
    declined: Counter[str] = field(default_factory=Counter)
    """Attempts not taken, by reason."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """Commands set aside, by reason."""
    loop_restarts: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    batches: int = 0
    frame_bytes: int = 0
    heartbeats: int = 0
    store_failures: int = 0
    """Writes of frames that the store did not answer."""
    stops: int = 0
    """Answers of the upstream cut short by us."""

    def prometheus(self, *, in_flight: int, draining: bool, instances: Iterable[InstanceRecord]) -> str:
        """The text exposition format; ends with a newline."""
        lines: list[str] = []
        for name, label, counter in (
            ("worker_turns_total", "outcome", self.turns),
            ("worker_declined_total", "reason", self.declined),
            ("worker_dead_letters_total", "reason", self.dead_letters),
            ("worker_loop_restarts_total", "loop", self.loop_restarts),
        ):
            lines.append(f"# TYPE {name} counter")
            lines.extend(f'{name}{{{label}="{key}"}} {value}' for key, value in sorted(counter.items()))
        for name, value in (
            ("worker_frames_total", self.frames),
            ("worker_frame_batches_total", self.batches),
            ("worker_frame_bytes_total", self.frame_bytes),
            ("worker_heartbeats_total", self.heartbeats),
            ("worker_store_failures_total", self.store_failures),
            ("worker_stops_total", self.stops),
        ):
            lines += [f"# TYPE {name} counter", f"{name} {value}"]
        lines += ["# TYPE worker_turns_in_flight gauge", f"worker_turns_in_flight {in_flight}"]
        lines += ["# TYPE worker_draining gauge", f"worker_draining {int(draining)}"]
        lines += _instance_lines(list(instances))
        return "\n".join(lines) + "\n"


def _instance_lines(instances: list[InstanceRecord]) -> list[str]:
    lines: list[str] = []
    for name, kind, values in (
        ("worker_instance_ready", "gauge", [int(one.ready) for one in instances]),
        ("worker_instance_in_flight", "gauge", [one.in_flight for one in instances]),
        ("worker_instance_restarts_total", "counter", [one.restarts for one in instances]),
    ):
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(
            f'{name}{{name="{one.name}",idx="{one.index}"}} {value}'
            for one, value in zip(instances, values, strict=True)
        )
    return lines
