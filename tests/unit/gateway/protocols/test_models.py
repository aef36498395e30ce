from typing import Any

import pytest
from openai.types import Model

from gateway.access.keys import ApiKey, KeyRing
from gateway.access.tiers import Tiers
from gateway.app import build_app
from gateway.kernel.errors import StoreUnavailable
from gateway.protocols.models import ModelEntry
from tests.support.edge import FakeCatalog, FakeDeps, Reply, call

ENTRIES = (
    ModelEntry(id="org_auto", display_name="Auto", created=7, owned_by="lingma"),
    ModelEntry(id="vendor/coder"),
)


async def get(path: str, deps: FakeDeps | None = None, **headers: str) -> Reply:
    deps = deps or FakeDeps(catalog=FakeCatalog(*ENTRIES))
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(build_app(deps), "GET", path, headers=names)


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models?limit=1000"])
async def test_the_list_is_openais_with_what_anthropics_clients_look_for(path: str) -> None:
    reply = await get(path)
    assert reply.status == 200
    assert reply.json == {
        "object": "list",
        "data": [
            {
                "id": "org_auto",
                "object": "model",
                "created": 7,
                "owned_by": "lingma",
                "name": "Auto",
                "type": "model",
                "display_name": "Auto",
            },
            {
                "id": "vendor/coder",
                "object": "model",
                "created": 0,
                "owned_by": "",
                "name": "vendor/coder",
                "type": "model",
                "display_name": "vendor/coder",
            },
        ],
        "has_more": False,
        "first_id": "org_auto",
        "last_id": "vendor/coder",
    }
    for entry in reply.json["data"]:
        Model.model_validate(entry)


async def test_an_empty_catalog_is_an_empty_list() -> None:
    reply = await get("/v1/models", FakeDeps())
    assert (reply.json["data"], reply.json["first_id"]) == ([], None)


@pytest.mark.parametrize("model", ["org_auto", "vendor/coder"])
async def test_one_model_is_found_by_its_id(model: str) -> None:
    reply = await get(f"/v1/models/{model}")
    assert (reply.status, reply.json["id"]) == (200, model)


@pytest.mark.parametrize("model", ["nope", "Org_Auto", ""])
async def test_an_unknown_model_is_404(model: str) -> None:
    reply = await get(f"/v1/models/{model}")
    assert reply.status == 404
    assert reply.json["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer k1"}, {"x_api_key": "k1"}, {"x_api_key": "k1", "authorization": "x"}],
)
async def test_the_list_opens_to_keys_in_either_header(headers: dict[str, str]) -> None:
    deps = FakeDeps(keys="k1", catalog=FakeCatalog(*ENTRIES))
    assert (await get("/v1/models", deps, **headers)).status == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer k2"}, {"x_api_key": "k2"}])
async def test_without_a_good_key_the_list_is_closed(headers: dict[str, str]) -> None:
    deps = FakeDeps(keys="k1", catalog=FakeCatalog(*ENTRIES))
    for path in ("/v1/models", "/v1/models/org_auto"):
        reply = await get(path, deps, **headers)
        assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key")


async def test_a_key_bound_to_models_sees_only_those() -> None:
    deps = FakeDeps(catalog=FakeCatalog(*ENTRIES))
    key: Any = ApiKey.of("k1")
    deps.tiers = Tiers(KeyRing([ApiKey(digest=key.digest, models=("org_auto",))]))
    reply = await get("/v1/models", deps, authorization="Bearer k1")
    assert [entry["id"] for entry in reply.json["data"]] == ["org_auto"]
    assert (await get("/v1/models/vendor/coder", deps, authorization="Bearer k1")).status == 404


async def test_a_catalog_that_fails_is_an_error_in_the_envelope() -> None:
    deps = FakeDeps()
    deps.catalog.error = StoreUnavailable("the store did not answer")
    reply = await get("/v1/models", deps)
    assert (reply.status, reply.json["error"]["code"]) == (503, "store_unavailable")
