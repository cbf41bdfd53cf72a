"""The rooms and their floors, read from the import statements of the source. ``docs/design.md`` tells the reasons."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))

FLOORS = (
    {"errors"},
    {"options", "reading", "files", "backends", "launching", "processes", "alive"},
    {"api"},
    {"hookspecs", "hooks", "local", "plugins", "building", "registry", "blame", "labels", "settings", "config"},
    {"nn", "data", "matrix", "decisions", "versions"},
    {"training", "evaluation", "outputs"},
    {"sweep"},
    {"cli", "testing"},
    {"__init__", "__main__"},
)
"""Rooms of ``ganzoo`` from the ground up. A room imports from the floors below it, and sideways only as listed next."""
SIDEWAYS = {
    ("plugins", "hookspecs"),
    ("plugins", "local"),
    ("building", "hooks"),
    ("building", "blame"),
    ("registry", "building"),
    ("registry", "local"),
    ("registry", "plugins"),
    ("hooks", "hookspecs"),
    ("launching", "alive"),
    ("launching", "files"),
    ("launching", "processes"),
    ("plugins", "hooks"),
    ("blame", "plugins"),
    ("blame", "registry"),
    ("labels", "registry"),
    ("config", "labels"),
    ("config", "registry"),
    ("config", "settings"),
    ("data", "nn"),
    ("training", "outputs"),  # a run draws its sample grids
    ("outputs", "training"),  # an export reads a run
    ("evaluation", "outputs"),
    ("outputs", "evaluation"),  # a card tells the results
    ("evaluation", "training"),
    ("training", "evaluation"),
    ("__main__", "__init__"),
}
FOR_PLUGINS = ("ganzoo.api", "ganzoo.nn", "ganzoo.data", "ganzoo.testing")
HEAVY = {"torch", "torchvision", "torch_fidelity"}
LIGHT = re.compile(
    r"ganzoo(\.(errors|options|reading|files|alive|processes|backends|launching|api|hookspecs|hooks|local|plugins|building|registry|blame|labels"
    r"|settings|config|matrix|decisions|versions|cli.*|data(\.naming)?|evaluation(\.(result|facts|compare|cell|cache))?|sweep.*|__main__))?"
)
"""Modules that never import torch, not even through what they import; plugin packages are light too."""
IMPORT_NAMES = {"pillow": "PIL", "torch-fidelity": "torch_fidelity"}


@dataclass(frozen=True)
class Import:
    """``module`` is imported by ``importer``, either when that loads or within a function."""

    importer: str
    module: str
    on_load: bool


@cache
def modules() -> dict[str, Path]:
    """Name -> file of all modules of the core and of the built-in plugins."""
    found = {}
    for base, package in ((ROOT, "ganzoo"), *((ROOT / "plugins", name) for name in PLUGINS)):
        for path in (base / package).rglob("*.py"):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import that can happen; those for type checkers alone are left out."""
    return tuple(
        Import(name, target, on_load)
        for name, path in modules().items()
        for node, on_load in _walk(ast.parse(path.read_text(encoding="utf-8")), on_load=True)
        for target in _targets(node)
    )


