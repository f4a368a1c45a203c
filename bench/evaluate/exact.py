"""All metrics of one category from one sort of its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import ConfigError, DataError
from bench.evaluate.binary import BinarySums, binary_metrics
from bench.evaluate.inputs import (
    as_array,
    read_set,
    read_unmapped,
    refuse_nonfinite,
)
from bench.evaluate.pimo import aupimo_per_image, check_bounds
from bench.evaluate.pro import RegionSums, check_limits
from bench.evaluate.published import check_names, published_values
from bench.evaluate.ranks import rank
from bench.evaluate.result import NO_MAPS, Evaluation, aupro_key
from bench.evaluate.samples import Piece, as_numpy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from bench.evaluate.binary import BinaryValues
    from bench.evaluate.inputs import Binarize, Nonfinite, TestSet
    from bench.evaluate.regions import Regions

__all__ = ["evaluate"]

REGION_LIMIT = 0.3
"""Limit of the per-region values."""

FEW_FALSE_POSITIVES = 100
"""Below this many normal pixels at the lower bound, AUPIMO rests on few scores."""


def evaluate(
    maps: Any,
    masks: Any,
    labels: Any,
    image_scores: Any = None,
    *,
    limits: Sequence[float] = (0.05, 0.3, 1.0),
    names: Sequence[str] | None = None,
    aupimo_bounds: tuple[float, float] = (1e-5, 1e-4),
    published: Sequence[str] = (),
    nonfinite: Nonfinite = "error",
    binarize: Binarize | None = None,
    regions: Regions | None = None,
    detail: bool = False,
) -> Evaluation:
    """Image, pixel and region metrics of one category's test set; good images belong to it.

    Args:
        maps: (n, h, w) array or tensor, or n 2-D ones of any sizes; higher is more anomalous.
            Scores are compared as stored. Tensors on an accelerator are sorted there. None: the
            images have scores alone; the metrics of pixels and regions are then undefined.
        masks: the same shapes; two values, one of them 0. None for an image (or for all): no
            anomalous pixel. An anomalous image without anomalous pixels leaves the pixel metrics
            and AUPIMO, and is counted as "n_unmasked".
        labels: (n,) 0 normal, 1 anomalous, from the data set.
        image_scores: (n,); without them the image metrics are undefined.
        limits: false-positive rates up to which AUPRO is taken, in (0, 1].
        names: how messages call the images, for example their files.
        aupimo_bounds: false-positive rates of AUPIMO.
        published: protocols of papers to evaluate beside; see `bench.evaluate.published`.
        nonfinite: "rank" accepts infinite scores, as ties; NaN is always refused.
        binarize: how masks with more values become binary: "nonzero", or "half" of full scale.
        regions: the labelling of these masks, if it is known (`bench.evaluate.label_masks`).
        detail: also give the pixel AUROC of every image.

    Returns:
        values with a reason for each that is undefined; inputs are not changed.

    Raises:
        ConfigError: limits, bounds, rules or protocols that are not known.
        DataError: an empty set; counts, shapes or types that differ; masks that are not binary;
            scores that are not finite; a normal image with anomalous pixels.
    """
    limits = check_limits(limits)
    check_bounds(aupimo_bounds)
    if nonfinite not in ("error", "rank"):
        raise ConfigError(f"nonfinite={nonfinite!r} is not known; choose 'error' or 'rank'")
    if maps is None:
        return _without_maps(masks, labels, image_scores, limits, names, published, nonfinite)
    test = read_set(maps, masks, labels, names, binarize)
    if regions is None:
        regions = test.label()
    else:
        test.check_regions(regions)
    found = _Found()
    counts = _counts(test, regions)
    _image_metrics(found, image_scores, test.labels, test.names, nonfinite)
    _pixel_metrics(found, test, regions, limits, nonfinite)
    _aupimo(found, test, aupimo_bounds)
    if detail:
        found.detail["pixel_auroc"] = _pixel_auroc_per_image(test)
    return Evaluation(
        values=found.values,
        undefined=found.undefined,
        published=_published(test, published),
        counts=counts,
        detail=found.detail,
        warnings=tuple(found.warnings),
    )


def _without_maps(
    masks: Any,
    labels: Any,
    scores: Any,
    limits: Sequence[float],
    names: Sequence[str] | None,
    published: Sequence[str],
    nonfinite: Nonfinite,
) -> Evaluation:
    """The image metrics of an image-level method; all others undefined."""
    if masks is not None:
        raise DataError("masks were given without maps; give the maps, or no masks either")
    check_names(published)
    flags, called = read_unmapped(labels, names)
    found = _Found()
    _image_metrics(found, scores, flags, called, nonfinite)
    found.binary("pixel", None, NO_MAPS)
    keys, by_region = _region_keys(limits)
    found.leave([*keys, *by_region, "aupimo"], NO_MAPS)
    return Evaluation(
        values=found.values,
        undefined=found.undefined,
        published=dict.fromkeys(published),
        counts={
            "n_test": len(flags),
            "n_normal": int((flags == 0).sum()),
            "n_anomalous": int((flags == 1).sum()),
        },
    )


@dataclass
class _Found:
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


def _counts(test: TestSet, regions: Regions) -> dict[str, int]:
    pixels = sum(math.prod(test.maps[i].shape) for i in test.scored)
    return {
        "n_test": len(test.maps),
        "n_normal": int((test.labels == 0).sum()),
        "n_anomalous": int((test.labels == 1).sum()),
        "n_unmasked": len(test.unmasked),
        "pixels": pixels,
        "anomalous_pixels": len(regions.ids),
        "normal_pixels": pixels - len(regions.ids),
        "regions": len(regions),
    }


def _one_class(what: str, positives: int, negatives: int) -> str:
    """Why a ranking of two classes is undefined; empty where it is not."""
    missing = [n for n, count in (("anomalous", positives), ("normal", negatives)) if not count]
    return f"no {' and no '.join(missing)} {what} in the test set" if missing else ""


def _image_metrics(
    found: _Found,
    scores: Any,
    labels: NDArray[np.int64],
    names: Sequence[str],
    nonfinite: Nonfinite,
) -> None:
    reason = _one_class("image", int((labels == 1).sum()), int((labels == 0).sum()))
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


def _pixel_metrics(
    found: _Found,
    test: TestSet,
    regions: Regions,
    limits: Sequence[float],
    nonfinite: Nonfinite,
) -> None:
    scored = test.scored
    left_out = {test.names[i]: test.maps[i] for i in sorted(test.unmasked)}
    refuse_nonfinite(left_out, nonfinite)
    keys, by_region = _region_keys(limits)
    if not scored:
        reason = "no image has a mask"
        found.binary("pixel", None, reason)
        found.leave([*keys, *by_region], reason)
        return
    ranks = rank([Piece(test.maps[i], test.masks[i]) for i in scored], regions.ids)
    if not ranks.is_finite:
        refuse_nonfinite(test.by_name, nonfinite)
    if ranks.is_constant:
        found.warnings.append("degenerate: all pixel scores are equal")
    reason = _one_class("pixel", ranks.positives, ranks.negatives)
    if reason:
        found.binary("pixel", None, reason)
        found.leave([*keys, *by_region], reason)
        return
    binary = BinarySums(ranks)
    areas = RegionSums(regions.sizes, ranks.negatives, limits)
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


def _region_keys(limits: Sequence[float]) -> tuple[list[str], list[str]]:
    """Names of the AUPRO values, and of the per-region values where their limit is among those."""
    views = [f"region_{aupro_key(REGION_LIMIT)}_{n}" for n in ("mean", "median", "worst")]
    return [aupro_key(limit) for limit in limits], views if REGION_LIMIT in limits else []


def _aupimo(found: _Found, test: TestSet, bounds: tuple[float, float]) -> None:
    normal = [test.maps[i] for i in np.flatnonzero(test.labels == 0)]
    if not normal or all(mask is None for mask in test.masks):
        missing = "normal image" if not normal else "anomalous image with a mask"
        found.leave(["aupimo"], f"no {missing} in the test set")
        return
    each = aupimo_per_image(test, bounds)
    known = [value for value in each if value is not None]
    found.values["aupimo"] = sum(known) / len(known)
    found.detail["aupimo"] = each
    expected = bounds[0] * sum(math.prod(m.shape) for m in normal)
    if expected < FEW_FALSE_POSITIVES:
        found.warnings.append(
            f"aupimo: only {expected:.3g} normal pixels pass at the lower bound {bounds[0]:g}; "
            f"{FEW_FALSE_POSITIVES} or more make the value stable"
        )


def _pixel_auroc_per_image(test: TestSet) -> list[float | None]:
    """AUROC within every image; None where an image has one class only."""
    values: list[float | None] = []
    for anomaly_map, mask in zip(test.maps, test.masks, strict=True):
        ranks = None if mask is None else rank([Piece(anomaly_map, mask)])
        if ranks is None or not ranks.negatives:
            values.append(None)
            continue
        sums = BinarySums(ranks)
        for block in ranks.blocks():
            sums.add(block)
        values.append(sums.values().auroc)
    return values


def _published(test: TestSet, names: Sequence[str]) -> dict[str, float | None]:
    """Numbers under the rules of papers; their code runs on the host."""
    if not names:
        return {}
    return published_values([as_numpy(m) for m in test.maps], test.masks, names)
