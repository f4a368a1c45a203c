"""Methods against each other on the categories of a data set, with ranks, intervals and tests."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.report.choice import quantities as q
from bench.report.choice.coverage import Coverage, cover
from bench.report.choice.marks import mask_notes, says_nothing
from bench.report.compare.intervals import (
    IMAGE_METRICS,
    IMAGES,
    MAXIMA,
    OF_MAXIMA,
    SEEDS,
    NoInterval,
    image_samples,
    percentiles,
    t_interval,
)
from bench.report.compare.significance import Comparison, compare, rank_columns
from bench.rows.text import of_categories

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.report.choice.groups import Group
    from bench.rows.row import Row

    Samples = Mapping[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Number:
    """A mean over seeds, its deviation over them and its interval, as far as they are known.

    Of a cost it is the median, without deviation and interval.
    """

    value: float
    deviation: float | None = None
    interval: tuple[float, float] | None = None
    batches: tuple[int, ...] = ()  # named where those of a table differ

    def text(self, metric: str) -> str:
        """As printed: `85.0 ± 7.1 [78.0, 92.0]`."""
        parts = [q.show(metric, self.value)]
        if self.deviation is not None:
            parts.append(f"± {q.show(metric, self.deviation)}")
        if self.interval is not None:
            low, high = (q.show(metric, end) for end in self.interval)
            parts.append(f"[{low}, {high}]")
        if self.batches:
            parts.append(f"(batch {', '.join(map(str, self.batches))})")
        return " ".join(parts)


@dataclass(frozen=True)
class Table:
    """One metric of a group. Every number of a method comes from the same seeds.

    Attributes:
        cells: (variant, category) -> number, of all variants.
        means: over `coverage.shared`, of the compared variants; medians of costs.
        scores: (M, C) numbers of cells, of the compared variants on the shared categories.
        ranks: (M, C), 1 is best.
        comparison: None for costs, and where there is too little to conclude anything.
        intervals: what the brackets are, and where and why there are none.
        remarks: what is odd about the images of a pixel metric; that the scores say nothing.
    """

    group: Group
    metric: str
    coverage: Coverage
    cells: Mapping[tuple[str, str], Number]
    means: Mapping[str, Number]
    scores: NDArray[np.float64]
    ranks: NDArray[np.float64]
    comparison: Comparison | None
    intervals: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names in the order of the rows of `scores`."""
        return self.coverage.compared

    @property
    def shared(self) -> tuple[str, ...]:
        """Categories in the order of the columns of `scores`."""
        return self.coverage.shared

    def rank(self, variant: str) -> float | None:
        """Mean rank; None for a variant that is not compared."""
        if variant not in self.methods or not self.shared:
            return None
        return float(self.ranks[self.methods.index(variant)].mean())


def average(metric: str) -> str:
    """What a number over categories and seeds is."""
    return "mean" if q.is_score(metric) else "median"


def tabulate_metric(
    group: Group,
    metric: str,
    artifacts: Path | None = None,
    skip_scores: Collection[str] = (),
) -> Table:
    """Scores, ranks, intervals and tests of one metric.

    Args:
        artifacts: folder with the stored image scores; without it no bootstrap intervals.
        skip_scores: protocols whose scores say nothing; shown, with a remark.
    """
    coverage = cover(
        group.variants, lambda row: q.quantity(row, metric), is_score=q.is_score(metric)
    )
    samples, reasons = _samples(coverage, metric, artifacts)
    cells = _cells(group, coverage, metric, samples)
    means = {
        name: mean
        for name in coverage.compared
        if (mean := _mean(coverage, name, metric, samples)) is not None
    }
    methods, shared = coverage.compared, coverage.shared
    scores = np.array([[cells[m, c].value for c in shared] for m in methods])
    scores = scores.reshape(len(methods), len(shared))
    return Table(
        group=group,
        metric=metric,
        coverage=coverage,
        cells=cells,
        means=means,
        scores=scores,
        ranks=rank_columns(scores, q.is_lower_better(metric)),
        comparison=compare(scores) if q.is_score(metric) else None,
        intervals=_explained(means, bool(samples), reasons),
        remarks=tuple(_remarks(group, coverage, metric, skip_scores)),
    )


