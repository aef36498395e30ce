"""A Redis that answers and takes no writes, and one whose user may do just enough, or not enough."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest

from gateway.store.rights import OF_KIND, OUR_KEYS, REPLAY_KEYS, RIGHTS
from tests.e2e.conftest import Fleet, Pair
from tests.e2e.test_replay import AGENTS, answer_of, said_as_told
from tests.e2e.test_replay import work as agent_at_work
from tests.support.clients import Stream, openai_client, until
from tests.support.dialects import Chat, Messages, Said, ask
from tests.support.processes import Service, get_json, pool_ready, serve, work
from tests.support.redis_server import REFUSED_WRITES, RedisServer
from tests.support.redis_topologies import cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

REFUSALS = REFUSED_WRITES | {
    "NOPERM": (
        ("ACL", "SETUSER", "default", "-eval", "-evalsha", "-set"),
        ("ACL", "SETUSER", "default", "+eval", "+evalsha", "+set"),
    ),
}
LONG = "count slowly from 1 to 400"
ENOUGH = (OUR_KEYS, REPLAY_KEYS, "-@all", *(f"+{right.command}" for right in RIGHTS))


def status(service: Service) -> int:
    return httpx2.get(f"{service.url}/readyz", timeout=5).status_code


async def refuses(replica: Service) -> None:
    wanted = {"ready": False, "reason": "store_refuses_writes"}
    await until(
        lambda: asyncio.to_thread(lambda: get_json(f"{replica.url}/readyz") == wanted), "not to be ready"
    )


async def takes(*services: Service) -> None:
    await until(
        lambda: asyncio.to_thread(lambda: {status(service) for service in services} == {200}), "to be ready"
    )


def lines(service: Service, event: str) -> list[str]:
    return [line for line in service.log.splitlines() if f'"{event}"' in line]


@pytest.mark.parametrize("word", REFUSALS)
async def test_a_store_that_takes_no_writes_is_none_to_be_ready_for(
    word: str, fleet: Fleet, pair: Pair
) -> None:
    """Until workers' records have ended and longer: refused at once, told once, and healed by itself."""
    pair.codex.queue += [answer_of(3), answer_of(7)]  # words alone
    fleet.start(replicas=1, workers=1, UPSTREAMS_FILE=pair.file, METRICS_PUBLIC="true")
    replica, worker = fleet.replicas[0], fleet.workers[0]
    await takes(replica, worker)
    refuse, allow = REFUSALS[word]
    async with httpx2.AsyncClient(base_url=replica.url, timeout=60) as client:
        path, body = Chat().request([Said("user", "say hello")], stream=False)
        fleet.redis.command(*refuse)
        await refuses(replica)
        await until(lambda: asyncio.to_thread(lambda: status(worker) == 503), "the worker not to be ready")
        key = "lg:v1:worker:{w0}"
        await until(
            lambda: asyncio.to_thread(lambda: fleet.redis.command("EXISTS", key) == 0), "the record to end"
        )
        for _ in range(2):
            async with asyncio.timeout(8):
                response = await client.post(path, json=body)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
        assert await ask(client, Chat(), [Said("user", "think")], stream=True, model=pair.THINKER)
        assert "\ngateway_store_down 1.0\n" in (await client.get("/metrics")).text
        fleet.redis.command(*allow)
        await takes(replica, worker)
        assert "\ngateway_store_down 0.0\n" in (await client.get("/metrics")).text
        assert await ask(client, Chat(), [Said("user", "say healed")], stream=True) == "healed"
        assert await ask(client, Chat(), [Said("user", "think")], stream=False, model=pair.THINKER)
    assert word in lines(replica, "store.refuses_writes")[0]
    for service, event in ((replica, "store.refuses_writes"), (replica, "store.takes_writes")):
        assert len(lines(service, event)) == 1
    assert len(lines(worker, "heartbeat.store")) == 3, "it began, it was refused, it goes on"
    assert lines(worker, "aio.loop_restarted") + lines(replica, "aio.loop_restarted") == []


async def test_a_turn_goes_on_when_the_store_takes_writes_again(fleet: Fleet) -> None:
    """Longer than the silence after which a worker is lost."""
    fleet.start(replicas=1, workers=1)
    async with openai_client(fleet.replicas[0].url) as client:
        stream = Stream(client, LONG).start()
        await until(lambda: len(stream.text) > 20, "it to talk")
        fleet.redis.command(*REFUSALS["OOM"][0])
        await refuses(fleet.replicas[0])
        await asyncio.sleep(8)  # how long the store is full
        fleet.redis.command(*REFUSALS["OOM"][1])
        await stream.done(40)
    assert stream.error is None
    assert stream.text.split() == list(map(str, range(1, 401)))


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def url_of(server: RedisServer, *rules: str) -> str:
    server.command("ACL", "SETUSER", "few", "reset", "on", ">hush-hush", "resetchannels", *rules)
    return f"redis://few:hush-hush@127.0.0.1:{server.port}/0"


