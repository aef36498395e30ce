"""That the harness sees what it is there to see."""

import sys
from pathlib import Path

import pytest

from tests.clients.harness import Cli

pytestmark = pytest.mark.clients

CALL_OUT = "import urllib.request as r\ntry: r.urlopen('http://example.invalid/x')\nexcept OSError: pass"


def test_a_client_that_calls_somebody_else_fails_its_test(tmp_path: Path) -> None:
    client = Cli("codex", tmp_path)
    with pytest.raises(AssertionError, match=r"GET http://example\.invalid/x"):
        client.run(sys.executable, "-c", CALL_OUT)


def test_a_client_that_does_not_end_fails_its_test_and_leaves_nothing(tmp_path: Path) -> None:
    client = Cli("codex", tmp_path)
    with pytest.raises(pytest.fail.Exception, match="did not end within"):
        client.run("sh", "-c", "sleep 77 & echo started $!; wait", within_s=0.5)
