"""The page of log events, read from the source. Used by render_docs.py."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

INTRO = """
One JSON object a line on stderr; readable lines where stderr is a terminal. Every record has `ts` (UTC),
`level`, `event` and `logger`; within a request also `request_id`, and `trace_id` while it is traced. The
event is a name, `area.verb`, to filter and alert on; its fields are listed here. Bodies, prompts, keys
and tokens are in no field, and what looks like a credential is replaced by `[redacted]`. Records of
Hypercorn and of other libraries take the same way with a sentence for an event. `LOG_LEVEL` says what is
logged: `serve` and `work` begin at INFO, `up` at WARNING.
"""

_LEVELS = ("debug", "info", "warning", "error", "critical")
Assigned = Mapping[str, ast.expr]
"""What names stand for in a function, where they are assigned once or last."""


class LogCall(NamedTuple):
    event: str
    level: str
    module: str
    fields: tuple[str, ...]


def log_calls() -> Iterator[LogCall]:
    """Every call of a logger in the product, from its source. The simulator is a foreign program."""
    for path in sorted([*ROOT.glob("gateway/**/*.py"), *ROOT.glob("workers/**/*.py")]):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not module.startswith("workers.simulator"):
            yield from _calls_in(ast.parse(path.read_text(encoding="utf-8")), module, {})


def _calls_in(node: ast.AST, module: str, names: Assigned) -> Iterator[LogCall]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = {**names, **_assigned(node)}
    for child in ast.iter_child_nodes(node):
        yield from _calls_in(child, module, names)
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)) if method != "isEnabledFor":
            yield _log_call(node, method, module, names)


def _assigned(function: ast.AST) -> dict[str, ast.expr]:
    return {
        node.targets[0].id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _log_call(call: ast.Call, method: str, module: str, names: Assigned) -> LogCall:
    """Raises ValueError for a call that cannot be told: the page must not be silent about any."""
    where = f"{module}:{call.lineno}"
    if method == "log":
        level, event = _level(call.args[0], names, where), call.args[1]
    else:
        level, event = {"exception": "error"}.get(method, method), call.args[0]
        if level not in _LEVELS:
            raise ValueError(f"{where}: log.{method} is none of the levels")
    if not (isinstance(event, ast.Constant) and isinstance(event.value, str)):
        raise ValueError(f"{where}: the event is no plain text")
    extra = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
    fields = tuple(name for value in extra for name in _fields(value, names, where))
    return LogCall(event.value, level, module, fields)


def _level(value: ast.expr, names: Assigned, where: str) -> str:
    match value:
        case ast.Name(id=name) if name in names:
            return _level(names[name], names, where)
        case ast.Attribute(value=ast.Name(id="logging"), attr=level) if level.lower() in _LEVELS:
            return level.lower()
        case ast.IfExp(body=one, orelse=other):
            found = {_level(one, names, where), _level(other, names, where)}
            return " or ".join(sorted(found, key=_LEVELS.index))
    raise ValueError(f"{where}: the level cannot be read from the source")


def _fields(value: ast.expr, names: Assigned, where: str) -> list[str]:
    match value:
        case ast.Dict(keys=keys):
            return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*_fields(left, names, where), *_fields(right, names, where)]
        case ast.Name(id=name) if name in names:
            return _fields(names[name], names, where)
    raise ValueError(f"{where}: the fields cannot be read from the source")


def logging_page(prose: list[str]) -> str:
    lines = [
        "# Log events",
        "",
        *prose,
        "",
        "| event | level | module | fields |",
        "|---|---|---|---|",
    ]
    for call in sorted(set(log_calls())):
        fields = ", ".join(f"`{name}`" for name in call.fields)
        lines.append(f"| `{call.event}` | {call.level} | `{call.module}` | {fields} |")
    return "\n".join(lines) + "\n"
