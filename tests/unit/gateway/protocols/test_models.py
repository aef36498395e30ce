from typing import Any, Literal

import pytest
from anthropic.pagination import SyncPage
from anthropic.types import ModelInfo
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Model
from starlette.routing import Router

from gateway.access.keys import ApiKey, KeyRing
from gateway.access.tiers import Tiers
from gateway.app import build_app
from gateway.kernel.errors import InvalidRequest, StoreUnavailable
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer
from gateway.protocols.chat.routes import CHAT
from gateway.protocols.endpoint import Edge
from gateway.protocols.models import DEFAULT_CONTEXT_WINDOW, MAX_PAGE, ModelEntry, model_routes, page_of
from gateway.turn.events import ErrorInfo
from tests.support.edge import FakeCatalog, FakeDeps, Reply, call

ENTRIES = (
    ModelEntry(
        id="org_auto", display_name="Auto", created=7, owned_by="lingma", reasoning=True, context_window=9000
    ),
    ModelEntry(id="vendor/coder"),
)
MANY = tuple(ModelEntry(id=f"m{number}") for number in range(7))
VERSION = {"anthropic-version": "2023-06-01"}


async def get(path: str, deps: FakeDeps | None = None, **headers: str) -> Reply:
    deps = deps or FakeDeps(catalog=FakeCatalog(*ENTRIES))
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(build_app(deps), "GET", path, headers=names)


# -- the list, as each client reads it --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models?client_version=0.169.0", "/models?x="])
async def test_every_path_gives_the_same_list_and_it_is_openais(path: str) -> None:
    reply = await get(path)
    assert reply.status == 200
    assert reply.body == (await get("/v1/models")).body
    assert reply.json["object"] == "list"
    models = [Model.model_validate(entry) for entry in reply.json["data"]]
    assert [(model.id, model.created, model.owned_by) for model in models] == [
        ("org_auto", 7, "lingma"),
        ("vendor/coder", 0, ""),
    ]


async def test_an_entry_is_what_openais_and_anthropics_clients_look_for() -> None:
    assert (await get("/v1/models")).json["data"][0] == {
        "id": "org_auto",
        "object": "model",
        "created": 7,
        "owned_by": "lingma",
        "name": "Auto",
        "context_window": 9000,
        "type": "model",
        "display_name": "Auto",
        "created_at": "1970-01-01T00:00:07Z",
        "lifecycle": "active",
        "max_input_tokens": 9000,
    }


async def test_the_list_is_a_page_of_anthropics() -> None:
    page = SyncPage[ModelInfo].model_validate((await get("/v1/models")).json)
    assert [(model.id, model.display_name, model.type) for model in page.data] == [
        ("org_auto", "Auto", "model"),
        ("vendor/coder", "vendor/coder", "model"),
    ]
    assert (page.has_more, page.first_id, page.last_id) == (False, "org_auto", "vendor/coder")
    assert page.data[0].created_at.timestamp() == 7
    assert page.data[1].max_input_tokens == DEFAULT_CONTEXT_WINDOW


async def test_cv_62_the_list_holds_codexs_catalogue_beside_openais() -> None:
    """Given a Codex with command auth that asks /models: with only `data` it logs an error; with `models` and
    `data` the catalogue is used.
    """
    body = (await get("/v1/models?client_version=0.169.0")).json
    assert [entry["slug"] for entry in body["models"]] == [entry["id"] for entry in body["data"]]


async def test_cv_63_no_etag_that_codex_would_compare_is_sent() -> None:
    """Given an x-models-etag that Codex does not know: it asks /models after each such answer. Send the same
    everywhere, or none.
    """
    for path in ("/v1/models", "/v1/models/org_auto"):
        assert not {"x-models-etag", "etag"} & (await get(path)).headers.keys()


async def test_cv_64_a_doctor_without_a_key_is_refused_and_breaks_nothing() -> None:
    """Given `codex doctor`, which asks /models without a key: no 5xx."""
    closed = FakeDeps(keys="k1", catalog=FakeCatalog(*ENTRIES))
    for path in ("/v1/models", "/models"):
        assert (await get(path, closed)).status == 401
        assert (await call(build_app(closed), "HEAD", path)).status == 401
        assert (await get(path)).status == 200


async def test_an_empty_catalog_is_an_empty_list() -> None:
    body = (await get("/v1/models", FakeDeps())).json
    assert (body["data"], body["models"], body["first_id"], body["last_id"]) == ([], [], None, None)
    assert body["has_more"] is False


# -- one model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["org_auto", "vendor/coder"])
@pytest.mark.parametrize("headers", [{}, {"anthropic_version": "2023-06-01"}])
async def test_one_model_is_found_by_its_id(model: str, headers: dict[str, str]) -> None:
    reply = await get(f"/v1/models/{model}", **headers)
    assert reply.status == 200
    assert Model.model_validate(reply.json).id == model
    assert ModelInfo.model_validate(reply.json).id == model


@pytest.mark.parametrize("model", ["nope", "Org_Auto", ""])
async def test_an_unknown_model_is_404(model: str) -> None:
    reply = await get(f"/v1/models/{model}")
    assert reply.status == 404
    assert reply.json["error"]["code"] == "model_not_found"


