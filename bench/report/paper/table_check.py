"""Checks a table's file, and says in which row or metric something is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from bench.errors import ConfigError, DataError, nearest
from bench.plan import discovery
from bench.plan.request import open_dataset
from bench.report.choice.marks import NAMED
from bench.report.paper.published import KEY, MEANS, PublishedNumbers
from bench.report.paper.ranking import WORST
from bench.report.paper.table_spec import ANY, FigureSpec, RowSpec, TableSpec
from bench.settings.tables import misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.settings.config import Settings


class Checker:
    """What a table's file may name; a message begins with the file, and the row or metric."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def fail(self, message: str, place: str = "") -> NoReturn:
        """Raise a ConfigError.

        Args:
            place: what `place_of` says; "" for a key above all rows and metrics.
        """
        raise ConfigError(f"{self.file}: {place}{message}")

    def known(self, name: str, choices: Iterable[str], what: str, place: str = "") -> None:
        """Refuse a name that is not among the choices."""
        choices = list(dict.fromkeys(choices))
        if not isinstance(name, str):
            self.fail(f"{what} = {name!r} is not a text", place)
        if name not in choices:
            self.fail(f"unknown {what} {name!r}; {nearest(name, choices)}", place)

    def tables(self, values: dict[str, Any], section: str) -> list[dict[str, Any]]:
        """The `[[section]]` entries, taken out of the values."""
        entries = values.pop(section, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            self.fail(f"{section} is not a list of tables; write [[{section}]] above each")
        if not entries:
            self.fail(f"the table has no [[{section}]]; it needs at least one")
        return entries

    def table(
        self,
        spec: TableSpec,
        settings: Settings,
        published: PublishedNumbers,
        quantities: Sequence[str],
    ) -> None:
        """Names of papers, tables, data sets, categories, protocols, metrics, methods, fields."""
        self._lists(spec)
        self.known(spec.paper, published.papers, "paper")
        tables = list(dict.fromkeys(n.table for n in published.numbers if n.paper == spec.paper))
        if any(row.published for row in spec.rows):
            self.known(spec.table, tables, "table of the paper")
        datasets = discovery.sources("datasets")
        printed = list(dict.fromkeys(n.dataset for n in published.numbers))
        self.known(spec.dataset, [*datasets, *printed], "data set")
        if any(row.method for row in spec.rows):
            self.known(spec.dataset, datasets, "data set of the harness")
        self.known(spec.protocol, settings.protocols, "protocol")
        self._columns(spec, published, settings)
        if spec.change_from:
            labels = [WORST, *(row.label for row in spec.rows)]
            self.known(spec.change_from, labels, "row of this table")
        metrics = list(dict.fromkeys(n.metric for n in published.numbers))
        for metric in spec.metrics:
            place = place_of("metric", metric.label)
            if metric.published:
                self.known(metric.published, metrics, "metric", place)
            if metric.measured:
                self.known(metric.measured, quantities, "metric", place)
            for column in metric.where:
                self.known(column, KEY, "column", place)
        if spec.figure is not None:
            self._figure(spec, spec.figure)
        for row in spec.rows:
            self._row(spec, row, settings, quantities)
            self._numbers(spec, row, published)

    def _figure(self, spec: TableSpec, figure: FigureSpec) -> None:
        place = "[figure]: "
        self.known(figure.metric, [metric.id for metric in spec.metrics], "metric", place)
        for method in {row.method for row in spec.rows if row.method}:
            fields = discovery.describe("methods", method).fields
            for name in (figure.x, *figure.told):
                self.known(name, fields, f"field of {method}", place)

    def _lists(self, spec: TableSpec) -> None:
        """Refuse columns and seeds that are empty or stand twice."""
        for key in ("categories", "means", "seeds"):
            values = getattr(spec, key)
            for value in values:
                if value == "" or values.count(value) > 1:
                    reason = "an empty name" if value == "" else f"{value!r} twice"
                    self.fail(f"{key} has {reason}")
        if not spec.seeds:
            self.fail("seeds = []; name at least one")
        if spec.layout == "categories" and not (*spec.categories, *spec.means):
            message = "no column: name `categories` or `means`, or take layout = 'metrics'"
            self.fail(message)

    def _columns(self, spec: TableSpec, published: PublishedNumbers, settings: Settings) -> None:
        columns = published.categories(spec.dataset)
        printed = [c for c in columns if c not in (ANY, *MEANS)]
        is_measured = any(row.method for row in spec.rows)
        if not set(spec.categories) <= set(printed):
            known = [*printed, *_categories(spec, settings)]
            for category in spec.categories if known else ():
                self.known(category, known, "category")
        # Elsewhere than on MVTec AD only the mean over the table's categories can be computed.
        means = ["mean"] if is_measured else ["mean", *(c for c in columns if c in MEANS)]
        means = list(MEANS) if spec.dataset == "mvtec" else means
        for mean in spec.means:
            self.known(mean, means, f"mean on {spec.dataset}")
        if spec.layout == "metrics":
            self.known(spec.column, [ANY, *means, *spec.categories], "column")
        if is_measured and not spec.wanted():
            message = f"which categories of {spec.dataset} the rows are measured on is not said"
            self.fail(f"{message}; name `categories`")

    def _row(
        self, spec: TableSpec, row: RowSpec, settings: Settings, quantities: Sequence[str]
    ) -> None:
        place = place_of("row", row.label)
        for column in row.published:
            self.known(column, KEY, "column", place)
        for mark in row.marks:
            self.known(mark, NAMED, "mark", place)
        ids = [metric.id for metric in spec.metrics]
        for metric, measured in row.measured.items():
            self.known(metric, ids, "metric of this table", place)
            if measured:
                self.known(measured, quantities, "metric", place)
        for key in ("definition", "printed"):
            for metric, text in getattr(row, key).items():
                self.known(metric, ids, "metric of this table", place)
                if not isinstance(text, str) or not text:
                    self.fail(f"{key} of {metric} is no text", place)
        if len(set(row.seeds)) < len(row.seeds):
            self.fail("seeds has one twice", place)
        if row.method:
            self._method(spec, row, settings)
            return
        if row.preset:
            self.fail("a preset needs a `method`", place)
        if not row.published:
            self.fail("a row needs `published`, `method` or both", place)

    def _method(self, spec: TableSpec, row: RowSpec, settings: Settings) -> None:
        """The method of a measured row, its preset and its parameters."""
        place = place_of("row", row.label)
        self.known(row.method, discovery.sources("methods"), "method", place)
        if row.preset:
            with_method = [
                n for n, p in settings.presets.items() if row.method in p.get("methods", {})
            ]
            self.known(row.preset, with_method, f"preset for {row.method}", place)
        fields = discovery.describe("methods", row.method).fields
        for category, layer in row.category_params.items():
            self.known(category, spec.wanted(), "category", place)
            if not isinstance(layer, dict):
                message = f"category_params.{category} = {layer!r} is not a table of parameters"
                self.fail(message, place)
        for layer in (row.params, *row.category_params.values()):
            for key, value in layer.items():
                self.known(key, fields, f"field of {row.method}", place)
                if wrong := misfit(value, fields[key].annotation):
                    self.fail(f"{row.method}.{key} = {value!r}{wrong}", place)

    def _numbers(self, spec: TableSpec, row: RowSpec, published: PublishedNumbers) -> None:
        if not row.published:
            return
        place = place_of("row", row.label)
        seen: dict[tuple[str, str], int] = {}
        for metric in spec.metrics:
            selector = spec.selector(row, metric)
            for number in published.find(spec.paper, spec.table, selector):
                key = (metric.id, number.category)
                seen[key] = seen.get(key, 0) + 1
        if not seen:
            self.fail("`published` fits no number of the table", place)
        for (metric_id, category), count in seen.items():
            if count > 1:
                message = f"`published` fits {count} numbers for {metric_id}, {category}"
                self.fail(f"{message}; name more columns", place)


def place_of(section: str, label: object) -> str:
    """Where something is wrong, for a message."""
    return f"{section} {label!r}: "


def _categories(spec: TableSpec, settings: Settings) -> list[str]:
    """The data set's own categories; none where it is unknown, or only its absent images say."""
    if spec.dataset not in discovery.sources("datasets"):
        return []
    plugin = discovery.describe("datasets", spec.dataset)
    dataset, _ = open_dataset(settings, plugin, {})
    expected = list(dataset.expected())
    try:
        return [*expected, *dataset.categories()]
    except DataError:
        return expected
