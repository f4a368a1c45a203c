"""Published pixel metrics that sort scores into bins, or move them through a sigmoid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.evaluate.binary import auroc
from bench.evaluate.regions import label_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["f1_of_21", "sigmoid_auroc", "strips_aupr", "strips_aupro", "strips_auroc"]


def _pooled(
    maps: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_] | None]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """All scores, and which are anomalous."""
    flags = [
        np.zeros(m.size, bool) if k is None else k.ravel() for m, k in zip(maps, masks, strict=True)
    ]
    return np.concatenate([m.ravel() for m in maps]), np.concatenate(flags)


def _strips(scores: NDArray[Any], count: int) -> NDArray[np.int64] | None:
    """Strip of every score; 0 holds the highest score alone. None where all scores are equal."""
    lowest, highest = float(scores.min()), float(scores.max())
    if not highest > lowest:
        return None
    position = (scores.astype(np.float64) - lowest) / (highest - lowest) * count
    return count - position.astype(np.int64)


def _counts(
    maps: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_] | None], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Anomalous and normal pixels at or above every strip; the curve begins at the first."""
    scores, flags = _pooled(maps, masks)
    strips = _strips(scores, count)
    if strips is None or flags.all() or not flags.any():
        return None
    hits = np.bincount(strips[flags], minlength=count + 1).cumsum()
    false = np.bincount(strips[~flags], minlength=count + 1).cumsum()
    return hits.astype(np.float64), false.astype(np.float64)


def _area(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def strips_auroc(maps: Any, masks: Any, count: int) -> float:
    """AUROC of equal strips between the lowest and the highest score (ADEval)."""
    found = _counts(maps, masks, count)
    if found is None:
        return math.nan
    hits, false = found
    return _area(false / false[-1], hits / hits[-1])


def strips_aupr(maps: Any, masks: Any, count: int) -> float:
    """Trapezium area under the precision-recall curve of equal strips (ADEval)."""
    found = _counts(maps, masks, count)
    if found is None:
        return math.nan
    hits, false = found
    return _area(hits / hits[-1], hits / (hits + false))


def strips_aupro(maps: Any, masks: Any, count: int) -> float:
    """AUPRO up to 0.3 of equal strips, interpolated at the limit (ADEval)."""
    scores, flags = _pooled(maps, masks)
    strips = _strips(scores, count)
    if strips is None or flags.all() or not flags.any():
        return math.nan
    regions = label_masks(masks)
    weights = 1 / (regions.sizes[regions.ids] * len(regions))
    overlap = np.bincount(strips[flags], weights, count + 1).cumsum()
    false = np.bincount(strips[~flags], minlength=count + 1).cumsum()
    rate = false / false[-1]
    inside = rate <= 0.3
    x = np.append(rate[inside], 0.3)
    y = np.append(overlap[inside], np.interp(0.3, rate, overlap))
    return _area(x, y) / 0.3


def _sigmoid(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Scores as they are if all lie in [0, 1], and their sigmoid otherwise."""
    single = scores.astype(np.float32)
    if single.min() >= 0 and single.max() <= 1:
        return single
    with np.errstate(over="ignore"):
        squashed: NDArray[np.float32] = np.float32(1) / (np.float32(1) + np.exp(-single))
    return squashed


def sigmoid_auroc(maps: Any, masks: Any, bins: int | None = None) -> float:
    """AUROC after a sigmoid in single precision, over all thresholds or equal ones."""
    scores, flags = _pooled(maps, masks)
    squashed = _sigmoid(scores)
    if flags.all() or not flags.any():
        return math.nan
    if bins is None:
        value = auroc(squashed, flags)
        return math.nan if value is None else value
    thresholds = np.linspace(0, 1, bins, dtype=np.float32)
    # Number of thresholds at or below every score; bin 0 lies below all of them.
    level = np.searchsorted(thresholds, squashed, side="right")
    hits = np.bincount(level[flags], minlength=bins + 1)[::-1].cumsum()[:bins]
    false = np.bincount(level[~flags], minlength=bins + 1)[::-1].cumsum()[:bins]
    # Its curve is not closed at (0, 0).
    return _area(false / false[-1], hits / hits[-1])


def f1_of_21(maps: Any, masks: Any) -> float:
    """Best F1 of 21 equal thresholds between the lowest and the highest score (ADer)."""
    scores, flags = _pooled(maps, masks)
    lowest, highest = float(scores.min()), float(scores.max())
    if not highest > lowest or not flags.any():
        return math.nan
    scaled = (scores.astype(np.float64) - lowest) / (highest - lowest)
    best = 0.0
    for threshold in np.linspace(0, 1, 21):
        predicted = scaled > threshold
        hits = np.count_nonzero(predicted & flags)
        best = max(best, 2 * hits / (np.count_nonzero(predicted) + np.count_nonzero(flags)))
    return best
