"""A paper's table as data: which numbers it prints, and which cells would measure them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import discovery
from bench.errors import ConfigError, nearest
from bench.report.published import MEANS
from bench.report.quantities import known_quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.config import Settings
    from bench.report.published import Published
    from bench.report.table_check import Checker

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ANY = "any"
"""The category of numbers that belong to none, such as speed."""

MOST_DECIMALS = 6
"""Of a percentage: more than any float of a score is worth."""

Mark = Literal["oracle", "transductive"]


@dataclass(frozen=True)
class MetricSpec:
    """One metric of the table.

    Attributes:
        id: the name by which a row can measure something else for it.
        published: its name in published.csv; "" where nothing is printed.
        measured: the quantity of a row to put beside it; "" where there is none.
        label: heading.
        where: further columns of published.csv that its numbers have.
        decimals: of measured scores, in percent.
    """

    id: str
    published: str
    measured: str
    label: str
    where: Mapping[str, Any] = field(default_factory=dict)
    decimals: int = 1


@dataclass(frozen=True)
class RowSpec:
    """One row: a selector of published numbers, and a method of the harness or none.

    Attributes:
        preset: of bench.toml, whose fields of the method hold, by category too; `params` and
            `category_params` come on top.
        measured: quantity in place of the metric's, by the metric's id.
        definition: what the row's numbers are, by the metric's id, where it is not what the table's
            other rows have; they are not ranked with those.
        printed: how the row's printed number was made, by the metric's id, where that is not what
            the row measures; the two are not subtracted.
        seeds: in place of the table's; empty: those.
    """

    label: str
    block: str = ""
    published: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    preset: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    category_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    definition: Mapping[str, str] = field(default_factory=dict)
    printed: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class TableSpec:
    """A table of a paper. `docs/tables.md` describes the keys."""

    name: str
    file: Path
    title: str
    paper: str
    table: str
    source: str
    dataset: str
    protocol: str
    published_protocol: str
    metrics: tuple[MetricSpec, ...]
    rows: tuple[RowSpec, ...]
    categories: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    layout: Literal["categories", "metrics"] = "categories"
    column: str = ""
    seeds: tuple[int, ...] = (0,)
    rank: bool = True
    change_from: str = ""  # label of the row that the paper's changes are against, or "worst"
    note: str = ""

    def members(self, column: str) -> tuple[str, ...]:
        """The categories that a column stands for: itself, or those of a mean."""
        if column in self.categories:
            return (column,)
        if column in MEANS and self.dataset == "mvtec":
            return MEANS[column]
        return self.categories

    def seeds_of(self, row: RowSpec, asked: Sequence[int] = ()) -> tuple[int, ...]:
        """The seeds of a row: those that a user asks for, else its own, else the table's."""
        return tuple(asked) or row.seeds or self.seeds

    def wanted(self) -> tuple[str, ...]:
        """Every category whose cells the table needs."""
        columns = (self.column,) if self.layout == "metrics" else (*self.categories, *self.means)
        return tuple(dict.fromkeys(c for column in columns for c in self.members(column)))


_TYPES = {
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
    found = (discovery.builtin_root() / "results/tables", project / "results/tables")
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
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    from bench.report.table_check import Checker  # which needs the types above

    check = Checker(file, text)
    metrics, rows = check.tables(values, "metric"), check.tables(values, "row")
    top = check.entry(values, _TYPES)
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
