"""Methods against each other on the categories of a data set, with ranks, intervals and tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.report.choice import quantities as q
from bench.report.choice.coverage import Coverage, cover
from bench.report.choice.groups import left_to_noise
from bench.report.choice.marks import NOISY, mask_notes, says_nothing
from bench.report.compare.differences import MeanDifference, Measured, differences
from bench.report.compare.intervals import (
    IMAGE_METRICS,
    IMAGES,
    MAXIMA,
    METHODS,
    OF_MAXIMA,
    OF_SEEDS,
    SEEDS,
    NoInterval,
    image_samples,
    of_cell,
    of_mean,
    t_interval,
)
from bench.report.compare.significance import CategoryTests, compare, rank_columns
from bench.rows.text import counted, of_categories

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.report.choice.groups import Group
    from bench.report.compare.intervals import Sampled
    from bench.rows.row import Row

    Samples = Mapping[tuple[str, str], Sampled]


@dataclass(frozen=True)
class Number:
    """A mean over seeds, its deviation over them and its interval, as far as they are known.

    Of a cost it is the median, without deviation and interval.
    """

    value: float
    deviation: float | None = None
    interval: tuple[float, float] | None = None
    batches: tuple[int, ...] = ()  # named where those of a table differ
    is_noisy: bool = False  # a time that comes from noisy rows alone

    def text(self, metric: str) -> str:
        """As printed: `85.0 ± 7.1 [78.0, 92.0]`."""
        parts = [q.show(metric, self.value) + (NOISY if self.is_noisy else "")]
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
        comparison: would methods differ on other categories; None for costs, and where there is
            too little to conclude anything.
        differences: do they differ on these; of pairs of `methods` whose images or seeds can be
            drawn again.
        brackets: what every interval of the table is; empty without any.
        intervals: how they were made, and where and why there are none.
        remarks: what is odd about the images of a pixel metric; that the scores say nothing; from
            how many rows a time comes whose others are noisy.
    """

    group: Group
    metric: str
    coverage: Coverage
    cells: Mapping[tuple[str, str], Number]
    means: Mapping[str, Number]
    scores: NDArray[np.float64]
    ranks: NDArray[np.float64]
    comparison: CategoryTests | None
    differences: tuple[MeanDifference, ...]
    brackets: str
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
        if (mean := _mean(coverage, name, metric, samples, cells)) is not None
    }
    methods, shared = coverage.compared, coverage.shared
    scores = np.array([[cells[m, c].value for c in shared] for m in methods])
    scores = scores.reshape(len(methods), len(shared))
    brackets, explained = _explained(coverage, metric, samples, cells, means)
    return Table(
        group=group,
        metric=metric,
        coverage=coverage,
        cells=cells,
        means=means,
        scores=scores,
        ranks=rank_columns(scores, q.is_lower_better(metric)),
        comparison=compare(scores) if q.is_score(metric) else None,
        differences=_differences(coverage, metric, samples),
        brackets=brackets,
        intervals=(*explained, *reasons),
        remarks=tuple(_remarks(group, coverage, metric, skip_scores)),
    )


def _remarks(
    group: Group, coverage: Coverage, metric: str, skip_scores: Collection[str]
) -> Iterable[str]:
    if not q.is_score(metric):
        for name, chosen in coverage.chosen.items():
            yield from left_to_noise(name, chosen.every_row, [(q.label(metric), metric)])
        return
    if group.first.protocol in skip_scores:
        yield says_nothing(group.first.protocol)
    if q.is_of_pixels(metric):
        yield from mask_notes([r for each in coverage.chosen.values() for r in each.every_row])


def _samples(coverage: Coverage, metric: str, artifacts: Path | None) -> tuple[Samples, list[str]]:
    """Bootstrap samples of cells, and why others have none."""
    samples: dict[tuple[str, str], Sampled] = {}
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
        lines.append(f"no interval over test images: {named}{why}")
    return samples, lines


def _cells(
    group: Group, coverage: Coverage, metric: str, samples: Samples
) -> dict[tuple[str, str], Number]:
    every = [row for rows in group.variants.values() for row in rows]
    by_batch = q.described(metric).is_at_batch and len({row.fps_batch for row in every}) > 1
    cells = {}
    for name, chosen in coverage.chosen.items():
        for category, rows in chosen.rows.items():
            drawn = samples.get((name, category))
            number = _number(rows, metric, [category])
            cells[name, category] = replace(
                number,
                interval=None if drawn is None else of_cell(metric, number.value, drawn),
                batches=q.batches(rows) if by_batch else (),
            )
    return cells


def _number(rows: Sequence[Row], metric: str, categories: Sequence[str]) -> Number:
    value, deviation = q.over_seeds(rows, metric, categories)
    assert value is not None, "coverage chose rows that have it"
    return Number(value, deviation, is_noisy=q.is_uncertain(rows, metric))


def _mean(
    coverage: Coverage,
    name: str,
    metric: str,
    samples: Samples,
    cells: Mapping[tuple[str, str], Number],
) -> Number | None:
    shared, rows = coverage.shared, coverage.shared_rows(name)
    if not shared:
        return None
    number = _number(rows, metric, shared)
    drawn = [samples[name, c] for c in shared if (name, c) in samples]
    if len(drawn) == len(shared):
        values = [cells[name, c].value for c in shared]
        return replace(number, interval=of_mean(metric, values, drawn))
    if samples or number.deviation is None or metric in MAXIMA:
        return number
    return replace(number, interval=t_interval([*q.by_seed(rows, metric, shared).values()]))


def _differences(coverage: Coverage, metric: str, samples: Samples) -> tuple[MeanDifference, ...]:
    """Between the means of all compared variants; none of maxima over thresholds."""
    shared = coverage.shared
    if not shared or not q.is_score(metric) or metric in MAXIMA:
        return ()
    measured = []
    for name in coverage.compared:
        drawn = [samples[name, c].values for c in shared if (name, c) in samples]
        mean = np.mean(drawn, axis=0) if len(drawn) == len(shared) else None
        of_seeds = q.by_seed(coverage.shared_rows(name), metric, shared)
        measured.append(Measured([*of_seeds.values()], mean))
    return tuple(differences(measured))


def _explained(
    coverage: Coverage,
    metric: str,
    samples: Samples,
    cells: Mapping[tuple[str, str], Number],
    means: Mapping[str, Number],
) -> tuple[str, list[str]]:
    """What the brackets of a table are; how they were made, and why numbers have none."""
    if not q.is_score(metric) or metric in MAXIMA:
        return "", []
    if samples:
        alike = [f"{name} in {c}" for name, c in samples if cells[name, c].interval is None]
        equal = f"no interval: {', '.join(alike)}: every bootstrap sample has the same value"
        return IMAGES, [METHODS[metric], *([equal] if alike else [])]
    lines = []
    for name, mean in means.items():
        seeds = counted(len(coverage.chosen[name].seeds), "seed")
        if mean.interval is None and mean.deviation is None:
            lines.append(f"no interval over seeds: {name} has {seeds}")
        elif mean.interval is None:
            lines.append(f"no interval over seeds: the {seeds} of {name} gave one number")
    has_any = any(mean.interval for mean in means.values())
    return SEEDS if has_any else "", [*([OF_SEEDS] if has_any else []), *lines]
