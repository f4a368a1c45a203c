"""Ranks, bootstrap intervals and tests across categories; SciPy does the statistics."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEWEST = 5
"""With fewer categories no test across them can tell methods apart."""

ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """Two methods, by number, and the corrected p-value of their difference."""

    a: int
    b: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Tests across categories (Demsar, JMLR 2006; Benavoli et al., JMLR 2016).

    Attributes:
        ranks: (M,) mean rank of each method, 1 is best.
        friedman: p-value of "all methods are equal"; None for two methods.
        pairs: Wilcoxon signed-rank tests, corrected by Holm.
        smallest: p-value of one Wilcoxon test if one method won in every category.
    """

    ranks: NDArray[np.float64]
    friedman: float | None
    pairs: tuple[Pair, ...]
    smallest: float


def rank_columns(scores: NDArray[np.float64], is_lower_better: bool = False) -> NDArray[np.float64]:
    """Rank of each method in each category: (M, C) -> (M, C); 1 is best, equal ones share."""
    ranks: NDArray[np.float64] = stats.rankdata(scores if is_lower_better else -scores, axis=0)
    return ranks


def compare(scores: NDArray[np.float64], is_lower_better: bool = False) -> Comparison | None:
    """Friedman's test, then Wilcoxon's between all pairs with Holm's correction.

    Args:
        scores: (M, C), every method on every category.
        is_lower_better: for costs.

    Returns:
        None with fewer than two methods or `FEWEST` categories: nothing can be concluded.
    """
    methods, categories = scores.shape
    if methods < 2 or categories < FEWEST:
        return None
    friedman = None
    if methods > 2:
        friedman = 1.0
        # Equal scores everywhere have no chi-square; then nothing differs.
        if np.ptp(scores, axis=0).any():
            friedman = float(stats.friedmanchisquare(*scores).pvalue)
    couples = list(combinations(range(methods), 2))
    corrected = holm([_wilcoxon(scores[a], scores[b]) for a, b in couples])
    pairs = tuple(Pair(a, b, p) for (a, b), p in zip(couples, corrected, strict=True))
    ranks = rank_columns(scores, is_lower_better).mean(1)
    return Comparison(ranks, friedman, pairs, 2.0 ** (1 - categories))


def _wilcoxon(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.array_equal(a, b):
        return 1.0
    return float(stats.wilcoxon(a, b, zero_method="pratt").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979), in the order given."""
    count, running = len(p_values), 0.0
    corrected = [0.0] * count
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (count - step) * p_values[index]))
        corrected[index] = running
    return corrected


def cliques(comparison: Comparison, alpha: float = ALPHA) -> list[list[int]]:
    """Largest runs of methods, in the order of their ranks, no two of which differ.

    The bars of a critical-difference diagram.
    """
    order = [int(i) for i in np.argsort(comparison.ranks, kind="stable")]
    different = {frozenset((p.a, p.b)) for p in comparison.pairs if p.p < alpha}
    runs: list[list[int]] = []
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and all(
            frozenset((order[end + 1], other)) not in different for other in order[start : end + 1]
        ):
            end += 1
        run = order[start : end + 1]
        if len(run) > 1 and not any(set(run) <= set(known) for known in runs):
            runs.append(run)
    return runs


def auroc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve from ranks (Mann-Whitney); ties count half."""
    positive = int(labels.sum())
    negative = len(labels) - positive
    if not positive or not negative:
        return float("nan")
    total = float(stats.rankdata(scores)[labels].sum())
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def resampled_aurocs(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], count: int, seed: int
) -> NDArray[np.float64]:
    """(count,) image AUROCs of bootstrap samples of the test images.

    Normal and anomalous images are drawn apart, so that every sample has both. The same seed draws
    the same images for every method.
    """
    generator = np.random.default_rng(seed)
    normal, anomalous = np.sort(scores[~labels]), scores[labels]
    # Each anomalous image's share of normal images below it depends on the drawn normal images
    # through counts alone: two small matrix products replace sorting every sample.
    below = (normal[None] < anomalous[:, None]) + 0.5 * (normal[None] == anomalous[:, None])
    n, a = len(normal), len(anomalous)
    weights_n = generator.multinomial(n, np.full(n, 1 / n), size=count) / n
    weights_a = generator.multinomial(a, np.full(a, 1 / a), size=count) / a
    areas: NDArray[np.float64] = np.einsum(
        "ka,an,kn->k", weights_a, below, weights_n, optimize=True
    )
    return areas


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
