from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "methods": ("bench.api", "bench.blocks"),
    "datasets": ("bench.api", "bench.layout"),
}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("kind", ["methods", "datasets"])
def test_plugins_import_the_api_and_nothing_else_of_the_harness(kind: str) -> None:
    files = sorted((ROOT / kind).rglob("*.py"))
    assert files
    for file in files:
        ours = {name for name in imported(file) if name.split(".")[0] in ("bench", "tests")}
        foreign = {name for name in ours if not name.startswith(ALLOWED[kind])}
        assert not foreign, f"{file.relative_to(ROOT)} imports {sorted(foreign)}"


def test_data_sets_import_no_torch() -> None:
    for file in (ROOT / "datasets").rglob("*.py"):
        assert "torch" not in {name.split(".")[0] for name in imported(file)}, file
