"""Write what the Helm chart holds that comes from elsewhere. --check: exit 1 on drift.

    helm/files/settings.json     names that `config` may hold, by process, from the settings of the code
    helm/values.schema.json      types from values.yaml, the settings, and what SHAPES below says further
    helm/README.md               the table of values between its two marks, from the comments of values.yaml

In values.yaml the comment right above a key explains it; `# -- ` begins a chapter. A mapping with explained
keys inside is a branch, every other key a value that has to be explained. `make chart` writes the files,
tests/deploy holds them against this.
"""

import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

import yaml

from gateway.environ import Leaf, Section, leaves
from gateway.settings import GatewaySettings
from scripts import generated
from scripts.generated import ROOT
from workers.settings import WorkerSettings

CHART = ROOT / "helm"
BEGIN, END = "<!-- values: begin (make chart) -->", "<!-- values: end -->"

Json: TypeAlias = dict[str, Any]

SET_BY_THE_CHART = frozenset(
    {"HOST", "PORT", "WORKER_HOST", "WORKER_PORT", "WORKER_ID", "DRAIN_LISTEN_S", "DRAIN_DEADLINE_S"}
    | {"KEY_FILE", "UPSTREAMS_FILE"}
)
ONE_FOR_EACH_POD = frozenset({"REPLICA_ID"})
"""A name that all replicas shared would mix them up."""

TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "array", "items": {"type": "string", "minLength": 1}}
MAP: Json = {"type": "object"}
TEXT_MAP: Json = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECTS: Json = {"type": "array", "items": {"type": "object"}}
COUNT: Json = {"type": "integer", "minimum": 0}
SOME: Json = {"type": "integer", "minimum": 1}
SHARE: Json = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+%?$"}
PULL: Json = {"enum": ["Always", "IfNotPresent", "Never"]}
DIGEST: Json = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
SPAN: Json = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
QUANTITIES: Json = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
RESOURCES: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": QUANTITIES, "limits": QUANTITIES, "claims": OBJECTS},
}
ENV: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": {"type": "string", "minLength": 1}, "value": TEXT, "valueFrom": MAP},
    },
}

SHAPES: Json = {
    "drain.deadlineSeconds": {"type": "number", "exclusiveMinimum": 0},
    "drain.listenSeconds": {"type": "number", "minimum": 0},
    "auth.apiKeys": TEXTS,
    "stateKeys.values": {
        "type": "array",
        "items": {"type": "string", "pattern": "^[^:,]+:[A-Za-z0-9+/=_-]+$"},
    },
    "upstreams.codexApiKeys": TEXTS,
    "upstreams.antigravityApiKeys": TEXTS,
    "keyFile.content": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"keys": OBJECTS},
    },
    "lingma.accounts": {"type": ["string", "array"], "items": {"type": "object"}},
    "redis.url": {
        "type": "string",
        "pattern": r"^$|^rediss?(\+sentinel|\+cluster)?://",
    },
    "worker.kind": {"enum": ["StatefulSet", "DaemonSet"]},
    "worker.podManagementPolicy": {"enum": ["Parallel", "OrderedReady"]},
    "worker.antiAffinity": {"enum": ["required", "preferred", "none"]},
    "worker.persistence.size": {"type": "string", "pattern": "^[0-9.]+([KMGTPE]i?)?$"},
    "worker.persistence.accessModes": TEXTS | {"minItems": 1},
    "worker.persistence.retention": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "whenDeleted": {"enum": ["Retain", "Delete"]},
            "whenScaled": {"enum": ["Retain", "Delete"]},
        },
    },
    "gateway.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "gateway.service.port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "gateway.strategy": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "type": {"enum": ["RollingUpdate", "Recreate"]},
            "rollingUpdate": {"type": ["object", "null"]},
        },
    },
    "gateway.keda.targetInFlight": SOME,
    "worker.keda.targetTurns": SOME,
    "gateway.autoscaling.behavior": MAP,
    "ingress.annotations": TEXT_MAP,
    "ingress.hosts": TEXTS | {"minItems": 1},
    "httpRoute.hostnames": TEXTS,
    "httpRoute.timeouts": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"request": SPAN, "backendRequest": SPAN},
    },
    "monitoring.prometheusRule.failedRatio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "monitoring.prometheusRule.firstTokenSeconds": {"type": "number", "exclusiveMinimum": 0},
    "monitoring.prometheusRule.lagSeconds": {"type": "number", "exclusiveMinimum": 0},
    "monitoring.prometheusAddress": {"type": "string", "pattern": "^(https?://.+)?$"},
    "tracing.endpoint": {"type": "string", "pattern": "^(https?://.+)?$"},
    "tracing.protocol": {"enum": ["http/protobuf"]},
    "tracing.sampler": {
        "enum": [
            "",
            *("always_on", "always_off", "traceidratio"),
            *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
        ]
    },
    "tracing.resourceAttributes": TEXT_MAP,
}
"""What a default does not show, by value."""

SHAPES_BY_NAME: Json = {
    "resources": RESOURCES,
    "extraEnv": ENV,
    "labels": TEXT_MAP,
    "annotations": TEXT_MAP,
    "commonLabels": TEXT_MAP,
    "podLabels": TEXT_MAP,
    "podAnnotations": TEXT_MAP,
    "nodeSelector": TEXT_MAP,
    "maxUnavailable": SHARE,
    "pullPolicy": PULL,
    "digest": DIGEST,
    "maxReplicas": SOME,
    "interval": SPAN,
}
"""The same, for values of one meaning in several places."""


class Value(NamedTuple):
    path: str
    default: Any
    meaning: str
    chapter: str


