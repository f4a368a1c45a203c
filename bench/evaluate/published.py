"""Evaluators of printed numbers, each under its own name: to reproduce a paper, not to compare.

Each function follows the rules of one public code, its thresholds, regions and limit, and so
inherits its faults: most change when the scores are stretched without a change of their order.
None is the code of that project; the rules were read there and checked against its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import ConfigError, nearest
from bench.evaluate import binned
from bench.evaluate.regions import label_regions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["PUBLISHED", "Published", "published_values"]


@dataclass(frozen=True)
class Published:
    """A published protocol.

    Attributes:
        rule: what it does, in one line.
        compute: maps and masks (bool or None) of all test images -> value; NaN where it has none.
    """

    rule: str
    compute: Callable[[Sequence[NDArray[Any]], Sequence[NDArray[np.bool_] | None]], float]


@dataclass(frozen=True)
class _Overlaps:
    """Scores that decide about overlaps, and those of normal pixels.

    Attributes:
        scores: of all pixels that add to a region's overlap.
        weights: 1 / (area of the region * number of regions), of the same pixels.
        normal: of all normal pixels.
        lowest: minimum over all pixels.
        highest: maximum over all pixels.
    """

    scores: NDArray[Any]
    weights: NDArray[np.float64]
    normal: NDArray[Any]
    lowest: Any
    highest: Any


def _overlaps(
    maps: Sequence[NDArray[Any]],
    masks: Sequence[NDArray[np.bool_] | None],
    *,
    fill_holes: bool = False,
    dilate: int = 1,
) -> _Overlaps:
    """Collect regions and normal pixels; the switches are those of CFLOW and of GLASS."""
    scores: list[NDArray[Any]] = []
    areas: list[NDArray[np.float64]] = []
    normal: list[NDArray[Any]] = []
    regions = 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        normal.append(anomaly_map.ravel() if mask is None else anomaly_map[~mask])
        if mask is None:
            continue
        labels, count = label_regions(mask)
        regions += count
        source = _dilated(anomaly_map, dilate)
        for number in range(1, count + 1):
            region = labels == number
            inside = source[_filled(region) if fill_holes else region]
            scores.append(inside)
            areas.append(np.full(len(inside), 1 / np.count_nonzero(region)))
    empty = maps[0].ravel()[:0]
    return _Overlaps(
        np.concatenate([empty, *scores]),
        np.concatenate([np.zeros(0), *areas]) / max(regions, 1),
        np.concatenate(normal),
        min(anomaly_map.min() for anomaly_map in maps),
        max(anomaly_map.max() for anomaly_map in maps),
    )


def _filled(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    # A background that reaches a hole diagonally fills it not, as in scikit-image.
    filled: NDArray[np.bool_] = binary_fill_holes(region, np.ones((3, 3), bool))
    return filled


def _dilated(anomaly_map: NDArray[Any], size: int) -> NDArray[Any]:
    """A prediction dilated by a square is the local maximum of the map, thresholded."""
    if size == 1:
        return anomaly_map
    from scipy.ndimage import maximum_filter

    # Half precision is widened for the filter, which does not know it.
    wide = anomaly_map.astype(np.float32) if anomaly_map.dtype == np.float16 else anomaly_map
    widened: NDArray[Any] = maximum_filter(wide, size, mode="nearest")
    return widened


def _curve(
    data: _Overlaps, thresholds: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False-positive rate and mean overlap of `score > threshold`, for ascending thresholds."""
    exceeded = np.searchsorted(thresholds, data.scores, side="left")
    found = np.bincount(exceeded, data.weights, len(thresholds) + 1)
    overlap = found[::-1].cumsum()[::-1][1:]
    normal = np.bincount(np.searchsorted(thresholds, data.normal), minlength=len(thresholds) + 1)
    false = normal[::-1].cumsum()[::-1][1:]
    with np.errstate(invalid="ignore"):
        return false / np.float64(len(data.normal)), overlap


def _trapezium(rate: NDArray[np.float64], overlap: NDArray[np.float64]) -> float:
    """Area under points given in falling order of the rate."""
    return float((-np.diff(rate) * (overlap[1:] + overlap[:-1]) / 2).sum())


