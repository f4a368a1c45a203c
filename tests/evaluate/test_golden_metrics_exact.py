"""The exact engine against arrays made with other evaluators (spec of the metrics, section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.evaluate import Evaluation, auroc, average_precision, evaluate, f1_max
from bench.evaluate.result import aupro_key
from bench.evaluate.spro import Defect, au_spro, saturation_area
from tests.evaluate.metric_sets import (
    IMAGE_LEVEL,
    SPRO,
    Expected,
    arrays_of,
    each_set,
    unmasked,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.golden_files import GoldenFile

EXACT = 1e-12
MVTEC = 1e-6
ANOMALIB = 2e-6


def run(arrays: dict[str, Any], limits: Sequence[float], **options: Any) -> Evaluation:
    return evaluate(
        arrays["maps"],
        arrays["masks"],
        options.pop("labels", arrays["labels"]),
        arrays["image_scores"],
        limits=limits,
        **options,
    )


@each_set
def test_golden_metrics_equal_the_exact_definition_and_scikit_learn(file: GoldenFile) -> None:
    expected = Expected(file)
    limits = expected.limits()
    result = run(arrays_of(file), list(limits))
    pixels = expected.pixels()
    for level, values in (
        ("pixel", pixels.below("sklearn_pixel")),
        ("image", expected.below("sklearn_image")),
    ):
        for metric in ("auroc", "ap", "f1max"):
            values.check(result.values[f"{level}_{metric}"], metric, absolute=EXACT)
        values.check(result.values[f"{level}_f1max_threshold"], "f1max_threshold")
    for limit, key in limits.items():
        found = result.values[aupro_key(limit)]
        pixels.check(found, "exact64", "aupro", key, absolute=EXACT)
    pixels.check(result.counts["regions"], "exact64", "n_regions_8conn")


@each_set
def test_golden_metrics_equal_the_scripts_of_mvtec_and_anomalib(file: GoldenFile) -> None:
    arrays, expected = arrays_of(file), Expected(file)
    # They take an anomalous image with an empty mask for a normal one.
    labels = arrays["masks"].any((1, 2)).astype(int)
    limits = expected.limits()
    result = run(arrays, list(limits), labels=labels)
    for limit, key in limits.items():
        found = result.values[aupro_key(limit)]
        expected.check(found, "mvtec_official", "aupro", key, absolute=MVTEC)
        expected.check(found, "anomalib_2.7.0", "aupro", key, absolute=ANOMALIB)


@each_set
def test_golden_metrics_of_aupimo_equal_the_exact_integral(file: GoldenFile) -> None:
    arrays, expected = arrays_of(file), Expected(file)
    labels = arrays["masks"].any((1, 2)).astype(int)
    for bounds in expected.tree("aupimo"):
        lower, upper = (float(bound) for bound in bounds.split(","))
        exact = expected.below("aupimo", bounds, "exact_bounds")
        result = run(arrays, [], labels=labels, aupimo_bounds=(lower, upper))
        exact.check(result.values["aupimo"], "mean", absolute=EXACT)
        each = exact.find("per_image")
        if each is not None:
            ours, theirs = (np.array(x, np.float64) for x in (result.detail["aupimo"], each))
            file.check(f"aupimo/{bounds}/per_image", ours, wanted=theirs, absolute=EXACT)


@each_set
def test_golden_metrics_of_aupimo_treat_an_unmasked_image_as_neither_normal_nor_anomalous(
    file: GoldenFile,
) -> None:
    arrays = arrays_of(file)
    left_out = unmasked(arrays)
    everything = run(arrays, [], aupimo_bounds=(0.01, 0.1))
    kept = {name: values[~left_out] for name, values in arrays.items()}
    without = run(kept, [], aupimo_bounds=(0.01, 0.1))
    assert everything.counts["n_unmasked"] == left_out.sum()
    assert everything.values["aupimo"] == without.values["aupimo"]
    each = np.array(everything.detail["aupimo"], np.float64)
    assert np.isnan(each[left_out]).all()


@pytest.mark.parametrize("vector", IMAGE_LEVEL.cases("*_scores"))
def test_golden_metrics_of_image_scores_equal_scikit_learn(vector: str) -> None:
    scores, labels = IMAGE_LEVEL[f"{vector}_scores"], IMAGE_LEVEL[f"{vector}_labels"]
    expected = Expected(IMAGE_LEVEL).below(vector, "sklearn")
    expected.check(auroc(scores, labels), "auroc", absolute=EXACT)
    expected.check(average_precision(scores, labels), "ap", absolute=EXACT)
    best, threshold = f1_max(scores, labels) or (None, None)
    expected.check(best, "f1max", absolute=EXACT)
    expected.check(threshold, "f1max_threshold")


def test_golden_metrics_of_spro_equal_the_exact_definition_and_the_loco_script() -> None:
    maps, shape = SPRO["maps"], tuple(SPRO["channels_shape"])
    bits = np.unpackbits(SPRO["channels"], count=int(np.prod(shape)))
    channels = bits.reshape(shape).astype(bool)
    defects: list[list[Defect]] = [[] for _ in maps]
    for channel, image, area in zip(
        channels, SPRO["channel_image"], SPRO["saturation_area"], strict=True
    ):
        defects[image].append(Defect(channel, int(area)))
    expected = Expected(SPRO)
    limits = {float(key): key for key in expected.tree("exact64")}
    values = au_spro(maps, defects, list(limits))
    assert values is not None
    script = "mvtec_loco_official_max_distance_"
    distances = [key.removeprefix(script) for key in expected.tree() if key.startswith(script)]
    for limit, key in limits.items():
        expected.check(values[limit], "exact64", key, absolute=EXACT)
        for distance in distances:
            # The script leaves out thresholds between points of the curve that are this close.
            expected.check(
                values[limit], script + distance, "auspro", key, absolute=max(float(distance), 1e-3)
            )


def test_a_saturation_area_is_capped_by_the_defect_or_cut_to_whole_pixels() -> None:
    assert saturation_area(100, 40, relative=False) == 40
    assert saturation_area(30, 40, relative=False) == 30
    assert saturation_area(15, 0.5, relative=True) == 7
