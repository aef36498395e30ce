"""What clients may ask for: the models of Lingma's workers, of HTTP upstreams, routes and aliases.

A part of the composition root: routing and the models pages see it through ports of their own.
"""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.engine.routing import KnownModel, Target, Upstream, resolve
from gateway.jobs.directory import Directory
from gateway.protocols.models import DEFAULT_CONTEXT_WINDOW, ModelEntry
from gateway.upstreams.lingma.executor import LingmaExecutor


class LingmaModels:
    """What the live workers offer."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def models(self) -> Sequence[KnownModel]:
        found: dict[str, KnownModel] = {}
        for candidate in self._directory.candidates():
            for model in candidate.instance.models:
                found.setdefault(
                    model.key,
                    KnownModel(
                        key=model.key,
                        display_name=model.display_name,
                        vision=model.vision,
                        reasoning=model.reasoning,
                        default=model.default,
                        max_input_tokens=model.max_input_tokens,
                        in_chat=not model.scenes or "chat" in model.scenes,
                    ),
                )
        return list(found.values())


class Catalog:
    """Names in the order of their weight: the default model, the others, routes, aliases."""

    def __init__(
        self,
        lingma: LingmaModels,
        upstreams: Sequence[Upstream],
        routes: Mapping[str, Sequence[Target]],
        *,
        default: str,
        aliases: Mapping[str, str],
    ) -> None:
        self._lingma = lingma
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._routes = routes
        self._default = default
        self._aliases = aliases

    async def list(self) -> Sequence[ModelEntry]:
        """Nobody logged in: of Lingma the default model alone."""
        entries = self._of_lingma()
        for upstream in self._upstreams.values():
            for model in upstream.models():
                images = model.vision and upstream.executor.capabilities.images
                entries.setdefault(model.key, _entry(model.key, model, upstream.name, images=images))
        for name, targets in self._routes.items():
            if (found := self._first(targets, entries)) is not None:
                entries.setdefault(name, _renamed(found, name))
        known = self._lingma.models() or [KnownModel(key=self._default)]
        for alias, target in self._aliases.items():
            key = resolve(alias, known, aliases=self._aliases, default=self._default).key
            found = entries.get(target) or entries.get(key)
            if found is not None:
                entries.setdefault(alias, _renamed(found, alias, display_name=target))
        return sorted(entries.values(), key=lambda entry: entry.id != self._default)

    def _of_lingma(self) -> dict[str, ModelEntry]:
        known = self._lingma.models()
        if not known:
            known = () if self._served_elsewhere(self._default) else [KnownModel(key=self._default)]
        images = LingmaExecutor.capabilities.images
        return {
            model.key: _entry(model.key, model, LingmaExecutor.name, images=model.vision and images)
            for model in known
        }

    def _served_elsewhere(self, name: str) -> bool:
        return name in self._routes or any(
            model.key == name for upstream in self._upstreams.values() for model in upstream.models()
        )

    def _first(self, targets: Sequence[Target], entries: Mapping[str, ModelEntry]) -> ModelEntry | None:
        """What is known of the candidate that is tried first."""
        for target in sorted(targets, key=lambda target: target.rank):
            if (found := entries.get(target.model)) is not None:
                return found
        return next(iter(entries.values()), None)


def _entry(name: str, model: KnownModel, owner: str, *, images: bool) -> ModelEntry:
    return ModelEntry(
        id=name,
        display_name=model.display_name,
        owned_by=owner,
        reasoning=model.reasoning,
        images=images,
        context_window=model.max_input_tokens or DEFAULT_CONTEXT_WINDOW,
    )


def _renamed(entry: ModelEntry, name: str, *, display_name: str | None = None) -> ModelEntry:
    shown = entry.display_name if display_name is None else display_name
    return msgspec.structs.replace(entry, id=name, display_name=shown)
