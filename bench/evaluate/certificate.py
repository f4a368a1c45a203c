"""Intervals that hold a metric for certain, from counts of pixels in cells of the score axis.

A cell holds all scores between two edges; inside it the order of the pixels is unknown, so each
metric is enclosed by the best and the worst order. A cell with one distinct score has no order to
guess and adds nothing to the interval. Index 0 in names means before a cell, 1 after it; cells come
by descending score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHT_BITS = 44
"""A region's pixels share 2^44 units of weight."""
WEIGHT = 1 << WEIGHT_BITS

ROUNDING = 1e-13
"""Allowance for float64 rounding: terms are rounded about five times and summed in pairs, at most
100 eps = 2.2e-14 for a metric of at most 1; the harmonic table adds at most 2.8e-14 to AP."""

_TABLE = 32
_HARMONIC = np.array([math.fsum(1 / i for i in range(1, n + 1)) for n in range(_TABLE + 1)])

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bounded:
    """A value and an interval that holds the exact one: lower <= exact <= upper."""

    value: float
    lower: float
    upper: float

    @property
    def bound(self) -> float:
        """Largest possible |exact - value|."""
        return max(self.upper - self.value, self.value - self.lower)


def rounded(value: float) -> Bounded:
    """The interval of a value in [0, 1] that is exact but for rounding."""
    return _widened(value, value, value, ROUNDING)


def harmonic_between(a: Counts, b: Counts) -> Floats:
    """Sum of 1/i over a < i <= b, elementwise, for 0 <= a <= b.

    Equal to digamma(b + 1) - digamma(a + 1), without the cancellation that this difference suffers
    at large arguments: a table up to 32, and above it H_n = gamma + ln m + 1/(24 m^2) - 7/(960 m^4)
    + 31/(8064 m^6) - 127/(30720 m^8) + ..., m = n + 1/2, off by less than 1e-17.
    """
    table = _HARMONIC[np.minimum(b, _TABLE)] - _HARMONIC[np.minimum(a, _TABLE)]
    low = np.maximum(a, _TABLE) + 0.5
    high = np.maximum(b, _TABLE) + 0.5
    series = np.log1p((high - low) / low) + _tail(high) - _tail(low)
    return np.asarray(table + series, dtype=np.float64)


def _tail(m: Floats) -> Floats:
    q = m**-2
    return q * (1 / 24 - q * (7 / 960 - q * (31 / 8064 - q * (127 / 30720))))


@dataclass(frozen=True)
class Best:
    """Highest F1 at the lower edge of a cell.

    Attributes:
        cell: the name that the cell was added under; -1 before any was seen.
        true, false: anomalous and normal samples at or above its lower edge.
    """

    f1: float
    cell: int
    true: int
    false: int


