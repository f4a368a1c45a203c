"""Reads the tables of papers from their files, checked."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.disk import read_text
from bench.errors import ConfigError, nearest
from bench.report.choice.quantities import known_quantities
from bench.report.paper.table_check import Checker
from bench.report.paper.table_spec import MOST_DECIMALS, MetricSpec, RowSpec, TableSpec
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.report.paper.published import Published
    from bench.settings.config import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLE = {
    "title": "str",
    "paper": "str",
    "table": "str",
    "source": "str",
    "dataset": "str",
    "protocol": "str",
    "published_protocol": "str",
    "note": "str",
    "column": "str",
    "layout": "Literal['categories', 'metrics']",
    "categories": "tuple[str, ...]",
    "means": "tuple[str, ...]",
    "seeds": "tuple[int, ...]",
    "rank": "bool",
    "change_from": "str",
}
_REQUIRED = ("title", "paper", "table", "source", "dataset", "protocol", "published_protocol")
_METRIC = {
    "id": "str",
    "published": "str",
    "measured": "str",
    "label": "str",
    "where": "table",
    "decimals": "int",
}
_ROW = {
    "label": "str",
    "block": "str",
    "published": "table",
    "method": "str",
    "preset": "str",
    "params": "table",
    "category_params": "table",
    "measured": "table",
    "definition": "table",
    "printed": "table",
    "seeds": "tuple[int, ...]",
    "marks": "tuple[str, ...]",
}


def table_folders(project: Path) -> list[Path]:
    """Where tables lie: those shipped, then `results/tables` of the project."""
    found = (builtin_root() / "results/tables", project / "results/tables")
    return [Path(f) for f in dict.fromkeys(str(f.resolve()) for f in found if f.is_dir())]


def table_files(project: Path) -> dict[str, Path]:
    """Every table by name, `<paper>/<table>`; a project's own replaces one of the same name."""
    return {
        f"{file.parent.name}/{file.stem}": file
        for folder in table_folders(project)
        for file in sorted(folder.glob("*/*.toml"), key=_natural)
    }


def _natural(file: Path) -> tuple[str, list[int | str]]:
    parts = re.split(r"(\d+)", file.stem)
    return file.parent.name, [int(p) if p.isdigit() else p for p in parts]


def load_table(name: str, settings: Settings, published: Published) -> TableSpec:
    """One table, checked.

    Raises:
        ConfigError: an unknown table, or something unknown in its file, with file and line.
    """
    files = table_files(settings.project)
    if name not in files:
        raise ConfigError(f"unknown table {name!r}; {nearest(name, files)}")
    return read_table(files[name], settings, published)


def read_table(file: Path, settings: Settings, published: Published) -> TableSpec:
    """A table from its file, checked."""
    try:
        text = read_text(file)
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    check = Checker(file, text)
    metrics, rows = check.tables(values, "metric"), check.tables(values, "row")
    top = check.entry(values, _TABLE)
    for key in _REQUIRED:
        if key not in values:
            check.fail(f"key {key!r} is missing")
    spec = TableSpec(
        name=f"{file.parent.name}/{file.stem}",
        file=file,
        metrics=tuple(_metrics(metrics, check)),
        rows=tuple(RowSpec(**entry) for entry in _labelled(rows, check, _ROW, "row")),
        **top,
    )
    check.table(spec, settings, published, known_quantities(settings.protocols))
    return spec


def _metrics(entries: list[dict[str, Any]], check: Checker) -> Iterable[MetricSpec]:
    ids: set[str] = set()
    for index, entry in enumerate(_labelled(entries, check, _METRIC, "metric")):
        name = entry.get("published") or entry.get("measured")
        if not name:
            check.fail("a metric needs `published` or `measured`", "metric", index)
        metric = MetricSpec(**{"id": name, "published": "", "measured": "", **entry})
        if metric.id in ids:
            message = f"two metrics have the id {metric.id!r}; give one an `id` of its own"
            check.fail(message, "metric", index)
        if not 0 <= metric.decimals <= MOST_DECIMALS:
            message = f"decimals = {metric.decimals}; 0 to {MOST_DECIMALS} are possible"
            check.fail(message, "metric", index, "decimals")
        ids.add(metric.id)
        yield metric


def _labelled(
    entries: list[dict[str, Any]], check: Checker, types: Mapping[str, str], section: str
) -> Iterable[dict[str, Any]]:
    labels: set[str] = set()
    for index, entry in enumerate(entries):
        checked = check.entry(entry, types, section, index)
        if not entry.get("label") or entry["label"] in labels:
            check.fail(f"a {section} needs a `label` of its own", section, index, "label")
        labels.add(entry["label"])
        yield checked
