"""95 % intervals: over the test images from stored image scores, or over seeds."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from bench.npz import DAMAGED
from bench.report.choice import quantities as q
from bench.rows.upgrade import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.rows.row import Row

IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1max")
"""What follows from the scores and labels of the test images alone."""

MAXIMA = ("image_f1max", "pixel_f1max")
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

_BLOCK = 4_000_000
"""Weights drawn at a time, to bound memory: 32 MB in each array."""

IMAGES = (
    f"[low, high]: 95 % interval, {RESAMPLES} bootstrap samples of the test images; "
    "covers their choice, not the seed"
)
SEEDS = "[low, high]: 95 % t interval over seeds; covers the seed, not the choice of test images"


class NoInterval(Exception):  # noqa: N818 -- an answer to a question, not a failure
    """Why there is none."""


def image_samples(rows: Sequence[Row], metric: str, artifacts: Path) -> NDArray[np.float64]:
    """(RESAMPLES,) bootstrap values of one category's image metric, averaged over its rows.

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
        scores, labels = _stored(artifacts_of(artifacts, row) / "scores.npz")
        value = q.quantity(row, metric)
        # A file of another run than the row would give an interval around another number.
        if value is None or not abs(image_score(metric, scores, labels) - value) < 1e-4:
            raise NoInterval(f"the {q.label(metric)} of scores.npz is not the row's")
        seed = zlib.crc32(f"{row.dataset}/{row.category}".encode())
        drawn.append(resampled_scores(metric, scores, labels, RESAMPLES, seed))
    return np.asarray(np.mean(drawn, axis=0))


def _stored(file: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels, in the order of the images' names."""
    try:
        with file.open("rb") as stream, np.load(stream) as stored:
            scores = stored["scores"].astype(np.float64)
            labels = stored["labels"].astype(bool)
            order = np.argsort(stored["names"], kind="stable")
    except FileNotFoundError as error:
        raise NoInterval("scores.npz is not there") from error
    except DAMAGED as error:
        raise NoInterval(f"scores.npz cannot be read ({error})") from error
    if not len(scores) == len(labels) == len(order):
        raise NoInterval("scores.npz has scores, labels and names of different lengths")
    return scores[order], labels[order]


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
