"""All metrics of one category from one sort of its pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError, DataError
from bench.evaluate.binary import BinarySums
from bench.evaluate.found import Found, enter_aupimo, enter_images, enter_ranks
from bench.evaluate.inputs import read_set, read_unmapped, refuse_nonfinite
from bench.evaluate.pimo import BOUNDS, check_bounds
from bench.evaluate.pro import LIMITS, check_limits
from bench.evaluate.published import check_names, published_values
from bench.evaluate.ranks import rank
from bench.evaluate.result import NO_MAPS, NO_MASK, Evaluation
from bench.evaluate.samples import Piece, as_numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.evaluate.inputs import Binarize, EvaluationSet, Nonfinite
    from bench.evaluate.regions import Regions

__all__ = ["evaluate"]


def evaluate(
    maps: Any,
    masks: Any,
    labels: Any,
    image_scores: Any = None,
    *,
    limits: Sequence[float] = LIMITS,
    names: Sequence[str] | None = None,
    aupimo_bounds: tuple[float, float] = BOUNDS,
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
    found = Found()
    counts = _counts(test, regions)
    enter_images(found, image_scores, test.labels, test.names, nonfinite)
    _pixel_metrics(found, test, regions, limits, nonfinite)
    enter_aupimo(found, test, aupimo_bounds)
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
    found = Found()
    enter_images(found, scores, flags, called, nonfinite)
    found.leave_pixels(limits, NO_MAPS)
    found.leave(["aupimo"], NO_MAPS)
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


def _counts(test: EvaluationSet, regions: Regions) -> dict[str, int]:
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


def _pixel_metrics(
    found: Found,
    test: EvaluationSet,
    regions: Regions,
    limits: Sequence[float],
    nonfinite: Nonfinite,
) -> None:
    scored = test.scored
    left_out = {test.names[i]: test.maps[i] for i in sorted(test.unmasked)}
    refuse_nonfinite(left_out, nonfinite)
    if not scored:
        found.leave_pixels(limits, NO_MASK)
        return
    ranks = rank([Piece(test.maps[i], test.masks[i]) for i in scored], regions.ids)
    if not ranks.is_finite:
        refuse_nonfinite(test.by_name, nonfinite)
    enter_ranks(found, ranks, regions.sizes, limits)


def _pixel_auroc_per_image(test: EvaluationSet) -> list[float | None]:
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


def _published(test: EvaluationSet, names: Sequence[str]) -> dict[str, float | None]:
    """Numbers under the rules of papers; their code runs on the host."""
    if not names:
        return {}
    return published_values([as_numpy(m) for m in test.maps], test.masks, names)
