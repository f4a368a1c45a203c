"""How often intervals and tests of `bench compare` are right, by simulation with known truth.

    python benchmarks/coverage.py [--runs 300]

Image scores are normal with one deviation, anomalous ones shifted, so that AUROC is known and AP
and best F1 are those of 20,000 images. Four tables: intervals of one category, of means over six,
of differences between two methods over images and seeds, and the tests over categories where all
methods are equal.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from tabulate import tabulate

from bench.report.compare.differences import Measured, differences
from bench.report.compare.intervals import (
    MAXIMA,
    Sampled,
    auroc_interval,
    image_score,
    logit_interval,
    of_mean,
    percentiles,
    resampled_scores,
)
from bench.report.compare.significance import ALPHA, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES = ((10, 10), (30, 30), (40, 60))
AUROCS = (0.8, 0.97, 0.99)
SAMPLES = 500
CATEGORIES = 6
METRICS = ("image_auroc", "image_ap", "image_f1max")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    print(f"95 % intervals of one category: how many hold the truth (%), {runs} test sets each")
    head = ["normal", "anomalous", "AUROC", "AUROC: score interval", "percentiles"]
    show([*head, "AP: percentiles", "F1: percentiles", "AP: logit"], of_cells(runs))
    print(f"\n95 % intervals of a mean over {CATEGORIES} categories")
    show([*head[:3], "AUROC as printed", "AP as printed", "F1: percentiles"], means(runs))
    print("\nDifference of two methods on the same images, 3 seeds each: intervals and tests")
    show(["images and seeds (%)", "images alone (%)", "called different, equal (%)"], pairs(runs))
    print("\nAll methods equal: how many comparisons tell any two apart (%)")
    show(["methods", "categories", "on new categories"], equal_methods(runs))


def show(head: list[str], lines: list[list[float]]) -> None:
    print(tabulate(lines, head, "pipe", floatfmt=".4g"))


def labels(normal: int, anomalous: int) -> NDArray[np.bool_]:
    return np.arange(normal + anomalous) >= normal


def truths(auroc: float, normal: int, anomalous: int) -> dict[str, float]:
    """Of as good as all images, in the same proportion."""
    times = 20_000 // (normal + anomalous)
    which = labels(times * normal, times * anomalous)
    scores = np.random.default_rng(9).standard_normal(len(which)) + shift(auroc) * which
    found = {metric: image_score(metric, scores, which) for metric in METRICS}
    return {**found, "image_auroc": auroc}


def shift(auroc: float) -> float:
    return float(np.sqrt(2) * stats.norm.ppf(auroc))


def holds(interval: tuple[float, float] | None, truth: float) -> bool:
    return interval is not None and interval[0] <= truth <= interval[1]


def of_cells(runs: int) -> list[list[float]]:
    rng = np.random.default_rng(0)
    lines: list[list[float]] = []
    for normal, anomalous in IMAGES:
        which = labels(normal, anomalous)
        for auroc in AUROCS:
            truth = truths(auroc, normal, anomalous)
            hits = np.zeros(5)
            for run in range(runs):
                scores = rng.standard_normal(len(which)) + shift(auroc) * which
                value = image_score("image_auroc", scores, which)
                found: list[tuple[float, float] | None] = [auroc_interval(value, normal, anomalous)]
                drawn = {
                    metric: resampled_scores(metric, scores, which, SAMPLES, run)
                    for metric in METRICS
                }
                found += map(percentiles, drawn.values())
                ap = image_score("image_ap", scores, which)
                found.append(logit_interval(ap, drawn["image_ap"]))
                expected = (truth["image_auroc"], *truth.values(), truth["image_ap"])
                hits += [holds(i, t) for i, t in zip(found, expected, strict=True)]
            lines.append([normal, anomalous, auroc, *(100 * hits / runs)])
    return lines


def means(runs: int) -> list[list[float]]:
    rng = np.random.default_rng(1)
    lines: list[list[float]] = []
    for normal, anomalous in IMAGES:
        which = labels(normal, anomalous)
        for auroc in AUROCS:
            truth = truths(auroc, normal, anomalous)
            hits = np.zeros(3)
            for run in range(runs // 3):
                sets = [
                    rng.standard_normal(len(which)) + shift(auroc) * which
                    for _ in range(CATEGORIES)
                ]
                for index, metric in enumerate(METRICS):
                    drawn = [
                        Sampled(
                            resampled_scores(metric, scores, which, SAMPLES, 10 * run + c),
                            normal,
                            anomalous,
                        )
                        for c, scores in enumerate(sets)
                    ]
                    values = [image_score(metric, scores, which) for scores in sets]
                    if metric in MAXIMA:
                        found = percentiles(np.mean([each.values for each in drawn], axis=0))
                    else:
                        found = of_mean(metric, values, drawn)
                    hits[index] += holds(found, truth[metric])
            lines.append([normal, anomalous, auroc, *(100 * hits / (runs // 3))])
    return lines


def pairs(runs: int) -> list[list[float]]:
    """Seeds move the shift of a method by 0.15; images are easy or hard for both methods alike."""
    rng = np.random.default_rng(2)
    which = labels(40, 60)
    both = alone = different = 0
    first = second = 1.2
    for run in range(runs // 3):
        hard = 0.7 * rng.standard_normal((CATEGORIES, len(which)))
        methods = [measured(rng, hard, which, mean, run) for mean in (first, second)]
        (found,) = differences(methods)
        low, high = found.interval
        both += low <= 0 <= high
        different += found.p < ALPHA
        fixed = [Measured([float(np.mean(each.by_seed))], each.samples) for each in methods]
        low, high = differences(fixed)[0].interval
        alone += low <= 0 <= high
    return [[100 * count / (runs // 3) for count in (both, alone, different)]]


def measured(
    rng: np.random.Generator,
    hard: NDArray[np.float64],
    which: NDArray[np.bool_],
    mean: float,
    run: int,
) -> Measured:
    """Three seeds of a method on all categories."""
    by_seed, samples = [], []
    for _ in range(3):
        moved = mean + 0.15 * rng.standard_normal()
        own = 0.7 * rng.standard_normal(hard.shape)
        scores = hard + own + moved * which
        by_seed.append(float(np.mean([image_score("image_auroc", s, which) for s in scores])))
        samples += [
            resampled_scores("image_auroc", each, which, SAMPLES, 10 * run + c)
            for c, each in enumerate(scores)
        ]
    return Measured(by_seed, np.mean(samples, axis=0))


def equal_methods(runs: int) -> list[list[float]]:
    """Scores of a category share its difficulty."""
    rng = np.random.default_rng(3)
    lines: list[list[float]] = []
    for count in (2, 3, 4):
        for categories in (6, 15):
            alarms = 0
            for _ in range(runs):
                hard = rng.random(categories)
                found = compare(hard + 0.1 * rng.standard_normal((count, categories)))
                assert found is not None
                alarms += any(pair.differs for pair in found.pairs)
            lines.append([count, categories, 100 * alarms / runs])
    return lines


if __name__ == "__main__":
    main()
