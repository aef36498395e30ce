"""Redis behind a sentinel, as a Cluster and behind TLS: real servers that fail over and whose slots move."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gateway.store.keys import CLUSTER_BUCKETS, Keys, key_slot
from tests.support.clients import until
from tests.support.dialects import Chat, DialectStream, Said, ask
from tests.support.network import certificate, tls_in_front
from tests.support.ports import free_port
from tests.support.processes import Service, asks_of, get_json, pool_ready, serve, work
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import cluster, watched

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CHAT = Chat()
HEALS_WITHIN_S = 15.0
"""From the fail-over until turns succeed."""
PAUSE_S = 0.05
"""After a turn that was refused."""


def said(text: str) -> list[Said]:
    return [Said("user", text)]


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.replace(",", " ").split() if word.isdigit()]


@contextlib.asynccontextmanager
async def processes(directory: Path, url: str) -> AsyncIterator[Service]:
    """One worker and one replica; the replica. They start and end while the test's own servers go on."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(work(directory, url, LINGMA_INSTANCE_MAX_IN_FLIGHT="32"))
            replica = stack.enter_context(serve(directory, url))
            yield await asyncio.to_thread(replica.ready, "/healthz", pool_ready(1))
        finally:
            await asyncio.to_thread(stack.close)


def http(replica: Service) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=replica.url, timeout=60)


def no_ask_twice(directory: Path) -> None:
    """Every ask that reached a Lingma names another attempt."""
    counts = Counter(one["params"]["requestId"] for one in asks_of(directory))
    assert counts, "nothing was asked"
    assert [request for request, count in counts.items() if count > 1] == []


