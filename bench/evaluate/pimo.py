"""AUPIMO, exact: recall per anomalous image at very low false-positive rates on normal images.

The false-positive rate is shared: the mean over the normal images of the share of pixels at or
above a threshold. Between two successive distinct scores of normal pixels no threshold is worth
taking, so recall is a step function of the rate, and its integral over the logarithm of the rate
is a finite sum. The reference code samples thresholds instead and takes the nearest ones to the
bounds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import ConfigError
from bench.evaluate.inputs import is_tensor, read_set, refuse_nonfinite
from bench.evaluate.lazy import Lazy
from bench.evaluate.samples import as_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Array, Binarize, EvaluationSet, Nonfinite

__all__ = ["BOUNDS", "aupimo", "aupimo_per_image", "check_bounds"]

BOUNDS = (1e-5, 1e-4)
"""False-positive rates between which recall is averaged."""


def check_bounds(bounds: tuple[float, float]) -> None:
    """Refuse bounds that are not 0 < lower < upper <= 1.

    Raises:
        ConfigError: naming them.
    """
    lower, upper = bounds
    if not 0 < lower < upper <= 1:
        raise ConfigError(f"AUPIMO bounds {bounds} are not rates with 0 < lower < upper <= 1")


def aupimo_per_image(
    test: EvaluationSet, bounds: tuple[float, float] = BOUNDS
) -> list[float | None]:
    """AUPIMO of every anomalous image; None for normal and unmasked ones.

    Args:
        test: checked inputs with at least one normal image; its scores hold no NaN.
        bounds: false-positive rates between which recall is averaged over their logarithm.
    """
    numbers = np.flatnonzero(test.labels == 0).tolist()
    normal = Lazy(lambda k: test.maps[numbers[k]], len(numbers))
    levels, rates = _shared_rates(normal, bounds[1])
    # Recall is that at level k for rates in (rates[k - 1], rates[k]].
    edges = np.log(np.clip(np.concatenate([[bounds[0]], rates]), *bounds))
    weights = np.diff(edges) / math.log(bounds[1] / bounds[0])
    result: list[float | None] = []
    for anomaly_map, mask in zip(test.maps, test.masks, strict=True):
        result.append(None if mask is None else _area(anomaly_map, mask, levels, weights))
    return result


def _area(
    anomaly_map: Array,
    mask: NDArray[np.bool_],
    levels: NDArray[np.generic],
    weights: NDArray[np.float64],
) -> float:
    if is_tensor(anomaly_map):
        import torch

        flags = torch.from_numpy(np.ascontiguousarray(mask)).to(anomaly_map.device)
        inside = anomaly_map[flags]
        # Only what passes the lowest level decides; the rest stays on the device.
        size, inside = len(inside), inside[inside >= levels[-1].item()].cpu().numpy()
    else:
        inside = anomaly_map[mask]
        size, inside = len(inside), inside[inside >= levels[-1]]
    inside.sort()
    recall = (len(inside) - np.searchsorted(inside, levels)) / size
    return float(recall @ weights)


def _shared_rates(
    images: Sequence[Array], upper: float
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The highest distinct scores of normal images, falling, and the rate at each, up to `upper`.

    The last rate is at least `upper`. Every pixel weighs 1 / (images * pixels of its image).
    """
    sizes = [math.prod(image.shape) for image in images]
    # No pixel weighs less than those of the largest image, so this many reach the rate.
    wanted = min(math.ceil(upper * len(images) * max(sizes)) + 1, sum(sizes))
    scores, weights = _top(images, wanted)
    # Of equal scores the heavier first: the sums are the same wherever the maps lie.
    order = np.lexsort((weights, scores))[::-1]
    scores, rates = scores[order], np.cumsum(weights[order])
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    levels, rates = scores[ends], rates[ends]
    keep = int(np.searchsorted(rates, upper)) + 1
    levels, rates = levels[:keep], rates[:keep]
    # Only the last level may be cut short by ties that were left out; rounding may end just below.
    rates[-1] = max(rates[-1], upper)
    return levels, rates


def _top(images: Sequence[Array], wanted: int) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """At least the `wanted` highest scores with their weights, without a copy of all images."""
    scores: list[NDArray[np.generic]] = []
    weights: list[NDArray[np.float64]] = []
    held, floor = 0, None
    for image in images:
        high = _above(image, floor, wanted)
        scores.append(high)
        weights.append(np.full(len(high), 1 / (len(images) * math.prod(image.shape))))
        held += len(high)
        if held >= 2 * wanted:
            merged, weight = np.concatenate(scores), np.concatenate(weights)
            best = np.argpartition(merged, held - wanted)[held - wanted :]
            scores, weights, held = [merged[best]], [weight[best]], wanted
            floor = scores[0].min()
    return np.concatenate(scores), np.concatenate(weights)


def _above(image: Array, floor: NDArray[np.generic] | None, wanted: int) -> NDArray[np.generic]:
    """Scores above the floor, the `wanted` highest at most, on the host."""
    high = image.flatten() if floor is None else image[image > floor.item()]
    if len(high) <= wanted:
        return as_numpy(high)
    if is_tensor(high):
        return as_numpy(high.topk(wanted).values)
    return np.partition(high, len(high) - wanted)[-wanted:]


def aupimo(
    maps: Any,
    masks: Any,
    labels: Any,
    bounds: tuple[float, float] = BOUNDS,
    *,
    nonfinite: Nonfinite = "error",
    binarize: Binarize | None = None,
) -> float | None:
    """Mean AUPIMO of the anomalous images; arguments as for `bench.evaluate.evaluate`.

    Args:
        maps: (n, h, w), or n maps of any sizes.
        masks: binary, of the shapes of the maps; None for an image without anomalous pixels.
        labels: (n,) 0 normal, 1 anomalous; normal images set the false-positive rate.
        bounds: rates between which recall is averaged over their logarithm.
        nonfinite: "rank" accepts infinite scores.
        binarize: rule for masks with more than two values.

    Returns:
        None without a normal image, or without an anomalous image that has a mask.

    Raises:
        ConfigError: bounds that are not rates.
        DataError: inputs that cannot be evaluated.
    """
    check_bounds(bounds)
    test = read_set(maps, masks, labels, None, binarize)
    refuse_nonfinite(test.by_name, nonfinite)
    if not (test.labels == 0).any() or all(mask is None for mask in test.masks):
        return None
    found = [value for value in aupimo_per_image(test, bounds) if value is not None]
    return sum(found) / len(found)
