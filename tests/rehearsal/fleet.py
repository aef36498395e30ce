"""The estate that is rehearsed with: a load balancer, three gateways, two workers, Redis, an upstream and the
clients, each on a host of its own, and what operators do to them.

Settings are those of the chart and of Compose: drain and preStop from helm/values.yaml, HAProxy's
configuration from deploy/compose.
"""

import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import yaml

from tests.fakes.codex_server import PLAIN_MODEL, REASONING_MODEL
from tests.rehearsal.hosts import Host, Wire
from tests.rehearsal.load import KINDS
from tests.rehearsal.records import Part, Record, read
from tests.support.balancer import Balancer
from tests.support.dialects import DEFAULT_MODEL
from tests.support.house import route, write_upstreams
from tests.support.processes import Service, asks_of, die_with_parent, pool_ready, serve, wait_for, work
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
GATEWAYS, WORKERS = 3, 2
GATEWAY_PORT, WORKER_PORT, REDIS_PORT, UPSTREAM_PORT, FRONT_PORT = 8317, 8318, 6379, 9000, 8320
EXIT_S = 60.0
SETTLE_S = 90.0
TRIES = 30
SERVED = '"turn.finished"'
"""For what runs to end by itself: no answer of the load takes as long."""
DRAIN = yaml.safe_load((ROOT / "helm/values.yaml").read_text(encoding="utf-8"))["drain"]


class HostedRedis(RedisServer):
    """With its data on disk, as Compose has it."""

    def __init__(self, host: Host) -> None:
        super().__init__("--bind", host.address, "127.0.0.1", "--protected-mode", "no", "--appendonly", "yes")
        self._host = host
        self.port = REDIS_PORT

    @property
    def url(self) -> str:
        return f"redis://{self._host.address}:{self.port}/0"

    def start(self) -> None:
        with self._host.inside():
            super().start()


class Program:
    """A module of the rehearsal's own on some host."""

    def __init__(self, host: Host, log: Path, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._log = log
        with log.open("ab") as file, host.inside():
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                preexec_fn=die_with_parent,
            )

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(EXIT_S)
        assert code == 0, f"exit code {code}\n{self._log.read_text(errors='replace')[-3000:]}"

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