# -- whose envelope ---------------------------------------------------------------------------------------


class OtherEnvelope:
    """A protocol that only knows errors."""

    encoder: Any = None
    result: Any = None

    def error(self, error: ErrorInfo, *, status: int | None = None) -> Answer:
        return Answer(status or 418, dumps({"other": error.kind}))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 418),
        ("GET", "/models/org_auto", 418),
        ("GET", "/v1/models/nope", 418),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_errors_come_in_the_envelope_of_whose_client_it_is(method: str, path: str, status: int) -> None:
    deps = FakeDeps(keys="k1", catalog=FakeCatalog(*ENTRIES))
    edge = Edge(engine=deps.engine, tiers=deps.tiers, clock=deps.clock, limits=deps.limits)
    app = Router(model_routes(edge, deps.catalog, openai=CHAT, anthropic=OtherEnvelope()))
    theirs = await call(app, method, path, headers=VERSION)
    assert (theirs.status, list(theirs.json)) == (status, ["other"])
    ours = await call(app, method, path)
    assert (ours.status, list(ours.json)) == (401 if method == "GET" else 405, ["error"])


async def test_anthropics_clients_get_anthropics_errors() -> None:
    closed = FakeDeps(keys="k1", catalog=FakeCatalog(*ENTRIES))
    refused = await get("/v1/models", closed, **{"anthropic_version": "2023-06-01"})
    assert (refused.status, refused.json["error"]["type"]) == (401, "authentication_error")
    missing = await get("/v1/models/nope", closed, **{"anthropic_version": "2023-06-01", "x_api_key": "k1"})
    assert (missing.status, missing.json["error"]["type"]) == (404, "not_found_error")


# -- keys -------------------------------------------------------------------------------------------------


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
    body = (await get("/v1/models", deps, authorization="Bearer k1")).json
    assert [entry["id"] for entry in body["data"]] == ["org_auto"]
    assert [entry["slug"] for entry in body["models"]] == ["org_auto"]
    assert (await get("/v1/models/vendor/coder", deps, authorization="Bearer k1")).status == 404


async def test_a_catalog_that_fails_is_an_error_in_the_envelope() -> None:
    deps = FakeDeps()
    deps.catalog.error = StoreUnavailable("the store did not answer")
    reply = await get("/v1/models", deps)
    assert (reply.status, reply.json["error"]["code"]) == (503, "store_unavailable")


# -- pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ({}, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"], False),
        ({"limit": "1000"}, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"], False),
        ({"limit": "7"}, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"], False),
        ({"limit": "2"}, ["m0", "m1"], True),
        ({"limit": "2", "after_id": "m1"}, ["m2", "m3"], True),
        ({"limit": "2", "after_id": "m4"}, ["m5", "m6"], False),
        ({"after_id": "m6"}, [], False),
        ({"limit": "2", "before_id": "m5"}, ["m3", "m4"], True),
        ({"limit": "2", "before_id": "m2"}, ["m0", "m1"], False),
        ({"before_id": "m0"}, [], False),
    ],
)
def test_a_page_begins_after_or_ends_before_its_cursor(
    query: dict[str, str], ids: list[str], has_more: bool
) -> None:
    page = page_of(MANY, query)
    assert ([entry.id for entry in page.entries], page.has_more) == (ids, has_more)


@given(st.integers(1, 9), st.sampled_from(["after_id", "before_id"]))
def test_pages_in_either_direction_are_the_whole_list(
    limit: int, cursor: Literal["after_id", "before_id"]
) -> None:
    """As the SDK asks: the next page begins at the last or first id of the one before."""
    edge = {"after_id": (MANY[:1], MANY[1:]), "before_id": (MANY[-1:], MANY[:-1])}
    seen, rest = edge[cursor]
    while True:
        at = seen[-1] if cursor == "after_id" else seen[0]
        page = page_of(MANY, {"limit": str(limit), cursor: at.id})
        found = tuple(page.entries)
        seen = seen + found if cursor == "after_id" else found + seen
        if not page.has_more:
            break
    assert seen == MANY
    assert len(rest) == len(MANY) - 1


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": str(MAX_PAGE + 1)}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"after_id": "gone"}, "after_id"),
        ({"before_id": "gone"}, "before_id"),
        ({"after_id": "m1", "before_id": "m3"}, "before_id"),
    ],
)
def test_a_page_that_cannot_be_is_refused_by_its_parameter(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page_of(MANY, query)
    assert caught.value.param == param


async def test_a_page_is_told_as_one() -> None:
    deps = FakeDeps(catalog=FakeCatalog(*MANY))
    body = (await get("/v1/models?limit=2&after_id=m1", deps)).json
    assert (body["first_id"], body["last_id"], body["has_more"]) == ("m2", "m3", True)
    assert [entry["slug"] for entry in body["models"]] == ["m2", "m3"]
    refused = await get("/v1/models?limit=0", deps)
    assert (refused.status, refused.json["error"]["param"]) == (400, "limit")
