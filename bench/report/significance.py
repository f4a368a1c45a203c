"""Ranks, tests across categories and bootstrap samples; SciPy and statsmodels do the statistics."""

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

DECIMALS = 9
"""Scores that agree to so many are equal: means over seeds differ by rounding."""

IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1max")
"""What follows from the scores and labels of the test images alone."""

_BLOCK = 4_000_000
"""Weights drawn at a time, to bound memory: 32 MB in each array."""


@dataclass(frozen=True)
class Pair:
    """Two methods, by number, and the corrected p-value of their difference.

    Attributes:
        better: the one whose signed ranks weigh more.
    """

    better: int
    worse: int
    p: float

    @property
    def differs(self) -> bool:
        """Whether the two are told apart."""
        return self.p < ALPHA


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

    @property
    def can_tell(self) -> bool:
        """Whether any pair could be told apart, whatever the scores."""
        return self.smallest * len(self.pairs) < ALPHA

    def p_values(self) -> NDArray[np.float64]:
        """(M, M) of the pairs, 1 on the diagonal."""
        found = np.ones((len(self.ranks),) * 2)
        for pair in self.pairs:
            found[pair.better, pair.worse] = found[pair.worse, pair.better] = pair.p
        return found


def rank_columns(scores: NDArray[np.float64], is_lower_better: bool = False) -> NDArray[np.float64]:
    """Rank of each method in each category: (M, C) -> (M, C); 1 is best, equal ones share."""
    rounded = np.round(scores, DECIMALS)
    ranks: NDArray[np.float64] = stats.rankdata(rounded if is_lower_better else -rounded, axis=0)
    return ranks


def compare(scores: NDArray[np.float64]) -> Comparison | None:
    """Friedman's test, then Wilcoxon's between all pairs with Holm's correction.

    Args:
        scores: (M, C), every method on every category, higher is better.

    Returns:
        None with fewer than two methods or `FEWEST` categories: nothing can be concluded.
    """
    from statsmodels.stats.multitest import multipletests

    methods, categories = scores.shape
    if methods < 2 or categories < FEWEST:
        return None
    rounded = np.round(scores, DECIMALS)
    friedman = None
    if methods > 2:
        friedman = 1.0
        # Equal scores everywhere have no chi-square; then nothing differs.
        if np.ptp(rounded, axis=0).any():
            friedman = float(stats.friedmanchisquare(*rounded).pvalue)
    found = [_wilcoxon(rounded, a, b) for a, b in combinations(range(methods), 2)]
    corrected = multipletests([pair.p for pair in found], method="holm")[1]
    pairs = tuple(
        Pair(pair.better, pair.worse, float(p)) for pair, p in zip(found, corrected, strict=True)
    )
    return Comparison(rank_columns(scores).mean(1), friedman, pairs, 2.0 ** (1 - categories))


def _wilcoxon(scores: NDArray[np.float64], a: int, b: int) -> Pair:
    """The test of two methods, uncorrected."""
    # Rounded: differences that are equal on paper share a rank.
    difference = np.round(scores[a] - scores[b], DECIMALS)
    if not difference.any():
        return Pair(a, b, 1.0)  # SciPy has no p-value without a difference
    p = float(stats.wilcoxon(difference, zero_method="pratt").pvalue)
    weight = float(stats.rankdata(np.abs(difference)) @ np.sign(difference))
    return Pair(a, b, p) if weight >= 0 else Pair(b, a, p)


def image_score(metric: str, scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """One of `IMAGE_METRICS` of a test set; NaN where one class has no image.

    Args:
        scores: (N,), higher is more anomalous; ties count half in AUROC.
        labels: (N,).
    """
    if labels.all() or not labels.any():
        return float("nan")
    return float(_weighted(metric, scores, labels, np.ones((1, len(scores))))[0])


def auroc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Image AUROC of a test set; NaN where one class has no image."""
    return image_score("image_auroc", scores, labels)


def resampled_scores(
    metric: str, scores: NDArray[np.float64], labels: NDArray[np.bool_], count: int, seed: int
) -> NDArray[np.float64]:
    """(count,) values of a metric on bootstrap samples of the test images.

    Normal and anomalous images are drawn apart, so that every sample has both. The same seed draws
    the same images whatever their scores: samples of several runs on one test set, its images in
    one order, are paired.

    Args:
        metric: of `IMAGE_METRICS`.
        scores: (N,).
        labels: (N,), both values in it.
    """
    generator = np.random.default_rng(seed)
    normal, anomalous = int((~labels).sum()), int(labels.sum())
    found = []
    step = max(1, _BLOCK // len(scores))
    for start in range(0, count, step):
        size = min(step, count - start)
        weights = np.empty((size, len(scores)))
        weights[:, ~labels] = generator.multinomial(normal, np.full(normal, 1 / normal), size)
        weights[:, labels] = generator.multinomial(
            anomalous, np.full(anomalous, 1 / anomalous), size
        )
        found.append(_weighted(metric, scores, labels, weights))
    return np.concatenate(found)


def _weighted(
    metric: str,
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(K,) values of a metric for (K, N) numbers of times that each image is drawn.

    A threshold at every distinct score, from the highest down; `hits` and `false` count the images
    at or above it.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    drawn, positive = weights[:, order], labels[order]
    hits = np.cumsum(drawn * positive, axis=1)[:, ends]
    false = np.cumsum(drawn * ~positive, axis=1)[:, ends]
    positives, negatives = hits[:, -1], false[:, -1]
    gained = np.diff(hits, axis=1, prepend=0.0)
    values: NDArray[np.float64]
    if metric == "image_auroc":
        above = hits - gained / 2  # of images with equal scores half count as ordered
        values = (np.diff(false, axis=1, prepend=0.0) * above).sum(1) / (positives * negatives)
    elif metric == "image_ap":
        values = (gained * hits / np.maximum(hits + false, 1)).sum(1) / positives
    elif metric == "image_f1max":
        values = (2 * hits / (hits + false + positives[:, None])).max(1)
    else:
        raise ValueError(f"{metric} is not one of {', '.join(IMAGE_METRICS)}")
    return values


def percentiles(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of independent values, two or more; within 0 and 1."""
    mean, half = float(np.mean(values)), 0.0
    if spread := float(np.std(values, ddof=1)):
        half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread / len(values) ** 0.5
    return max(0.0, mean - half), min(1.0, mean + half)
