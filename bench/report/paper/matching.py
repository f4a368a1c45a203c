"""Which measured rows belong to a row of a paper's table, which cells are missing, and why others
are left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench.plan import discovery
from bench.plan.auxiliary import picture_fields
from bench.plan.cells import resolve_params
from bench.plan.identity import differing
from bench.report.choice.line_rows import (
    FITS,
    Step,
    Verdict,
    common_files,
    of_files,
    of_seeds,
    of_whole_seeds,
    one_kind,
)
from bench.rows.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.plan.discovery import Plugin
    from bench.report.paper.table_spec import RowSpec, TableSpec
    from bench.rows.row import Row
    from bench.settings.config import Settings


@dataclass(frozen=True)
class Match:
    """The measured side of one row of a table.

    Attributes:
        rows: one for each category and seed, all of one kind; every seed has the same categories.
        missing: (category, seed) without a row.
        left: why rows with the settings of this table row are not shown, by cell.
    """

    rows: list[Row] = field(default_factory=list)
    missing: list[tuple[str, int]] = field(default_factory=list)
    left: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that the numbers come from."""
        return tuple(sorted({row.seed for row in self.rows}))


_DECIDING = ("category", "pretrained", "protocol", "protocol_fields", "dataset_params", "params")
"""Columns by which a row belongs to a row of a table, or does not."""


