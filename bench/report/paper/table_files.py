"""Reads the tables of papers from their files, checked."""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.disk import read_text
from bench.errors import ConfigError, nearest
from bench.report.choice.quantities import known_quantities
from bench.report.paper.table_check import Checker, place_of
from bench.report.paper.table_spec import MOST_DECIMALS, MetricSpec, RowSpec, TableSpec
from bench.settings.shipped import builtin_root
from bench.settings.tables import checked, types_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.report.paper.published import PublishedNumbers
    from bench.settings.config import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLE = types_of(TableSpec, without=("name", "file", "metrics", "rows"))
_REQUIRED = [f.name for f in fields(TableSpec) if f.name in _TABLE and f.default is MISSING]
_METRIC = types_of(MetricSpec)
_ROW = types_of(RowSpec) | {"marks": "tuple[str, ...]"}  # which marks, the checker says better


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


def load_table(name: str, settings: Settings, published: PublishedNumbers) -> TableSpec:
    """One table, checked.

    Raises:
        ConfigError: an unknown table, or something unknown in its file.
    """
    files = table_files(settings.project)
    if name not in files:
        raise ConfigError(f"unknown table {name!r}; {nearest(name, files)}")
    return read_table(files[name], settings, published)


def read_table(file: Path, settings: Settings, published: PublishedNumbers) -> TableSpec:
    """A table from its file, checked."""
    try:
        values = tomllib.loads(read_text(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    check = Checker(file)
    metrics, rows = check.tables(values, "metric"), check.tables(values, "row")
    top = checked(values, _TABLE, file)
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
    for entry in _labelled(entries, check, _METRIC, "metric"):
        place = place_of("metric", entry["label"])
        name = entry.get("published") or entry.get("measured")
        if not name:
            check.fail("a metric needs `published` or `measured`", place)
        metric = MetricSpec(**{"id": name, "published": "", "measured": "", **entry})
        if metric.id in ids:
            message = f"two metrics have the id {metric.id!r}; give one an `id` of its own"
            check.fail(message, place)
        if not 0 <= metric.decimals <= MOST_DECIMALS:
            message = f"decimals = {metric.decimals}; 0 to {MOST_DECIMALS} are possible"
            check.fail(message, place)
        ids.add(metric.id)
        yield metric


def _labelled(
    entries: list[dict[str, Any]], check: Checker, types: Mapping[str, str], section: str
) -> Iterable[dict[str, Any]]:
    labels: set[str] = set()
    for number, entry in enumerate(entries, 1):
        place = place_of(section, entry.get("label") or number)
        clean = checked(entry, types, f"{check.file}: {place.removesuffix(': ')}")
        if not entry.get("label") or entry["label"] in labels:
            check.fail(f"a {section} needs a `label` of its own", place)
        labels.add(entry["label"])
        yield clean
