"""One list of models against the official SDKs of two vendors, on `lingma-gateway up`."""

import anthropic
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from tests.support.processes import Service, get_json

pytestmark = pytest.mark.conformance


def theirs(live: Service) -> Anthropic:
    return Anthropic(base_url=live.url, api_key="any", max_retries=0, timeout=60)


def ours(live: Service) -> OpenAI:
    return OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0, timeout=60)


def test_both_sdks_list_the_same_models_and_the_default_comes_first(live: Service) -> None:
    with ours(live) as client:
        listed = [model.id for model in client.models.list()]
    with theirs(live) as client:
        described = list(client.models.list())
    assert [model.id for model in described] == listed
    assert listed[0] == "org_auto"
    assert described[0].display_name == "Auto"
    assert all(model.lifecycle == "active" and model.created_at.year == 1970 for model in described)
    assert all((model.max_input_tokens or 0) > 0 for model in described)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_anthropics_sdk_turns_the_pages_to_the_end(live: Service, limit: int) -> None:
    with theirs(live) as client:
        whole = [model.id for model in client.models.list()]
        assert [model.id for model in client.models.list(limit=limit)] == whole
        backwards = client.models.list(limit=limit, before_id=whole[-1])
        pages = [page.data for page in backwards.iter_pages()]
    assert [model.id for page in reversed(pages) for model in page] == whole[:-1]


def test_both_sdks_find_one_model(live: Service) -> None:
    with ours(live) as client:
        assert client.models.retrieve("kmodel").owned_by == "lingma"
    with theirs(live) as client:
        assert client.models.retrieve("kmodel").display_name == "Kimi-K2.6"


def test_each_sdk_raises_its_own_not_found(live: Service) -> None:
    with ours(live) as client, pytest.raises(openai.NotFoundError) as openais:
        client.models.retrieve("no-such-model")
    assert openais.value.code == "model_not_found"
    with theirs(live) as client, pytest.raises(anthropic.NotFoundError) as anthropics:
        client.models.retrieve("no-such-model")
    assert anthropics.value.type == "not_found_error"
    with theirs(live) as client, pytest.raises(anthropic.BadRequestError, match="limit"):
        client.models.list(limit=0)


def test_codexs_catalogue_stands_beside_the_list_on_both_paths(live: Service) -> None:
    lists = [get_json(f"{live.url}{path}?client_version=0.169.0") for path in ("/v1/models", "/models")]
    assert lists[0] == lists[1]
    assert [entry["slug"] for entry in lists[0]["models"]] == [entry["id"] for entry in lists[0]["data"]]
    reasons = {entry["slug"]: bool(entry["supported_reasoning_levels"]) for entry in lists[0]["models"]}
    assert reasons["kmodel"]
    assert not reasons["org_auto"]