def _stretched(
    rate: NDArray[np.float64], overlap: NDArray[np.float64], keep: NDArray[np.bool_], shift: bool
) -> float:
    """Area over the kept points, their rates stretched to end at 1 (and to begin at 0)."""
    rate, overlap = rate[keep], overlap[keep]
    if len(rate) < 2:
        return math.nan
    low = rate.min() if shift else 0.0
    span = rate.max() - low
    return _trapezium((rate - low) / span, overlap) if span > 0 else math.nan


def _linear(lowest: Any, highest: Any, steps: int) -> NDArray[Any]:
    """Ascending thresholds from the minimum on, the maximum left out."""
    span = highest - lowest
    if not span > 0:
        return np.zeros(0)
    step = span / steps
    if span.dtype.kind == "f":
        step = step.astype(span.dtype)  # as NumPy 2 divides; NumPy 1 gives float64
    return np.arange(lowest, highest, step)


def pyramidflow(maps: Any, masks: Any) -> float:
    """200 linear thresholds, whole false-positive range, curve not closed at its ends.

    Maps are scaled to 0 to 1 first, and the thresholds are an arithmetic progression, both in the
    maps' own type: rounding decides how many they are, and which ties they pass.
    """
    data = _overlaps(maps, masks)
    if not data.highest > data.lowest or not len(data.normal) or not len(data.scores):
        return math.nan
    scaled = replace(
        data,
        scores=_scaled(data.scores, data),
        weights=_single_weights(masks),
        normal=_scaled(data.normal, data),
        lowest=_scaled(data.lowest, data),
        highest=_scaled(data.highest, data),
    )
    thresholds = _linear(scaled.lowest, scaled.highest, 200)
    return _trapezium(*_curve(scaled, thresholds)) if len(thresholds) else math.nan


def _scaled(values: Any, data: _Overlaps) -> Any:
    """To 0 to 1, in the type of the maps; integers become single precision, as tensors do."""
    kind = data.normal.dtype
    span = data.highest - data.lowest
    if kind.kind != "f":
        values = np.asarray(values - data.lowest, np.float32)
        return values / np.float32(span)
    return (values - data.lowest) / span


def _single_weights(masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.float64]:
    """Weights of the pixels of all regions, one over the area rounded to single precision."""
    labels = [label_regions(mask) for mask in masks if mask is not None]
    areas = [
        np.count_nonzero(label == number)
        for label, count in labels
        for number in range(1, count + 1)
    ]
    each = np.array([np.float32(1 / area) for area in areas], np.float64) / len(areas)
    return np.repeat(each, areas)


def cflow(maps: Any, masks: Any, steps: int = 1000) -> float:
    """1000 linear thresholds, overlap of hole-filled regions, kept rates stretched to 0.3."""
    data = _overlaps(maps, masks, fill_holes=True)
    if not data.highest > data.lowest or not len(data.normal) or not len(data.scores):
        return math.nan
    # In the precision of the maps, as the code has it.
    kind = data.normal.dtype.type if data.normal.dtype.kind == "f" else np.float64
    step = (kind(data.highest) - kind(data.lowest)) / kind(steps)
    falling = np.arange(steps - 1, -1, -1).astype(kind)
    rate, overlap = _curve(data, kind(data.highest) - falling * step)
    return _stretched(rate, overlap, rate <= 0.3, shift=True)


def dfr(maps: Any, masks: Any) -> float:
    """As CFLOW-AD, which took it over, with 5000 thresholds."""
    return cflow(maps, masks, 5000)


def stfpm(maps: Any, masks: Any) -> float:
    """4000 linear thresholds; kept rates and their overlaps both stretched to [0, 1]."""
    data = _overlaps(maps, masks)
    if not data.highest > data.lowest or not len(data.normal) or not len(data.scores):
        return math.nan
    kind = data.normal.dtype.type if data.normal.dtype.kind == "f" else np.float64
    step = (kind(data.highest) - kind(data.lowest)) / kind(4000)
    rate, overlap = _curve(data, kind(data.highest) - np.arange(3999, -1, -1).astype(kind) * step)
    keep = rate <= 0.3
    low, span = overlap[keep].min(), np.ptp(overlap[keep])
    return _stretched(rate, (overlap - low) / span, keep, shift=True) if span > 0 else math.nan


