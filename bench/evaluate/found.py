"""Values of a test set on their way into an `Evaluation`, whatever engine ranked its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DataError
from bench.evaluate.binary import BinarySums, binary_metrics
from bench.evaluate.inputs import as_array, refuse_nonfinite
from bench.evaluate.pimo import aupimo_per_image
from bench.evaluate.pro import RegionSums
from bench.evaluate.result import aupro_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.binary import BinaryValues
    from bench.evaluate.inputs import EvaluationSet, Nonfinite
    from bench.evaluate.samples import Ranks

REGION_LIMIT = 0.3
"""Limit of the per-region values."""

FEW_FALSE_POSITIVES = 100
"""Below this many normal pixels at the lower bound, AUPIMO rests on few scores."""


@dataclass
class Found:
    """Values on their way into an `Evaluation`."""

    values: dict[str, float | None] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    detail: dict[str, list[float | None]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def leave(self, keys: Iterable[str], reason: str) -> None:
        """Note metrics that are not defined."""
        for key in keys:
            self.values[key] = None
            self.undefined[key] = reason

    def binary(self, level: str, result: BinaryValues | None, reason: str) -> None:
        """Note AUROC, AP and F1 of images or pixels."""
        names = ("auroc", "ap", "f1max", "f1max_threshold")
        if result is None:
            self.leave((f"{level}_{name}" for name in names), reason)
            return
        values = (result.auroc, result.ap, result.f1max, result.threshold)
        self.values |= {f"{level}_{name}": v for name, v in zip(names, values, strict=True)}

    def leave_pixels(self, limits: Sequence[float], reason: str) -> None:
        """Note that no metric of pixels or regions is defined."""
        keys, by_region = region_keys(limits)
        self.binary("pixel", None, reason)
        self.leave([*keys, *by_region], reason)


def one_class(what: str, positives: int, negatives: int) -> str:
    """Why a ranking of two classes is undefined; empty where it is not."""
    missing = [n for n, count in (("anomalous", positives), ("normal", negatives)) if not count]
    return f"no {' and no '.join(missing)} {what} in the test set" if missing else ""


def enter_images(
    found: Found,
    scores: Any,
    labels: NDArray[np.int64],
    names: Sequence[str],
    nonfinite: Nonfinite,
) -> None:
    """Note the metrics of image scores; None: there are none."""
    reason = one_class("image", int((labels == 1).sum()), int((labels == 0).sum()))
    result = None
    if scores is None:
        reason = "no image scores were given; how a map becomes a score is part of the method"
    else:
        given = as_array(scores, "image_scores")
        if given.shape != labels.shape:
            raise DataError(
                f"image_scores have shape {tuple(given.shape)}; {len(labels)} images need "
                f"({len(labels)},)"
            )
        for index, name in enumerate(names):
            refuse_nonfinite({f"the image score of {name}": given[index : index + 1]}, nonfinite)
        result = binary_metrics(given, labels, nonfinite=nonfinite)
    found.binary("image", result, reason)


def enter_ranks(
    found: Found, ranks: Ranks, sizes: NDArray[np.int64], limits: Sequence[float]
) -> None:
    """Note the metrics of pixels and regions.

    Args:
        ranks: of all pixels that count; finite.
        sizes: (R,) pixels of the regions.
    """
    keys, by_region = region_keys(limits)
    if ranks.is_constant:
        found.warnings.append("degenerate: all pixel scores are equal")
    reason = one_class("pixel", ranks.positives, ranks.negatives)
    if reason:
        found.leave_pixels(limits, reason)
        return
    binary = BinarySums(ranks)
    areas = RegionSums(sizes, ranks.negatives, limits)
    for block in ranks.blocks():
        binary.add(block)
        areas.add(block)
    found.binary("pixel", binary.values(), "")
    for limit, key in zip(limits, keys, strict=True):
        found.values[key] = float(areas.per_region(limit).mean())
    if by_region:
        each = areas.per_region(REGION_LIMIT)
        views = (each.mean(), np.median(each), each.min())
        found.values |= {k: float(v) for k, v in zip(by_region, views, strict=True)}
        found.detail[f"region_{aupro_key(REGION_LIMIT)}"] = each.tolist()


def region_keys(limits: Sequence[float]) -> tuple[list[str], list[str]]:
    """Names of the AUPRO values, and of the per-region values where their limit is among those."""
    views = [f"region_{aupro_key(REGION_LIMIT)}_{n}" for n in ("mean", "median", "worst")]
    return [aupro_key(limit) for limit in limits], views if REGION_LIMIT in limits else []


def enter_aupimo(found: Found, test: EvaluationSet, bounds: tuple[float, float]) -> None:
    """Note AUPIMO, and how few pixels it rests on."""
    normal = np.flatnonzero(test.labels == 0).tolist()
    if not normal or not test.has_defects:
        missing = "anomalous image with a mask" if normal else "normal image"
        found.leave(["aupimo"], f"no {missing} in the test set")
        return
    each = aupimo_per_image(test, bounds)
    known = [value for value in each if value is not None]
    found.values["aupimo"] = sum(known) / len(known)
    found.detail["aupimo"] = each
    expected = bounds[0] * sum(math.prod(test.maps[i].shape) for i in normal)
    if expected < FEW_FALSE_POSITIVES:
        found.warnings.append(
            f"aupimo: only {expected:.3g} normal pixels pass at the lower bound {bounds[0]:g}; "
            f"{FEW_FALSE_POSITIVES} or more make the value stable"
        )
