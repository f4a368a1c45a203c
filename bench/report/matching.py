"""Which measured rows belong to a row of a paper's table, which cells are missing, and why others
are left out."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench import discovery
from bench.plan import resolve_params
from bench.report.quantities import group_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.config import Settings
    from bench.discovery import Plugin
    from bench.report.table_spec import RowSpec, TableSpec
    from bench.row import Row


@dataclass(frozen=True)
class Match:
    """The measured side of one row of a table.

    Attributes:
        rows: one for each category and seed.
        missing: (category, seed) without a row.
        older: rows that fit too, but were made by another version, weights file or submitter.
    """

    rows: list[Row]
    missing: list[tuple[str, int]]
    older: list[Row]


class Matcher:
    """Decides by what `bench table --run` would plan: the same protocol, options, parameters."""

    def __init__(self, spec: TableSpec, settings: Settings) -> None:
        self.spec = spec
        self.protocol = settings.protocol(spec.protocol)
        self.settings = settings
        self.wanted = spec.wanted()
        self._fields = self.protocol.identity()
        self._numbers = {row.label: i for i, row in enumerate(spec.rows)}
        self._plugins: dict[str, Plugin] = {}
        self._params: dict[tuple[int, str], dict[str, Any]] = {}
        self._reasons: dict[tuple[object, ...], str] = {}
        self._options: dict[str, Any] = {}
        if any(row.method for row in spec.rows):
            plugin = discovery.describe("datasets", spec.dataset)
            self._options = resolve_params(plugin, settings, {})

    def overrides(self, row: RowSpec, category: str) -> dict[str, Any]:
        """The parameters that the table names for a category."""
        return {**row.params, **row.category_params.get(category, {})}

    def params(self, row: RowSpec, category: str) -> dict[str, Any]:
        """Every parameter of the cell."""
        key = (self._numbers[row.label], category)
        if key not in self._params:
            if row.method not in self._plugins:
                self._plugins[row.method] = discovery.describe("methods", row.method)
            plugin = self._plugins[row.method]
            place = f"{self.spec.dataset}/{category}"
            self._params[key] = resolve_params(
                plugin, self.settings, self.overrides(row, category), place
            )
        return self._params[key]

    def reason(self, spec_row: RowSpec, row: Row) -> str:
        """Why a measured row does not belong here; empty where it does."""
        # Rows differ in few of these: thousands of rows ask the same question.
        setting = (row.category, row.pretrained, row.protocol, row.protocol_fields)
        key = (self._numbers[spec_row.label], *setting, row.dataset_params, row.params)
        if key not in self._reasons:
            self._reasons[key] = self._reason(spec_row, row)
        return self._reasons[key]

    def _reason(self, spec_row: RowSpec, row: Row) -> str:
        if row.category not in self.wanted:
            return "category outside the table"
        if row.pretrained == "random":
            return "random encoder weights, never beside published numbers"
        if row.protocol != self.protocol.name:
            return f"protocol {row.protocol}, not {self.protocol.name}"
        if changed := _changed(self._fields, _parsed(row.protocol_fields)):
            return f"protocol {row.protocol} with {changed}"
        if changed := _changed(self._options, _parsed(row.dataset_params)):
            return f"data set with {changed}"
        expected = self.params(spec_row, row.category)
        measured = _parsed(row.params)
        named = self.overrides(spec_row, row.category)
        if absent := [key for key in named if key not in measured]:
            return f"no parameter {absent[0]}"
        if changed := _changed(expected, measured):
            return f"other parameters, as {changed}"
        return ""

    def match(self, spec_row: RowSpec, rows: Iterable[Row], seeds: Sequence[int]) -> Match:
        """The measured side of one row."""
        if not spec_row.method:
            return Match([], [], [])
        fitting = [
            row
            for row in rows
            if row.method == spec_row.method
            and row.dataset == self.spec.dataset
            and not self.reason(spec_row, row)
        ]
        kept, older = _one_kind(fitting)
        found = {(row.category, row.seed) for row in kept}
        missing = [
            (category, seed)
            for category in self.wanted
            for seed in seeds
            if (category, seed) not in found
        ]
        return Match(kept, missing, older)

    def left_out(self, rows: Iterable[Row], used: Iterable[Row]) -> list[str]:
        """One line for each method and reason, of rows on this data set that no row shows."""
        shown = {row.cell for row in used}
        counts: Counter[tuple[str, str]] = Counter()
        for row in rows:
            candidates = [r for r in self.spec.rows if r.method == row.method]
            if row.dataset != self.spec.dataset or row.cell in shown or not candidates:
                continue
            # Of several rows of this method, the reason of the one that comes nearest.
            reasons = [self.reason(candidate, row) for candidate in candidates]
            reason = max(reasons, key=_nearness)
            counts[row.method, reason or "another version, weights file or submitter"] += 1
        return [
            f"{count} row{'s' if count > 1 else ''} of {method} left out: {reason}"
            for (method, reason), count in sorted(counts.items())
        ]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    """JSON of a row's column; few texts stand in many rows. Not to be changed."""
    values: dict[str, Any] = json.loads(text)
    return values


def _nearness(reason: str) -> int:
    order = ("category", "random", "protocol", "data set", "no parameter", "other parameters", "")
    return next(i for i, start in enumerate(order) if reason.startswith(start))


def _one_kind(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of one version of the method, the newest, with one kind of weights, data and origin."""
    if not rows:
        return [], []

    def kind(row: Row) -> tuple[object, ...]:
        return (row.method_version, row.kind == "measured", row.pretrained == "pretrained")

    groups = sorted(group_by(rows, kind), key=lambda group: kind(group[0]))
    newest = sorted(groups[-1], key=lambda row: row.started)
    by_cell = {(row.category, row.seed): row for row in newest}
    kept = [by_cell[key] for key in sorted(by_cell)]
    used = {row.cell for row in kept}
    return kept, [row for row in rows if row.cell not in used]


def _changed(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The first field that both have with different values; a field that one lacks says nothing:
    it is newer or older than the row, and had its default."""
    for key in sorted(expected):
        if key in found and _plain(expected[key]) != _plain(found[key]):
            return f"{key} = {found[key]} in place of {expected[key]}"
    return ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