# -- values.yaml ------------------------------------------------------------------------------------------


def read_values() -> Json:
    loaded = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def read_comments() -> tuple[dict[str, str], dict[str, str]]:
    """By path: what its comment says, and the chapter it is in."""
    meanings: dict[str, str] = {}
    chapters: dict[str, str] = {}
    pending: list[str] = []
    stack: list[tuple[int, str]] = []
    chapter = ""
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            chapter, pending = text.removeprefix("# -- "), []
        elif text.startswith("#"):
            pending.append(text.lstrip("# "))
        elif found := re.match(r"^( *)([\w.-]+):(?: |$)", line):
            indent = len(found[1])
            stack = [(depth, name) for depth, name in stack if depth < indent] + [(indent, found[2])]
            path = ".".join(name for _, name in stack)
            chapters[path] = chapter
            if pending:
                meanings[path] = " ".join(pending)
            pending = []
        else:
            pending = []
    return meanings, chapters


def all_values() -> Iterator[Value]:
    """Every value in the order of the file. Raises ValueError for one without a comment."""
    meanings, chapters = read_comments()

    def below(node: Json, prefix: str) -> Iterator[Value]:
        for name, default in node.items():
            path = f"{prefix}{name}"
            if isinstance(default, dict) and any(known.startswith(f"{path}.") for known in meanings):
                yield from below(default, f"{path}.")
            elif path in meanings:
                yield Value(path, default, meanings[path], chapters[path])
            else:
                raise ValueError(f"values.yaml: nothing explains {path}")

    yield from below(read_values(), "")


def table() -> str:
    lines: list[str] = []
    chapter = ""
    for value in all_values():
        if value.chapter != chapter:
            chapter = value.chapter
            lines += ["", f"### {chapter}", "", "| value | default | meaning |", "|---|---|---|"]
        default = json.dumps(value.default, ensure_ascii=False).replace("|", "\\|")
        meaning = value.meaning.replace("|", "\\|")
        lines.append(f"| `{value.path}` | `{default}` | {meaning} |")
    return "\n".join(lines).strip()


# -- settings ---------------------------------------------------------------------------------------------


def config_leaves() -> dict[str, list[Leaf]]:
    """Settings that `config` may hold, by process: neither secrets nor what the chart decides."""
    barred = SET_BY_THE_CHART | ONE_FOR_EACH_POD
    roots: dict[str, type[Section]] = {"gateway": GatewaySettings, "worker": WorkerSettings}
    return {
        process: [leaf for leaf in leaves(root) if not leaf.file_variant and leaf.env not in barred]
        for process, root in roots.items()
    }


def settings_json() -> str:
    names = {process: sorted(leaf.env for leaf in found) for process, found in config_leaves().items()}
    return json.dumps(names, indent=2) + "\n"


def config_schema() -> Json:
    properties = {
        leaf.env: {"description": leaf.field.description, **setting_shape(leaf.field.annotation)}
        for found in config_leaves().values()
        for leaf in found
    }
    return {"type": "object", "additionalProperties": False, "properties": dict(sorted(properties.items()))}


def setting_shape(annotation: Any) -> Json:
    """Texts are always fine: variables are nothing else."""
    found = set(_parts(annotation))
    words = sorted(part for part in found if isinstance(part, str))
    if words:
        return {"enum": words}
    for kind, name in ((bool, "boolean"), (float, "number"), (int, "integer"), (dict, "object")):
        if kind in found:
            return {"type": [name, "string"]}
    return dict(TEXT)


def _parts(annotation: Any) -> Iterator[Any]:
    """Plain types and the words of literals in it."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from get_args(annotation)
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    elif hasattr(annotation, "__metadata__"):
        yield from _parts(annotation.__origin__)
    else:
        yield origin or annotation


# -- the schema -------------------------------------------------------------------------------------------


def schema_json() -> str:
    known = {value.path: value for value in all_values()}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart lingma-gateway",
        **_branch(read_values(), "", known),
    }
    # Helm puts it there when the chart is part of another one.
    schema["properties"]["global"] = dict(MAP)
    unused = SHAPES.keys() - known.keys()
    if unused:
        raise ValueError(f"SHAPES of {sorted(unused)}: no such values")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _branch(node: Json, prefix: str, known: dict[str, Value]) -> Json:
    properties: Json = {}
    for name, default in node.items():
        path = f"{prefix}{name}"
        if path in known:
            properties[name] = {"description": known[path].meaning, **_shape(path, name, default)}
        else:
            properties[name] = _branch(default, f"{path}.", known)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _shape(path: str, name: str, default: Any) -> Json:
    if path == "config":
        return config_schema()
    shape = SHAPES.get(path) or SHAPES_BY_NAME.get(name)
    if shape is not None:
        return dict(shape)
    if isinstance(default, bool):
        return {"type": "boolean"}
    if isinstance(default, int):
        return dict(COUNT)
    if isinstance(default, list):
        return dict(OBJECTS)
    return dict(MAP if isinstance(default, dict) else TEXT)


# -- files ------------------------------------------------------------------------------------------------


def readme() -> str:
    text = (CHART / "README.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"helm/README.md has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def files() -> dict[Path, str]:
    """Every generated file with what it must hold."""
    return {
        CHART / "files" / "settings.json": settings_json(),
        CHART / "values.schema.json": schema_json(),
        CHART / "README.md": readme(),
    }


def drifted() -> list[Path]:
    """Generated files that are not what the code and values.yaml say."""
    return generated.stale(files())


def main(arguments: list[str]) -> int:
    """Write what has changed, or with --check only say so."""
    texts = files()
    return generated.write_or_check(generated.stale(texts), texts, arguments, "chart")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
