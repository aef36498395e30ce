import pytest

from gateway.app import build_app
from tests.support.edge import FakeDeps, call


async def test_the_root_says_who_is_there() -> None:
    reply = await call(build_app(FakeDeps(keys="k")), "GET", "/")
    assert reply.status == 200
    assert reply.json.keys() == {"name", "version"}
    assert reply.json["name"] == "lingma-gateway"


async def test_cv_68_claude_code_finds_the_root_with_a_head() -> None:
    """Given Claude Code's HEAD / without a key: expect 200."""
    assert (await call(build_app(FakeDeps(keys="k")), "HEAD", "/")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_the_root_is_only_looked_at(method: str) -> None:
    reply = await call(build_app(FakeDeps()), method, "/")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
