"""Intervals: bootstrap samples of image scores, limits of AUROC and AP, Student's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from bench.evaluate import average_precision, f1_max
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

if TYPE_CHECKING:
    from numpy.typing import NDArray


def limits(samples: NDArray[np.float64]) -> tuple[float, float]:
    found = percentiles(samples)
    assert found is not None
    return found


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