class Load:
    """Lanes of turns, one after the other in each, until told to stop; every second lane asks for streams."""

    def __init__(self, client: httpx2.AsyncClient, *, lanes: int) -> None:
        self._client = client
        self._stop = asyncio.Event()
        self._asked = 0
        self.succeeded = 0
        self.refused: list[str] = []
        """What those were told that did not succeed."""
        self._tasks = [asyncio.create_task(self._lane(stream=lane % 2 == 1)) for lane in range(lanes)]

    async def answered(self, more: int, within_s: float = 20.0) -> None:
        """Wait until that many more turns have succeeded."""
        goal = self.succeeded + more
        await until(lambda: self._goes_on() and self.succeeded >= goal, f"{more} more turns", within_s)

    async def stop(self) -> None:
        """Let the turns that run end."""
        self._stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    def _goes_on(self) -> bool:
        for task in self._tasks:
            if task.done():
                task.result()
        return True

    async def _lane(self, *, stream: bool) -> None:
        while not self._stop.is_set():
            self._asked += 1
            text = f"turn-{self._asked}"
            refused = await (self._streamed(text) if stream else self._whole(text))
            if not refused:
                self.succeeded += 1
                continue
            self.refused.append(f"{text}: {refused}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PAUSE_S)

    async def _streamed(self, text: str) -> str:
        stream = await DialectStream(self._client, CHAT, said(f"say {text}")).done()
        if stream.status != 200:
            return str(stream.refusal["error"]["message"])
        assert stream.end in ("done", "error"), f"{text} ended with neither [DONE] nor an error"
        if stream.end == "done":
            assert stream.text == text
        return "" if stream.end == "done" else "an error in the stream"

    async def _whole(self, text: str) -> str:
        path, body = CHAT.request(said(f"say {text}"), stream=False)
        response = await self._client.post(path, json=body)
        if response.status_code != 200:
            return str(response.json()["error"]["message"])
        assert CHAT.text(response.json()) == text
        return ""


async def talking(streams: list[DialectStream]) -> None:
    await until(lambda: all(len(numbers(stream.text)) >= 3 for stream in streams), "every stream to talk")


async def go_on(streams: list[DialectStream]) -> None:
    """Each of them says more."""
    said_so_far = [len(numbers(stream.text)) for stream in streams]
    await until(
        lambda: all(
            len(numbers(s.text)) > before + 3 for s, before in zip(streams, said_so_far, strict=True)
        ),
        "every stream to go on",
        8,
    )


# -- sentinels --------------------------------------------------------------------------------------------


async def test_a_master_killed_under_load_is_replaced(tmp_path: Path) -> None:
    """Streams end legally, turns succeed again soon, nothing is asked twice and no lease is left."""
    with watched() as redis:
        async with processes(tmp_path, redis.url) as replica, http(replica) as client:
            slow = [DialectStream(client, CHAT, said("count slowly from 1 to 200")) for _ in range(4)]
            load = Load(client, lanes=4)
            await load.answered(10)
            await talking(slow)
            redis.master.kill()
            await until(redis.failed_over, "the replica to be the master", 15)
            await load.answered(10, HEALS_WITHIN_S)
            await load.stop()
            for stream in slow:
                await stream.done(30)
                assert stream.end in ("done", "error")
                if stream.end == "done":
                    assert numbers(stream.text) == list(range(1, 201))
            for streamed in (False, True):
                assert await ask(client, CHAT, said("say healed"), stream=streamed) == "healed"
            await until(redis.idle, "every lease and slot to be free")
    no_ask_twice(tmp_path)


# -- a Cluster --------------------------------------------------------------------------------------------


async def test_streams_go_on_while_the_slots_they_are_kept_in_move(tmp_path: Path) -> None:
    buckets = sorted(key_slot(key) for key in Keys(buckets=CLUSTER_BUCKETS).wakes("any"))
    with cluster() as redis:
        async with processes(tmp_path, redis.url) as replica, http(replica) as client:
            streams = [DialectStream(client, CHAT, said("count slowly from 1 to 150")) for _ in range(8)]
            await talking(streams)
            moved = 0
            for slot in buckets:
                moved += await asyncio.to_thread(redis.move, slot, (redis.owner_of(slot) + 1) % 3)
            assert moved >= 2 * len(streams), "the turns were kept elsewhere: nothing was tested"
            assert all(not stream.end for stream in streams), "they ended before everything had moved"
            for stream in streams:
                await stream.done(30)
                assert (stream.end, numbers(stream.text)) == ("done", list(range(1, 151)))
            for streamed in (False, True):
                assert await ask(client, CHAT, said("say moved"), stream=streamed) == "moved"
            await until(redis.idle, "every lease and slot to be free")
    no_ask_twice(tmp_path)


async def test_turns_stream_while_the_slots_they_are_kept_in_stay_half_moved(tmp_path: Path) -> None:
    """Before any key has moved and after all have: those that run go on, others begin and end."""
    buckets = sorted(key_slot(key) for key in Keys(buckets=CLUSTER_BUCKETS).wakes("any"))
    commands = key_slot(Keys(buckets=CLUSTER_BUCKETS).commands("worker"))
    with cluster() as redis:
        async with processes(tmp_path, redis.url) as replica, http(replica) as client:
            streams = [DialectStream(client, CHAT, said("count slowly from 1 to 800")) for _ in range(8)]
            await talking(streams)
            # All to one node: several that take slots at once may end up disagreeing, it seems.
            target = (redis.owner_of(commands) + 1) % 3
            owners = {slot: redis.owner_of(slot) for slot in (*buckets, commands)}
            moves = [(slot, source) for slot, source in owners.items() if source != target]
            for slot, source in moves:
                redis.begin_to_move(slot, source, target)
            load = Load(client, lanes=4)
            await go_on(streams)
            await load.answered(20)
            for slot, source in moves:
                await asyncio.to_thread(redis.move_keys, slot, source, target)
            await go_on(streams)
            await load.answered(20)
            assert all(not stream.end for stream in streams), (
                "they ended before the moves: nothing was tested"
            )
            for slot, _ in moves:
                redis.end_move(slot, target)
            await until(lambda: all(redis.agree_on(slot, target) for slot, _ in moves), "the nodes to agree")
            await load.answered(10)
            await load.stop()
            assert load.refused == []
            for stream in streams:
                await stream.done(30)
                assert (stream.end, numbers(stream.text)) == ("done", list(range(1, 801)))
            await until(redis.idle, "every lease and slot to be free")
    no_ask_twice(tmp_path)


async def test_turns_succeed_while_the_slots_of_leases_and_of_commands_move(tmp_path: Path) -> None:
    """That of the leases is long on its way: there its keys are, or are not, where turns are admitted."""
    keys = Keys(buckets=CLUSTER_BUCKETS)
    leases, commands = key_slot(keys.inflight), key_slot(keys.commands("worker"))
    with cluster() as redis:
        async with processes(tmp_path, redis.url) as replica, http(replica) as client:
            load = Load(client, lanes=4)
            await load.answered(10)
            source = redis.owner_of(leases)
            target = (source + 1) % 3
            redis.begin_to_move(leases, source, target)
            await load.answered(10)
            await asyncio.to_thread(redis.move_keys, leases, source, target)
            await load.answered(10)
            redis.end_move(leases, target)
            await load.answered(10)
            moved = await asyncio.to_thread(redis.move, commands, (redis.owner_of(commands) + 1) % 3)
            assert moved >= 2, "there is neither a worker nor its commands"
            await load.answered(10)
            await load.stop()
            assert load.refused == []
            await until(redis.idle, "every lease and slot to be free")
    no_ask_twice(tmp_path)


# -- TLS --------------------------------------------------------------------------------------------------


async def test_turns_through_redis_behind_tls(tmp_path: Path) -> None:
    pem, port = certificate(tmp_path), free_port()
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={pem}"
    with RedisServer() as redis:
        async with (
            tls_in_front(port, redis.port, pem),
            processes(tmp_path, url) as replica,
            http(replica) as client,
        ):
            for streamed in (False, True):
                assert await ask(client, CHAT, said("say secret"), stream=streamed) == "secret"


async def test_redis_whose_certificate_is_not_trusted_is_named_as_the_reason(tmp_path: Path) -> None:
    """The process starts and tells of it; it is not ready, refuses turns at once and ends when told."""
    (stranger := tmp_path / "stranger").mkdir()
    pem, port = certificate(tmp_path), free_port()
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate(stranger)}"
    with RedisServer() as redis, serve(tmp_path, url) as replica:
        async with tls_in_front(port, redis.port, pem), http(replica) as client:
            await until(lambda: "certificate verify failed" in replica.log, "the reason in the log")
            assert '"link.connect_failed"' in replica.log
            ready = await until(lambda: asyncio.to_thread(get_json, f"{replica.url}/readyz"), "an answer")
            assert ready == {"ready": False, "reason": "store_unavailable"}
            path, body = CHAT.request(said("say no"), stream=True)
            response = await client.post(path, json=body, timeout=10)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "store_unavailable"
            assert await asyncio.to_thread(replica.stop, 15) == 0
