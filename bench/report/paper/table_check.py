"""Checks a table's file, and says in which line something is unknown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from bench.errors import ConfigError, DataError, nearest
from bench.plan import discovery
from bench.plan.request import open_dataset
from bench.report.choice.marks import NAMED
from bench.report.paper.published import KEY, MEANS, Published
from bench.report.paper.ranking import WORST
from bench.report.paper.table_spec import ANY, RowSpec, TableSpec
from bench.settings.config import fits, literals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bench.settings.config import Settings

_HEADER = re.compile(r"^\s*\[\[?\s*([\w.-]+)")


class Checker:
    """The text of a TOML file, for messages with line numbers that its parser does not keep."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.lines = text.splitlines()

    def line(self, section: str = "", index: int = 0, key: str = "", value: object = "") -> int:
        """The line of a key, or of a value in its list, in the index-th `[[section]]`."""
        start, end = self._extent(section, index)
        for number in range(start, end):
            if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", self.lines[number]):
                start = number
                break
        if value != "":
            for number in range(start, end):
                if str(value) in self.lines[number]:
                    return number + 1
        return start + 1

    def fail(
        self,
        message: str,
        section: str = "",
        index: int = 0,
        key: str = "",
        value: object = "",
        header: str = "",
    ) -> NoReturn:
        """Raise a ConfigError that begins with file and line."""
        line = self._header(header) or self.line(section, index, key, value)
        raise ConfigError(f"{self.file}:{line}: {message}")

    def _header(self, name: str) -> int:
        """The line of `[name]`; 0 without a name or such a line."""
        found = [
            i for i, line in enumerate(self.lines, 1) if (m := _HEADER.match(line)) and m[1] == name
        ]
        return found[0] if name and found else 0

    def known(
        self,
        name: str,
        choices: Iterable[str],
        what: str,
        section: str = "",
        index: int = 0,
        key: str = "",
    ) -> None:
        """Refuse a name that is not among the choices."""
        choices = list(dict.fromkeys(choices))
        if not isinstance(name, str):
            self.fail(f"{what} = {name!r} is not a text", section, index, key, name)
        if name not in choices:
            message = f"unknown {what} {name!r}; {nearest(name, choices)}"
            self.fail(message, section, index, key, name)

    def tables(self, values: dict[str, Any], section: str) -> list[dict[str, Any]]:
        """The `[[section]]` entries, taken out of the values."""
        entries = values.pop(section, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            message = f"{section} is not a list of tables; write [[{section}]] above each"
            self.fail(message, key=section, header=section)
        if not entries:
            self.fail(f"the table has no [[{section}]]; it needs at least one")
        return entries

    def entry(
        self,
        values: Mapping[str, Any],
        types: Mapping[str, str],
        section: str = "",
        index: int = 0,
    ) -> dict[str, Any]:
        """The values, lists as tuples; an unknown key or a value of the wrong type is refused."""
        for key, value in values.items():
            self.known(key, types, "key", section, index, key)
            is_table = types[key] == "table"
            if isinstance(value, dict) != is_table or not _fits(value, types[key]):
                self.fail(f"{key} = {value!r} is not {_named(types[key])}", section, index, key)
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}

    def table(
        self, spec: TableSpec, settings: Settings, published: Published, quantities: Sequence[str]
    ) -> None:
        """Names of papers, tables, data sets, categories, protocols, metrics, methods, fields."""
        self._lists(spec)
        self.known(spec.paper, published.papers, "paper", key="paper")
        tables = list(dict.fromkeys(n.table for n in published.numbers if n.paper == spec.paper))
        if any(row.published for row in spec.rows):
            self.known(spec.table, tables, "table of the paper", key="table")
        datasets = discovery.sources("datasets")
        printed = list(dict.fromkeys(n.dataset for n in published.numbers))
        self.known(spec.dataset, [*datasets, *printed], "data set", key="dataset")
        if any(row.method for row in spec.rows):
            self.known(spec.dataset, datasets, "data set of the harness", key="dataset")
        self.known(spec.protocol, settings.protocols, "protocol", key="protocol")
        self._columns(spec, published, settings)
        if spec.change_from:
            labels = [WORST, *(row.label for row in spec.rows)]
            self.known(spec.change_from, labels, "row of this table", key="change_from")
        metrics = list(dict.fromkeys(n.metric for n in published.numbers))
        for index, metric in enumerate(spec.metrics):
            if metric.published:
                self.known(metric.published, metrics, "metric", "metric", index, "published")
            if metric.measured:
                self.known(metric.measured, quantities, "metric", "metric", index, "measured")
            for column in metric.where:
                self.known(column, KEY, "column", "metric", index, "where")
        for index, row in enumerate(spec.rows):
            self._row(spec, index, row, settings, quantities)
            self._numbers(spec, index, row, published)

    def _lists(self, spec: TableSpec) -> None:
        """Refuse columns and seeds that are empty or stand twice."""
        for key in ("categories", "means", "seeds"):
            values = getattr(spec, key)
            for value in values:
                if value == "" or values.count(value) > 1:
                    reason = "an empty name" if value == "" else f"{value!r} twice"
                    self.fail(f"{key} has {reason}", key=key, value=value)
        if not spec.seeds:
            self.fail("seeds = []; name at least one", key="seeds")
        if spec.layout == "categories" and not (*spec.categories, *spec.means):
            message = "no column: name `categories` or `means`, or take layout = 'metrics'"
            self.fail(message, key="categories")

    def _columns(self, spec: TableSpec, published: Published, settings: Settings) -> None:
        columns = published.categories(spec.dataset)
        printed = [c for c in columns if c not in (ANY, *MEANS)]
        is_measured = any(row.method for row in spec.rows)
        if not set(spec.categories) <= set(printed):
            known = [*printed, *_categories(spec, settings)]
            for category in spec.categories if known else ():
                self.known(category, known, "category", key="categories")
        # Elsewhere than on MVTec AD only the mean over the table's categories can be computed.
        means = ["mean"] if is_measured else ["mean", *(c for c in columns if c in MEANS)]
        means = list(MEANS) if spec.dataset == "mvtec" else means
        for mean in spec.means:
            self.known(mean, means, f"mean on {spec.dataset}", key="means")
        if spec.layout == "metrics":
            self.known(spec.column, [ANY, *means, *spec.categories], "column", key="column")
        if is_measured and not spec.wanted():
            message = f"which categories of {spec.dataset} the rows are measured on is not said"
            self.fail(f"{message}; name `categories`", key="column")

    def _row(
        self,
        spec: TableSpec,
        index: int,
        row: RowSpec,
        settings: Settings,
        quantities: Sequence[str],
    ) -> None:
        for column in row.published:
            self.known(column, KEY, "column", "row", index, "published")
        for mark in row.marks:
            self.known(mark, NAMED, "mark", "row", index, "marks")
        ids = [metric.id for metric in spec.metrics]
        for metric, measured in row.measured.items():
            self.known(metric, ids, "metric of this table", "row", index, "measured")
            if measured:
                self.known(measured, quantities, "metric", "row", index, "measured")
        for key in ("definition", "printed"):
            for metric, text in getattr(row, key).items():
                self.known(metric, ids, "metric of this table", "row", index, key)
                if not isinstance(text, str) or not text:
                    self.fail(f"{key} of {metric} is no text", "row", index, key)
        if len(set(row.seeds)) < len(row.seeds):
            self.fail("seeds has one twice", "row", index, "seeds")
        if row.method:
            self._method(spec, index, row, settings)
            return
        if row.preset:
            self.fail("a preset needs a `method`", "row", index, "preset")
        if not row.published:
            self.fail("a row needs `published`, `method` or both", "row", index)

    def _method(self, spec: TableSpec, index: int, row: RowSpec, settings: Settings) -> None:
        """The method of a measured row, its preset and its parameters."""
        self.known(row.method, discovery.sources("methods"), "method", "row", index, "method")
        if row.preset:
            with_method = [
                n for n, p in settings.presets.items() if row.method in p.get("methods", {})
            ]
            self.known(row.preset, with_method, f"preset for {row.method}", "row", index, "preset")
        fields = discovery.describe("methods", row.method).fields
        for category, layer in row.category_params.items():
            self.known(category, spec.wanted(), "category", "row", index, "category_params")
            if not isinstance(layer, dict):
                message = f"category_params.{category} = {layer!r} is not a table of parameters"
                self.fail(message, "row", index, "category_params", category)
        for layer in (row.params, *row.category_params.values()):
            for key, value in layer.items():
                self.known(key, fields, f"field of {row.method}", "row", index, "params")
                if not fits(value, fields[key].annotation):
                    named = _named(fields[key].annotation)
                    message = f"{row.method}.{key} = {value!r} is not {named}"
                    self.fail(message, "row", index, "params", key)

    def _numbers(self, spec: TableSpec, index: int, row: RowSpec, published: Published) -> None:
        if not row.published:
            return
        seen: dict[tuple[str, str], int] = {}
        for metric in spec.metrics:
            selector = {"metric": metric.published, "dataset": spec.dataset}
            selector |= {**metric.where, **row.published}
            for number in published.find(spec.paper, spec.table, selector):
                key = (metric.id, number.category)
                seen[key] = seen.get(key, 0) + 1
        if not seen:
            self.fail("`published` fits no number of the table", "row", index, "published")
        for (metric_id, category), count in seen.items():
            if count > 1:
                message = f"`published` fits {count} numbers for {metric_id}, {category}"
                self.fail(f"{message}; name more columns", "row", index, "published")

    def _extent(self, section: str, index: int) -> tuple[int, int]:
        """First line and end of the index-th `[[section]]`; "" is the part before any."""
        start, seen = 0, -1
        for number, line in enumerate(self.lines):
            header = _HEADER.match(line)
            if header is None or header[1].startswith(("row.", "metric.")):
                continue
            if section == "" or seen == index:
                return start, number
            if header[1] == section:
                seen += 1
                start = number
        return start, len(self.lines)


_NAMES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "table": "a table",
    "tuple[str, ...]": "a list of texts",
    "tuple[int, ...]": "a list of whole numbers",
}


def _named(annotation: str) -> str:
    """A type in words; the choices of a closed one."""
    if choices := literals(annotation):
        return f"one of {', '.join(choices)}"
    return _NAMES.get(annotation, annotation)


def _fits(value: object, annotation: str) -> bool:
    """Whether a value is of the type, and so is each item of a list."""
    if annotation.startswith("tuple["):
        item = annotation[6:].partition(",")[0]
        return isinstance(value, list) and all(fits(v, item) for v in value)
    return fits(value, annotation)


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
