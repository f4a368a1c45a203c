"""Ranks, tests and intervals against slow definitions and hand-made cases."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from bench.evaluate import average_precision, f1_max
from bench.report.compare.differences import Measured, differences
from bench.report.compare.intervals import (
    FEWEST_TO_RESAMPLE,
    IMAGE_METRICS,
    Sampled,
    auroc_interval,
    image_score,
    logit_interval,
    of_mean,
    percentiles,
    resampled_scores,
    t_interval,
)
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


def limits(samples: NDArray[np.float64]) -> tuple[float, float]:
    found = percentiles(samples)
    assert found is not None
    return found


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


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_from_ranks_is_that_of_scikit_learn(images: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in images])
    labels = np.array([label for _, label in images])
    if labels.all() or not labels.any():
        assert np.isnan(image_score("image_auroc", scores, labels))
    else:
        assert image_score("image_auroc", scores, labels) == pytest.approx(
            roc_auc_score(labels, scores)
        )


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_average_precision_and_f1_are_those_of_the_evaluator(
    images: list[tuple[int, bool]],
) -> None:
    scores = np.array([float(score) for score, _ in images])
    labels = np.array([label for _, label in images])
    if labels.all() or not labels.any():
        return
    best = f1_max(scores, labels)
    assert best is not None
    assert image_score("image_ap", scores, labels) == pytest.approx(
        average_precision(scores, labels)
    )
    assert image_score("image_f1max", scores, labels) == pytest.approx(best[0])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(IMAGE_METRICS))
def test_a_resampled_score_is_that_of_the_drawn_images(seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 17).astype(float)
    labels = np.arange(17) % 3 == 0
    found = resampled_scores(metric, scores, labels, 3, seed)
    generator = np.random.default_rng(seed)
    weights = np.empty((3, 17), dtype=int)
    for mask in (~labels, labels):
        count = int(mask.sum())
        weights[:, mask] = generator.multinomial(count, np.full(count, 1 / count), size=3)
    for value, times in zip(found, weights, strict=True):
        drawn = np.repeat(np.arange(17), times)
        assert value == pytest.approx(image_score(metric, scores[drawn], labels[drawn]))


def test_memory_is_bounded_without_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(50) % 2 == 0
    scores = rng.standard_normal(50) + labels
    whole = limits(resampled_scores("image_auroc", scores, labels, 4000, 0))
    monkeypatch.setattr("bench.report.compare.intervals._BLOCK", 50 * 7)
    parts = resampled_scores("image_auroc", scores, labels, 4000, 0)
    assert len(parts) == 4000
    assert limits(parts) == pytest.approx(whole, abs=0.01)


def test_runs_on_one_test_set_are_scored_on_the_same_drawn_images() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(80) % 2 == 0
    scores = rng.standard_normal(80) + labels
    other = scores.copy()
    for mask in (labels, ~labels):  # the same scores, of other images
        other[mask] = rng.permutation(scores[mask])
    first, again, moved = (
        resampled_scores("image_auroc", each, labels, 4000, 0) for each in (scores, scores, other)
    )
    assert (first == again).all()
    assert image_score("image_auroc", scores, labels) == image_score("image_auroc", other, labels)
    paired, unpaired = limits((first + again) / 2), limits((first + moved) / 2)
    assert unpaired[1] - unpaired[0] < 0.85 * (paired[1] - paired[0])


def test_the_interval_covers_the_value_and_narrows_with_more_images() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for count in (40, 640):
        labels = np.arange(count) % 2 == 0
        scores = rng.standard_normal(count) + labels
        low, high = limits(resampled_scores("image_auroc", scores, labels, 2000, 0))
        assert low < image_score("image_auroc", scores, labels) < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.35)


@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_the_interval_is_that_of_scipys_bootstrap(metric: str) -> None:
    rng = np.random.default_rng(4)
    normal, anomalous = rng.standard_normal(30), rng.standard_normal(30) + 1

    def score(a: np.ndarray, b: np.ndarray) -> float:
        return image_score(metric, np.concatenate([a, b]), np.arange(len(a) + len(b)) >= len(a))

    theirs = stats.bootstrap(
        (normal, anomalous),
        score,
        n_resamples=2000,
        vectorized=False,
        method="percentile",
        random_state=rng,
    ).confidence_interval
    labels = np.arange(60) >= 30
    scores = np.concatenate([normal, anomalous])
    ours = limits(resampled_scores(metric, scores, labels, 4000, 0))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_t_interval_is_that_of_scipys_test_within_the_range_of_scores() -> None:
    values = [0.71, 0.74, 0.72]
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert t_interval(values) == pytest.approx((expected.low, expected.high))
    wide, high = t_interval([0.5, 0.9]), t_interval([0.9, 1.0])
    assert wide is not None
    assert high is not None
    assert (wide[0], high[1]) == (0.0, 1.0)


def test_equal_numbers_have_no_interval_of_width_zero() -> None:
    assert t_interval([0.8, 0.8]) is None
    assert percentiles(np.full(100, 0.8)) is None


@pytest.mark.parametrize(("normal", "anomalous"), [(10, 10), (40, 80), (5, 60)])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.97, 1.0])
def test_the_limits_of_an_auroc_are_z_standard_errors_away(
    value: float, normal: int, anomalous: int
) -> None:
    low, high = auroc_interval(value, normal, anomalous)
    assert 0 <= low <= value <= high <= 1
    assert high - low > 0.01
    for limit in {low, high} - {0.0, 1.0}:
        # Hanley and McNeil's variance at the limit, in both exchanges of the classes, averaged.
        q1, q2 = limit / (2 - limit), 2 * limit**2 / (1 + limit)
        half = (normal + anomalous) / 2 - 1
        variance = limit * (1 - limit) + half * (q1 - limit**2 + q2 - limit**2)
        error = (variance / (normal * anomalous)) ** 0.5
        assert abs(value - limit) / error == pytest.approx(1.96, abs=1e-3)


def test_intervals_of_an_auroc_are_mirrored() -> None:
    low, high = auroc_interval(0.8, 30, 50)
    assert auroc_interval(0.2, 30, 50) == pytest.approx((1 - high, 1 - low))


def test_the_mean_of_few_aurocs_has_the_cells_limits_added_as_variances() -> None:
    sampled = [Sampled(np.linspace(0, 1, 50), 30, 40)] * 4
    values = [0.9, 0.8, 0.95, 1.0]
    assert of_mean("image_auroc", values[:1], sampled[:1]) == pytest.approx(
        auroc_interval(0.9, 30, 40)
    )
    found = of_mean("image_auroc", values, sampled)
    assert found is not None
    cells = np.array([auroc_interval(v, 30, 40) for v in values])
    assert np.mean(values) - found[0] == pytest.approx(
        np.sqrt(((np.array(values) - cells[:, 0]) ** 2).sum()) / 4
    )


def test_means_of_perfect_categories_have_an_interval_all_the_same() -> None:
    sampled = [Sampled(np.ones(50), 10, 10)] * FEWEST_TO_RESAMPLE
    found = of_mean("image_auroc", [1.0] * FEWEST_TO_RESAMPLE, sampled)
    assert found is not None
    assert found[0] < 0.99 < found[1] == 1.0
    assert of_mean("image_ap", [1.0] * FEWEST_TO_RESAMPLE, sampled) is None


def test_the_interval_of_an_ap_stands_around_it_within_0_and_1() -> None:
    samples = np.random.default_rng(0).normal(0.95, 0.03, 2000)  # too high, as resamples are
    found = logit_interval(0.93, samples)
    assert found is not None
    low, high = (np.log(end / (1 - end)) - np.log(0.93 / 0.07) for end in found)
    assert high == pytest.approx(-low) == pytest.approx(1.96 * 0.03 / (0.93 * 0.07), rel=0.05)
    assert 0 < found[0] < 0.93 < found[1] < 1
    assert logit_interval(1.0, np.ones(50)) is None


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