def _two_hundred(maps: Any, masks: Any, *, shift: bool, dilate: int = 1) -> float:
    data = _overlaps(maps, masks, dilate=dilate)
    thresholds = _linear(data.lowest, data.highest, 200)
    if not len(thresholds) or not len(data.normal) or not len(data.scores):
        return math.nan
    rate, overlap = _curve(data, thresholds)
    return _stretched(rate, overlap, rate < 0.3, shift=shift)


def ader(maps: Any, masks: Any) -> float:
    """200 linear thresholds, rates below 0.3 shifted and stretched."""
    return _two_hundred(maps, masks, shift=True)


def dinomaly(maps: Any, masks: Any) -> float:
    """200 linear thresholds, rates below 0.3 stretched."""
    return _two_hundred(maps, masks, shift=False)


def rd4ad(maps: Any, masks: Any) -> float:
    """As Dinomaly within every anomalous image, then the mean over the images."""
    pairs = [(m, k) for m, k in zip(maps, masks, strict=True) if k is not None]
    values = [dinomaly([anomaly_map], [mask]) for anomaly_map, mask in pairs]
    return float(np.mean(values)) if values else math.nan


def glass(maps: Any, masks: Any) -> float:
    """As Dinomaly, with the prediction dilated by 5x5 for the overlap only."""
    return _two_hundred(maps, masks, shift=False, dilate=5)


def _to_limit(rate: NDArray[Any], overlap: NDArray[Any], limit: float) -> float:
    """Area of a rising curve up to a limit, cut there by linear interpolation, over the limit."""
    inside = rate < limit
    at = int(np.count_nonzero(inside))
    if at == len(rate):
        return math.nan
    step = rate[at] - rate[at - 1] if at else 1.0
    share = (limit - rate[at - 1]) / step if at else 0.0
    end = overlap[at - 1] + share * (overlap[at] - overlap[at - 1]) if at else overlap[0]
    x, y = np.append(rate[inside], limit), np.append(overlap[inside], end)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum()) / limit


def mvtec(maps: Any, masks: Any, limit: float = 0.3) -> float:
    """The curve of the MVTec AD script, with rates in single precision."""
    data = _overlaps(maps, masks)
    if not len(data.normal) or not len(data.scores):
        return math.nan
    scores = np.concatenate([data.scores, data.normal])
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order]
    is_normal = order >= len(data.scores)
    weights = np.concatenate([data.weights, np.zeros(len(data.normal))])[order]
    rate = np.cumsum(is_normal, dtype=np.float64) / len(data.normal)
    overlap = np.cumsum(weights)
    with np.errstate(invalid="ignore"):
        # Equal infinite scores differ by NaN, so the script does not merge them.
        last = np.append(np.diff(scores.astype(np.float64)) != 0, True)
    rate = rate.astype(np.float32)[last].astype(np.float64)
    overlap = np.minimum(overlap[last], 1)
    return _to_limit(np.concatenate([[0], rate, [1]]), np.concatenate([[0], overlap, [1]]), limit)


def mvtec3d(maps: Any, masks: Any, limit: float = 0.3) -> float:
    """100 thresholds at equal ranks of the normal pixels, rates from the rank."""
    data = _overlaps(maps, masks)
    if not len(data.normal) or not len(data.scores):
        return math.nan
    normal = np.sort(data.normal)
    places = np.linspace(0, len(normal) - 1, 100, dtype=int)
    _, overlap = _curve(data, normal[places])
    rate = 1 - (places + 1) / len(normal)
    return _to_limit(np.append(rate[::-1], 1), np.append(overlap[::-1], 1), limit)


