"""95 % intervals: over the test images from stored image scores, or over seeds."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq

from bench.errors import StoreError
from bench.report.choice import quantities as q
from bench.rows.image_scores import load_image_scores
from bench.rows.upgrade import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.rows.row import Row

IMAGE_METRICS = tuple(name for name in q.SCORES if q.described(name).level == "image")
"""What follows from the scores and labels of the test images alone."""

MAXIMA = tuple(name for name in q.SCORES if q.described(name).is_maximum)
"""Scores at the threshold that is best on the test images themselves.

Each bootstrap sample has a best threshold of its own, so that resampled values lie above the score:
of six categories the interval of the mean held the true one in 1 % of the cases, not in 95 %
(benchmarks/coverage.py).
"""

OF_MAXIMA = (
    "no interval: its threshold is the best on these test images; resampled images would each have "
    "another, and values that are too high"
)

RESAMPLES = 2000

FEWEST_TO_RESAMPLE = 5
"""Of fewer categories the mean of AUROCs has no bootstrap interval: it is too narrow near 1."""

_BLOCK = 4_000_000
"""Weights drawn at a time, to bound memory: 32 MB in each array."""

IMAGES = "95 % interval over test images"
SEEDS = "95 % interval over seeds"
METHODS = {
    "image_auroc": (
        f"{IMAGES}: of a cell Newcombe's score interval, of a mean over {FEWEST_TO_RESAMPLE} "
        f"categories or more {RESAMPLES} bootstrap samples, over fewer the cells' intervals added; "
        "covers the choice of images, not the seed"
    ),
    "image_ap": (
        f"{IMAGES}: from the deviation of {RESAMPLES} bootstrap samples, on the logit scale; holds "
        "the AP of all images a few points less often (86 to 97 % of the cases from 60 images on); "
        "covers the choice of images, not the seed"
    ),
}
OF_SEEDS = f"{SEEDS}: Student's t; covers the seed, not the choice of test images"


class NoInterval(Exception):  # noqa: N818 -- an answer to a question, not a failure
    """Why there is none."""


@dataclass(frozen=True)
class Sampled:
    """Bootstrap values of one category's image metric, averaged over its rows, and its images."""

    values: NDArray[np.float64]
    normal: int
    anomalous: int


def image_samples(rows: Sequence[Row], metric: str, artifacts: Path) -> Sampled:
    """`RESAMPLES` bootstrap values of one category's image metric.

    Every row, of any method and seed, is scored on the same drawn images.

    Args:
        rows: of one category, one for each seed.
        metric: of `IMAGE_METRICS`.
        artifacts: folder with `<cell>/scores.npz`.

    Raises:
        NoInterval: a file that is absent, unreadable or not of its row; with the reason.
    """
    drawn = []
    for row in rows:
        try:
            scores, labels = load_image_scores(artifacts_of(artifacts, row))
        except StoreError as error:
            raise NoInterval(str(error)) from error
        value = q.quantity(row, metric)
        # A file of another run than the row would give an interval around another number.
        if value is None or not abs(image_score(metric, scores, labels) - value) < 1e-4:
            raise NoInterval(f"the {q.label(metric)} of scores.npz is not the row's")
        seed = zlib.crc32(f"{row.dataset}/{row.category}".encode())
        drawn.append(resampled_scores(metric, scores, labels, RESAMPLES, seed))
    return Sampled(np.mean(drawn, axis=0), int((~labels).sum()), int(labels.sum()))


def of_cell(metric: str, value: float, sampled: Sampled) -> tuple[float, float] | None:
    """The interval of one category; None where every bootstrap sample has the same value."""
    if metric == "image_auroc":
        return auroc_interval(value, sampled.normal, sampled.anomalous)
    return logit_interval(value, sampled.values)


def of_mean(
    metric: str, values: Sequence[float], sampled: Sequence[Sampled]
) -> tuple[float, float] | None:
    """The interval of a mean over categories.

    Of AUROCs by bootstrap where the categories are enough for it; otherwise the squared distances
    of the cells' limits are added, as variances are (Zou and Donner, Stat. Med. 2008). That is a
    single cell's own interval, and none of width zero where every image is in order.
    """
    samples = np.mean([each.values for each in sampled], axis=0)
    if metric != "image_auroc":
        return logit_interval(float(np.mean(values)), samples)
    drawn = percentiles(samples)
    if drawn is not None and len(values) >= FEWEST_TO_RESAMPLE:
        return drawn
    limits = np.array(
        [auroc_interval(v, s.normal, s.anomalous) for v, s in zip(values, sampled, strict=True)]
    )
    below, above = ((limits - np.array(values)[:, None]) ** 2).sum(0) ** 0.5 / len(values)
    mean = float(np.mean(values))
    return mean - float(below), mean + float(above)


def auroc_interval(
    value: float, normal: int, anomalous: int, level: float = 0.95
) -> tuple[float, float]:
    """Newcombe's score interval of an AUROC (Stat. Med. 2006, part 2, method 5).

    The values from which the one found is z standard errors away, with Hanley and McNeil's variance
    for exponential scores, made symmetric in the two classes. It stays within 0 and 1, and at 1 it
    has the width that a test set of this size allows. Of a mean over seeds it is rather wide: their
    scores of one image differ.
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    more = (normal + anomalous) / 2 - 1

    def excess(true: float) -> float:
        spread = 1 + more * (1 - true) / (2 - true) + more * true / (1 + true)
        variance = true * (1 - true) * spread / (normal * anomalous)
        return (value - true) ** 2 - z**2 * variance

    # 0 and 1 are roots of their own: there the variance is zero.
    edge = 1e-9
    low = 0.0 if value <= edge else brentq(excess, 0.0, min(value, 1 - edge))
    high = 1.0 if value >= 1 - edge else brentq(excess, max(value, edge), 1.0)
    return float(low), float(high)


def image_score(metric: str, scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """One of `IMAGE_METRICS` of a test set; NaN where one class has no image.

    Args:
        scores: (N,), higher is more anomalous; ties count half in AUROC.
        labels: (N,).
    """
    if labels.all() or not labels.any():
        return float("nan")
    return float(_weighted(metric, scores, labels, np.ones((1, len(scores))))[0])


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


def percentiles(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples; None where all are equal."""
    if np.ptp(samples) < WIDTH:
        return None
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def logit_interval(
    value: float, samples: NDArray[np.float64], level: float = 0.95
) -> tuple[float, float] | None:
    """Normal on the logit scale, with the deviation of bootstrap samples; None where it is zero.

    Around the value itself: a resample repeats images, which lifts its AP, so that percentiles lie
    too high and hold the AP of all images in 73 to 90 % of the cases (benchmarks/coverage.py).
    """
    deviation = float(np.std(samples, ddof=1))
    if deviation < WIDTH or not 0 < value < 1:
        return None
    half = float(stats.norm.ppf((1 + level) / 2)) * deviation / (value * (1 - value))
    centre = float(special.logit(value))
    return float(special.expit(centre - half)), float(special.expit(centre + half))


WIDTH = 1e-9
"""What is narrower is rounding."""


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of independent values, two or more; within 0 and 1.

    None where all are equal: that says nothing of other ones.
    """
    if np.ptp(values) < WIDTH:
        return None
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread / len(values) ** 0.5
    return max(0.0, mean - half), min(1.0, mean + half)
