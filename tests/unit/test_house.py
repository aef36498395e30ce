"""Rules of the house that no linter knows, held by reading the source.

What an exemption is good for is said where it is granted.
"""

import ast
import importlib.util
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.routing import BaseRoute, Match, Router
from starlette.types import ASGIApp

from gateway.app import build_app
from gateway.environ import leaves
from gateway.settings import GatewaySettings
from scripts import docs_losses, docs_metrics
from scripts.docs_logging import log_calls
from tests.support.edge import FakeDeps
from workers.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "workers")

# -- exemptions -------------------------------------------------------------------------------------------

TESTED_ELSEWHERE = {
    "gateway/store/kv.py": "tests/contract/test_kv.py",
    "gateway/store/kv_memory.py": "tests/contract/test_kv.py",
    "gateway/store/kv_redis.py": "tests/contract/test_kv.py",
    "gateway/store/leases.py": "tests/contract/test_leases.py",
    "gateway/store/leases_memory.py": "tests/contract/test_leases.py",
    "gateway/store/leases_redis.py": "tests/contract/test_leases.py",
    "gateway/store/streams.py": "tests/contract/test_streams.py",
    "gateway/store/streams_memory.py": "tests/contract/test_streams.py",
    "gateway/store/streams_redis.py": "tests/contract/test_streams.py",
    "gateway/store/turnlog.py": "tests/contract/test_turnlog.py",
    "gateway/store/turnlog_memory.py": "tests/contract/test_turnlog.py",
    "gateway/store/turnlog_redis.py": "tests/contract/test_turnlog.py",
    "gateway/sessions/store.py": "tests/contract/test_sessions.py",
    "gateway/sessions/store_memory.py": "tests/contract/test_sessions.py",
    "gateway/sessions/store_redis.py": "tests/contract/test_sessions.py",
    "gateway/__main__.py": "tests/e2e/test_command.py",
    "workers/simulator/__main__.py": "tests/unit/workers/simulator/test_server.py",
    "gateway/allinone.py": "tests/e2e/test_command.py",
    "gateway/cli.py": "tests/e2e/test_command.py",
    "gateway/serving.py": "tests/e2e/test_command.py",
    "gateway/container.py": "tests/e2e/test_conversations.py",
    "workers/__main__.py": "tests/e2e/test_faults.py",
    "workers/embedded.py": "tests/e2e/test_command.py",
}
"""Ports and their implementations have one contract suite for all of a kind; composition roots are tested as
processes.
"""

NO_TEST_OF_ITS_OWN = {
    "gateway/turn/items.py": "data without behaviour",
    "gateway/turn/losses.py": "data without behaviour",
    "gateway/turn/ports.py": "protocols without behaviour",
    "gateway/turn/request.py": "data without behaviour",
    "gateway/jobs/messages.py": "data without behaviour; test_codec.py puts every message on the wire",
    "gateway/replay/limits.py": "figures without behaviour",
    "workers/bootstrap/errors.py": "names without behaviour",
    "workers/lingma/config.py": "data without behaviour",
    "workers/lingma/errors.py": "names without behaviour",
    "workers/ports.py": "protocols without behaviour",
}

NAMED_LIKE_THE_STANDARD_LIBRARY = {
    "gateway/kernel/json.py": "hides nothing: its folder is never on sys.path",
    "gateway/protocols/http.py": "hides nothing: its folder is never on sys.path",
    "gateway/upstreams/http.py": "hides nothing: its folder is never on sys.path",
}

BROAD_EXCEPTS = {
    "gateway/engine/run.py": "a defect in one turn must end as that turn's failure",
    "gateway/protocols/middleware.py": "a defect before any answer is told to the client, and raised on",
    "gateway/upstreams/attempt.py": "what an upstream sends costs its attempt and nothing else",
    "workers/consumer.py": "a defect in one command must not stop the others",
    "workers/supervisor.py": "a defect in one part must not stop the process",
    "gateway/kernel/aio.py": "background loops are restarted, whatever ended them",
}

