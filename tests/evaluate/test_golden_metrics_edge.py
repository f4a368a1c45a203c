"""The edge cases: what other libraries do is in the golden file, the outcome wanted is tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.errors import DataError
from bench.evaluate import Evaluation, evaluate
from bench.evaluate.result import aupro_key
from tests.evaluate.metric_sets import EDGE, Expected, edge_cases, edge_input

NAMES = {"auroc": "pixel_auroc", "ap": "pixel_ap", "f1max": "pixel_f1max"}


def limits_of(wanted: dict[str, Any]) -> dict[str, float]:
    return {k: float(k.removeprefix("aupro_")) for k in wanted if k.startswith("aupro_")}


def run(maps: Any, masks: Any, **options: Any) -> Evaluation:
    labels = [int((mask != 0).any()) for mask in masks]
    return evaluate(maps, masks, labels, **options)


def check(expected: Expected, maps: Any, masks: Any, **options: Any) -> None:
    """Compare with the values of one outcome."""
    limits = limits_of(expected.tree())
    result = run(maps, masks, limits=list(limits.values()), **options)
    names = NAMES | {key: aupro_key(limit) for key, limit in limits.items()}
    for key, ours in names.items():
        expected.check(result.values[ours], key, absolute=1e-12)
    if "n_regions" in expected.tree():
        expected.check(result.counts["regions"], "n_regions")
    if "flag" in expected.tree():
        assert any(expected.find("flag").split()[0] in warning for warning in result.warnings)


@pytest.mark.parametrize("case", edge_cases())
def test_golden_metrics_of_an_edge_case_have_the_outcome_wanted(case: str) -> None:
    maps, masks = edge_input(case)
    expected = Expected(EDGE, ("cases", case, "recommended"))
    wanted = expected.find()
    if isinstance(wanted, dict) and "default" not in wanted:
        check(expected, maps, masks)
        return
    default = str(wanted["default"] if isinstance(wanted, dict) else wanted)
    if default.startswith("error"):
        with pytest.raises(DataError, match=r"image \d+"):
            run(maps, masks)
    else:
        assert "None with a reason" in default
        result = run(maps, masks)
        assert all(value is None for value in result.values.values())
        assert set(result.undefined) == set(result.values)
    for key in wanted if isinstance(wanted, dict) else ():
        if key != "default":
            option, value = key.removeprefix("with ").split("=")
            check(expected.below(key), maps, masks, **{option: value})


def test_golden_metrics_of_equal_scores_alone_carry_a_flag() -> None:
    maps, masks = EDGE["maps"], EDGE["masks"]
    assert any("degenerate" in warning for warning in run(np.full_like(maps, 0.5), masks).warnings)
    assert not any("degenerate" in warning for warning in run(maps, masks).warnings)


@pytest.mark.parametrize(("fill", "missing"), [(0, "anomalous"), (1, "normal")])
def test_golden_metrics_without_a_class_name_it(fill: int, missing: str) -> None:
    result = run(EDGE["maps"], np.full_like(EDGE["masks"], fill))
    assert f"no {missing} pixel" in result.undefined["pixel_auroc"]


def test_golden_metrics_refuse_a_nan_and_name_its_image() -> None:
    maps, masks = EDGE["maps"], EDGE["masks"]
    image, row, column = (size - 1 for size in maps.shape)
    maps[image, row, column] = np.nan
    names = [f"{i}.png" for i in range(len(maps))]
    where = rf"1 NaN .*image {image} \({image}\.png\).*\({row}, {column}\)"
    for nonfinite in ("error", "rank"):
        with pytest.raises(DataError, match=where):
            run(maps, masks, names=names, nonfinite=nonfinite)


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_golden_metrics_refuse_infinite_scores_and_count_those_of_the_first_image(
    infinity: float,
) -> None:
    maps, masks = EDGE["maps"], EDGE["masks"]
    maps[1:, :2, 0] = infinity
    with pytest.raises(DataError, match=r"2 infinite .*image 1"):
        run(maps, masks)


@pytest.mark.parametrize("top", [1, 255])
def test_golden_metrics_of_soft_masks_count_their_values(top: int) -> None:
    masks = EDGE["masks_soft"]
    soft = [len(np.unique(mask)) > 2 for mask in masks]
    with pytest.raises(DataError, match=rf"image {soft.index(True)} has \d+ values"):
        run(EDGE["maps"], masks if top == 255 else masks.astype(np.float32) / 255)


def test_golden_metrics_do_not_depend_on_how_masks_touch_across_images() -> None:
    maps, tall = EDGE["maps"], EDGE["masks"]
    tall[0, -1], tall[1, 0] = 1, 1
    apart = evaluate(maps[:2], tall[:2], [1, 1]).counts["regions"]
    each = [evaluate(maps[[i]], tall[[i]], [1]).counts["regions"] for i in (0, 1)]
    assert apart == sum(each)
