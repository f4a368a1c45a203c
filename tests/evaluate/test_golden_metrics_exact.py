"""The exact engine against arrays made with other evaluators (spec of the metrics, section 11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.evaluate import Evaluation, auroc, average_precision, evaluate, f1_max
from bench.evaluate.spro import Defect, au_spro, saturation_area

GOLDEN = Path(__file__).parents[1] / "golden"
SETS = ["gauss", "skew", "heavy", "sat", "ties9", "uint8", "float16", "tiny_regions"]
SETS += ["nonsquare", "larger", "pimo", "bad_with_empty_mask"]
LIMITS = {"0.01": "aupro_01", "0.05": "aupro_05", "0.3": "aupro_30", "1.0": "aupro_100"}
VECTORS = ["a", "b", "c_ties", "d_small", "e_perfect", "f_inverted", "g_constant"]

EXACT = 1e-12
MVTEC = 1e-6
ANOMALIB = 2e-6


def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(GOLDEN / f"metrics_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop("expected_json")))["expected"]


def run(arrays: dict[str, Any], **options: Any) -> Evaluation:
    return evaluate(
        arrays["maps"],
        arrays["masks"],
        options.pop("labels", arrays["labels"]),
        arrays["image_scores"],
        limits=(0.01, 0.05, 0.3, 1.0),
        **options,
    )


@pytest.mark.parametrize("name", SETS)
def test_golden_metrics_equal_the_exact_definition_and_scikit_learn(name: str) -> None:
    arrays, expected = read(name)
    result = run(arrays)
    # An anomalous image with an empty mask leaves the pixel metrics.
    pixels = expected.get("images_with_empty_mask_left_out_of_pixel_metrics", expected)
    for level, values in (("pixel", pixels["sklearn_pixel"]), ("image", expected["sklearn_image"])):
        for metric in ("auroc", "ap", "f1max"):
            assert result.values[f"{level}_{metric}"] == pytest.approx(values[metric], abs=EXACT)
        assert result.values[f"{level}_f1max_threshold"] == values["f1max_threshold"]
    for limit, key in LIMITS.items():
        assert result.values[key] == pytest.approx(pixels["exact64"]["aupro"][limit], abs=EXACT)
    assert result.counts["regions"] == pixels["exact64"]["n_regions_8conn"]


@pytest.mark.parametrize("name", SETS[:-1])
def test_golden_metrics_equal_the_scripts_of_mvtec_and_anomalib(name: str) -> None:
    arrays, expected = read(name)
    result = run(arrays)
    for limit, key in LIMITS.items():
        official = expected["mvtec_official"]["aupro"][limit]
        assert result.values[key] == pytest.approx(official, abs=MVTEC)
        anomalib = expected["anomalib_2.7.0"]["aupro"][limit]
        assert result.values[key] == pytest.approx(anomalib, abs=ANOMALIB)


@pytest.mark.parametrize("name", SETS)
def test_golden_metrics_of_aupimo_equal_the_exact_integral(name: str) -> None:
    arrays, expected = read(name)
    # The golden values take an anomalous image with an empty mask for a normal one.
    labels = arrays["masks"].any((1, 2)).astype(int)
    found = {b: v for b, v in expected["aupimo"].items() if "exact_bounds" in v}
    assert found
    for bounds, values in found.items():
        lower, upper = (float(bound) for bound in bounds.split(","))
        result = run(arrays, labels=labels, aupimo_bounds=(lower, upper))
        exact = values["exact_bounds"]
        assert result.values["aupimo"] == pytest.approx(exact["mean"], abs=EXACT)
        for ours, theirs in zip(result.detail["aupimo"], exact["per_image"], strict=True):
            assert ours == (None if theirs is None else pytest.approx(theirs, abs=EXACT))


def test_golden_metrics_of_aupimo_treat_an_unmasked_image_as_neither_normal_nor_anomalous() -> None:
    arrays, _ = read("bad_with_empty_mask")
    everything = run(arrays, aupimo_bounds=(0.01, 0.1))
    kept = [i for i in range(len(arrays["maps"])) if i not in (0, 1)]
    without = run({k: v[kept] for k, v in arrays.items()}, aupimo_bounds=(0.01, 0.1))
    assert everything.counts["n_unmasked"] == 2
    assert everything.values["aupimo"] == without.values["aupimo"]
    assert everything.detail["aupimo"][:2] == [None, None]


@pytest.mark.parametrize("vector", VECTORS)
def test_golden_metrics_of_image_scores_equal_scikit_learn(vector: str) -> None:
    arrays, expected = read("image_level")
    scores, labels = arrays[f"{vector}_scores"], arrays[f"{vector}_labels"]
    values = expected[vector]["sklearn"]
    assert auroc(scores, labels) == pytest.approx(values["auroc"], abs=EXACT)
    assert average_precision(scores, labels) == pytest.approx(values["ap"], abs=EXACT)
    best = f1_max(scores, labels)
    assert best is not None
    assert best[0] == pytest.approx(values["f1max"], abs=EXACT)
    assert best[1] == values["f1max_threshold"]


def test_golden_metrics_of_spro_equal_the_exact_definition_and_the_loco_script() -> None:
    arrays, expected = read("spro")
    shape = tuple(arrays["channels_shape"])
    bits = np.unpackbits(arrays["channels"], count=int(np.prod(shape)))
    channels = bits.reshape(shape).astype(bool)
    defects: list[list[Defect]] = [[] for _ in arrays["maps"]]
    for channel, image, area in zip(
        channels, arrays["channel_image"], arrays["saturation_area"], strict=True
    ):
        defects[image].append(Defect(channel, int(area)))
    values = au_spro(arrays["maps"], defects)
    assert values is not None
    script = expected["mvtec_loco_official_max_distance_0.001"]["auspro"]
    for limit, value in values.items():
        assert value == pytest.approx(expected["exact64"][str(limit)], abs=EXACT)
        assert value == pytest.approx(script[str(limit)], abs=8e-5)


def test_a_saturation_area_is_capped_by_the_defect_or_cut_to_whole_pixels() -> None:
    assert saturation_area(100, 40, relative=False) == 40
    assert saturation_area(30, 40, relative=False) == 30
    assert saturation_area(15, 0.5, relative=True) == 7
