"""The local HTTP port."""

import http.client
from collections.abc import Iterator

import pytest

from tests.unit.workers.simulator.harness import Client, Simulator, simulator


def get(sim: Simulator, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", sim.http_port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def test_the_callback_logs_in_once(sim: Simulator, peer: Client) -> None:
    sim.turn(login="auto", logged_in=False)
    link = await peer.result("login/generateUrl")
    assert f"port={sim.http_port}" in link["loginUrl"]
    state = f"2-{link['nonce']}"
    assert get(sim, f"/auth/callback?state={state}&auth=a&token=t")[0] == 200
    await peer.until(lambda: any(push["method"] == "auth/report" for push in peer.pushes), "auth/report")
    assert (await peer.result("auth/status"))["status"] == 2
    assert get(sim, f"/auth/callback?state={state}")[0] == 400
    sim.wait_log("Invalid login nonce or consumed, ignore")
    await peer.result("auth/logout")


async def test_the_profile_page_tells_who_is_there(sim: Simulator, peer: Client) -> None:
    url = (await peer.result("auth/profile/getUrl"))["url"]
    assert url.startswith(f"http://127.0.0.1:{sim.http_port}/profile?state=")
    sim.turn(login="in")
    assert "dev-17" in get(sim, "/profile")[1]
    sim.turn(login="out")
    assert get(sim, "/profile") == (200, "<!doctype html><meta charset=utf-8><p>Not signed in</p>\n")


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/", "GET", 404), ("/auth/start", "GET", 200), ("/profile", "POST", 405)]
)
def test_other_requests(sim: Simulator, path: str, method: str, status: int) -> None:
    assert get(sim, path, method)[0] == status


def test_a_line_that_is_no_request_is_refused(sim: Simulator) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", sim.http_port), timeout=10) as raw:
        raw.sendall(b"hello\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.fixture
def taken(sim: Simulator) -> Iterator[int]:
    yield sim.http_port


def test_a_taken_port_is_replaced(taken: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    with simulator(tmp_path_factory.mktemp("second"), "--httpPort", str(taken)) as second:
        assert second.http_port != taken
        assert get(second, "/auth/start")[0] == 200