class Matcher:
    """Decides by what `bench table --run` would plan: the same protocol, options, parameters.

    Parameters are the method's defaults, then the row's preset, then the row's own: what a project
    sets for its methods elsewhere changes no table.
    """

    def __init__(self, spec: TableSpec, settings: Settings) -> None:
        self.spec = spec
        self.protocol = settings.protocol(spec.protocol)
        self.settings = settings
        self.wanted = spec.wanted()
        self._fields = self.protocol.identity()
        self._plugins: dict[str, Plugin] = {}
        self._params: dict[tuple[str, str], dict[str, Any]] = {}
        self._verdicts: dict[tuple[object, ...], Verdict] = {}
        self._options: dict[str, Any] = {}
        if any(row.method for row in spec.rows):
            plugin = discovery.describe("datasets", spec.dataset)
            self._options = resolve_params(plugin, settings, {})

    def plugin(self, row: RowSpec) -> Plugin:
        """The method of a row."""
        if row.method not in self._plugins:
            self._plugins[row.method] = discovery.describe("methods", row.method)
        return self._plugins[row.method]

    def overrides(self, row: RowSpec, category: str) -> dict[str, Any]:
        """The parameters that the preset and the table name for a category."""
        preset = self._preset(row)
        general = {k: v for k, v in preset.items() if not isinstance(v, dict)}
        special = preset.get(f"{self.spec.dataset}/{category}", {})
        return {**general, **special, **row.params, **row.category_params.get(category, {})}

    def params(self, row: RowSpec, category: str) -> dict[str, Any]:
        """Every parameter of the cell."""
        key = (row.label, category)
        if key not in self._params:
            plain = replace(self.settings, methods={})
            named = self.overrides(row, category)
            self._params[key] = resolve_params(self.plugin(row), plain, named)
        return self._params[key]

    def _preset(self, row: RowSpec) -> dict[str, Any]:
        if not row.preset:
            return {}
        table = self.settings.lookup("preset", row.preset, self.settings.presets)
        return dict(table.get("methods", {}).get(row.method, {}))

    def verdict(self, spec_row: RowSpec, row: Row) -> Verdict:
        """Whether a row has the settings of a table row."""
        # Rows differ in few of these: thousands of rows ask the same question.
        key = (spec_row.label, *map(row.key, _DECIDING))
        if key not in self._verdicts:
            self._verdicts[key] = self._verdict(spec_row, row)
        return self._verdicts[key]

    def _verdict(self, spec_row: RowSpec, row: Row) -> Verdict:
        if row.category not in self.wanted:
            return Verdict(Step.CATEGORY, "category outside the table")
        if row.pretrained == "random":
            return Verdict(Step.RANDOM, "random encoder weights, never beside published numbers")
        if row.protocol != self.protocol.name:
            return Verdict(Step.PROTOCOL, f"protocol {row.protocol}, not {self.protocol.name}")
        if changed := _changed(self._fields, row.protocol_fields):
            return Verdict(Step.PROTOCOL, f"protocol {row.protocol} with {changed}")
        if changed := _changed(self._options, row.dataset_params):
            return Verdict(Step.DATASET, f"data set with {changed}")
        measured = row.params
        pictures = picture_fields(self.plugin(spec_row)) if spec_row.method else []
        wanted = _without_folders(self.params(spec_row, row.category), pictures)
        if changed := _changed(wanted, _without_folders(measured, pictures)):
            return Verdict(Step.PARAMETERS, f"other parameters, as {changed}")
        named = self.overrides(spec_row, row.category)
        if absent := [key for key in named if key not in measured]:
            return Verdict(Step.ABSENT, f"no parameter {absent[0]}")
        return FITS

    def match(self, rows: Iterable[Row], seeds: Sequence[int] = ()) -> dict[str, Match]:
        """The measured side of each row of the table, by label.

        Every number of a category comes from the same files, for all rows of the table.

        Args:
            seeds: asked for; none: those of the table and its rows.
        """
        left: dict[str, dict[str, Verdict]] = {row.label: {} for row in self.spec.rows}
        kept: dict[str, list[Row]] = {row.label: [] for row in self.spec.rows}
        own = [row for row in rows if row.dataset == self.spec.dataset]
        for spec_row in self.spec.rows:
            fitting = [
                row
                for row in own
                if row.method == spec_row.method and self.verdict(spec_row, row) is FITS
            ]
            why = left[spec_row.label]
            kept[spec_row.label] = one_kind(
                of_seeds(fitting, self.spec.seeds_of(spec_row, seeds), why), why
            )
        files = common_files(kept.values())
        found = {}
        for spec_row in self.spec.rows:
            why = left[spec_row.label]
            usable = of_files(kept[spec_row.label], files, why)
            missing = (
                self._missing(usable, self.spec.seeds_of(spec_row, seeds))
                if spec_row.method
                else []
            )
            found[spec_row.label] = Match(of_whole_seeds(usable, why), missing, why)
        return found

    def _missing(self, usable: Sequence[Row], seeds: Sequence[int]) -> list[tuple[str, int]]:
        found = {(row.category, row.seed) for row in usable}
        cells = [(category, seed) for category in self.wanted for seed in seeds]
        return [cell for cell in cells if cell not in found]

    def left_out(self, rows: Iterable[Row], matched: Mapping[str, Match]) -> list[str]:
        """How many rows on this data set no line shows, for each method and reason."""
        shown = {row.cell for match in matched.values() for row in match.rows}
        counts: Counter[tuple[str, str]] = Counter()
        for row in rows:
            candidates = [r for r in self.spec.rows if r.method == row.method]
            if row.dataset != self.spec.dataset or row.cell in shown or not candidates:
                continue
            # Of several rows of this method, the reason of the one that comes nearest.
            verdicts = [
                matched[candidate.label].left.get(row.cell) or self.verdict(candidate, row)
                for candidate in candidates
            ]
            counts[row.method, max(verdicts, key=lambda verdict: verdict.step).reason] += 1
        return [
            f"{counted(count, 'row')} of {method}: {reason}"
            for (method, reason), count in sorted(counts.items())
        ]


def _without_folders(params: Mapping[str, Any], pictures: Sequence[str]) -> dict[str, Any]:
    """Whether each folder of pictures is named: a row has its digest, a table its name here."""
    return {k: ("pictures" if v else "") if k in pictures else v for k, v in params.items()}


def _changed(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The first field that both have with different values; a field that one lacks says nothing:
    it is newer or older than the row, and had its default."""
    both = {name: value for name, value in expected.items() if name in found}
    changed = sorted(differing(both, found))
    return "".join(f"{n} = {found[n]} in place of {expected[n]}" for n in changed[:1])
