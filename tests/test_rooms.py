"""The rooms of `bench/` import as the table of docs/design.md says, and no module in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = ("api", "errors", "npz", "disk", "seeds", "state", "")
TOP = ("cli", "__main__", "commands")


def modules() -> dict[str, Path]:
    """Every module of the package by its name without `bench.`; "" is the package itself."""
    found = {}
    for file in sorted((ROOT / "bench").rglob("*.py")):
        parts = file.relative_to(ROOT / "bench").with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room of a module: its folder; `report` has rooms inside."""
    first = module.split(".")[0]
    if first in GROUND:
        return "ground"
    if first in TOP:
        return "commands"
    folder = MODULES[module].parent.name
    return f"report/{folder}" if first == "report" and folder != "report" else first


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports anywhere, for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in names if name.removeprefix("bench.") in MODULES}
            found |= known | ({node.module} if names - known else set())
    ours = {name for name in found if name == "bench" or name.startswith("bench.")}
    return {name.removeprefix("bench").removeprefix(".") for name in ours} - {module}


def table() -> dict[str, set[str]]:
    """What each room may import, top to bottom, from docs/design.md."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z/]+)` \| [^|]+ \|([^|]*)\|$", text, flags=re.MULTILINE)
    names = [name for name, _ in rows]
    allowed = {}
    for name, cell in rows:
        listed = {part.strip() for part in cell.split(",") if part.strip()}
        allowed[name] = set(names) - {name} if listed == {"every room"} else listed
    return allowed


ALLOWED = table()


def test_the_table_names_every_room_and_no_other() -> None:
    assert {room(module) for module in MODULES} == set(ALLOWED)


def test_a_room_stands_above_what_it_may_import() -> None:
    order = list(ALLOWED)
    for upper, lower in ALLOWED.items():
        below = set(order[order.index(upper) + 1 :])
        assert lower <= below, f"{upper} may import {sorted(lower - below)}, which stand above it"


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_room_imports_only_what_the_table_allows(name: str) -> None:
    for module in MODULES:
        if room(module) == name:
            foreign = {i for i in imports(module) if room(i) not in {name, *ALLOWED[name]}}
            assert not foreign, f"bench/{name}: {module} imports {sorted(foreign)}"


@pytest.mark.parametrize("name", sorted(set(ALLOWED) - {"commands"}))
def test_the_table_allows_nothing_that_no_module_needs(name: str) -> None:
    used = {room(i) for module in MODULES if room(module) == name for i in imports(module)}
    assert ALLOWED[name] <= used, f"{name} imports nothing of {sorted(ALLOWED[name] - used)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")
