from prometheus_client import CollectorRegistry, generate_latest

from gateway.telemetry.sockets import SocketCounts


def test_a_scraper_is_told() -> None:
    registry = CollectorRegistry()
    counts = SocketCounts()
    registry.register(counts)
    counts.open = 2
    counts.remembered_bytes = lambda: 7
    counts.messages["processed"] += 3
    counts.closed["drain"] += 1
    told = generate_latest(registry).decode()
    for line in (
        "gateway_websockets_open 2.0",
        "gateway_websockets_remembered_bytes 7.0",
        'gateway_websocket_messages_total{kind="processed"} 3.0',
        'gateway_websockets_closed_total{reason="drain"} 1.0',
    ):
        assert f"\n{line}\n" in told