PUBLISHED: dict[str, Published] = {
    "aupro_mvtec": Published("all thresholds, up to 0.3 (MVTec AD script)", mvtec),
    "aupro_mvtec_05": Published(
        "all thresholds, up to 0.05 (MVTec AD script)", lambda maps, masks: mvtec(maps, masks, 0.05)
    ),
    "aupro_mvtec3d": Published("100 thresholds by rank, up to 0.3 (MVTec 3D-AD script)", mvtec3d),
    "aupro_mvtec3d_05": Published(
        "100 thresholds by rank, up to 0.05 (MVTec 3D-AD script)",
        lambda maps, masks: mvtec3d(maps, masks, 0.05),
    ),
    "aupro_adeval": Published(
        "1000 equal strips of the score range, up to 0.3 (ADEval)",
        lambda maps, masks: binned.strips_aupro(maps, masks, 1000),
    ),
    "aupro_adeval50": Published(
        "50 equal strips of the score range, up to 0.3 (ADEval as ADer sets it)",
        lambda maps, masks: binned.strips_aupro(maps, masks, 50),
    ),
    "aupro_cflow": Published(
        "1000 linear thresholds, holes filled, rates up to 0.3 stretched (CFLOW)", cflow
    ),
    "aupro_dfr": Published("the same with 5000 thresholds (DFR)", dfr),
    "aupro_stfpm": Published(
        "4000 linear thresholds, rates up to 0.3 and overlaps both stretched (STFPM)", stfpm
    ),
    "aupro_ader": Published("200 linear thresholds, rates below 0.3 stretched (ADer)", ader),
    "aupro_dinomaly": Published("the same, rates only divided (Dinomaly)", dinomaly),
    "aupro_rd4ad": Published("the same in every anomalous image, then the mean (RD4AD)", rd4ad),
    "aupro_glass": Published("the same, prediction dilated 5x5 for the overlap (GLASS)", glass),
    "aupro_pyramidflow": Published(
        "200 linear thresholds, all rates up to 1 (PyramidFlow)", pyramidflow
    ),
    "pixel_auroc_torchmetrics": Published(
        "all thresholds, after a sigmoid in single precision (torchmetrics)",
        binned.sigmoid_auroc,
    ),
    "pixel_auroc_torchmetrics200": Published(
        "200 thresholds, after the sigmoid (torchmetrics)",
        lambda maps, masks: binned.sigmoid_auroc(maps, masks, 200),
    ),
    "pixel_auroc_adeval": Published(
        "1000 equal strips of the score range (ADEval)",
        lambda maps, masks: binned.strips_auroc(maps, masks, 1000),
    ),
    "pixel_auroc_adeval50": Published(
        "50 equal strips of the score range (ADEval as ADer sets it)",
        lambda maps, masks: binned.strips_auroc(maps, masks, 50),
    ),
    "pixel_aupr_adeval": Published(
        "trapezium area under the precision-recall curve, 1000 strips (ADEval)",
        lambda maps, masks: binned.strips_aupr(maps, masks, 1000),
    ),
    "pixel_f1max_ader": Published("best of 21 linear thresholds (ADer)", binned.f1_of_21),
}
"""Protocols by the name of their value in a row."""


def check_names(names: Sequence[str]) -> None:
    """Refuse protocols that there are not.

    Raises:
        ConfigError: naming the nearest.
    """
    for name in names:
        if name not in PUBLISHED:
            raise ConfigError(f"unknown published metric {name!r}; {nearest(name, PUBLISHED)}")


def published_values(
    maps: Sequence[NDArray[Any]], masks: Sequence[NDArray[np.bool_] | None], names: Sequence[str]
) -> dict[str, float | None]:
    """The values of some protocols; None where the published code gives NaN or fails.

    Args:
        maps: 2-D each; images whose mask is empty count as normal pixels, as in those codes.
        masks: bool of the same shapes, or None for no anomalous pixel.
        names: keys of `PUBLISHED`.

    Raises:
        ConfigError: a name that is not known.
    """
    check_names(names)
    values: dict[str, float | None] = {}
    for name in names:
        value = float(PUBLISHED[name].compute(maps, masks))
        values[name] = value if math.isfinite(value) else None
    return values