async def everything(replica: Service, pair: Pair) -> None:
    """Turns over Lingma and over codex, the second of which needs what was remembered; what operators ask."""
    async with httpx2.AsyncClient(base_url=replica.url, timeout=60) as client:
        said = [Said("user", "say one")]
        assert await ask(client, Chat(), said, stream=True) == "one"
        more = [*said, Said("assistant", "one"), Said("user", "say two")]
        assert await ask(client, Messages(), more, stream=False) == "two"
        for page in ("/internal/stats", "/internal/models/raw", "/metrics"):
            answer = await client.get(page, headers={"authorization": "Bearer boss"})
            assert answer.status_code == 200, answer.text
            if page == "/internal/stats":
                assert answer.json()["cluster"], "the store did not tell"
    async with aclosing(AGENTS["messages"]([replica.url], pair.THINKER)) as agent:
        async for turn, answer in agent_at_work(agent, 2):
            said_as_told(answer, answer_of(turn))
    first, second = pair.codex.answered
    assert second.blobs == list(first.sealed) != [], "nothing was remembered"


async def test_the_rights_that_are_asked_for_are_enough(
    tmp_path: Path, guarded: RedisServer, pair: Pair
) -> None:
    pair.codex.queue += [answer_of(turn) for turn in range(2)]
    url = url_of(guarded, *ENOUGH)
    env = {"UPSTREAMS_FILE": pair.file, "ADMIN_TOKEN": "boss", "METRICS_TOKEN": "boss"}
    limits = {"GATEWAY_MAX_IN_FLIGHT": "8"}
    with work(tmp_path, url) as worker, serve(tmp_path, url, **env, **limits) as replica:
        await asyncio.to_thread(replica.ready, "/healthz", pool_ready(1))
        await everything(replica, pair)
        assert await asyncio.to_thread(replica.stop) == 0
        assert await asyncio.to_thread(worker.stop) == 0
    assert guarded.command("ACL", "LOG") == []


async def test_the_rights_that_are_asked_for_are_enough_on_a_cluster(tmp_path: Path, pair: Pair) -> None:
    pair.codex.queue += [answer_of(turn) for turn in range(2)]
    more = [f"+{right.command}" for right in OF_KIND["cluster"]]
    env = {"UPSTREAMS_FILE": pair.file, "ADMIN_TOKEN": "boss", "METRICS_TOKEN": "boss"}
    with cluster() as nodes:
        for node in nodes.nodes:
            url_of(node, *ENOUGH, *more)
        url = nodes.url.replace("://", "://few:hush-hush@")
        with work(tmp_path, url), serve(tmp_path, url, **env) as replica:
            await asyncio.to_thread(replica.ready, "/healthz", pool_ready(1))
            await everything(replica, pair)
        assert [node.command("ACL", "LOG") for node in nodes.nodes] == [[], [], []]


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *command],
        env={"HOST": "127.0.0.1", "PORT": "0", "WORKER_PORT": "0", "LINGMA_BIN": "simulator"} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [("serve",), ("work",), ("up",), ("check-config", "--store")])
@pytest.mark.parametrize(
    ("rules", "lacks"),
    [
        ((*ENOUGH, "-eval", "-evalsha"), "lacks rights: +eval +evalsha"),
        ((*ENOUGH, "resetkeys", "~mine:*"), f"lacks rights: {OUR_KEYS}"),
    ],
)
def test_a_right_that_is_missing_ends_the_start_and_is_named(
    command: tuple[str, ...], rules: tuple[str, ...], lacks: str, guarded: RedisServer
) -> None:
    ended = run(*command, REDIS_URL=url_of(guarded, *rules))
    assert ended.returncode == 2
    assert f"the user 'few' of the store redis://few:***@127.0.0.1:{guarded.port}" in ended.stderr
    assert lacks in ended.stderr
    assert "hush-hush" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_store_that_is_fine_is_said_to_be(guarded: RedisServer) -> None:
    ended = run("check-config", "--store", REDIS_URL=url_of(guarded, *ENOUGH))
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "the store is fine")
    guarded.stop()
    ended = run("check-config", "--store", REDIS_URL=guarded.url)
    assert (ended.returncode, "cannot be reached" in ended.stderr) == (1, True)
    assert f"connecting to 127.0.0.1:{guarded.port}" in ended.stderr, "why there was no connection"
