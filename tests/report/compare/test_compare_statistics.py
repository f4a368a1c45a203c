"""Ranks, tests and intervals against slow definitions and hand-made cases."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.report.compare.differences import Measured, differences
from bench.report.compare.significance import (
    FEWEST,
    compare,
    corrected_pairs,
    friedman_test,
    rank_columns,
    signed_rank_test,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def test_the_best_has_rank_one_and_equal_ones_share() -> None:
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.9]])
    assert rank_columns(scores).tolist() == [[1, 2.5], [2, 2.5], [3, 1]]
    assert rank_columns(scores, is_lower_better=True).tolist() == [[3, 1.5], [2, 1.5], [1, 3]]


def test_scores_that_differ_by_rounding_are_equal() -> None:
    mean = np.mean([0.7, 0.8, 0.9])
    assert mean != 0.8
    assert rank_columns(np.array([[mean], [0.8]])).tolist() == [[1.5], [1.5]]
    found = compare(np.array([[mean] * 6, [0.8] * 6]))
    assert found is not None
    assert found.pairs[0].p == 1.0


def test_too_few_categories_or_methods_conclude_nothing() -> None:
    rng = np.random.default_rng(0)
    assert compare(rng.random((3, FEWEST - 1))) is None
    assert compare(rng.random((1, 20))) is None
    assert compare(rng.random((3, FEWEST))) is not None


def slow_friedman(ranks: NDArray[np.float64]) -> float:
    """Every order of the methods in every category."""
    observed = (ranks.sum(1) ** 2).sum()
    orders = [list(itertools.permutations(column)) for column in ranks.T]
    sums = [np.sum(each, axis=0) for each in itertools.product(*orders)]
    return float(np.mean([(total**2).sum() >= observed - 1e-9 for total in sums]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 3])
def test_friedman_counts_every_order_of_the_methods(seed: int, decimals: int) -> None:
    scores = np.random.default_rng(seed).random((3, 5)).round(decimals)
    ranks = rank_columns(scores)
    p, is_exact = friedman_test(ranks)
    assert is_exact
    assert p == pytest.approx(slow_friedman(ranks))


def test_friedman_is_exact_where_one_method_always_wins_and_close_to_the_chi_square() -> None:
    first = np.tile([[1.0], [2.0], [3.0]], 6)
    p, is_exact = friedman_test(first)
    assert is_exact
    assert p == pytest.approx(6**-5)
    scores = np.random.default_rng(1).random((3, 30))
    expected = stats.friedmanchisquare(*scores).pvalue
    assert friedman_test(rank_columns(scores))[0] == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("methods", [6, 12])
def test_friedman_of_too_many_orders_is_the_chi_square_and_says_so(methods: int) -> None:
    scores = np.random.default_rng(1).random((methods, 9))
    expected = stats.friedmanchisquare(*scores).pvalue
    p, is_exact = friedman_test(rank_columns(scores))
    assert not is_exact
    assert p == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=15))
def test_signed_ranks_count_every_sign_with_ties_and_zeros(gaps: list[int]) -> None:
    ranks = stats.rankdata(np.abs(gaps)) * (np.array(gaps) != 0)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(gaps))))
    weight = np.sign(gaps) @ ranks
    expected = np.mean(np.abs(signs @ ranks) >= abs(weight) - 1e-9)
    found, p = signed_rank_test(np.array(gaps, dtype=float))
    assert found == weight
    assert p == pytest.approx(expected)


@pytest.mark.parametrize("count", [8, 40])
def test_signed_ranks_without_ties_are_those_of_scipy(count: int) -> None:
    gaps = np.random.default_rng(count).standard_normal(count) + 0.2
    expected = stats.wilcoxon(gaps, method="exact").pvalue
    assert signed_rank_test(gaps)[1] == pytest.approx(expected)


def test_three_methods_are_compared_by_closed_testing() -> None:
    assert corrected_pairs([0.03, 0.2, 0.01], 0.02, 3) == [0.03, 0.2, 0.02]
    assert corrected_pairs([0.03, 0.2, 0.01], 0.5, 3) == [0.5, 0.5, 0.5]
    assert corrected_pairs([0.04], None, 2) == [0.04]


def test_pairs_of_more_methods_are_corrected_for_how_many_can_still_be_equal() -> None:
    # Of six pairs of four methods at most three are equal once one differs, then two, then one.
    p_values = [0.001, 0.002, 0.003, 0.004, 0.015, 0.04]
    expected = [0.003, 0.006, 0.009, 0.012, 0.03, 0.04]
    assert corrected_pairs(p_values, 0.0, 4) == pytest.approx(expected)


def test_a_winner_by_signed_ranks_with_the_lower_mean_is_known_as_such() -> None:
    gaps = np.array([1, 2, 3, 4, 5, 6, 7, -90]) / 100
    found = compare(np.stack([0.5 + gaps * 0.5, np.full(8, 0.5)]))
    assert found is not None
    (pair,) = found.pairs
    assert (pair.better, pair.wins, pair.against_means) == (0, 7, True)


def test_mean_ranks_have_an_interval_over_categories() -> None:
    scores = np.array([[3, 3, 3, 3, 1, 3], [2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 3, 1.0]])
    found = compare(scores)
    assert found is not None
    low, high = found.rank_intervals.T
    assert (low <= found.ranks).all()
    assert (high >= found.ranks).all()
    assert (low[1], high[1]) == (2, 2)
    assert high[0] - low[0] > 0.3


@pytest.mark.parametrize("gaps", [[1, 1, 3, -3, 5, 6], [0, 1, 2, -3, 4, 5], [0, 0, 1, 1, 2, -2, 3]])
def test_with_equal_scores_or_gaps_all_signs_are_tried(gaps: list[int]) -> None:
    found = compare(np.stack([0.5 + 0.01 * np.array(gaps), np.full(len(gaps), 0.5)]))
    ranks = stats.rankdata(np.abs(gaps))
    signs = np.array(list(itertools.product([-1, 1], repeat=len(gaps))))
    sums = np.abs(signs * (np.array(gaps) != 0) @ ranks)
    assert found is not None
    assert found.pairs[0].p == pytest.approx(np.mean(sums >= np.abs(np.sign(gaps) @ ranks) - 1e-9))


def test_a_pair_says_which_method_is_better() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(8)
    found = compare(np.stack([base, base + 0.2 + 0.01 * rng.random(8)]))
    assert found is not None
    (pair,) = found.pairs
    assert (pair.better, pair.worse, pair.differs) == (1, 0, True)


def test_the_smallest_p_value_is_reached_by_winning_everywhere() -> None:
    scores = np.array([np.arange(6) + 1.0, np.arange(6) + 0.5 - 0.01 * np.arange(6)])
    found = compare(scores)
    assert found is not None
    assert found.friedman is None
    assert found.pairs[0].p == pytest.approx(found.smallest) == pytest.approx(2 / 2**6)


def test_equal_methods_are_not_told_apart() -> None:
    found = compare(np.ones((3, 8)))
    assert found is not None
    assert found.friedman == 1.0
    assert {pair.p for pair in found.pairs} == {1.0}
    assert (found.p_values() == 1).all()


def test_a_difference_over_seeds_is_that_of_welchs_test() -> None:
    first, second = [0.80, 0.82, 0.81], [0.70, 0.77, 0.74]
    (found,) = differences([Measured(second), Measured(first)])
    expected = stats.ttest_ind(first, second, equal_var=False)
    ends = expected.confidence_interval()
    assert (found.better, found.worse, found.over) == (1, 0, ("seeds",))
    assert found.interval == pytest.approx((ends.low, ends.high))
    assert found.p == pytest.approx(expected.pvalue)


def test_a_difference_over_images_is_paired() -> None:
    rng = np.random.default_rng(0)
    shared, own = 0.05 * rng.standard_normal(4000), 0.01 * rng.standard_normal(4000)
    methods = [Measured([0.80], 0.8 + shared), Measured([0.77], 0.77 + shared + own)]
    (found,) = differences(methods)
    assert found.over == ("images",)
    assert found.interval == pytest.approx((0.03 - 0.0196, 0.03 + 0.0196), abs=1e-3)
    both = [Measured([0.79, 0.81], methods[0].samples), methods[1]]
    (wider,) = differences(both)
    assert wider.over == ("images", "seeds")
    assert wider.interval[0] < found.interval[0]


def test_pairs_without_a_spread_have_no_difference() -> None:
    assert differences([Measured([0.8]), Measured([0.7])]) == []
    assert differences([Measured([0.8, 0.8]), Measured([0.7, 0.7])]) == []
    assert differences([Measured([0.8, 0.9]), Measured([0.7])]) == []


def test_p_values_of_differences_are_corrected_by_holm() -> None:
    methods = [Measured([a, a + 0.02, a + 0.01]) for a in (0.5, 0.53, 0.6)]
    alone = [differences([methods[a], methods[b]])[0].p for a, b in ((0, 1), (0, 2), (1, 2))]
    order = np.argsort(alone)
    holm = np.maximum.accumulate(np.minimum(1, np.array(alone)[order] * [3, 2, 1]))
    assert [differences(methods)[i].p for i in order] == pytest.approx(holm)
