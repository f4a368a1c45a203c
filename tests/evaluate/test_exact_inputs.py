"""Bad input is refused with what is wrong and where; what is left out is counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError, ConfigError, DataError
from bench.evaluate import (
    aupimo,
    aupro,
    auroc,
    average_precision,
    evaluate,
    f1_max,
    label_masks,
    label_regions,
)
from bench.evaluate.spro import Defect, au_spro

ROOT = Path(__file__).parents[2]


def good() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 8, 9), np.uint8)
    masks[2:, 2:5, 3:6] = 1
    maps = rng.random((4, 8, 9)).astype(np.float32)
    return {"maps": maps, "masks": masks, "labels": [0, 0, 1, 1], "image_scores": maps.max((1, 2))}


def changed(**parts: Any) -> dict[str, Any]:
    return good() | parts


def with_value(array: Any, place: tuple[Any, ...], value: float) -> Any:
    array = array.copy()
    array[place] = value
    return array


GREY = with_value(good()["masks"] * np.uint8(255), (3, 0, 0), 17)
MIXED = [*good()["masks"][:3], good()["masks"][3] * np.uint8(255)]

BAD: dict[str, tuple[dict[str, Any], type[BenchError], str]] = {
    "empty set": (changed(maps=[], masks=[], labels=[]), DataError, "no anomaly maps"),
    "no maps": (changed(maps=None), DataError, "masks were given without maps"),
    "one mask value": (changed(masks=1), DataError, "masks are given as int"),
    "ragged map": (changed(maps=[[[1.0, 2.0], [3.0]]] * 4), DataError, "image 0 is not an array"),
    "no labels": (changed(labels=None), DataError, "no labels were given"),
    "text labels": (changed(labels=["good"] * 4), DataError, "labels has type <U4"),
    "few masks": (changed(masks=good()["masks"][:3]), DataError, "3 masks for 4 maps"),
    "few labels": (changed(labels=[0, 1]), DataError, r"labels have shape \(2,\)"),
    "label 2": (changed(labels=[0, 0, 1, 2]), DataError, "1 labels .* image 3"),
    "few names": (changed(names=["a"]), DataError, "1 names for 4 images"),
    "mask size": (
        changed(masks=[np.zeros((8, 8), np.uint8)] * 4),
        DataError,
        r"mask of image 0 has shape \(8, 8\), its map \(8, 9\)",
    ),
    "map rank": (
        changed(maps=good()["maps"][:, None]),
        DataError,
        r"image 0 has shape \(1, 8, 9\)",
    ),
    "empty map": (
        changed(maps=[np.zeros((0, 3))] * 4, masks=None),
        DataError,
        "image 0 has no pixel",
    ),
    "mixed types": (
        changed(maps=[*good()["maps"][:3], good()["maps"][3].astype(np.float64)]),
        DataError,
        "image 3 has type float64, that of image 0 float32",
    ),
    "complex": (changed(maps=good()["maps"].astype(complex)), DataError, "type complex128"),
    "nan": (
        changed(maps=with_value(good()["maps"], (1, 2, 3), np.nan)),
        DataError,
        r"1 NaN among the 72 scores of image 1, the first at \(2, 3\)",
    ),
    "infinite": (
        changed(maps=with_value(good()["maps"], (2, 0, 1), -np.inf)),
        DataError,
        r"1 infinite .* image 2, the first at \(0, 1\); make them finite",
    ),
    "nan image score": (
        changed(image_scores=[0.1, np.nan, 1, 2]),
        DataError,
        "NaN .* image score of image 1",
    ),
    "few image scores": (changed(image_scores=[0.1]), DataError, "4 images need"),
    "grey": (changed(masks=GREY), DataError, "image 3 has 3 values"),
    "two foregrounds": (changed(masks=MIXED), DataError, r"\[1.0, 255.0\].*image 3"),
    "text mask": (changed(masks=[np.full((8, 9), "a")] * 4), DataError, "image 0 has type <U1"),
    "normal with mask": (
        changed(labels=[0, 0, 0, 1]),
        DataError,
        "image 2 is labelled normal, but its mask has 9",
    ),
    "half of 0/1": (changed(binarize="half"), DataError, "values from 0 to 1"),
    "rule": (changed(binarize="some"), ConfigError, "'some' is not known"),
    "nonfinite": (changed(nonfinite="drop"), ConfigError, "'drop' is not known"),
    "limit": (changed(limits=(0.3, 30)), ConfigError, "limit 30"),
    "bounds": (changed(aupimo_bounds=(1e-4, 1e-5)), ConfigError, "0 < lower < upper"),
    "other regions": (
        changed(regions=label_masks([np.ones((2, 2), bool)])),
        DataError,
        "holds 1 images, not 4",
    ),
    "regions of other masks": (
        changed(regions=label_masks(list(1 - good()["masks"]))),
        DataError,
        "72 anomalous pixels in image 0, its mask 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_place(case: str) -> None:
    inputs, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        evaluate(**inputs)


def test_names_are_in_the_messages() -> None:
    inputs = changed(names=["a.png", "b.png", "c.png", "d.png"], labels=[0, 0, 0, 1])
    with pytest.raises(DataError, match=r"image 2 \(c\.png\) is labelled normal"):
        evaluate(**inputs)


def test_tensors_in_a_graph_are_read_like_arrays() -> None:
    torch = pytest.importorskip("torch")
    arrays = good()
    floats = {k: torch.tensor(np.asarray(v, np.float32)) for k, v in arrays.items()}
    tensors = {key: value.requires_grad_() for key, value in floats.items()}
    assert evaluate(**tensors).values == evaluate(**arrays).values
    halves = [mask.bfloat16() for mask in tensors["masks"]]
    assert aupro(tensors["maps"], halves) == aupro(arrays["maps"], arrays["masks"])
    assert auroc(tensors["image_scores"], tensors["labels"]) == auroc(
        arrays["image_scores"], arrays["labels"]
    )


def test_without_limits_only_the_other_metrics_are_given() -> None:
    values = evaluate(**changed(limits=())).values
    assert values == {k: v for k, v in evaluate(**good()).values.items() if "aupro" not in k}


def test_aupro_reads_lists_and_absent_masks() -> None:
    arrays = good()
    expected = aupro(arrays["maps"], arrays["masks"])
    assert aupro(arrays["maps"].tolist(), arrays["masks"].tolist()) == pytest.approx(expected)
    assert aupro(arrays["maps"], [None, None, *arrays["masks"][2:]]) == expected
    assert aupro(arrays["maps"], None) is None
    with pytest.raises(DataError, match="3 masks for 4 maps"):
        aupro(arrays["maps"], arrays["masks"][:3])


def test_infinite_scores_rank_as_ties_where_asked() -> None:
    maps = with_value(good()["maps"], (slice(2, 4), 3, 4), np.inf)
    one = evaluate(**changed(maps=maps, nonfinite="rank"))
    other = evaluate(**changed(maps=with_value(maps, (slice(2, 4), 3, 4), 9)))
    assert one.values["pixel_auroc"] == other.values["pixel_auroc"]
    assert one.values["aupro_30"] == other.values["aupro_30"]


def test_a_nan_in_an_image_without_a_mask_is_refused_too() -> None:
    inputs = changed(maps=with_value(good()["maps"], (3, 0, 0), np.nan))
    inputs["masks"] = [*inputs["masks"][:3], None]
    with pytest.raises(DataError, match="image 3"):
        evaluate(**inputs)


def test_an_anomalous_image_without_a_mask_leaves_the_pixel_metrics_and_is_counted() -> None:
    inputs = good()
    empty = evaluate(**changed(masks=with_value(inputs["masks"], (3,), 0)))
    none = evaluate(**changed(masks=[*inputs["masks"][:3], None]))
    shorter = evaluate(**{key: value[:3] for key, value in inputs.items()})
    assert empty.counts["n_unmasked"] == none.counts["n_unmasked"] == 1
    assert empty.counts["n_anomalous"] == 2
    for key, value in shorter.values.items():
        if not key.startswith("image"):
            assert empty.values[key] == none.values[key] == value
    assert empty.values["image_auroc"] == evaluate(**inputs).values["image_auroc"]


def test_without_any_mask_pixel_metrics_have_a_reason() -> None:
    result = evaluate(**changed(masks=None))
    assert result.values["image_auroc"] is not None
    assert result.values["pixel_auroc"] is None
    assert "no anomalous pixel" in result.undefined["aupro_30"]
    assert "anomalous image with a mask" in result.undefined["aupimo"]
    only = evaluate(good()["maps"], None, [1, 1, 1, 1])
    assert only.undefined["pixel_auroc"] == "no image has a mask"


def test_without_image_scores_image_metrics_have_a_reason() -> None:
    result = evaluate(**changed(image_scores=None))
    assert result.values["image_auroc"] is None
    assert "no image scores" in result.undefined["image_f1max_threshold"]


def test_one_class_of_images_has_a_reason() -> None:
    inputs = good()
    result = evaluate(**{key: value[2:] for key, value in inputs.items()})
    assert result.undefined["image_auroc"] == "no normal image in the test set"
    assert result.undefined["aupimo"] == "no normal image in the test set"
    assert result.values["pixel_auroc"] is not None


def test_every_value_is_a_python_number_or_has_a_reason() -> None:
    for inputs in (good(), changed(masks=None), changed(image_scores=None)):
        result = evaluate(**inputs)
        for key, value in result.values.items():
            assert (type(value) is float) is (key not in result.undefined), key
        assert all(type(count) is int for count in result.counts.values())


@pytest.mark.parametrize("rule", ["half", "nonzero"])
def test_a_rule_makes_grey_masks_binary(rule: Any) -> None:
    counts = evaluate(**changed(masks=GREY, binarize=rule)).counts
    assert counts["anomalous_pixels"] == 18 + (rule == "nonzero")


@pytest.mark.parametrize("value", [1, 7, 255, True, 1.0, -1])
def test_masks_of_any_two_values_with_zero_are_binary(value: Any) -> None:
    masks = good()["masks"] * np.array(value)
    assert evaluate(**changed(masks=masks)).values == evaluate(**good()).values


def test_limits_name_their_values() -> None:
    values = evaluate(**changed(limits=(0.01, 0.005, 0.125, 0.3, 1))).values
    assert {"aupro_01", "aupro_0.5", "aupro_12.5", "aupro_30", "aupro_100"} <= set(values)
    assert "region_aupro_30_worst" not in evaluate(**changed(limits=(0.1,))).values


def test_aupimo_warns_where_it_rests_on_few_pixels() -> None:
    assert any("aupimo: only" in warning for warning in evaluate(**good()).warnings)
    many = evaluate(**changed(aupimo_bounds=(0.9, 1.0)))
    assert not any("aupimo" in warning for warning in many.warnings)


def test_vectors_of_scores_are_checked() -> None:
    for function in (auroc, average_precision, f1_max):
        assert function([0.1, 0.2], [1, 1]) is None
        with pytest.raises(DataError, match="vectors of one length"):
            function([0.1, 0.2, 0.3], [0, 1])
        with pytest.raises(DataError, match="besides 0 and 1"):
            function([0.1, 0.2], [0, 3])
        with pytest.raises(DataError, match="1 NaN"):
            function([0.1, np.nan], [0, 1])


def test_functions_of_one_metric_are_none_where_it_is_undefined() -> None:
    inputs = good()
    assert aupro(inputs["maps"], [None] * 4) is None
    assert aupro(inputs["maps"], np.ones_like(inputs["masks"])) is None
    assert aupimo(inputs["maps"], [None] * 4, [0] * 4) is None
    assert au_spro(inputs["maps"], [[]] * 4) is None


def test_a_saturation_area_outside_its_defect_is_refused() -> None:
    mask = good()["masks"][2].astype(bool)
    for area in (0, 10):
        with pytest.raises(DataError, match="saturation area of"):
            au_spro(good()["maps"], [[], [], [Defect(mask, area)], []])
    with pytest.raises(DataError, match="1 lists of defects for 4 maps"):
        au_spro(good()["maps"], [[]])


def test_a_mask_of_another_rank_cannot_be_labelled() -> None:
    with pytest.raises(ValueError, match=r"\(height, width\)"):
        label_regions(np.zeros(3))


def test_the_evaluator_imports_neither_torch_nor_the_harness() -> None:
    code = (
        "import sys, numpy as np\n"
        "from bench.evaluate import evaluate, auroc, average_precision, f1_max, aupro, aupimo\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'skimage', 'pandas', 'bench.run.cell'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "evaluate(np.random.rand(2, 4, 4), None, [0, 1])\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
