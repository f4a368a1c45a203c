"""Saturated per-region overlap (sPRO) of MVTec LOCO AD, exact.

A defect counts as found in full once its saturation area is covered. So only its highest-scoring
pixels matter, as many as the saturation area, and each weighs the inverse of it; the area under
the curve then follows from ranks as for AUPRO. A defect is one whatever its number of pieces,
and defects may overlap. The published script places a few hundred thresholds instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DataError
from bench.evaluate.inputs import read_set, refuse_nonfinite
from bench.evaluate.pro import RegionSums, check_limits
from bench.evaluate.ranks import rank
from bench.evaluate.samples import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bench.evaluate.inputs import Nonfinite

__all__ = ["Defect", "au_spro", "saturation_area"]


@dataclass(frozen=True)
class Defect:
    """One ground-truth channel.

    Attributes:
        mask: (H, W) bool, at least one pixel.
        saturation: pixels of it that are enough, from 1 to its area.
    """

    mask: NDArray[np.bool_]
    saturation: int


def saturation_area(area: int, threshold: float, *, relative: bool) -> int:
    """Pixels that are enough: an absolute number capped by the area, or a share of it, cut."""
    return int(area * threshold) if relative else min(int(threshold), area)


def au_spro(
    maps: Any,
    defects: Sequence[Sequence[Defect]],
    limits: Sequence[float] = (0.01, 0.05, 0.1, 0.3, 1.0),
    *,
    nonfinite: Nonfinite = "error",
) -> dict[float, float] | None:
    """Area under the sPRO curve up to each false-positive rate, divided by it.

    MVTec LOCO evaluates structural and logical images apart, each together with the good ones, and
    averages the two.

    Args:
        maps: (n, h, w), or n maps of any sizes, NumPy or tensors on the CPU.
        defects: those of every image; none for a good image. Normal pixels lie outside all of them.
        limits: false-positive rates in (0, 1].
        nonfinite: "rank" accepts infinite scores.

    Returns:
        limit -> value; None where there is no defect or no normal pixel.

    Raises:
        ConfigError: a limit outside (0, 1].
        DataError: shapes that differ, an empty defect, a saturation area outside it.
    """
    limits = check_limits(limits)
    if len(defects) != len(maps):
        raise DataError(f"{len(defects)} lists of defects for {len(maps)} maps; one each is needed")
    united = [np.logical_or.reduce([d.mask for d in image]) if image else None for image in defects]
    test = read_set(maps, united, [int(bool(image)) for image in defects], None, None)
    refuse_nonfinite(test.by_name, nonfinite)
    pieces = [
        Piece(m if mask is None else m[~mask], None)
        for m, mask in zip(test.maps, test.masks, strict=True)
    ]
    groups: list[int] = []
    sizes: list[int] = []
    for anomaly_map, image, name in zip(test.maps, defects, test.names, strict=True):
        for defect in image:
            highest = _highest(anomaly_map, defect, name)
            pieces.append(Piece(highest, np.ones(len(highest), bool)))
            groups += [len(sizes)] * len(highest)
            sizes.append(len(highest))
    ranks = rank(pieces, np.array(groups, np.int32))
    if not ranks.positives or not ranks.negatives:
        return None
    sums = RegionSums(np.array(sizes), ranks.negatives, limits)
    for block in ranks.blocks():
        sums.add(block)
    return {limit: float(sums.per_region(limit).mean()) for limit in limits}


def _highest(anomaly_map: NDArray[Any], defect: Defect, name: str) -> NDArray[Any]:
    """As many of the defect's highest scores as its saturation area."""
    inside = anomaly_map[defect.mask]
    if not 1 <= defect.saturation <= len(inside):
        raise DataError(
            f"a defect of {name} has {len(inside)} pixels and a saturation area of "
            f"{defect.saturation}; 1 to its pixels is needed"
        )
    return np.partition(inside, len(inside) - defect.saturation)[len(inside) - defect.saturation :]
