"""Ranks, tests and intervals against slow definitions and hand-made cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from bench.report.significance import (
    FEWEST,
    auroc,
    cliques,
    compare,
    holm,
    interval,
    rank_columns,
    resampled_aurocs,
)


def test_the_best_has_rank_one_and_equal_ones_share() -> None:
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.9]])
    assert rank_columns(scores).tolist() == [[1, 2.5], [2, 2.5], [3, 1]]
    assert rank_columns(scores, is_lower_better=True).tolist() == [[3, 1.5], [2, 1.5], [1, 3]]


def test_holm_on_the_example_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(
    p_values: list[float],
) -> None:
    corrected = holm(p_values)
    for i, j in itertools.product(range(len(p_values)), repeat=2):
        if p_values[i] < p_values[j]:
            assert corrected[i] <= corrected[j]
    for raw, value in zip(p_values, corrected, strict=True):
        assert raw <= value <= min(1.0, raw * len(p_values)) + 1e-12


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
    raw = [float(stats.wilcoxon(scores[p.a], scores[p.b]).pvalue) for p in found.pairs]
    assert [p.p for p in found.pairs] == pytest.approx(holm(raw))


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
    assert cliques(found) == [[0, 1, 2]]


def test_bars_join_neighbours_that_do_not_differ() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(20)
    noise = 0.01 * rng.standard_normal((2, 20))
    found = compare(np.stack([base + 1 + noise[0], base + 1 + noise[1], base]))
    assert found is not None
    assert [sorted(run) for run in cliques(found)] == [[0, 1]]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_from_ranks_is_that_of_scikit_learn(images: list[tuple[int, bool]]) -> None:
    scores = np.array([float(score) for score, _ in images])
    labels = np.array([label for _, label in images])
    if labels.all() or not labels.any():
        assert np.isnan(auroc(scores, labels))
    else:
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_resampled_auroc_is_that_of_the_drawn_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 17).astype(float)
    labels = np.arange(17) % 3 == 0
    found = resampled_aurocs(scores, labels, 3, seed)
    generator = np.random.default_rng(seed)
    normal, anomalous = np.sort(scores[~labels]), scores[labels]
    n, a = len(normal), len(anomalous)
    of_normal = generator.multinomial(n, np.full(n, 1 / n), size=3)
    of_anomalous = generator.multinomial(a, np.full(a, 1 / a), size=3)
    for value, k, m in zip(found, of_normal, of_anomalous, strict=True):
        drawn = np.concatenate([np.repeat(normal, k), np.repeat(anomalous, m)])
        assert value == pytest.approx(auroc(drawn, np.arange(len(drawn)) >= n))


def test_the_interval_covers_the_value_and_narrows_with_more_images() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for count in (40, 640):
        labels = np.arange(count) % 2 == 0
        scores = rng.standard_normal(count) + labels
        low, high = interval(resampled_aurocs(scores, labels, 2000, 0))
        assert low < auroc(scores, labels) < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.35)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    rng = np.random.default_rng(4)
    normal, anomalous = rng.standard_normal(30), rng.standard_normal(30) + 1

    def area(a: np.ndarray, b: np.ndarray) -> float:
        return auroc(np.concatenate([a, b]), np.arange(len(a) + len(b)) >= len(a))

    theirs = stats.bootstrap(
        (normal, anomalous),
        area,
        n_resamples=2000,
        vectorized=False,
        method="percentile",
        random_state=rng,
    ).confidence_interval
    labels = np.arange(60) >= 30
    ours = interval(resampled_aurocs(np.concatenate([normal, anomalous]), labels, 4000, 0))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
