"""Ranks, tests and intervals against slow definitions and hand-made cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from bench.evaluate import average_precision, f1_max
from bench.report.compare.intervals import (
    IMAGE_METRICS,
    image_score,
    percentiles,
    resampled_scores,
    t_interval,
)
from bench.report.compare.significance import FEWEST, compare, rank_columns


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


def test_friedman_and_wilcoxon_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((3, 12)) + np.array([[0.3], [0.1], [0.0]])
    found = compare(scores)
    assert found is not None
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
    raw = sorted(
        float(stats.wilcoxon(scores[a], scores[b]).pvalue)
        for a, b in itertools.combinations(range(3), 2)
    )
    holm = np.maximum.accumulate(np.minimum(1, np.array(raw) * [3, 2, 1]))
    assert sorted(pair.p for pair in found.pairs) == pytest.approx(holm)


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
    whole = percentiles(resampled_scores("image_auroc", scores, labels, 4000, 0))
    monkeypatch.setattr("bench.report.compare.intervals._BLOCK", 50 * 7)
    parts = resampled_scores("image_auroc", scores, labels, 4000, 0)
    assert len(parts) == 4000
    assert percentiles(parts) == pytest.approx(whole, abs=0.01)


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
    paired, unpaired = percentiles((first + again) / 2), percentiles((first + moved) / 2)
    assert unpaired[1] - unpaired[0] < 0.85 * (paired[1] - paired[0])


def test_the_interval_covers_the_value_and_narrows_with_more_images() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for count in (40, 640):
        labels = np.arange(count) % 2 == 0
        scores = rng.standard_normal(count) + labels
        low, high = percentiles(resampled_scores("image_auroc", scores, labels, 2000, 0))
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
    ours = percentiles(resampled_scores(metric, scores, labels, 4000, 0))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_t_interval_is_that_of_scipys_test_within_the_range_of_scores() -> None:
    values = [0.71, 0.74, 0.72]
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert t_interval(values) == pytest.approx((expected.low, expected.high))
    assert t_interval([0.5, 0.9])[0] == 0.0
    assert t_interval([0.9, 1.0])[1] == 1.0
    assert t_interval([0.8, 0.8]) == pytest.approx((0.8, 0.8))