class Certificate:
    """Adds up cells from the highest score to the lowest; intervals come out at the end.

    Proofs. ROC and PRO curves rise and pass through both corners of a cell's rectangle, so the area
    under them lies between the rectangle's lower and upper side. The j-th anomalous sample of a
    cell has precision at least (TP0 + j) / (TP0 + j + FP1) and at most TP1 / (TP1 + FP0). F1 at a
    threshold inside a cell is at most 2 TP1 / (P + TP1 + FP0).

    Args:
        normal, anomalous: totals N and P of the samples to come, both > 0.
        regions: total of ground-truth regions; 0 where there are none (image level).
        limits: false-positive rates up to which the PRO curve is integrated.
    """

    def __init__(
        self, normal: int, anomalous: int, regions: int = 0, limits: Sequence[float] = ()
    ) -> None:
        self.normal = normal
        self.anomalous = anomalous
        self.regions = regions
        self.limits = tuple(limits)
        self.best = Best(-1.0, -1, 0, 0)
        self._f1_upper = 0.0
        self._true = 0
        self._false = 0
        self._weight = 0
        # Per metric the areas of the chunks: (value, lower, upper).
        self._auroc: list[tuple[float, float, float]] = []
        self._ap: list[tuple[float, float]] = []
        self._aupro: dict[float, list[tuple[float, float, float]]] = {x: [] for x in self.limits}

    def add(
        self, cell: Counts, normal: Counts, anomalous: Counts, weight: Counts, single: Flags
    ) -> None:
        """The next cells, by descending score; empty ones may be left out.

        Args:
            cell: (K,) names of the cells, by which `best` refers to one.
            normal, anomalous: (K,) samples per cell.
            weight: (K,) units of 2^-44 region; zeros where there are no regions.
            single: (K,) whether the cell holds one distinct score.
        """
        true1 = self._true + np.cumsum(anomalous)
        false1 = self._false + np.cumsum(normal)
        true0, false0 = true1 - anomalous, false1 - normal
        self._auroc.append(_area(normal, anomalous, true0, single, normal.astype(np.float64)))
        held = np.flatnonzero(anomalous)
        ends = true0[held], true1[held], false0[held], false1[held]
        self._ap.append(_precision_sums(*ends, single[held]))
        self._add_f1(cell[held], *ends, single[held])
        weight0 = self._weight + np.cumsum(weight) - weight
        for limit, areas in self._aupro.items():
            width = np.clip(limit * self.normal - false0, 0, normal)
            areas.append(_area(normal, weight, weight0, single, width))
        if len(normal):
            self._true, self._false = int(true1[-1]), int(false1[-1])
            self._weight += int(weight.sum())

    def _add_f1(
        self, cell: Counts, true0: Counts, true1: Counts, false0: Counts, false1: Counts, one: Flags
    ) -> None:
        if not len(cell):
            return
        attained = 2.0 * true1 / (self.anomalous + true1 + false1)
        # Of equal values the last, the lowest threshold, as in the exact engine.
        top = len(attained) - 1 - int(np.argmax(attained[::-1]))
        if attained[top] >= self.best.f1:
            found = int(cell[top]), int(true1[top]), int(false1[top])
            self.best = Best(float(attained[top]), *found)
        ceiling = 2.0 * true1 / (self.anomalous + true1 + np.where(one, false1, false0))
        self._f1_upper = max(self._f1_upper, float(ceiling.max()))

    def auroc(self) -> Bounded:
        """Area under the ROC curve; the value is the trapezium area."""
        return _bounded(self._auroc, float(self.normal) * float(self.anomalous))

    def ap(self) -> Bounded:
        """Average precision; the value is the middle of its interval."""
        sums = [((low + high) / 2, low, high) for low, high in self._ap]
        return _bounded(sums, float(self.anomalous))

    def f1max(self) -> Bounded:
        """Highest F1; the value is attained, at the lower edge of `best.cell`."""
        value = self.best.f1
        return _widened(value, value, max(value, self._f1_upper), ROUNDING)

    def aupro(self, limit: float) -> Bounded:
        """Area under the PRO curve up to a false-positive rate, divided by it.

        A pixel's weight is off by less than one unit, and a region's weights sum to 2^44, so k of
        its a pixels are off by less than min(k, a - k) <= a/2 units: P/2 units over all regions.
        """
        units = float(self.regions) * WEIGHT
        slack = ROUNDING + self.anomalous / 2 / units
        return _bounded(self._aupro[limit], limit * self.normal * units, slack)


def _area(
    normal: Counts, rise: Counts, height0: Counts, single: Flags, width: Floats
) -> tuple[float, float, float]:
    """Area under the curve over each cell's first `width` of its `normal` columns, summed.

    Returns:
        (trapezium, lower side of the rectangles, upper side); in a cell with one score the curve
        is the straight line itself.
    """
    height = height0.astype(np.float64)
    share = np.divide(width, normal, out=np.zeros_like(width), where=normal > 0)
    middle = width * (height + rise * share / 2)
    low = np.where(single, middle, width * height)
    high = np.where(single, middle, width * (height + rise))
    return float(middle.sum()), float(low.sum()), float(high.sum())


def _precision_sums(
    true0: Counts, true1: Counts, false0: Counts, false1: Counts, single: Flags
) -> tuple[float, float]:
    """Least and greatest sum of the precisions of the anomalous samples of all cells."""
    count = (true1 - true0).astype(np.float64)
    tied = count * true1 / (true1 + false1)
    # Sum over j of (TP0 + j) / (TP0 + j + FP1) = count - FP1 * (1/(TP0+FP1+1) + ...).
    low = count - false1 * harmonic_between(true0 + false1, true1 + false1)
    high = count * true1 / (true1 + false0)
    return float(np.where(single, tied, low).sum()), float(np.where(single, tied, high).sum())


def _bounded(
    sums: list[tuple[float, float, float]], scale: float, slack: float = ROUNDING
) -> Bounded:
    value, low, high = (math.fsum(part) / scale for part in zip(*sums, strict=True))
    return _widened(value, low, high, slack)


def _widened(value: float, low: float, high: float, slack: float) -> Bounded:
    lower = max(0.0, low - slack)
    upper = min(1.0, high + slack)
    return Bounded(min(max(value, lower), upper), lower, upper)
