"""Do methods differ on these categories? Means over other test images and other seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Measured:
    """What is known of a method's mean over the shared categories.

    Attributes:
        by_seed: (S,) the mean over categories of each seed.
        samples: (B,) bootstrap values of the mean over seeds and categories; the same drawn images
            for every method. None without image scores.
    """

    by_seed: Sequence[float]
    samples: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class MeanDifference:
    """Of two methods' means, by number; `better` has the higher one.

    Attributes:
        value: >= 0.
        interval: 95 %, of this pair alone.
        p: two-sided, corrected for the number of pairs by Holm.
        over: what was drawn again: images, seeds or both.
    """

    better: int
    worse: int
    value: float
    interval: tuple[float, float]
    p: float
    over: tuple[str, ...]


def differences(methods: Sequence[Measured]) -> list[MeanDifference]:
    """Every pair whose difference has a standard error."""
    from statsmodels.stats.multitest import multipletests

    pairs = combinations(range(len(methods)), 2)
    found = [d for a, b in pairs if (d := _difference(methods, a, b)) is not None]
    if not found:
        return []
    corrected = multipletests([each.p for each in found], method="holm")[1]
    return [replace(each, p=float(p)) for each, p in zip(found, corrected, strict=True)]


def _difference(methods: Sequence[Measured], a: int, b: int) -> MeanDifference | None:
    """Student's t with the variances of images and of each method's seeds added.

    Freedom by Satterthwaite; the bootstrap of the paired images counts as known. The part that
    depends on image and seed at once is in both, so the interval is wide rather than narrow.

    Returns:
        None where no variance is known, or it is zero: identical seeds say nothing of others.
    """
    first, second = methods[a], methods[b]
    parts: list[tuple[float, float]] = []  # variance, degrees of freedom
    over = []
    if first.samples is not None and second.samples is not None:
        parts.append((float(np.var(first.samples - second.samples, ddof=1)), np.inf))
        over.append("images")
    several = [len(each.by_seed) > 1 for each in (first, second)]
    if all(several) or (over and any(several)):
        over.append("seeds")
        parts += [
            (float(np.var(each.by_seed, ddof=1)) / len(each.by_seed), len(each.by_seed) - 1.0)
            for each in (first, second)
            if len(each.by_seed) > 1
        ]
    variance = sum(part for part, _ in parts)
    if not variance > 1e-18:  # zero but for rounding
        return None
    lost = sum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / lost if lost else np.inf
    value = float(np.mean(first.by_seed) - np.mean(second.by_seed))
    better, worse = (a, b) if value >= 0 else (b, a)
    error = variance**0.5
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = 2 * float(stats.t.sf(abs(value) / error, freedom))
    interval = (abs(value) - half, abs(value) + half)
    return MeanDifference(better, worse, abs(value), interval, p, tuple(over))
