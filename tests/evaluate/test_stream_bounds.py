"""The certificate holds whatever the order inside the cells, and is tight where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.evaluate.certificate import Certificate, harmonic_between
from bench.evaluate.tally import region_weights

Array = npt.NDArray[Any]
LIMITS = (0.01, 0.05, 0.3, 1.0)
EPSILON = 1e-15
"""Rounding of the slow definition, whose sums can pass 1."""


def by_thresholds(scores: Array, regions: Array) -> dict[str, float]:
    """The definitions, threshold by threshold; `regions` is -1 for normal samples."""
    anomalous = regions >= 0
    thresholds = np.unique(scores)[::-1]
    above = scores[None] >= thresholds[:, None]
    true = (above & anomalous).sum(1)
    false = (above & ~anomalous).sum(1)
    tpr, fpr = np.append(0, true) / anomalous.sum(), np.append(0, false) / (~anomalous).sum()
    names = np.unique(regions[anomalous])
    overlap = np.mean([(above[:, regions == r]).mean(1) for r in names], axis=0)
    pro = np.append(0.0, overlap)
    found = {
        "auroc": float(np.trapezoid(tpr, fpr) if hasattr(np, "trapezoid") else area(fpr, tpr)),
        "ap": float((np.diff(tpr) * true / (true + false)).sum()),
        "f1max": float((2 * true / (anomalous.sum() + true + false)).max()),
    }
    for limit in LIMITS:
        kept = fpr < limit
        # The last point before the limit, then the point at it.
        x = np.append(fpr[kept], limit)
        last = int(kept.sum())
        step = (limit - fpr[last - 1]) / (fpr[last] - fpr[last - 1])
        y = np.append(pro[kept], pro[last - 1] + step * (pro[last] - pro[last - 1]))
        found[f"aupro {limit}"] = area(x, y) / limit
    return found


def area(x: Array, y: Array) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def random_case(rng: np.random.Generator) -> tuple[Array, Array]:
    """Scores, often tied, and the region of every sample, of two to sixty samples."""
    count = int(rng.integers(2, 60))
    scores = rng.integers(0, rng.integers(1, 50) + 1, count).astype(float)
    if rng.random() < 0.3:
        scores = rng.permutation(count).astype(float)
    regions = rng.integers(-1, rng.integers(1, 6), count)
    if rng.random() < 0.5:
        regions[rng.random(count) < 0.7] = -1
    regions[:2] = -1, 0
    return scores + rng.random() * (regions >= 0) * rng.integers(0, 20), regions


def certified(scores: Array, regions: Array, cells: Array) -> Certificate:
    """The certificate from the counts of each cell alone."""
    anomalous = regions >= 0
    ids, sizes = np.unique(regions[anomalous], return_inverse=True, return_counts=True)[1:]
    certificate = Certificate(int((~anomalous).sum()), int(anomalous.sum()), len(sizes), LIMITS)
    names, place = np.unique(-cells, return_inverse=True)
    weight = np.zeros(len(names), np.int64)
    np.add.at(weight, place[anomalous], region_weights(ids.astype(np.int32), sizes))
    single = np.array([len(np.unique(scores[place == c])) == 1 for c in range(len(names))])
    counts = [np.bincount(place[x], minlength=len(names)) for x in (~anomalous, anomalous)]
    # In pieces, as a stream hands them over.
    half = len(names) // 2
    for part in (slice(half), slice(half, None)):
        inputs = names[part], counts[0][part], counts[1][part], weight[part], single[part]
        certificate.add(*inputs)
    return certificate


def intervals(certificate: Certificate) -> dict[str, Any]:
    found = {name: getattr(certificate, name)() for name in ("auroc", "ap", "f1max")}
    return found | {f"aupro {limit}": certificate.aupro(limit) for limit in LIMITS}


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_value_lies_in_the_interval_of_any_partition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(500):
        scores, regions = random_case(rng)
        edges = np.sort(rng.choice(scores, int(rng.integers(0, 8))))
        exact = by_thresholds(scores, regions)
        found = intervals(certified(scores, regions, np.searchsorted(edges, scores, side="right")))
        for name, value in exact.items():
            interval = found[name]
            assert interval.lower - EPSILON <= value <= interval.upper + EPSILON, (name, seed)
            assert abs(interval.value - value) <= interval.bound + EPSILON


def test_cells_of_one_score_each_are_exact() -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        scores, regions = random_case(rng)
        found = intervals(certified(scores, regions, np.unique(scores, return_inverse=True)[1]))
        for name, value in by_thresholds(scores, regions).items():
            assert found[name].bound < 1e-11
            assert found[name].value == pytest.approx(value, abs=1e-11)


def test_the_bounds_are_attained_by_the_best_and_the_worst_order() -> None:
    regions = np.repeat([0, -1], [3, 5])
    one_cell = np.zeros(8)
    found = intervals(certified(np.arange(8.0), regions, one_cell))
    best = by_thresholds(-np.arange(8.0), regions)
    worst = by_thresholds(np.arange(8.0), regions)
    for name in ("auroc", "ap", "aupro 0.3", "aupro 1.0"):
        assert found[name].lower == pytest.approx(worst[name], abs=1e-11)
        assert found[name].upper == pytest.approx(best[name], abs=1e-11)


def test_the_f1_value_is_attained_at_the_lower_edge_of_the_best_cell() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        scores, regions = random_case(rng)
        cells = np.searchsorted(np.sort(rng.choice(scores, 4)), scores, side="right")
        certificate = certified(scores, regions, cells)
        predicted = -cells <= certificate.best.cell
        true = int((predicted & (regions >= 0)).sum())
        f1 = 2 * true / (predicted.sum() + (regions >= 0).sum())
        assert certificate.f1max().value == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize("start", [0, 1, 20, 31, 32, 33, 300, 10**6, 10**10])
def test_harmonic_sums_keep_full_relative_precision(start: int) -> None:
    for length in (0, 1, 2, 57, 900):
        slow = sum(1 / i for i in range(start + 1, start + length + 1))
        fast = harmonic_between(np.array([start]), np.array([start + length]))[0]
        assert fast == pytest.approx(slow, rel=1e-13, abs=0)