def _remarks(
    group: Group, coverage: Coverage, metric: str, skip_scores: Collection[str]
) -> Iterable[str]:
    if not q.is_score(metric):
        return
    if group.first.protocol in skip_scores:
        yield says_nothing(group.first.protocol)
    if q.is_of_pixels(metric):
        yield from mask_notes([r for each in coverage.chosen.values() for r in each.every_row])


def _samples(coverage: Coverage, metric: str, artifacts: Path | None) -> tuple[Samples, list[str]]:
    """Bootstrap samples of cells, and why others have none."""
    samples: dict[tuple[str, str], NDArray[np.float64]] = {}
    if metric in MAXIMA:
        return samples, [OF_MAXIMA]
    if metric not in IMAGE_METRICS or artifacts is None:
        return samples, []
    reasons: dict[str, Counter[str]] = {}
    for name, chosen in coverage.chosen.items():
        for category, rows in chosen.rows.items():
            try:
                samples[name, category] = image_samples(rows, metric, artifacts)
            except NoInterval as reason:
                reasons.setdefault(str(reason), Counter())[name] += 1
    lines = []
    for why, counts in reasons.items():
        where = [
            f"{name} in {count} of {of_categories(list(coverage.chosen[name].rows))}"
            for name, count in counts.items()
        ]
        named = f"{', '.join(where)}: " if samples or len(reasons) > 1 else ""
        lines.append(f"no bootstrap interval: {named}{why}")
    return samples, lines


def _cells(
    group: Group, coverage: Coverage, metric: str, samples: Samples
) -> dict[tuple[str, str], Number]:
    every = [row for rows in group.variants.values() for row in rows]
    by_batch = metric in q.AT_BATCH and len({row.fps_batch for row in every}) > 1
    cells = {}
    for name, chosen in coverage.chosen.items():
        for category, rows in chosen.rows.items():
            drawn = samples.get((name, category))
            cells[name, category] = Number(
                *_over_seeds([_value(row, metric) for row in rows], metric),
                interval=None if drawn is None else percentiles(drawn),
                batches=_batches(rows) if by_batch else (),
            )
    return cells


def _mean(coverage: Coverage, name: str, metric: str, samples: Samples) -> Number | None:
    """Over the shared categories within each seed, then over seeds; of costs over both at once."""
    shared, chosen = coverage.shared, coverage.chosen[name]
    if not shared:
        return None
    if not q.is_score(metric):
        return Number(statistics.median(_value(r, metric) for c in shared for r in chosen.rows[c]))
    by_seed = [
        statistics.fmean(_value(chosen.rows[c][index], metric) for c in shared)
        for index in range(len(chosen.seeds))
    ]
    interval = None
    if all((name, c) in samples for c in shared):
        interval = percentiles(np.mean([samples[name, c] for c in shared], axis=0))
    elif not samples and len(by_seed) > 1 and metric not in MAXIMA:
        interval = t_interval(by_seed)
    return Number(*_over_seeds(by_seed, metric), interval=interval)


def _over_seeds(values: Sequence[float], metric: str) -> tuple[float, float | None]:
    if not q.is_score(metric):
        return statistics.median(values), None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _value(row: Row, metric: str) -> float:
    value = q.quantity(row, metric)
    assert value is not None, "coverage chose rows that have it"
    return value


def _batches(rows: Sequence[Row]) -> tuple[int, ...]:
    return tuple(sorted({row.fps_batch for row in rows if row.fps_batch}))


def _explained(
    means: Mapping[str, Number], has_samples: bool, reasons: Sequence[str]
) -> tuple[str, ...]:
    if has_samples:
        return (IMAGES, *reasons)
    if any(mean.interval for mean in means.values()):
        return (SEEDS, *reasons)
    return tuple(reasons)
