"""ROC, PR and PRO curves with few points, and the largest error that the missing ones made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import ConfigError, DataError, StoreError
from bench.evaluate.inputs import as_array, is_tensor, read_flags, read_set, refuse_nonfinite
from bench.evaluate.ranks import rank
from bench.evaluate.samples import Piece, Ranks
from bench.npz import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.evaluate.inputs import Binarize, Nonfinite

__all__ = [
    "Curve",
    "image_curves",
    "load_curves",
    "pixel_curves",
    "pr_curve",
    "pro_curve",
    "roc_curve",
    "save_curves",
    "simplify",
]

Floats = npt.NDArray[np.float64]

ERROR = 1e-3
"""Default of the largest vertical error."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Straight lines through a few points of an exact curve.

    Attributes:
        x: (k,) rising; false-positive rate, or recall for a PR curve.
        y: (k,) true-positive rate, mean region overlap, or precision.
        error: largest vertical distance to the exact curve, measured on all of its points. At a
            jump both ends count. So an area up to x = L is off by at most L * error.
    """

    x: Floats
    y: Floats
    error: float

    def area(self, limit: float = 1.0) -> float:
        """Area under the curve up to x = limit; not divided by it."""
        inside = self.x <= limit
        x = np.append(self.x[inside], limit)
        y = np.append(self.y[inside], np.interp(limit, self.x, self.y))
        return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def pixel_curves(
    maps: Any,
    masks: Any,
    labels: Any,
    *,
    error: float = ERROR,
    nonfinite: Nonfinite = "error",
    binarize: Binarize | None = None,
) -> dict[str, Curve]:
    """The three curves of a test set, from one sort; the arguments are those of `evaluate`.

    Args:
        error: largest vertical error, in (0, 1).

    Returns:
        "pixel_roc", "pixel_pr" and "pro"; nothing where all pixels are of one class.

    Raises:
        ConfigError: an error outside (0, 1).
        DataError: as `evaluate`.
    """
    test = read_set(maps, masks, labels, None, binarize)
    regions = test.label()
    if not test.scored:
        return {}
    ranks = rank([Piece(test.maps[i], test.masks[i]) for i in test.scored], regions.ids)
    if not ranks.is_finite:
        refuse_nonfinite(test.by_name, nonfinite)
    if not ranks.positives or not ranks.negatives:
        return {}
    levels = _Levels(ranks, regions.sizes)
    found = {"pixel_roc": levels.roc(), "pixel_pr": levels.pr(), "pro": levels.pro()}
    return {name: simplify(x, y, error) for name, (x, y) in found.items()}


def roc_curve(maps: Any, masks: Any, labels: Any, *, error: float = ERROR) -> Curve | None:
    """Pixel ROC curve; None with one class only. Arguments: see `pixel_curves`."""
    return pixel_curves(maps, masks, labels, error=error).get("pixel_roc")


def pr_curve(maps: Any, masks: Any, labels: Any, *, error: float = ERROR) -> Curve | None:
    """Pixel precision against recall; None with one class only. See `pixel_curves`."""
    return pixel_curves(maps, masks, labels, error=error).get("pixel_pr")


def pro_curve(maps: Any, masks: Any, labels: Any, *, error: float = ERROR) -> Curve | None:
    """Mean region overlap against false-positive rate; None with one class only."""
    return pixel_curves(maps, masks, labels, error=error).get("pro")


def image_curves(
    scores: Any, labels: Any, *, error: float = ERROR, nonfinite: Nonfinite = "error"
) -> dict[str, Curve]:
    """Curves of one score per image.

    Args:
        scores: (n,); higher is more anomalous.
        labels: (n,) 0 normal, 1 anomalous.
        error: largest vertical error, in (0, 1).
        nonfinite: "rank" accepts infinite scores.

    Returns:
        "image_roc" and "image_pr"; nothing with one class only.

    Raises:
        DataError: scores and labels of different lengths, scores that are not finite.
    """
    values = as_array(scores, "scores")
    flags = read_flags(labels)
    if values.ndim != 1 or tuple(values.shape) != flags.shape or not len(flags):
        raise DataError(
            f"scores have shape {tuple(values.shape)}, labels {flags.shape}; vectors of one "
            "length, at least 1, are needed"
        )
    ranks = rank([Piece(values, flags)])
    if not ranks.is_finite:
        refuse_nonfinite({"the vector": values}, nonfinite)
    if not ranks.positives or not ranks.negatives:
        return {}
    levels = _Levels(ranks, np.ones(0, np.int64))
    found = {"image_roc": levels.roc(), "image_pr": levels.pr()}
    return {name: simplify(x, y, error) for name, (x, y) in found.items()}


class _Levels:
    """The distinct scores of the anomalous samples, from the highest, with their counts.

    Between two of them only normal samples lie, so every curve is a straight line there.
    """

    def __init__(self, ranks: Ranks, sizes: npt.NDArray[np.int64]) -> None:
        blocks = list(ranks.blocks())
        hits = _descending([block.hits for block in blocks])
        # Samples of one level share their counts; one of them is enough.
        first = np.flatnonzero(np.diff(hits, prepend=0))
        self.hits = hits[first]
        self.at_or_above = _descending([block.at_or_above for block in blocks])[first]
        doubled = _descending([block.doubled for block in blocks])[first]
        self.above = doubled - self.at_or_above
        self.positives, self.negatives = ranks.positives, ranks.negatives
        self.regions = len(sizes)
        if self.regions:
            groups = [block.groups for block in blocks if block.groups is not None]
            self.overlap = np.cumsum(1.0 / sizes[_descending(groups)])

    def _rising(self, heights: Floats) -> tuple[Floats, Floats]:
        """Both ends of the line that each level draws, and (0, 0) and (1, 1)."""
        before = np.append(0.0, heights[:-1])
        x = np.column_stack([self.above, self.at_or_above]).ravel() / self.negatives
        y = np.column_stack([before, heights]).ravel()
        return np.concatenate([[0], x, [1]]), np.concatenate([[0], y, [1]])

    def roc(self) -> tuple[Floats, Floats]:
        """False-positive and true-positive rate."""
        return self._rising(self.hits / self.positives)

    def pro(self) -> tuple[Floats, Floats]:
        """False-positive rate and mean overlap of the regions."""
        return self._rising(np.minimum(self.overlap[self.hits - 1] / self.regions, 1.0))

    def pr(self) -> tuple[Floats, Floats]:
        """Recall and precision at the levels; at recall 0, the precision of the first level."""
        precision = self.hits / (self.hits + self.at_or_above)
        recall = self.hits / self.positives
        return np.append(0.0, recall), np.append(precision[0], precision)


def _descending(parts: list[Any]) -> npt.NDArray[Any]:
    host = [part.cpu().numpy() if is_tensor(part) else part for part in parts]
    return np.concatenate(host)[::-1]


def simplify(x: Floats, y: Floats, error: float = ERROR) -> Curve:
    """Leave points out while the lines through the others stay within a vertical error.

    Segments are split at their worst point until all are good (Douglas and Peucker 1973, with the
    vertical distance). Points between which y stays within error / 8 are thinned before.

    Args:
        x: (n,) not falling.
        y: (n,) finite.
        error: in (0, 1).

    Returns:
        the curve, with the error that it has: at most the one allowed.
    """
    if not 0 < error < 1:
        raise ConfigError(f"error = {error}; a curve's largest error lies between 0 and 1")
    step = error / 8
    band = np.floor(y / step).astype(np.int64)
    turns = np.flatnonzero(np.diff(band))
    thin = np.unique(np.concatenate([[0, len(y) - 1], turns, turns + 1]))
    kept = thin[_split(x[thin], y[thin], error - step)]
    return Curve(x[kept], y[kept], float(_deviation(x, y, kept).max()))


def _split(x: Floats, y: Floats, tolerance: float) -> npt.NDArray[np.int64]:
    """Indices of points such that the lines through them pass all others within the tolerance."""
    kept = np.unique([0, len(x) - 1])
    while True:
        deviation = _deviation(x, y, kept)
        worst = np.maximum.reduceat(deviation, kept[:-1]) if len(kept) > 1 else deviation[:1]
        if worst.max() <= tolerance:
            return kept
        limit = np.append(np.repeat(worst, np.diff(kept)), np.inf)
        at = np.flatnonzero((deviation == limit) & (deviation > tolerance))
        # Of equally bad points of one segment the first.
        segment = np.searchsorted(kept, at, side="right")
        kept = np.union1d(kept, at[np.unique(segment, return_index=True)[1]])


def _deviation(x: Floats, y: Floats, kept: npt.NDArray[np.int64]) -> Floats:
    """(n,) vertical distance of every point to the line through the kept ones around it."""
    if len(kept) < 2:
        return np.zeros(len(x))
    lengths = np.diff(kept)
    run, rise = np.diff(x[kept]), np.diff(y[kept])
    slope = np.divide(rise, run, out=np.zeros_like(run), where=run > 0)
    start = np.repeat(kept[:-1], lengths)
    inner = slice(0, len(x) - 1)
    line = y[start] + np.repeat(slope, lengths) * (x[inner] - x[start])
    found = np.zeros(len(x))
    # On a vertical line all heights between its ends are met.
    upright = np.repeat(np.where(run > 0, 0.0, rise), lengths)
    high = line + np.maximum(upright, 0)
    low = line + np.minimum(upright, 0)
    found[inner] = np.maximum(np.maximum(y[inner] - high, low - y[inner]), 0)
    return found


def save_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Write curves to an .npz file: NAME_x, NAME_y and NAME_error."""
    arrays: dict[str, Any] = {}
    for name, curve in curves.items():
        arrays |= {f"{name}_x": curve.x, f"{name}_y": curve.y, f"{name}_error": curve.error}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_curves(path: Path) -> dict[str, Curve]:
    """Read what `save_curves` wrote.

    Raises:
        StoreError: if the file is missing, damaged or something else.
    """
    try:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = [key.removesuffix("_error") for key in file.files if key.endswith("_error")]
            return {
                name: Curve(file[f"{name}_x"], file[f"{name}_y"], float(file[f"{name}_error"]))
                for name in names
            }
    except DAMAGED as error:
        raise StoreError(f"{path} cannot be read as curves: {error}") from error
