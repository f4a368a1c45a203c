"""The regression gate: rows against those of a committed baseline, metric by metric."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError, StoreError, nearest
from bench.rows.changes import Change, Environments, changes
from bench.rows.row import SCORE, Row, newest
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_SCORES = [f for f in fields(Row) if f.metadata.get("group") == SCORE]
FRACTIONS = tuple(f.name for f in _SCORES if f.type == "float | None" and "threshold" not in f.name)
COUNTS = tuple(f.name for f in _SCORES if f.type in ("int", "int | None"))
RELATIVE = ("pixel_f1max_threshold", "params_m", "params_trainable_m", "gflops")
IMAGE_LEVEL = ("image_auroc", "image_ap", "image_f1max")
IDENTITY = ("kind", "method", "dataset", "category", "protocol", "params", "dataset_params")
EPSILON = 1e-9
"""Rounding of a difference of two stored decimals; far below the sixth decimal of a score."""


@dataclass(frozen=True)
class Tolerances:
    """`[check]`: how far a figure may move before it counts as changed, in either direction.

    Attributes:
        scores: absolute, of every score (a fraction) that has no line of its own.
        absolute: of single scores.
        relative: of figures that are no fractions.
        spread: where the baseline holds several seeds, so many standard deviations of the
            difference of two seeds may pass, if that is more.
    """

    scores: float = 0.0
    absolute: Mapping[str, float] = field(default_factory=dict)
    relative: Mapping[str, float] = field(default_factory=dict)
    spread: float = 3.0

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str) -> Tolerances:
        """From `[check]`.

        Raises:
            ConfigError: an unknown key, or a value that is not a number >= 0.
        """
        for key in table:
            if key not in cls.__dataclass_fields__:
                hint = nearest(key, cls.__dataclass_fields__)
                raise ConfigError(f"{where}: unknown key [check].{key}; {hint}")
        for name, metrics in (("absolute", FRACTIONS), ("relative", RELATIVE)):
            for key in table.get(name, {}):
                if key not in metrics:
                    raise ConfigError(
                        f"{where}: unknown key [check.{name}].{key}; {nearest(key, metrics)}"
                    )
        numbers = {k: v for k, v in table.items() if k in ("scores", "spread")}
        numbers |= {**table.get("absolute", {}), **table.get("relative", {})}
        for key, value in numbers.items():
            valid = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not valid or not 0 <= value < math.inf:
                raise ConfigError(f"{where}: [check] {key} = {value!r} is not a number >= 0")
        return cls(**table)

    def of(self, metric: str, row: Row, deviation: float | None) -> float:
        """The absolute tolerance of one figure of one row.

        Args:
            metric: name of a column, or "published.NAME".
            row: of the baseline.
            deviation: standard deviation of the figure over the baseline's seeds, if several.
        """
        if metric in COUNTS:
            return 0.0
        if metric in RELATIVE:
            allowed = self.relative.get(metric, 0.0) * abs(_figures(row)[metric] or 0.0)
        else:
            allowed = max(self.absolute.get(metric, self.scores), _one_swap(metric, row))
        if deviation is None or metric in ("params_m", "params_trainable_m", "gflops"):
            return allowed
        return max(allowed, self.spread * math.sqrt(2) * deviation)


@dataclass(frozen=True)
class Difference:
    """One figure of the baseline and now; None: undefined there."""

    metric: str
    baseline: float | None
    current: float | None
    tolerance: float

    @property
    def delta(self) -> float | None:
        """Now minus baseline; None where one side is undefined."""
        if self.baseline is None or self.current is None:
            return None
        return self.current - self.baseline

    @property
    def passed(self) -> bool:
        """Within the tolerance; a figure that became undefined, or defined, is not."""
        if self.delta is None:
            return self.baseline is self.current
        return abs(self.delta) <= self.tolerance + EPSILON


@dataclass(frozen=True)
class Compared:
    """A cell, or the mean over the seeds of one, in the baseline and now."""

    baseline: Row
    current: Row
    seeds: tuple[int, ...]  # one: a cell; several: their mean
    differences: list[Difference]
    changes: list[Change]

    @property
    def changed(self) -> list[Difference]:
        """The figures beyond their tolerance."""
        return [d for d in self.differences if not d.passed]


@dataclass(frozen=True)
class Comparison:
    """The outcome of a check."""

    cells: list[Compared]
    means: list[Compared]
    missing: list[Row]  # in the baseline, not now
    new: list[Row]  # now, not in the baseline

    @property
    def changed(self) -> list[Compared]:
        """Cells and means with a figure beyond its tolerance."""
        return [c for c in [*self.cells, *self.means] if c.changed]

    def exit_code(self, complete: bool = False) -> int:
        """0: all agree. 1: something changed, or is missing though all is asked. 3: no pair."""
        if not self.cells:
            return 3
        return 1 if self.changed or (complete and self.missing) else 0


def check(baseline: Path, results: Path, tolerances: Tolerances) -> Comparison:
    """Compare the rows of two folders.

    Raises:
        StoreError: no such baseline, or a damaged file in either folder.
    """
    if not baseline.is_dir():
        raise StoreError(f"the baseline {baseline} is not a folder; give --baseline")
    environments = Environments([baseline, results])
    rows = ResultStore(baseline).rows(), ResultStore(results).rows()
    return compare(*rows, tolerances, environments)


def compare(
    baseline: Sequence[Row],
    current: Sequence[Row],
    tolerances: Tolerances,
    environments: Environments,
) -> Comparison:
    """Pair the rows of one cell and compare their figures; then the means over seeds."""
    pairs, missing, new = pair(baseline, current)
    deviations = _deviations(baseline)
    cells = [
        Compared(
            old,
            now,
            (old.seed,),
            _differences([old], [now], tolerances, deviations.get(_group(old), {})),
            changes(old, now, environments),
        )
        for old, now in pairs
    ]
    by_group: dict[tuple[str, ...], list[Compared]] = {}
    for cell in cells:
        by_group.setdefault(_group(cell.baseline), []).append(cell)
    means = [
        _mean(of_group, tolerances, deviations[group])
        for group, of_group in by_group.items()
        if len(of_group) > 1
    ]
    return Comparison(cells, means, missing, new)


def pair(
    baseline: Sequence[Row], current: Sequence[Row]
) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    """Rows of one cell; where its data, weights or version changed, by its names instead.

    Returns:
        pairs (baseline, current), the rows only in the baseline, the rows only in the current.
    """
    by_id = {row.cell: row for row in current}
    known = {row.cell for row in baseline}
    by_name: dict[tuple[str, ...], Row] = {}
    for row in current:
        if row.cell not in known:
            key = (*_group(row), str(row.seed))
            by_name[key] = newest(by_name[key], row) if key in by_name else row
    pairs, missing = [], []
    for row in baseline:
        found = by_id.get(row.cell) or by_name.pop((*_group(row), str(row.seed)), None)
        if found is None:
            missing.append(row)
        else:
            pairs.append((row, found))
    used = {now.cell for _, now in pairs}
    return pairs, missing, [row for row in current if row.cell not in used]


def _group(row: Row) -> tuple[str, ...]:
    """What names a cell to a person, without its seed."""
    return (*(getattr(row, name) for name in IDENTITY), row.pretrained.partition(":")[0])


def _figures(row: Row) -> dict[str, float | None]:
    """Everything that is gated: scores, counts, parameters, FLOPs, scores by other evaluators."""
    found = {name: getattr(row, name) for name in (*FRACTIONS, *COUNTS, *RELATIVE)}
    try:
        published = json.loads(row.published)
    except ValueError as error:
        raise StoreError(f"cell {row.cell}: column 'published' is not JSON: {error}") from error
    return found | {f"published.{name}": value for name, value in published.items()}


def _one_swap(metric: str, row: Row) -> float:
    """What two test images that change places in the ranking can do to an image-level score."""
    anomalous = row.n_anomalous or 0
    normal = (row.n_test or 0) - anomalous
    if metric not in IMAGE_LEVEL or not anomalous or not normal:
        return 0.0
    return 1 / (anomalous * normal) if metric == "image_auroc" else 1 / anomalous


def _differences(
    old: Sequence[Row],
    now: Sequence[Row],
    tolerances: Tolerances,
    deviations: Mapping[str, float],
) -> list[Difference]:
    """Figures of a cell, or their means over several seeds."""
    before, after = [_figures(r) for r in old], [_figures(r) for r in now]
    names = dict.fromkeys(name for figures in (*before, *after) for name in figures)
    found = []
    for name in names:
        deviation = deviations.get(name)
        if deviation is not None:
            deviation /= math.sqrt(len(old))
        allowed = tolerances.of(name, old[0], deviation)
        sides = _mean_of(f.get(name) for f in before), _mean_of(f.get(name) for f in after)
        found.append(Difference(name, *sides, allowed))
    return found


def _mean(
    cells: Sequence[Compared], tolerances: Tolerances, spread: Mapping[str, float]
) -> Compared:
    """The mean over the seeds that both sides have: a small shift of all seeds shows here."""
    old, now = [c.baseline for c in cells], [c.current for c in cells]
    differences = _differences(old, now, tolerances, spread)
    kept = [d for d in differences if d.metric not in COUNTS]
    seeds = tuple(sorted(row.seed for row in old))
    return Compared(old[0], now[0], seeds, kept, cells[0].changes)


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = list(values)
    present = [v for v in known if v is not None]
    return statistics.fmean(present) if present and len(present) == len(known) else None


def _deviations(rows: Sequence[Row]) -> dict[tuple[str, ...], dict[str, float]]:
    """Standard deviation over seeds of every figure, for cells with several seeds."""
    groups: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault(_group(row), {})[row.seed] = row
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for group, by_seed in groups.items():
        figures = [_figures(row) for row in by_seed.values()]
        found[group] = {
            name: statistics.stdev(values)
            for name in figures[0]
            if len(values := [v for f in figures if (v := f.get(name)) is not None]) > 1
        }
    return found