class Fleet:
    """Made and ended by `running()`."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.parts: list[Part] = []
        self._stack = stack
        self.wire = Wire()
        stack.callback(self.wire.close)
        self.hosts: dict[str, Host] = {}
        for name in ("lb", *self.names("gw", GATEWAYS), *self.names("worker", WORKERS)):
            self.hosts[name] = self.wire.host(name)
        for name in ("redis", "upstream", "client"):
            self.hosts[name] = self.wire.host(name)
        self.redis = HostedRedis(self.hosts["redis"])
        self._records = directory / "records.jsonl"
        self._missing = directory / "missing"
        self.gateways: dict[str, Service] = {}
        self.workers: dict[str, Service] = {}

    @staticmethod
    def names(kind: str, count: int) -> list[str]:
        return [f"{kind}{number}" for number in range(1, count + 1)]

    # -- start --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._stack.enter_context(self.redis)
        upstream = self.hosts["upstream"]
        where = (upstream.address, str(UPSTREAM_PORT), str(self._missing))
        self.upstream = self._program("upstream", "tests.rehearsal.upstream", *where)
        for name in self.names("worker", WORKERS):
            self.workers[name] = self._worker(name)
        for name in self.names("gw", GATEWAYS):
            self.gateways[name] = self._gateway(name)
        for one in (*self.workers.values(), *self.gateways.values()):
            one.ready("/healthz", pool_ready(1))
        for gateway in self.gateways.values():
            gateway.ready("/healthz", pool_ready(WORKERS))
        servers = {name: f"{self.hosts[name].address}:{GATEWAY_PORT}" for name in self.gateways}
        self.balancer = Balancer(self.directory, f"{self.hosts['lb'].address}:{FRONT_PORT}", servers)
        self.balancer.within = self.hosts["lb"].inside
        self._stack.enter_context(self.balancer)

    def _program(self, host: str, module: str, *arguments: str) -> Program:
        program = Program(self.hosts[host], self.directory / f"{host}.log", module, *arguments)
        self._stack.callback(program.close)
        return program

    def _gateway(self, name: str) -> Service:
        return self._service(
            name,
            serve(
                self.directory,
                self.redis.url,
                name,
                HOST=self.hosts[name].address,
                PORT=str(GATEWAY_PORT),
                DRAIN_LISTEN_S=str(DRAIN["listenSeconds"]),
                DRAIN_DEADLINE_S=str(DRAIN["deadlineSeconds"]),
                UPSTREAMS_FILE=self._upstreams(),
            ),
        )

    def _worker(self, name: str) -> Service:
        return self._service(
            name,
            work(
                self.directory,
                self.redis.url,
                name,
                WORKER_HOST=self.hosts[name].address,
                WORKER_PORT=str(WORKER_PORT),
                DRAIN_DEADLINE_S=str(DRAIN["deadlineSeconds"]),
                LINGMA_INSTANCE_MAX_IN_FLIGHT="16",
                # The real one keeps its conversations in its work directory.
                LINGMA_SIM_PERSIST="1",
            ),
        )

    def _service(self, name: str, service: Service) -> Service:
        service.within = self.hosts[name].inside
        return self._stack.enter_context(service)

    def _upstreams(self) -> str:
        upstream = {
            "name": "codex",
            "kind": "codex",
            "base_url": f"http://{self.hosts['upstream'].address}:{UPSTREAM_PORT}/v1",
            "credentials": [{"id": key, "api_key": key} for key in ("sk-one", "sk-two")],
            "models": [REASONING_MODEL, {"id": PLAIN_MODEL, "reasoning": False}],
        }
        routes = [
            route(name, {"upstream": "codex", "model": name}) for name in (REASONING_MODEL, PLAIN_MODEL)
        ]
        return write_upstreams(self.directory, [upstream], routes)

    # -- load ---------------------------------------------------------------------------------------------

    def begin_load(self) -> None:
        self.load = self._program("client", "tests.rehearsal.load", self.balancer.url, str(self._records))

    @property
    def records(self) -> list[Record]:
        return read(self._records.read_text()) if self._records.exists() else []

    def settle(self) -> None:
        """Wait until every turn that has begun by now has ended, and each conversation has had another."""
        now = time.monotonic()
        wait_for(
            lambda: {record.kind for record in self.records if record.began >= now} == KINDS,
            "a turn of every conversation",
            within_s=SETTLE_S,
        )

    def undisturbed(self, seconds: float) -> None:
        """Let the load run."""
        until = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() >= until, "time", within_s=seconds + 5)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[Part]:
        """What is done in the block is one piece of the rehearsal; leaves when all it touched is over."""
        part = Part(name, time.monotonic())
        before = int(self._missing.read_text())
        self.parts.append(part)
        yield part
        part.ended = time.monotonic()
        self.settle()
        part.missing = int(self._missing.read_text()) - before
        part.records = [record for record in self.records if part.has(record)]

    # -- what operators do --------------------------------------------------------------------------------

    def replace(self, service: Service) -> None:
        """As a container is: told to end, waited for, and another one in its place."""
        assert service.stop(EXIT_S) == 0, service.log[-3000:]
        service.start().ready("/healthz", pool_ready(1))

    def roll_gateway(self, name: str) -> None:
        self.replace(self.gateways[name])
        self.seen_up(name)

    @contextlib.contextmanager
    def out_of_service(self, name: str) -> Iterator[None]:
        """The balancer has been told to look away, as the ends of a pod that goes leave their service."""
        self.balancer.command(f"set server gateways/{name} state drain")
        yield
        self.balancer.command(f"set server gateways/{name} state ready")

    @contextlib.contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        self.wire.unplug(self.hosts[name])
        yield
        self.wire.plug(self.hosts[name])

    def seen_up(self, name: str) -> None:
        """Wait until the balancer gives it requests again."""
        gateway = self.gateways[name]
        before = gateway.log.count(SERVED)
        wait_for(lambda: gateway.log.count(SERVED) > before, f"{name} to be asked", within_s=20)

    def everybody_sees_workers(self) -> None:
        for gateway in self.gateways.values():
            gateway.ready("/healthz", pool_ready(WORKERS))

    # -- beside the load ----------------------------------------------------------------------------------

    def conversation_on(self, worker: str) -> "Resting":
        """One that has had two turns there, and now rests."""
        for _ in range(TRIES):
            resting = Resting(self)
            resting.ask(f"say {uuid.uuid4()}")
            if resting.holder == worker:
                assert "turns=2 isReply=true" in resting.ask("report")
                return resting
        raise AssertionError(f"no conversation in {TRIES} came to {worker}")


class Resting:
    """A conversation that goes on when a test says so."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._user = str(uuid.uuid4())
        """Binds it to a worker, be that the busier one: the others' conversations stay where they are."""
        self._said: list[dict[str, str]] = []

    def ask(self, words: str) -> str:
        self._said.append({"role": "user", "content": words})
        messages: Any = self._said
        url = f"{self._fleet.balancer.url}/v1"
        with self._fleet.hosts["client"].inside(), openai.OpenAI(base_url=url, api_key="any") as sdk:
            answer = sdk.chat.completions.create(model=DEFAULT_MODEL, messages=messages, user=self._user)
        text = answer.choices[0].message.content or ""
        self._said.append({"role": "assistant", "content": text})
        return text

    @property
    def holder(self) -> str:
        """The worker whose Lingma was asked last."""
        first = self._said[0]["content"]
        asks = asks_of(self._fleet.directory)
        session = next(ask for ask in asks if first in ask["params"]["questionText"])["params"]["sessionId"]
        last = [ask for ask in asks if ask["params"]["sessionId"] == session][-1]
        return Path(last["journal"]).relative_to(self._fleet.directory).parts[0]


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        fleet = Fleet(directory, stack)
        fleet.start()
        yield fleet
