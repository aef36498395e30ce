"""What the folders of examples/ tell people to run, run as they are."""

from pathlib import Path

import pytest

from tests.clients.conftest import Gateway
from tests.clients.harness import Cli
from tests.clients.tap import Tap

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("name", ["codex", "claude-code", "gemini-cli"])
def test_an_example_runs_as_it_is(name: str, tmp_path: Path, gateway: Gateway) -> None:
    client = Cli(name, tmp_path)
    with Tap(gateway.port) as tap:
        run = client.run(EXAMPLES / name / "run.sh", GATEWAY_URL=tap.url, GATEWAY_KEY="key-of-the-examples")
    assert run.code == 0, run.all
    assert run.out.split() == ["hello", "goodbye"], run.all
    assert {seen.status for seen in tap.seen} == {200}
    for seen in tap.seen:
        keys = (seen.headers.get("authorization"), seen.headers.get("x-goog-api-key"))
        assert set(keys) & {"Bearer key-of-the-examples", "key-of-the-examples"}, seen
    gateway.turns(2)
    assert list(client.home.iterdir()) == [], "a trial leaves the home of its user alone"