def _walk(node: ast.AST, *, on_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _walk(other, on_load=on_load)
            continue
        yield child, on_load
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _walk(child, on_load=on_load and not inside)


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module is not None
        submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
        yield from submodules
        if len(submodules) < len(node.names):
            yield node.module


def room_of(module: str) -> str:
    """The room of the core that a module is in; ``ganzoo`` itself is the room ``__init__``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(room: str) -> int:
    found = [level for level, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"the room {room!r} is on no floor; add it to FLOORS and to docs/design.md"
    return found[0]


def is_core(module: str) -> bool:
    return module.partition(".")[0] == "ganzoo"


def test_every_room_has_a_floor() -> None:
    assert {room_of(name) for name in modules() if is_core(name)} <= set().union(*FLOORS)


def test_nothing_imports_upwards_and_sideways_only_as_listed() -> None:
    wrong = []
    for found in imports():
        if not (is_core(found.importer) and is_core(found.module)) or found.module == "ganzoo":
            continue  # ``from ganzoo import __version__``: the public face is lazy
        here, there = room_of(found.importer), room_of(found.module)
        upwards = floor_of(there) > floor_of(here)
        aside = floor_of(there) == floor_of(here) and here != there and (here, there) not in SIDEWAYS
        if upwards or aside:
            wrong.append(f"{found.importer} imports {found.module}")
    assert not wrong


def test_the_public_face_is_imported_for_its_version_alone() -> None:
    for name, path in modules().items():
        for node, _ in _walk(ast.parse(path.read_text(encoding="utf-8")), on_load=True):
            if isinstance(node, ast.ImportFrom) and node.module == "ganzoo":
                names = {alias.name for alias in node.names if f"ganzoo.{alias.name}" not in modules()}
                assert names <= {"__version__"}, name


def test_modules_do_not_load_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for found in imports():
        if found.on_load and found.module in modules() and "ganzoo" not in (found.module, found.importer):
            graph.setdefault(found.importer, set()).add(found.module)
    TopologicalSorter(graph).prepare()  # raises CycleError and names the circle


def test_the_core_knows_no_plugin() -> None:
    hooks = set(re.findall(r"^def (ganzoo_\w+)", modules()["ganzoo.hookspecs"].read_text("utf-8"), re.MULTILINE))
    names = re.compile(rf"\b({'|'.join(set(PLUGINS) - hooks)})\b")
    assert not [found for found in imports() if is_core(found.importer) and found.module.partition(".")[0] in PLUGINS]
    for name, path in modules().items():
        if is_core(name):
            assert not names.findall(path.read_text(encoding="utf-8")), name


def test_a_plugin_imports_what_third_parties_may() -> None:
    wrong = [
        f"{found.importer} imports {found.module}"
        for found in imports()
        if not is_core(found.importer) and found.module.startswith("ganzoo")
        if found.module.partition(".")[0] != found.importer.partition(".")[0]
        if found.module != "ganzoo"  # the public face, which is lazy
        if not any(found.module == room or found.module.startswith(f"{room}.") for room in FOR_PLUGINS)
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(name for name in modules() if LIGHT.fullmatch(name) or name in PLUGINS))
def test_light_modules_do_not_load_torch(name: str) -> None:
    seen, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        todo += [module.rpartition(".")[0]] if "." in module else []
        todo += [found.module for found in imports() if found.importer == module and found.on_load]
    assert not HEAVY & {module.partition(".")[0] for module in seen}


def test_torch_is_loaded_only_where_it_may_be() -> None:
    rooms = {"nn", "data", "training", "evaluation", "outputs", "testing"}
    wrong = [
        found.importer
        for found in imports()
        if found.on_load and found.module.partition(".")[0] in HEAVY
        if (room_of(found.importer) not in rooms if is_core(found.importer) else found.importer in PLUGINS)
    ]
    assert not wrong


def test_torchvision_and_torch_fidelity_are_never_loaded_with_a_module() -> None:
    """Their import may fail; ``ganzoo.backends`` is the one place that does it."""
    wrong = [found for found in imports() if found.module.partition(".")[0] in HEAVY - {"torch"}]
    assert not wrong


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~ \[]", line)[0] for line in project["dependencies"]}
    known = {IMPORT_NAMES.get(name, name) for name in declared} | {"ganzoo", *PLUGINS}
    found = {found.module.partition(".")[0] for found in imports()}
    assert found - known <= sys.stdlib_module_names
    assert known - found <= HEAVY | set(PLUGINS), "a dependency that nothing imports"


def test_files_are_short() -> None:
    folders = ("ganzoo", "plugins", "tests", "docs", "benchmarks", "tools")
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count > 400} == {}
    assert max(lines["ganzoo/plugins.py"], lines["ganzoo/registry.py"]) <= 200
