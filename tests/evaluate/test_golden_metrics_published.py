"""Evaluators of printed numbers against the output of the code that printed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.ndimage import label

from bench.errors import ConfigError
from bench.evaluate import evaluate
from bench.evaluate.explain import STRETCHES, explain_protocols, planted_maps
from bench.evaluate.published import PUBLISHED, published_values
from tests.evaluate.metric_sets import Expected, each_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.golden_files import GoldenFile

# Name of ours -> where the golden file has it, and how close: the codes that compute in double
# precision are met to rounding, the others to single precision.
KEYS: dict[str, tuple[tuple[str, ...], float]] = {
    "aupro_mvtec": (("mvtec_official", "aupro", "0.3"), 1e-12),
    "aupro_mvtec_05": (("mvtec_official", "aupro", "0.05"), 1e-12),
    "aupro_cflow": (("cflow_style", "aupro"), 1e-12),
    "aupro_ader": (("ader_style", "aupro"), 1e-12),
    "aupro_dinomaly": (("rd4ad_style", "pooled (Dinomaly)"), 1e-12),
    "aupro_rd4ad": (("rd4ad_style", "per_image_mean (RD4AD)"), 1e-12),
    "aupro_pyramidflow": (("pyramidflow_style", "aupro_full_range"), 1e-12),
    "pixel_f1max_ader": (("ader_style", "pixel_f1max_21_thresholds"), 1e-8),
    "aupro_adeval": (("adeval_1.1.0_nstrips1000", "aupro_0.3"), 1e-6),
    "pixel_auroc_adeval": (("adeval_1.1.0_nstrips1000", "auroc"), 1e-6),
    "pixel_aupr_adeval": (("adeval_1.1.0_nstrips1000", "aupr_trapz"), 1e-5),
    "pixel_auroc_torchmetrics": (("torchmetrics", "auroc"), 2e-6),
    "pixel_auroc_torchmetrics200": (("torchmetrics", "auroc_binned200"), 2e-6),
}


@each_set
def test_golden_metrics_of_published_protocols_equal_their_own_code(file: GoldenFile) -> None:
    maps = list(file["maps"])
    masks = [mask.astype(bool) if mask.any() else None for mask in file["masks"]]
    expected = Expected(file)
    for key, (path, tolerance) in KEYS.items():
        if expected.find(path[0]) is None:
            file.lacks(f"expected_json: {path[0]}")
            continue
        expected.check(published_values(maps, masks, [key])[key], *path, absolute=tolerance)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(("lowest", "span"), [(0.0, 1.0), (-3.0, 7.0), (1000.0, 90.0)])
def test_thresholds_of_pyramidflow_are_made_in_the_type_of_the_maps(
    kind: type[np.generic], lowest: float, span: float
) -> None:
    rng = np.random.default_rng(3)
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 3:9, 4:20], masks[1, 20:24, 20:24], masks[1, 30:37, 2:5] = True, True, True
    # Whole levels lie on thresholds: rounding decides on which side of them.
    levels = rng.integers(0, 200, masks.shape) / 200 + 0.3 * masks
    maps = (lowest + span * levels if kind is not np.uint8 else 180 * levels).astype(kind)
    found = published_values(list(maps), [m if m.any() else None for m in masks], NAMES)
    assert found[NAMES[0]] == pytest.approx(area_by_thresholds(maps, masks), abs=1e-12)


NAMES = ["aupro_pyramidflow"]


def area_by_thresholds(maps: NDArray[Any], masks: NDArray[np.bool_]) -> float:
    """The rule of PyramidFlow's code, threshold by threshold: (n, h, w) each."""
    scaled = maps - maps.min()
    scaled = scaled.astype(np.float32) if maps.dtype.kind == "u" else scaled
    scaled = scaled / scaled.max()
    regions = [label(mask, np.ones((3, 3))) for mask in masks]
    each = [(i, named == k) for i, (named, n) in enumerate(regions) for k in range(1, n + 1)]
    rates, overlaps = [], []
    lowest, highest = scaled.min(), scaled.max()
    step = ((highest - lowest) / 200).astype(scaled.dtype)
    for threshold in np.arange(lowest, highest, step):
        above = scaled > threshold
        weights = [np.float64(np.float32(1 / region.sum())) for _, region in each]
        shares = [w * above[i][r].sum() for w, (i, r) in zip(weights, each, strict=True)]
        overlaps.append(sum(shares) / len(each))
        rates.append(above[~masks].mean())
    x, y = np.array(rates), np.array(overlaps)
    return float(((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2).sum())


def test_published_values_stand_beside_the_exact_ones_under_their_own_names() -> None:
    maps, anomalous = planted_maps(images=4, anomalous=3, size=32)
    masks = [mask if mask.any() else None for mask in anomalous]
    labels = [int(mask is not None) for mask in masks]
    result = evaluate(maps, masks, labels, published=["aupro_pyramidflow", "aupro_ader"])
    assert set(result.published) == {"aupro_pyramidflow", "aupro_ader"}
    assert not set(result.published) & set(result.values)


def test_an_unknown_published_protocol_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="aupro_cflow"):
        evaluate(np.zeros((1, 2, 2)), None, [0], published=["aupro_cflw"])


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_protocol_gives_none_where_its_code_fails(name: str) -> None:
    constant = [np.full((6, 6), 0.5, np.float32)] * 2
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    value = published_values(constant, [mask, None], [name])[name]
    assert value is None or name.startswith(("aupro_mvtec", "pixel_auroc_torchmetrics"))
    rising = [np.arange(36, dtype=np.float32).reshape(6, 6)] * 2
    assert published_values(rising, [None, None], [name])[name] is None


def test_a_prediction_in_the_hole_of_a_region_counts_for_cflow_only() -> None:
    mask = np.zeros((60, 60), bool)
    mask[2:9, 2:9] = True
    mask[4:7, 4:7] = False
    rng = np.random.default_rng(0)
    scores = rng.random((60, 60)) + 2 * mask
    scores[4:7, 4:7] = 5
    values = published_values([scores], [mask], ["aupro_cflow", "aupro_mvtec"])
    assert values["aupro_cflow"] is not None
    assert values["aupro_mvtec"] is not None
    assert values["aupro_cflow"] > 1 > values["aupro_mvtec"]


def test_planted_maps_keep_their_order_in_every_stretch() -> None:
    maps, _ = planted_maps(images=4, anomalous=3, size=32)
    order = np.argsort(maps, axis=None)
    for function in STRETCHES.values():
        assert (np.diff(function(maps).ravel()[order]) > 0).all()


@pytest.mark.slow
def test_the_table_of_protocols_shows_one_value_for_exact_and_many_for_others() -> None:
    lines = [x for x in explain_protocols(seed=1).splitlines() if x.startswith("|")]
    table = {line.split(" | ")[0].strip("| "): line.split(" | ")[2:] for line in lines[2:]}
    assert len(lines) - 2 >= 15
    assert "-" not in table
    assert max(float(value.strip(" |")) for value in table["pixel_auroc"]) > 50
    for key in ("aupro_30", "aupro_05", "aupro_100", "pixel_auroc", "pixel_ap", "pixel_f1max"):
        assert len({value.strip(" |") for value in table[key]}) == 1
    for key in ("aupro_ader", "aupro_pyramidflow", "aupro_adeval50", "pixel_f1max_ader"):
        assert len({value.strip(" |") for value in table[key]}) > 2
