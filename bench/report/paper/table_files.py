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
from bench.report.paper.table_spec import (
    MOST_DECIMALS,
    FigureSpec,
    MetricSpec,
    RowSpec,
    TableSpec,
)
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

_TABLE = types_of(TableSpec, without=("name", "file", "metrics", "rows", "figure"))
_FIGURE = types_of(FigureSpec)
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
    values = parsed(file)
    check = Checker(file)
    metrics, rows = check.tables(values, "metric"), check.tables(values, "row")
    drawn = values.pop("figure", None)
    top = checked(values, _TABLE, file)
    _complete(TableSpec, values, _TABLE, check)
    spec = TableSpec(
        name=f"{file.parent.name}/{file.stem}",
        file=file,
        metrics=tuple(_metrics(metrics, check)),
        rows=tuple(RowSpec(**entry) for entry in _labelled(rows, check, _ROW, "row")),
        figure=None if drawn is None else _figure(drawn, check),
        **top,
    )
    check.table(spec, settings, published, known_quantities(settings.protocols))
    return spec


def parsed(file: Path) -> dict[str, Any]:
    """What the file of a table holds, unchecked."""
    try:
        values: dict[str, Any] = tomllib.loads(read_text(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    return values


def tables_with_figures(
    settings: Settings, published: PublishedNumbers
) -> Iterable[tuple[TableSpec, FigureSpec]]:
    """Those whose file describes a figure, and that."""
    files = table_files(settings.project).values()
    for spec in (read_table(f, settings, published) for f in files if "figure" in parsed(f)):
        if spec.figure is not None:
            yield spec, spec.figure


def _complete(kind: type, values: Mapping[str, Any], types: Iterable[str], check: Checker) -> None:
    needed = [f.name for f in fields(kind) if f.name in types and f.default is MISSING]
    if missing := [key for key in needed if key not in values]:
        check.fail(f"key {missing[0]!r} is missing")


def _figure(values: Any, check: Checker) -> FigureSpec:
    if not isinstance(values, dict):
        check.fail("figure is not a table; write [figure] above it")
    found = checked(values, _FIGURE, check.file, "[figure]")
    _complete(FigureSpec, values, _FIGURE, check)
    return FigureSpec(**found)


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
