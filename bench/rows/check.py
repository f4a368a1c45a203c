"""The regression gate: rows against those of a committed baseline, metric by metric."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.errors import StoreError
from bench.rows.changes import Change, Environments, changes
from bench.rows.drawn_again import two_means
from bench.rows.row import newest
from bench.rows.settings import Likeness, precision_of
from bench.rows.store import ResultStore
from bench.rows.tolerances import COUNTS, SIZES, Tolerances, figures_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from bench.rows.row import Row

EPSILON = 1e-9
"""Rounding of a difference of two stored decimals; far below the sixth decimal of a score."""


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
    """A cell in the baseline and now; or the means over seeds of one, of other seeds each.

    Attributes:
        baseline, current: of a mean the rows of the lowest seed.
        seeds, old_seeds: now and in the baseline; one, the same, of a cell.
    """

    baseline: Row
    current: Row
    seeds: tuple[int, ...]
    old_seeds: tuple[int, ...]
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
    means: list[Compared]  # of seeds that were drawn again, where they were asked for
    missing: list[Row]  # in the baseline, not now
    new: list[Row]  # now, not in the baseline
    other_seeds: int = 0  # missing rows that have one of another seed among the new ones

    @property
    def changed(self) -> list[Compared]:
        """Cells and means with a figure beyond its tolerance."""
        return [c for c in [*self.cells, *self.means] if c.changed]

    def exit_code(self, complete: bool = False) -> int:
        """0: all agree. 1: something changed, or is missing though all is asked. 3: no pair."""
        if not self.cells and not self.means:
            return 3
        return 1 if self.changed or (complete and self.missing) else 0


def check(
    baseline: Path, results: Path, tolerances: Tolerances, new_seeds: bool = False
) -> Comparison:
    """Compare the rows of two folders.

    Args:
        new_seeds: whether rows of other seeds than the baseline's are compared with it, by means.

    Raises:
        StoreError: no such baseline, or a damaged file in either folder.
    """
    if not baseline.is_dir():
        raise StoreError(f"the baseline {baseline} is not a folder; give --baseline")
    environments = Environments([baseline, results])
    rows = ResultStore(baseline).rows(), ResultStore(results).rows()
    return compare(*rows, tolerances, environments, new_seeds)


def compare(
    baseline: Sequence[Row],
    current: Sequence[Row],
    tolerances: Tolerances,
    environments: Environments,
    new_seeds: bool = False,
) -> Comparison:
    """Pair the rows of one cell, which have one seed, and compare their figures.

    The same seed gives the same figures but for rounding, so that the tolerance of a cell knows
    nothing of the spread between seeds. Rows of seeds that only one side has are compared by their
    means, if `new_seeds`, with a tolerance from that spread.
    """
    groups = _groups([*baseline, *current])
    pairs, missing, new = pair(baseline, current, groups)
    cells = [
        Compared(
            old,
            now,
            (now.seed,),
            (old.seed,),
            list(_differences(old, now, tolerances)),
            changes(old, now, environments),
        )
        for old, now in pairs
    ]
    means = _means(missing, new, groups, tolerances, environments) if new_seeds else []
    used = {groups[id(mean.baseline)] for mean in means}
    missing, new = ([r for r in rows if groups[id(r)] not in used] for rows in (missing, new))
    there = {groups[id(row)] for row in new}
    other_seeds = sum(groups[id(row)] in there for row in missing)
    return Comparison(cells, means, missing, new, other_seeds)


Groups = Mapping[int, tuple[object, ...]]
"""By the identity of a row, what names its cell to a person, without the seed."""


def pair(
    baseline: Sequence[Row], current: Sequence[Row], groups: Groups
) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    """Rows of one cell; where its data, weights or version changed, by its group and seed instead.

    Returns:
        pairs (baseline, current), the rows only in the baseline, the rows only in the current.
    """
    by_id = {row.cell: row for row in current}
    known = {row.cell for row in baseline}
    by_name: dict[tuple[object, ...], Row] = {}
    for row in current:
        if row.cell not in known:
            key = (groups[id(row)], row.seed)
            by_name[key] = newest(by_name[key], row) if key in by_name else row
    pairs, missing = [], []
    for row in baseline:
        found = by_id.get(row.cell) or by_name.pop((groups[id(row)], row.seed), None)
        if found is None:
            missing.append(row)
        else:
            pairs.append((row, found))
    used = {now.cell for _, now in pairs}
    return pairs, missing, [row for row in current if row.cell not in used]


def _groups(rows: Sequence[Row]) -> Groups:
    """Settings of an older version of a method or data set count as those of the newest."""
    methods, datasets = (
        dict(sorted((getattr(row, name), getattr(row, f"{name}_version")) for row in rows))
        for name in ("method", "dataset")
    )
    alike = [
        replace(row, method_version=methods[row.method], dataset_version=datasets[row.dataset])
        for row in rows
    ]
    likeness = Likeness(alike)
    return {id(row): _group(of, likeness) for row, of in zip(rows, alike, strict=True)}


def _group(row: Row, likeness: Likeness) -> tuple[object, ...]:
    names = (row.kind, row.method, row.dataset, row.category, row.protocol)
    settings = (likeness.key(row, column) for column in ("params", "dataset_params"))
    return (*names, *settings, row.pretrained.partition(":")[0], precision_of(row))


def _differences(old: Row, now: Row, tolerances: Tolerances) -> Iterator[Difference]:
    before, after = figures_of(old), figures_of(now)
    for name in {**before, **after}:
        yield Difference(name, before.get(name), after.get(name), tolerances.of(name, old))


def _means(
    baseline: Sequence[Row],
    current: Sequence[Row],
    groups_of: Groups,
    tolerances: Tolerances,
    environments: Environments,
) -> list[Compared]:
    """Means over the seeds of each side, of cells with three rows or more on both together."""
    sides: dict[tuple[object, ...], tuple[list[Row], list[Row]]] = {}
    for rows, side in ((baseline, 0), (current, 1)):
        for row in sorted(rows, key=lambda row: row.seed):
            sides.setdefault(groups_of[id(row)], ([], []))[side].append(row)
    groups = [(old, now) for old, now in sides.values() if old and now and len(old + now) > 2]
    found = [{name: _samples(old, now, name) for name in _names(old + now)} for old, now in groups]
    uncertain = sum(_varies(name, *sample) for of in found for name, sample in of.items())
    return [
        Compared(
            old[0],
            now[0],
            tuple(row.seed for row in now),
            tuple(row.seed for row in old),
            [
                _difference(name, sample, old[0], tolerances, uncertain)
                for name, sample in samples.items()
            ],
            changes(old[0], now[0], environments),
        )
        for (old, now), samples in zip(groups, found, strict=True)
    ]


Values = tuple["list[float | None]", "list[float | None]"]
"""A figure of each seed in the baseline and now."""


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in figures_of(row)))


def _samples(old: Sequence[Row], now: Sequence[Row], name: str) -> Values:
    return [figures_of(row).get(name) for row in old], [figures_of(row).get(name) for row in now]


def _varies(name: str, before: Sequence[float | None], after: Sequence[float | None]) -> bool:
    """Whether a figure depends on the seed; counts do where those of the baseline differ."""
    if None in before or None in after or name in SIZES:
        return False
    return len(set(before if name in COUNTS else [*before, *after])) > 1


def _difference(
    name: str, values: Values, row: Row, tolerances: Tolerances, uncertain: int
) -> Difference:
    """Of two means; the tolerance is the cell's, or what drawing the seeds again explains.

    Args:
        uncertain: figures of the whole check that depend on the seed; they share the chance of a
            false alarm (Bonferroni).
    """
    before, after = map(_mean_of, values)
    difference = Difference(name, before, after, tolerances.of(name, row))
    if not _varies(name, *values):
        return difference
    old, now = ([v for v in side if v is not None] for side in values)
    spread = two_means(old, now, tolerances.false_alarms / uncertain)
    return replace(difference, tolerance=max(difference.tolerance, spread))


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = list(values)
    present = [v for v in known if v is not None]
    return statistics.fmean(present) if present and len(present) == len(known) else None
