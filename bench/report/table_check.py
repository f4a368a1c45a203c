"""Checks a table's file, and says in which line something is unknown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from bench import discovery
from bench.config import fits
from bench.errors import ConfigError, nearest
from bench.report.published import KEY, MEANS, Published
from bench.report.ranking import WORST
from bench.report.table_spec import ANY, RowSpec, TableSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bench.config import Settings

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
        self, message: str, section: str = "", index: int = 0, key: str = "", value: object = ""
    ) -> NoReturn:
        """Raise a ConfigError that begins with file and line."""
        raise ConfigError(f"{self.file}:{self.line(section, index, key, value)}: {message}")

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
        choices = list(choices)
        if name not in choices:
            message = f"unknown {what} {name!r}; {nearest(name, choices)}"
            self.fail(message, section, index, key, name)

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
            if isinstance(value, dict) != is_table or not fits(value, types[key]):
                self.fail(f"{key} = {value!r} is not a {types[key]}", section, index, key)
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}

    def table(
        self, spec: TableSpec, settings: Settings, published: Published, quantities: Sequence[str]
    ) -> None:
        """Names of papers, tables, data sets, categories, protocols, metrics, methods, fields."""
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
        self._columns(spec, published)
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

    def _columns(self, spec: TableSpec, published: Published) -> None:
        known = published.categories(spec.dataset)
        if spec.dataset in discovery.sources("datasets") and not known:
            known = list(spec.categories)  # nothing is printed for it: the data set decides
        for category in spec.categories:
            self.known(category, known, "category", key="categories")
        for mean in spec.means:
            self.known(mean, MEANS, "mean", key="means")
        if spec.layout == "metrics":
            self.known(spec.column, [ANY, *MEANS, *spec.categories], "column", key="column")

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
            self.known(mark, ("oracle", "transductive"), "mark", "row", index, "marks")
        ids = [metric.id for metric in spec.metrics]
        for metric, measured in row.measured.items():
            self.known(metric, ids, "metric of this table", "row", index, "measured")
            if measured:
                self.known(measured, quantities, "metric", "row", index, "measured")
        for metric, definition in row.definition.items():
            self.known(metric, ids, "metric of this table", "row", index, "definition")
            if not isinstance(definition, str) or not definition:
                self.fail(f"definition of {metric} is no text", "row", index, "definition")
        if not row.method:
            if row.preset:
                self.fail("a preset needs a `method`", "row", index, "preset")
            if not row.published:
                self.fail("a row needs `published`, `method` or both", "row", index)
            return
        self.known(row.method, discovery.sources("methods"), "method", "row", index, "method")
        if row.preset:
            with_method = [
                n for n, p in settings.presets.items() if row.method in p.get("methods", {})
            ]
            self.known(row.preset, with_method, f"preset for {row.method}", "row", index, "preset")
        fields = discovery.describe("methods", row.method).fields
        layers = [row.params, *row.category_params.values()]
        for category in row.category_params:
            self.known(category, spec.wanted(), "category", "row", index, "category_params")
        for layer in layers:
            for key, value in layer.items():
                self.known(key, fields, f"field of {row.method}", "row", index, "params")
                if not fits(value, fields[key].annotation):
                    message = f"{row.method}.{key} = {value!r} is not {fields[key].annotation}"
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
