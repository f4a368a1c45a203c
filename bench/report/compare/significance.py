"""Ranks and tests across categories; SciPy and statsmodels do the statistics."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 5
"""With fewer categories no test across them can tell methods apart."""

ALPHA = 0.05

DECIMALS = 9
"""Scores that agree to so many are equal: means over seeds differ by rounding."""


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
