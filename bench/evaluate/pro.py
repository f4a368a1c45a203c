"""Area under the per-region-overlap curve (AUPRO), exact, without the curve.

The curve and its area are those of the MVTec AD evaluation script: the mean over all 8-connected
regions of the test set of the share found, against the false-positive rate of all normal pixels,
up to a limit and divided by it, with linear interpolation at the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import ConfigError
from bench.evaluate.inputs import is_tensor, read_masked, refuse_nonfinite
from bench.evaluate.ranks import rank
from bench.evaluate.samples import Piece, to_float64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Array, Binarize, Nonfinite
    from bench.evaluate.samples import Block

__all__ = ["LIMITS", "RegionSums", "aupro", "check_limits"]

LIMITS = (0.05, 0.3, 1.0)
"""False-positive rates up to which AUPRO is taken, unless others are asked for."""


def check_limits(limits: Sequence[float]) -> tuple[float, ...]:
    """The limits, or an error for one outside (0, 1].

    Raises:
        ConfigError: naming the limit.
    """
    for limit in limits:
        if not 0 < limit <= 1:
            raise ConfigError(f"AUPRO limit {limit} is not a false-positive rate in (0, 1]")
    return tuple(limits)


class RegionSums:
    """Areas of the regions' own curves, for several limits in one pass over ascending blocks.

    A pixel of a region with x normal pixels above it and y at or above adds, up to X = limit * N
    normal pixels, the area X - (x + y) / 2 if y <= X, nothing if x >= X, and the cut piece
    (X - x)^2 / (2 (y - x)) otherwise. Ranks fall along the blocks, so the pixels with y <= X are
    the last ones: counts and sums of x + y between one limit and the next are enough, and these
    are whole numbers.
    """

    def __init__(self, sizes: NDArray[np.int64], negatives: int, limits: Sequence[float]) -> None:
        """Begin with nothing counted.

        Args:
            sizes: (R,) pixels of every region.
            negatives: N, normal pixels.
            limits: false-positive rates in (0, 1], in any order.
        """
        self.sizes = sizes
        self.limits = sorted(set(limits), reverse=True)
        self.bounds = [limit * negatives for limit in self.limits]
        shape = (len(self.limits), len(sizes))
        self.pixels = np.zeros(shape)
        self.sums = np.zeros(shape)
        self.cut = np.zeros(shape)

    def add(self, block: Block) -> None:
        """Count one block."""
        starts = [_first_within(block.at_or_above, bound) for bound in self.bounds]
        stops = [*starts, len(block.hits)][1:]
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            if start < stop:
                doubled = to_float64(block.doubled[start:stop])
                self.pixels[row] += self._per_group(block, start, stop)
                self.sums[row] += self._per_group(block, start, stop, doubled)
            if start:
                self._add_cut(block, row, start)

    def _add_cut(self, block: Block, row: int, stop: int) -> None:
        """The cut pieces: only the score just before `stop` may have some of its area inside."""
        at_or_above = int(block.at_or_above[stop - 1])
        above = int(block.doubled[stop - 1]) - at_or_above
        inside = self.bounds[row] - above
        if inside > 0:
            start = _first_within(block.at_or_above, at_or_above)
            area = inside**2 / (2 * (at_or_above - above))
            for step in block.steps(start, stop):
                self.cut[row] += area * self._per_group(block, step.start, step.stop)

    def _per_group(
        self, block: Block, start: int, stop: int, weights: Array | None = None
    ) -> NDArray[np.float64]:
        """(R,) number, or sum of the weights, of some samples of the block."""
        groups: Any = block.groups
        size = len(self.sizes)
        if is_tensor(groups):
            counted = groups[start:stop].bincount(weights, minlength=size)
            return counted.double().cpu().numpy()  # type: ignore[no-any-return]
        return np.bincount(groups[start:stop], weights, size).astype(np.float64, copy=False)

    def per_region(self, limit: float) -> NDArray[np.float64]:
        """(R,) the area of every region's own curve up to a limit, divided by the limit."""
        row = self.limits.index(limit)
        bound = self.bounds[row]
        pixels, sums = self.pixels[row:].sum(0), self.sums[row:].sum(0)
        areas: NDArray[np.float64] = bound * pixels - sums / 2 + self.cut[row]
        return areas / (self.sizes * bound)


def _first_within(at_or_above: Array, bound: float) -> int:
    """Index of the first level with at most `bound` normal samples at or above; they fall."""
    if is_tensor(at_or_above):
        return int((at_or_above > bound).sum())
    return len(at_or_above) - int(np.searchsorted(at_or_above[::-1], bound, side="right"))


def aupro(
    maps: Any,
    masks: Any,
    limit: float = 0.3,
    *,
    nonfinite: Nonfinite = "error",
    binarize: Binarize | None = None,
) -> float | None:
    """AUPRO of a test set up to one limit; 1 for a perfect ranking, limit / 2 for equal scores.

    Args:
        maps: (n, h, w), or n maps of any sizes; good images belong to the set.
        masks: binary, of the shapes of the maps; None for an image without anomalous pixels.
        limit: false-positive rate in (0, 1].
        nonfinite: "rank" accepts infinite scores.
        binarize: rule for masks with more than two values.

    Returns:
        None where there is no anomalous or no normal pixel.

    Raises:
        ConfigError: a limit outside (0, 1].
        DataError: inputs that cannot be evaluated; see `bench.evaluate.evaluate`.
    """
    check_limits([limit])
    test = read_masked(maps, masks, binarize)
    regions = test.label()
    ranks = rank([Piece(*pair) for pair in zip(test.maps, test.masks, strict=True)], regions.ids)
    if not ranks.is_finite:
        refuse_nonfinite(test.by_name, nonfinite)
    if not ranks.positives or not ranks.negatives:
        return None
    sums = RegionSums(regions.sizes, ranks.negatives, [limit])
    for block in ranks.blocks():
        sums.add(block)
    return float(sums.per_region(limit).mean())
