from typing import Any

import msgspec
import pytest
from google.genai import types

from gateway.access.keys import ApiKey, KeyRing
from gateway.access.tiers import Tiers
from gateway.app import build_app
from gateway.kernel.errors import StoreUnavailable
from gateway.protocols.models import ModelEntry
from tests.support.edge import FakeCatalog, FakeDeps, Reply, call

ENTRIES = (
    ModelEntry(id="org_auto", display_name="Auto", owned_by="lingma", context_window=1000, reasoning=True),
    ModelEntry(id="vendor/coder:free"),
    ModelEntry(id="third"),
)
METHODS = ["generateContent", "streamGenerateContent", "countTokens"]


async def get(path: str, deps: FakeDeps | None = None, **headers: str) -> Reply:
    deps = deps or FakeDeps(catalog=FakeCatalog(*ENTRIES))
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(build_app(deps), "GET", path, headers=names)


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [model["name"] for model in reply.json["models"]]


@pytest.mark.parametrize("version", ["v1beta", "v1beta1"])
async def test_the_list_is_as_google_writes_it(version: str) -> None:
    reply = await get(f"/{version}/models")
    assert names(reply) == ["models/org_auto", "models/vendor/coder:free", "models/third"]
    assert reply.json["models"][0] == {
        "name": "models/org_auto",
        "baseModelId": "org_auto",
        "version": "1",
        "displayName": "Auto",
        "description": "Auto",
        "inputTokenLimit": 1000,
        "supportedGenerationMethods": METHODS,
        "thinking": True,
    }
    assert "nextPageToken" not in reply.json


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("org_auto", "models/org_auto"),
        ("models/org_auto", "models/org_auto"),
        ("vendor/coder:free", "models/vendor/coder:free"),
    ],
)
async def test_one_model(path: str, name: str) -> None:
    reply = await get(f"/v1beta/models/{path}")
    assert reply.status == 200
    model: Any = reply.json
    types.Model.model_validate(
        {
            key: value
            for key, value in model.items()
            if key not in ("baseModelId", "supportedGenerationMethods")
        }
    )
    assert model["name"] == name


async def test_an_unknown_model_is_not_found() -> None:
    reply = await get("/v1beta/models/none")
    assert reply.status == 404
    assert reply.json["error"]["status"] == "NOT_FOUND"


async def test_a_list_comes_in_pages() -> None:
    found: list[str] = []
    token = ""
    for _ in range(3):
        reply = await get(f"/v1beta/models?pageSize=1&pageToken={token}")
        found += names(reply)
        token = reply.json.get("nextPageToken", "")
    assert found == ["models/org_auto", "models/vendor/coder:free", "models/third"]
    assert token == ""


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("pageSize=2", 2),
        ("page_size=2", 2),
        ("pageSize=0", 3),
        ("pageSize=99999999999999999999", 3),
        ("pageSize=", 3),
        ("filter=x&queryBase=true", 3),
    ],
)
async def test_sizes_of_pages(query: str, count: int) -> None:
    assert len(names(await get(f"/v1beta/models?{query}"))) == count


@pytest.mark.parametrize(
    ("query", "field"),
    [("pageSize=x", "pageSize"), ("pageSize=-1", "pageSize"), ("pageToken=none", "pageToken")],
)
async def test_pages_that_do_not_exist(query: str, field: str) -> None:
    reply = await get(f"/v1beta/models?{query}")
    assert reply.status == 400
    assert reply.json["error"]["details"][1]["fieldViolations"][0]["field"] == field


async def test_a_key_sees_what_it_may_use() -> None:
    deps = FakeDeps(catalog=FakeCatalog(*ENTRIES))
    deps.tiers = Tiers(KeyRing([msgspec.structs.replace(ApiKey.of("k"), models=("third",))]))
    assert names(await get("/v1beta/models", deps, x_goog_api_key="k")) == ["models/third"]
    assert (await get("/v1beta/models/org_auto", deps, x_goog_api_key="k")).status == 404
    assert names(await get("/v1beta/models?key=k", deps)) == ["models/third"]
    for path in ("/v1beta/models", "/v1beta/models/third"):
        reply = await get(path, deps)
        assert (reply.status, reply.json["error"]["status"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"x_goog_api_client": "google-genai-sdk/3"}, ""), ({"x_goog_api_key": "any"}, ""), ({}, "?key=any")],
)
async def test_googles_clients_get_their_list_at_v1_too(headers: dict[str, str], query: str) -> None:
    deps = FakeDeps(catalog=FakeCatalog(*ENTRIES))
    assert names(await get(f"/v1/models{query}", deps, **headers))[0] == "models/org_auto"
    assert (await get(f"/v1/models/third{query}", deps, **headers)).json["name"] == "models/third"
    assert (await get("/v1/models", deps)).json["object"] == "list"


async def test_a_catalog_that_fails_is_told() -> None:
    deps = FakeDeps()
    deps.catalog.error = StoreUnavailable("gone")
    reply = await get("/v1beta/models", deps)
    assert (reply.status, reply.json["error"]["status"]) == (503, "UNAVAILABLE")


async def test_only_get_is_allowed() -> None:
    reply = await call(build_app(FakeDeps()), "PATCH", "/v1beta/models/org_auto")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert reply.json["error"]["code"] == 405
