"""What is odd about configured upstreams that no rule of the file could tell: keys, files, names of models.

For `check-config` and for the log of a start. Nothing is asked over the network, and no value is told.
"""

from collections.abc import Iterator, Mapping

from gateway.kernel.errors import UpstreamUnavailable
from gateway.upstreams.config import LINGMA, RouteConfig, UpstreamConfig, UpstreamsConfig
from gateway.upstreams.credentials import Credential


def summaries(config: UpstreamsConfig) -> Iterator[str]:
    """A line for each upstream and each route."""
    for one in config.upstreams:
        credentials = ", ".join(credential.id for credential in one.credentials)
        models = ", ".join(model.id for model in one.models)
        told = "; pseudonyms for clients' ids" if one.pseudonyms else ""
        yield f"upstream {one.name} ({one.kind}): credentials {credentials}; models {models}{told}"
    for route in config.routes:
        ranked = sorted(route.candidates, key=lambda candidate: candidate.rank)
        candidates = ", ".join(
            f"{candidate.upstream}/{candidate.model or '*'} (rank {candidate.rank}"
            f"{''.join(f', {one}' for one in candidate.credentials)})"
            for candidate in ranked
        )
        yield f"route {', '.join(route.models)}: {candidates}"


def problems(config: UpstreamsConfig, environ: Mapping[str, str]) -> Iterator[str]:
    for upstream in config.upstreams:
        yield from _of_upstream(upstream, environ)
    offered = {one.name: {model.id for model in one.models} for one in config.upstreams}
    for route in config.routes:
        yield from _of_route(route, offered)


def _of_upstream(upstream: UpstreamConfig, environ: Mapping[str, str]) -> Iterator[str]:
    for one in upstream.credentials:
        credential = Credential(upstream.name, one, environ)
        where = f"variable {one.api_key_env}" if one.api_key_env else f"file {one.api_key_file}"
        where = "field api_key" if one.api_key is not None else where
        try:
            credential.headers(default="bearer")
        except UpstreamUnavailable:
            yield f"upstream {upstream.name}: credential {one.id}: the {where} holds no key"
    if upstream.ca_file is not None and not upstream.ca_file.is_file():
        yield f"upstream {upstream.name}: there is no file {upstream.ca_file} (ca_file)"


def _of_route(route: RouteConfig, offered: Mapping[str, set[str]]) -> Iterator[str]:
    for candidate in route.candidates:
        if candidate.upstream == LINGMA:
            continue
        for model in [candidate.model] if candidate.model else route.models:
            if model not in offered[candidate.upstream]:
                yield (
                    f"route {', '.join(route.models)}: upstream {candidate.upstream} lists no model '{model}'"
                )
