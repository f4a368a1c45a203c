"""The metrics of maps that do not fit in memory: exact, by passes over maps that are read again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DataError
from bench.evaluate.cells import exact_cast, score_dtype
from bench.evaluate.coding import Coding
from bench.evaluate.found import Found, enter_aupimo, enter_images, enter_ranks
from bench.evaluate.inputs import EvaluationSet, on_host, read_one, read_unmapped, refuse_nonfinite
from bench.evaluate.lazy import Lazy
from bench.evaluate.pimo import BOUNDS
from bench.evaluate.pro import LIMITS
from bench.evaluate.published import check_names
from bench.evaluate.ranges import Labelled, RangedRanks
from bench.evaluate.regions import label_masks
from bench.evaluate.result import NO_MASK, Evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["evaluate_large"]

MB = 10**6

NEEDS_ALL = "its code needs all maps in memory at once; raise [run].map_budget_mb"


def evaluate_large(
    maps: Sequence[Any],
    masks: Sequence[Any],
    labels: Any,
    image_scores: Any,
    *,
    names: Sequence[str] | None = None,
    published: Sequence[str] = (),
    room_mb: float,
) -> Evaluation:
    """What `evaluate` gives for the same arguments, with a few maps in memory at a time.

    Values differ from those of `evaluate` by the order of float64 sums: less than 1e-12.

    Args:
        maps: n 2-D arrays of one type, read whenever they are asked for: about four times, and
            once for each range of scores that fits in the room.
        masks: the same, of the shapes of the maps; None for an image without anomalous pixels.
        labels: (n,) 0 normal, 1 anomalous.
        image_scores: (n,).
        names: how messages call the images.
        published: protocols of papers; their values are undefined, with this reason.
        room_mb: MB of 10^6 bytes that the sorting of a range may take.

    Raises:
        ConfigError: unknown protocols.
        DataError: as `evaluate`; infinite scores are refused.
    """
    check_names(published)
    flags, called = read_unmapped(labels, names)
    if not len(maps) == len(masks) == len(flags):
        raise DataError(f"{len(maps)} maps and {len(masks)} masks for {len(flags)} labels")
    seen = _look(maps, masks, flags, called)
    test = _lazy(maps, masks, flags, called, seen.unmasked)
    found = Found()
    enter_images(found, image_scores, flags, called, "error")
    if test.scored:
        coding = Coding.of(Lazy(lambda k: test.maps[test.scored[k]], len(test.scored)))
        ranks = RangedRanks(lambda: _labelled(test), seen.extremes, coding, int(room_mb * MB))
        enter_ranks(found, ranks, seen.sizes, LIMITS)
    else:
        found.leave_pixels(LIMITS, NO_MASK)
    enter_aupimo(found, test, BOUNDS)
    return Evaluation(
        values=found.values,
        undefined=found.undefined | dict.fromkeys(published, NEEDS_ALL),
        published=dict.fromkeys(published),
        counts=seen.counts(flags),
        detail=found.detail,
        warnings=tuple(found.warnings),
    )


@dataclass(frozen=True)
class _Seen:
    """What one look at every image told.

    Attributes:
        unmasked: anomalous images without an anomalous pixel.
        pixels: that count.
        sizes: (R,) pixels of the regions.
        extremes: lowest and highest score of the pixels that count.
    """

    unmasked: frozenset[int]
    pixels: int
    sizes: NDArray[np.int64]
    extremes: tuple[float, float]

    def counts(self, labels: NDArray[np.int64]) -> dict[str, int]:
        """The counts of `evaluate`."""
        anomalous = int(self.sizes.sum())
        return {
            "n_test": len(labels),
            "n_normal": int((labels == 0).sum()),
            "n_anomalous": int((labels == 1).sum()),
            "n_unmasked": len(self.unmasked),
            "pixels": self.pixels,
            "anomalous_pixels": anomalous,
            "normal_pixels": self.pixels - anomalous,
            "regions": len(self.sizes),
        }


def _look(
    maps: Sequence[Any], masks: Sequence[Any], labels: NDArray[np.int64], names: Sequence[str]
) -> _Seen:
    """Check every image, and count."""
    unmasked, pixels, lowest, highest = set(), 0, math.inf, -math.inf
    sizes = [np.zeros(0, np.int64)]
    dtype: Any = None
    for index, name in enumerate(names):
        one, flags = read_one(maps[index], masks[index], int(labels[index]), name)
        refuse_nonfinite({name: one}, "error")
        dtype = dtype or one.dtype
        if one.dtype != dtype:
            raise DataError(
                f"the map of {name} has type {one.dtype}, that of {names[0]} {dtype}; scores are "
                "compared as stored, so all maps need one type"
            )
        if flags is None and labels[index]:
            unmasked.add(index)
            continue
        pixels += one.size
        lowest, highest = min(lowest, float(one.min())), max(highest, float(one.max()))
        sizes.append(label_masks([flags]).sizes)
    return _Seen(frozenset(unmasked), pixels, np.concatenate(sizes), (lowest, highest))


def _lazy(
    maps: Sequence[Any],
    masks: Sequence[Any],
    labels: NDArray[np.int64],
    names: Sequence[str],
    unmasked: frozenset[int],
) -> EvaluationSet:
    """The images, which were checked, each read when it is asked for."""

    def scores(index: int) -> NDArray[Any]:
        one = on_host(maps[index], names[index])
        return exact_cast(one, score_dtype(one.dtype))

    def flags(index: int) -> NDArray[np.bool_] | None:
        mask = masks[index]
        found: NDArray[np.bool_] | None = None if mask is None else on_host(mask, names[index]) != 0
        return None if found is None or not found.any() else found

    return EvaluationSet(Lazy(scores, len(maps)), Lazy(flags, len(maps)), labels, unmasked, names)


def _labelled(test: EvaluationSet) -> Iterator[Labelled]:
    """The pixels that count, image by image, with the regions numbered through all of them."""
    regions = 0
    for index in test.scored:
        mask = test.masks[index]
        found = label_masks([mask])
        flags = None if mask is None else mask.ravel()
        yield Labelled(test.maps[index].ravel(), flags, found.ids + np.int32(regions))
        regions += len(found)
