"""Would methods differ on other categories? Ranks and exact tests across categories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations
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

STATES = 1_000_000
"""Rank sums, times orders of the methods, up to which Friedman's test counts all of them."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Pair:
    """Two methods, by number, and the corrected p-value of their difference.

    Attributes:
        better: the one whose signed ranks weigh more.
        wins: categories in which it has the higher score.
        against_means: whether its mean is the lower one.
    """

    better: int
    worse: int
    p: float
    wins: int
    against_means: bool = False

    @property
    def differs(self) -> bool:
        """Whether the two are told apart."""
        return self.p < ALPHA


@dataclass(frozen=True)
class CategoryTests:
    """Tests across categories (Demsar, JMLR 2006; Benavoli et al., JMLR 2016).

    Attributes:
        ranks: (M,) mean rank of each method, 1 is best.
        rank_intervals: (M, 2) 95 % bootstrap intervals of them over categories.
        friedman: p-value of "all methods are equal"; None for two methods.
        is_exact: whether that counts every order of the methods; else it is the chi-square.
        pairs: exact Wilcoxon signed-rank tests, corrected by Shaffer after Friedman's.
        smallest: corrected p-value of a pair if its method won in every category.
    """

    ranks: NDArray[np.float64]
    rank_intervals: NDArray[np.float64]
    friedman: float | None
    is_exact: bool
    pairs: tuple[Pair, ...]
    smallest: float

    @property
    def can_tell(self) -> bool:
        """Whether any pair could be told apart, whatever the scores."""
        return self.smallest < ALPHA

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


def compare(scores: NDArray[np.float64]) -> CategoryTests | None:
    """Friedman's test, then Wilcoxon's between all pairs with Shaffer's correction.

    Args:
        scores: (M, C), every method on every category, higher is better.

    Returns:
        None with fewer than two methods or `FEWEST` categories: nothing can be concluded.
    """
    methods, categories = scores.shape
    if methods < 2 or categories < FEWEST:
        return None
    ranks = rank_columns(scores)
    friedman, is_exact = friedman_test(ranks) if methods > 2 else (None, True)
    found = [_wilcoxon(scores, a, b) for a, b in combinations(range(methods), 2)]
    corrected = corrected_pairs([pair.p for pair in found], friedman, methods)
    pairs = tuple(
        Pair(pair.better, pair.worse, p, pair.wins, pair.against_means)
        for pair, p in zip(found, corrected, strict=True)
    )
    first = min(1.0, _still_true(methods)[0] * 2.0 ** (1 - categories))
    return CategoryTests(ranks.mean(1), _rank_intervals(ranks), friedman, is_exact, pairs, first)


def friedman_test(ranks: NDArray[np.float64]) -> tuple[float, bool]:
    """p-value of "the order of the methods is chance in every category", and whether it is exact.

    Exact by counting: the statistic grows with the sum of squared rank sums, whose distribution
    over all orders of each category's own ranks, ties included, follows category by category. The
    order of the methods is free, so rank sums are kept sorted. Beyond `STATES` the chi-square.

    Args:
        ranks: (M, C).
    """
    if not np.ptp(ranks, axis=0).any():
        return 1.0, True  # equal scores everywhere have no chi-square; nothing differs
    doubled = np.rint(2 * ranks).astype(np.int64)
    observed = int((doubled.sum(1) ** 2).sum())
    sums = np.zeros((1, len(ranks)), np.int64)
    weights: NDArray[np.float64] = np.ones(1)
    digits = (int(doubled.max()) * ranks.shape[1] + 1) ** np.arange(len(ranks), dtype=object)
    if math.factorial(len(ranks)) > STATES or digits[-1] > 2**52:
        return float(stats.friedmanchisquare(*-ranks).pvalue), False
    for column in doubled.T:
        orders = np.array(list(permutations(column.tolist())))
        if len(sums) * len(orders) > STATES:
            return float(stats.friedmanchisquare(*-ranks).pvalue), False
        reached = np.sort((sums[:, None] + orders).reshape(-1, len(ranks)), axis=1)
        keys = reached @ digits.astype(np.int64)
        _, first, place = np.unique(keys, return_index=True, return_inverse=True)
        sums = reached[first]
        shares = np.repeat(weights / len(orders), len(orders))
        weights = np.bincount(place.ravel(), shares).astype(np.float64)
    return float(min(1.0, weights[(sums**2).sum(1) >= observed].sum())), True


def _wilcoxon(scores: NDArray[np.float64], a: int, b: int) -> Pair:
    """The test of two methods, uncorrected."""
    # Rounded: differences that are equal on paper share a rank.
    difference = np.round(scores[a] - scores[b], DECIMALS)
    weight, p = signed_rank_test(difference)
    better, worse, gaps = (a, b, difference) if weight >= 0 else (b, a, -difference)
    return Pair(better, worse, p, int((gaps > 0).sum()), bool(gaps.mean() < 0 and weight))


def signed_rank_test(difference: NDArray[np.float64]) -> tuple[float, float]:
    """Wilcoxon's signed-rank sum, and its p-value over all signs; zeros by Pratt's rule.

    Exact with ties and zeros too: the number of signs that give each sum, rank by rank.
    """
    doubled = np.rint(2 * stats.rankdata(np.abs(difference))).astype(np.int64)
    doubled[difference == 0] = 0
    observed = int(np.sign(difference) @ doubled)
    shares = np.ones(1)  # of the sum of the positive ranks
    for rank in doubled[doubled > 0]:
        shares = (np.pad(shares, (0, rank)) + np.pad(shares, (rank, 0))) / 2
    sums = 2 * np.arange(len(shares)) - doubled.sum()
    p = float(shares[np.abs(sums) >= abs(observed)].sum())
    return observed / 2, min(1.0, p)


def corrected_pairs(p_values: Sequence[float], whole: float | None, methods: int) -> list[float]:
    """p-values of all pairs, corrected for their number by Shaffer after a global test.

    "Equal" cannot hold for any number of pairs: where one of three pairs differs, at most one other
    is equal (Shaffer, JASA 1986; his static procedure with a test of all methods before it). With
    three methods this is closed testing: a pair differs if the global test and its own say so.

    Args:
        p_values: of each pair.
        whole: of the global test; None for two methods.
    """
    found = [0.0] * len(p_values)
    largest = whole or 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for index, count in zip(order, _still_true(methods), strict=True):
        largest = max(largest, min(1.0, count * p_values[index]))
        found[index] = largest
    return found


def _still_true(methods: int) -> list[int]:
    """How many pairs may be equal at each step, if those before differ, and some pair does."""
    pairs = methods * (methods - 1) // 2
    possible = _numbers_of_equal_pairs(methods)
    steps = [max(n for n in possible if n <= pairs - step) for step in range(pairs)]
    if methods > 2:
        steps[0] = steps[1]  # the global test stands before the first step
    return steps


@cache
def _numbers_of_equal_pairs(methods: int) -> frozenset[int]:
    """Of all ways in which methods fall into sets of equal ones."""
    if methods < 2:
        return frozenset({0})
    return frozenset(
        size * (size - 1) // 2 + rest
        for size in range(1, methods + 1)
        for rest in _numbers_of_equal_pairs(methods - size)
    )


def _rank_intervals(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 2) percentile intervals of mean ranks, categories drawn again."""
    categories = ranks.shape[1]
    drawn = np.random.default_rng(0).multinomial(
        categories, np.full(categories, 1 / categories), RESAMPLES
    )
    means = drawn @ ranks.T / categories
    low_high: NDArray[np.float64] = np.quantile(means, [0.025, 0.975], axis=0).T
    return low_high
