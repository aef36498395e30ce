from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from gateway.catalog import Catalog
from gateway.engine.routing import KnownModel, Target
from gateway.protocols.models import DEFAULT_CONTEXT_WINDOW


class Lingma:
    """What workers offer; nothing when nobody is logged in."""

    def __init__(self, *models: KnownModel) -> None:
        self._models = models

    def models(self) -> Sequence[KnownModel]:
        return self._models


def pool(name: str, *models: KnownModel, images: bool = True) -> Any:
    executor = SimpleNamespace(capabilities=SimpleNamespace(images=images))
    return SimpleNamespace(name=name, executor=executor, models=lambda: models)


AUTO = KnownModel(key="org_auto", display_name="Auto")
KIMI = KnownModel(key="kmodel", display_name="Kimi", vision=True, reasoning=True, max_input_tokens=64_000)
GPT = KnownModel(key="gpt-5.2", display_name="GPT", vision=True, max_input_tokens=400_000)


def catalog(lingma: Lingma, *pools: Any, routes: Any = None, aliases: Any = None) -> Catalog:
    return Catalog(lingma, pools, routes or {}, default="org_auto", aliases=aliases or {})  # type: ignore[arg-type]


async def names(subject: Catalog) -> list[str]:
    return [entry.id for entry in await subject.list()]


async def test_the_default_comes_first_and_aliases_last() -> None:
    subject = catalog(Lingma(KIMI, AUTO), pool("openai", GPT), aliases={"sonnet": "gpt-5.2", "opus": "Kimi"})
    assert await names(subject) == ["org_auto", "kmodel", "gpt-5.2", "sonnet", "opus"]
    entries = {entry.id: entry for entry in await subject.list()}
    assert entries["gpt-5.2"].owned_by == entries["sonnet"].owned_by == "openai"
    assert entries["sonnet"].context_window == 400_000
    assert entries["opus"].context_window == 64_000
    assert entries["opus"].display_name == "Kimi"


async def test_nobody_logged_in_leaves_the_default() -> None:
    assert await names(catalog(Lingma())) == ["org_auto"]


async def test_a_default_that_an_upstream_serves_is_its_own() -> None:
    (entry,) = await catalog(Lingma(), pool("openai", KnownModel(key="org_auto"))).list()
    assert entry.owned_by == "openai"


async def test_images_need_a_model_and_a_way_that_take_them() -> None:
    entries = {e.id: e for e in await catalog(Lingma(KIMI), pool("openai", GPT)).list()}
    assert (entries["kmodel"].images, entries["gpt-5.2"].images) == (False, True)
    assert not (await catalog(Lingma(), pool("old", GPT, images=False)).list())[-1].images


async def test_a_route_is_listed_as_what_it_tries_first() -> None:
    targets = [Target(upstream="lingma", model="kmodel", rank=1), Target(upstream="openai", model="gpt-5.2")]
    entries = {
        e.id: e
        for e in await catalog(Lingma(AUTO, KIMI), pool("openai", GPT), routes={"best": targets}).list()
    }
    assert (entries["best"].owned_by, entries["best"].context_window) == ("openai", 400_000)
    elsewhere = await catalog(Lingma(AUTO), routes={"odd": [Target(upstream="x", model="y")]}).list()
    assert elsewhere[-1].context_window == DEFAULT_CONTEXT_WINDOW