LONG_MODULES: dict[str, str] = {}
LONG_TESTS = {
    "tests/matrix/gallery.py": "one list of streams, which every client's encoder is shown",
}
LONG_FUNCTIONS: dict[str, str] = {
    "gateway/container.py:open_deps": "one list of what a replica is made of, in order, without a branch",
}
MODULE_LINES = 400
MIRROR_LINES = 650
"""Of the one test module that a source module has."""
FUNCTION_LINES = 60

# -- reading ----------------------------------------------------------------------------------------------


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the product by its path from the root."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found[path.relative_to(ROOT).as_posix()] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def lines_of(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def walk(path: str) -> Iterator[ast.AST]:
    return ast.walk(sources()[path])


def imported(path: str) -> Iterator[str]:
    """Full names of what a module imports, wherever in it."""
    for node in walk(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_pure(path: str) -> bool:
    """Same input, same output: the vocabulary, the wire, and what adapters do between them."""
    folder, _, name = path.rpartition("/")
    if folder.startswith(("gateway/turn", "gateway/wire")):
        return True
    adapters = folder.startswith(("gateway/protocols/", "gateway/upstreams/"))
    return adapters and name in ("decode.py", "encode.py", "parse.py", "request.py", "errors.py")


def tracked() -> list[str]:
    """Text files of the project, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    return [
        name for name in listed if (ROOT / name).is_file() and not name.endswith((".lock", ".png", ".gz"))
    ]


# -- tests and sizes --------------------------------------------------------------------------------------


def test_every_module_has_its_test_module() -> None:
    missing = []
    for path, tree in sources().items():
        if path in NO_TEST_OF_ITS_OWN or not tree.body[1:]:
            continue
        folder, _, name = path.rpartition("/")
        expected = TESTED_ELSEWHERE.get(path, f"tests/unit/{folder}/test_{name.strip('_').replace('__', '')}")
        if not (ROOT / expected).is_file():
            missing.append(f"{path} -> {expected}")
    assert missing == []


def test_exemptions_name_modules_that_exist() -> None:
    exempt = {
        *TESTED_ELSEWHERE,
        *NO_TEST_OF_ITS_OWN,
        *NAMED_LIKE_THE_STANDARD_LIBRARY,
        *BROAD_EXCEPTS,
        *LONG_MODULES,
        *(name.partition(":")[0] for name in LONG_FUNCTIONS),
    }
    assert sorted(exempt - sources().keys()) == []


def test_modules_are_of_readable_size() -> None:
    long = {path: lines_of(path) for path in sources() if lines_of(path) > MODULE_LINES}
    assert long.keys() == LONG_MODULES.keys(), long


def test_modules_of_tests_are_of_readable_size() -> None:
    """Below tests/unit each is as long as what it mirrors asks for, within reason."""
    long = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        lines = lines_of(name)
        if lines > (MIRROR_LINES if name.startswith("tests/unit/") else MODULE_LINES):
            long[name] = lines
    assert long.keys() == LONG_TESTS.keys(), long


def test_functions_are_of_readable_size() -> None:
    long = {}
    for path in sources():
        for node in walk(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    long[f"{path}:{node.name}"] = length
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_every_module_says_what_it_is() -> None:
    assert [path for path, tree in sources().items() if not ast.get_docstring(tree)] == []


def test_packages_hold_no_code_in_their_init() -> None:
    full = [path for path, tree in sources().items() if path.endswith("/__init__.py") and tree.body[1:]]
    assert full == []


# -- names ------------------------------------------------------------------------------------------------


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    # `antigravity` is a joke that nobody imports, and here the name of an upstream.
    library = sys.stdlib_module_names - {"antigravity"}
    named = [
        path
        for path in sources()
        if (stem := Path(path).stem) in library
        and not stem.startswith("__")
        and path not in NAMED_LIKE_THE_STANDARD_LIBRARY
    ]
    folders = {Path(path).parent.as_posix() for path in sources()}
    named += [folder for folder in folders if Path(folder).name in library]
    assert named == []


def test_only_the_catalogue_formats_keys() -> None:
    key = re.compile(r"(?:^|[^\w])(?:lg|cpa):")
    found = []
    for path in sources():
        if path == "gateway/store/keys.py":
            continue
        for node in walk(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
                if key.search(text) and "\n" not in text:
                    found.append(f"{path}:{node.lineno}")
    assert found == []


def test_log_events_are_named_area_verb() -> None:
    named = re.compile(r"[a-z_]+\.[a-z_]+")
    odd = [f"{c.module}: {c.event}" for c in log_calls() if not named.fullmatch(c.event)]
    assert odd == []


def test_log_fields_do_not_clash_with_those_of_a_record() -> None:
    """The standard library refuses `extra` fields that a record has already: a KeyError when it matters."""
    taken = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "level", "logger", "ts"}
    clashing = [f"{c.module}: {c.event} {set(c.fields) & taken}" for c in log_calls()]
    assert [entry for entry in clashing if not entry.endswith("set()")] == []


# -- purity and errors ------------------------------------------------------------------------------------


def test_pure_modules_do_not_wait() -> None:
    waiting = [
        path
        for path in sources()
        if is_pure(path)
        and any(isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) for node in walk(path))
    ]
    assert waiting == []


def test_pure_modules_ask_no_clock_and_no_dice_and_do_not_log() -> None:
    banned = {"time", "datetime", "random", "secrets", "logging", "os", "asyncio"}
    banned |= {"gateway.kernel.clock", "gateway.kernel.aio", "gateway.kernel.ids.new_hex"}
    impure = [
        f"{path} imports {name}"
        for path in sources()
        if is_pure(path)
        for name in imported(path)
        if name in banned
    ]
    assert impure == []


def test_broad_excepts_are_where_they_are_allowed() -> None:
    broad = [
        f"{path}:{node.lineno}"
        for path in sources()
        if path not in BROAD_EXCEPTS
        for node in walk(path)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _only_cleans_up(node)
    ]
    assert broad == []


def _only_cleans_up(handler: ast.ExceptHandler) -> bool:
    """`except BaseException:` that ends in a bare `raise` swallows nothing, not even a cancellation."""
    last = handler.body[-1]
    everything = isinstance(handler.type, ast.Name) and handler.type.id == "BaseException"
    return everything and isinstance(last, ast.Raise) and last.exc is None


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in names)


# -- who imports whom -------------------------------------------------------------------------------------


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "0 broken" in result.stdout, result.stdout


def test_workers_import_of_the_gateway_only_what_both_share() -> None:
    shared = ("gateway.jobs", "gateway.store", "gateway.telemetry", "gateway.kernel", "gateway.environ")
    strangers = {
        f"{path} imports {name}"
        for path in sources()
        if path.startswith("workers/")
        for name in imported(path)
        if name.startswith("gateway") and not f"{name}.".startswith(tuple(f"{s}." for s in shared))
    }
    assert sorted(strangers) == []


SHARED = {"openai"}
"""Packages that no client is served by: what Chat Completions and Responses have in common."""


@pytest.mark.parametrize("layer", ["gateway/protocols", "gateway/upstreams"])
def test_adapters_do_not_import_their_siblings(layer: str) -> None:
    packages = {p.name for p in (ROOT / layer).iterdir() if (p / "__init__.py").is_file()} - SHARED
    dotted = layer.replace("/", ".")
    crossing = {
        f"{path} imports {name}"
        for path in sources()
        if path.startswith(f"{layer}/") and (own := path.split("/")[2]) in packages
        for name in imported(path)
        for sibling in packages - {own}
        if f"{name}.".startswith(f"{dotted}.{sibling}.")
    }
    assert sorted(crossing) == []


# -- documents --------------------------------------------------------------------------------------------


@cache
def render_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_docs", ROOT / "scripts" / "render_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_documents_are_current() -> None:
    """`make docs` writes them."""
    assert [path.relative_to(ROOT).as_posix() for path in render_docs().drifted()] == []


def test_the_page_of_log_events_knows_the_ones_whose_level_varies() -> None:
    levels = {call.event: call.level for call in log_calls()}
    assert levels["heartbeat.store"] == "info or warning"


def test_every_loss_is_explained() -> None:
    """In MEANING of scripts/docs_losses.py, which has no others either."""
    assert docs_losses.MEANING.keys() == docs_losses.told_by().keys()


def test_every_metric_is_explained() -> None:
    """By its HELP line, or in MEANING of scripts/docs_metrics.py, which has no others."""
    shown = [row for text in docs_metrics.expositions() for row in docs_metrics.rows(text)]
    assert [row.name for row in shown if not row.meaning] == []
    assert docs_metrics.MEANING.keys() <= {row.name for row in shown}


def test_every_setting_is_read_somewhere() -> None:
    trees = ("gateway/settings.py", "gateway/settings_turns.py", "gateway/settings_upstreams.py")
    text = "\n".join(
        (ROOT / path).read_text(encoding="utf-8")
        for path in sources()
        if path.startswith("gateway/") and path not in trees
    )
    derived = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in trees)
    unread = {
        leaf.env
        for leaf in leaves(GatewaySettings)
        if not re.search(rf"\b{leaf.section}\.{leaf.field_name}\b", text)
        and not re.search(rf"\bself\.{leaf.field_name}\b", derived)
    }
    assert unread == set()


def test_every_setting_of_a_worker_is_read_somewhere() -> None:
    text = "\n".join(
        (ROOT / path).read_text(encoding="utf-8") for path in sources() if path.startswith("workers/")
    )
    unread = [
        leaf.env
        for leaf in leaves(WorkerSettings)
        if not re.search(rf"\b(?:settings|self)\.{leaf.field_name}\b", text)
    ]
    assert unread == []


def test_nothing_is_left_for_later_in_comments() -> None:
    marks = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
    assert list(_grep(marks)) == []


def test_no_file_speaks_of_a_machine_or_of_papers_outside_the_project() -> None:
    foreign = re.compile(
        r"(?<![\w./-])/(?:work|root|home/\w+)/|\bdesign"
        r"\.md|\bspecs"
        r"/|\bshared"
        r"/|\btoolchain"
        r"\.md"
        r"|\bpeers-and-"
        r"costs|\bcoding-"
        r"clients\.md|\bexemplars"
        r"\.md"
    )
    assert list(_grep(foreign)) == []


def _grep(pattern: re.Pattern[str]) -> Iterator[str]:
    for name in tracked():
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{name}:{number}: {line.strip()[:120]}"


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
    broken = [
        f"{name} -> {target}"
        for name in tracked()
        if name.endswith(".md")
        for target in link.findall((ROOT / name).read_text(encoding="utf-8"))
        if not ((ROOT / name).parent / target).exists()
    ]
    assert broken == []


# -- the page of endpoints --------------------------------------------------------------------------------


def told_paths() -> set[str]:
    """Every path that the page names as being there."""
    page = (ROOT / "docs/reference/endpoints.md").read_text(encoding="utf-8").partition("## Not there")[0]
    return {path.replace("{model}", "m") for path in re.findall(r"`(?:GET |POST )?(/[^`\s]*)`", page)}


@cache
def served_routes() -> Sequence[BaseRoute]:
    """Those of a replica, found below its middleware."""
    routers = []

    class Deps(FakeDeps):
        def instrument(self, app: ASGIApp) -> ASGIApp:
            inner: Any = app
            while not isinstance(inner, Router):
                inner = vars(inner).get("app") or vars(inner)["_app"]
            routers.append(inner)
            return app

    build_app(Deps())
    return routers[0].routes


def takes(route: BaseRoute, path: str) -> bool:
    """Whether the route is for that path, whatever is asked and whosever client asks."""
    scope = {"path": path, "root_path": "", "headers": [(b"x-goog-api-key", b"k")]}
    kinds = [{"type": "websocket"}, *({"type": "http", "method": method} for method in ("GET", "POST"))]
    return any(route.matches(scope | kind)[0] is Match.FULL for kind in kinds)


def test_every_route_is_on_the_page_of_endpoints_and_no_other() -> None:
    told, routes = told_paths(), served_routes()
    workers = set(re.findall(r'case b"(/\w+)":', (ROOT / "workers/health.py").read_text(encoding="utf-8")))
    assert workers
    assert [route for route in routes if not any(takes(route, path) for path in told)] == []
    assert workers - told == set()
    assert [path for path in told if not any(takes(route, path) for route in routes)] == []
