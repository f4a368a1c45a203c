"""The edge cases: what other libraries do is in the golden file, the outcome wanted is tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import DataError
from bench.evaluate import Evaluation, evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics_edge.npz"


def wanted(case: str) -> Any:
    with np.load(GOLDEN) as file:
        cases = json.loads(str(file["expected_json"]))["cases"]
    return next(v["recommended"] for k, v in cases.items() if k.split(" ")[0] == case)


def inputs() -> dict[str, Any]:
    with np.load(GOLDEN) as file:
        return {key: file[key] for key in file.files if key != "expected_json"}


def run(maps: Any, masks: Any, **options: Any) -> Evaluation:
    labels = [int((mask != 0).any()) for mask in masks]
    return evaluate(maps, masks, labels, limits=(0.05, 0.3), **options)


def check(result: Evaluation, expected: dict[str, Any]) -> None:
    names = {"auroc": "pixel_auroc", "ap": "pixel_ap", "f1max": "pixel_f1max"}
    names |= {"aupro_0.05": "aupro_05", "aupro_0.3": "aupro_30"}
    for key, ours in names.items():
        assert result.values[ours] == pytest.approx(expected[key], abs=1e-12), key
    if "n_regions" in expected:
        assert result.counts["regions"] == expected["n_regions"]


def signed_zeros(maps: Any) -> Any:
    maps = maps.copy()
    maps[maps < 0] = -0.0
    maps[1][maps[1] == 0] = 0.0
    return maps


RECIPES: dict[str, Any] = {
    "0": lambda e: (e["maps"], e["masks"]),
    "3": lambda e: (np.full_like(e["maps"], 0.5), e["masks"]),
    "7": lambda e: (e["maps"], e["masks"] * np.uint8(255)),
    "8": lambda e: (e["maps"], e["masks"].astype(bool)),
    "11": lambda e: (np.round(e["maps"]), e["masks"]),
    "12": lambda e: (e["maps"].astype(np.float16), e["masks"]),
    "13": lambda e: (np.clip((e["maps"] + 4) * 20, 0, 255).astype(np.uint8), e["masks"]),
    "14": lambda e: (e["maps"], e["masks_points"]),
    "15": lambda e: (e["maps"], e["masks_ring"]),
    "16": lambda e: (
        [e["maps"][0], e["maps"][1][:40, :44]],
        [e["masks"][0], e["masks"][1][:40, :44]],
    ),
    "17": lambda e: (signed_zeros(e["maps"]), e["masks"]),
    "18": lambda e: (e["maps"] * np.float32(1000) + np.float32(5e4), e["masks"]),
    "19": lambda e: (
        (e["maps"] - e["maps"].min()) / (e["maps"].max() - e["maps"].min()) * np.float32(1e-6),
        e["masks"],
    ),
    "20": lambda e: (1 + e["maps"].astype(np.float64) * 1e-9, e["masks"]),
}


@pytest.mark.parametrize("case", RECIPES)
def test_golden_metrics_of_an_edge_case_are_exact(case: str) -> None:
    maps, masks = RECIPES[case](inputs())
    check(run(maps, masks), wanted(case))


def test_golden_metrics_of_equal_scores_carry_a_flag() -> None:
    maps, masks = RECIPES["3"](inputs())
    assert any("degenerate" in warning for warning in run(maps, masks).warnings)
    assert not any("degenerate" in w for w in run(inputs()["maps"], masks).warnings)


@pytest.mark.parametrize("case", ["1", "2"])
def test_golden_metrics_without_a_class_are_none_with_a_reason(case: str) -> None:
    arrays = inputs()
    masks = np.zeros_like(arrays["masks"]) if case == "1" else np.ones_like(arrays["masks"])
    assert "None with a reason" in wanted(case)
    result = run(arrays["maps"], masks)
    assert all(value is None for value in result.values.values())
    assert set(result.undefined) == set(result.values)
    missing = "anomalous" if case == "1" else "normal"
    assert f"no {missing} pixel" in result.undefined["pixel_auroc"]


def test_golden_metrics_refuse_a_nan_and_name_its_image() -> None:
    arrays = inputs()
    arrays["maps"][3, 5, 7] = np.nan
    for nonfinite in ("error", "rank"):
        with pytest.raises(DataError, match=r"1 NaN .*image 3 \(d\.png\).*\(5, 7\)"):
            run(
                arrays["maps"],
                arrays["masks"],
                names=[*"abc", "d.png", *"efgh"],
                nonfinite=nonfinite,
            )


@pytest.mark.parametrize(("case", "sign"), [("5", 1), ("6", -1)])
def test_golden_metrics_of_infinite_scores_are_refused_or_ranked_as_ties(
    case: str, sign: int
) -> None:
    arrays = inputs()
    maps = arrays["maps"]
    if sign > 0:
        maps[maps > np.quantile(maps, 0.98)] = np.inf
    else:
        maps[maps < np.quantile(maps, 0.02)] = -np.inf
    first = int(np.flatnonzero(np.isinf(maps).any((1, 2)))[0])
    count = int(np.isinf(maps[first]).sum())
    with pytest.raises(DataError, match=f"{count} infinite .*image {first}"):
        run(maps, arrays["masks"])
    check(run(maps, arrays["masks"], nonfinite="rank"), wanted(case)["with nonfinite=rank"])


@pytest.mark.parametrize("case", ["9", "10"])
def test_golden_metrics_of_soft_masks_need_a_rule(case: str) -> None:
    arrays = inputs()
    masks = arrays["masks_soft"]
    if case == "10":
        masks = masks.astype(np.float32) / 255
    with pytest.raises(DataError, match=r"image 1 has \d+ values"):
        run(arrays["maps"], masks)
    expected = wanted(case)
    for rule in ("half", "nonzero"):
        check(
            run(arrays["maps"], masks, binarize=rule),
            expected[f"with binarize={rule}"],
        )


def test_golden_metrics_do_not_depend_on_how_masks_touch_across_images() -> None:
    arrays = inputs()
    tall = arrays["masks"].copy()
    tall[0, -1], tall[1, 0] = 1, 1
    apart = evaluate(arrays["maps"][:2], tall[:2], [1, 1]).counts["regions"]
    each = [evaluate(arrays["maps"][[i]], tall[[i]], [1]).counts["regions"] for i in (0, 1)]
    assert apart == sum(each)
