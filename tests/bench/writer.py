"""Writes frames of many turns to Redis in a steady rhythm, for the hub section: the worker's part, a process.

One command: {"url", "keys", "rounds", "at_once", "gap_s", "payload" (hex)}. A round is one pipeline with an
entry for each of the next `at_once` keys in turn; rounds begin gap_s apart.
"""

import itertools
import json
import sys
import time
from typing import Any

import redis

from tests.bench.measure import say


def write(command: dict[str, Any]) -> None:
    client = redis.Redis.from_url(command["url"], protocol=2)
    payload = bytes.fromhex(command["payload"])
    keys = itertools.cycle(command["keys"])
    due = time.perf_counter()
    for _ in range(command["rounds"]):
        pipeline = client.pipeline(transaction=False)
        for key in itertools.islice(keys, command["at_once"]):
            pipeline.execute_command("XADD", key, "*", "m", payload)
        pipeline.execute()
        due = max(due + command["gap_s"], time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
    client.close()


if __name__ == "__main__":
    for line in sys.stdin:
        write(json.loads(line))
        say(written=True)
