"""Simplified curves: few points, and never further from the exact curve than they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from bench.errors import ConfigError, DataError, StoreError
from bench.evaluate.curves import (
    Curve,
    image_curves,
    load_curves,
    pixel_curves,
    pr_curve,
    pro_curve,
    save_curves,
    simplify,
)
from bench.evaluate.curves import roc_curve as pixel_roc_curve
from tests.evaluate.metric_sets import Expected, each_set
from tests.golden_files import golden, present

if TYPE_CHECKING:
    from pathlib import Path

    from tests.golden_files import GoldenFile

Array = npt.NDArray[Any]
ERRORS = (5e-4, 1e-2)
NAMES = ("gauss", "ties9", "uint8")


def load(file: GoldenFile) -> tuple[Array, Array, Array]:
    return file["maps"], file["masks"], file["labels"]


def distance(curve: Curve, x: Array, y: Array) -> float:
    """Largest vertical distance of points to a curve; upright pieces meet all heights between."""
    first = np.searchsorted(curve.x, x, side="left")
    last = np.searchsorted(curve.x, x, side="right") - 1
    between = np.interp(x, curve.x, curve.y)
    met = first <= last
    ends = [np.where(met, curve.y[np.minimum(i, len(curve.y) - 1)], between) for i in (first, last)]
    return float(np.maximum(y - np.maximum(*ends), np.minimum(*ends) - y).max())


@each_set
@pytest.mark.parametrize("error", ERRORS)
def test_areas_under_golden_metrics_curves_are_within_the_stated_error(
    file: GoldenFile, error: float
) -> None:
    curves = pixel_curves(*load(file), error=error)
    assert all(curve.error <= error for curve in curves.values())
    expected = Expected(file)
    # Plain assertions: what simplified curves are off is no error of ours.
    auroc = expected.pixels().tree("sklearn_pixel")["auroc"]
    assert curves["pixel_roc"].area() == pytest.approx(auroc, abs=curves["pixel_roc"].error + 1e-12)
    for limit, key in expected.limits().items():
        area = curves["pro"].area(limit) / limit
        wanted = expected.pixels().tree("exact64", "aupro")[key]
        assert area == pytest.approx(wanted, abs=curves["pro"].error + 1e-9)


@pytest.mark.parametrize("file", present(golden(f"metrics_{n}") for n in NAMES))
def test_no_point_of_the_exact_curves_is_further_away_than_the_stated_error(
    file: GoldenFile,
) -> None:
    maps, masks, labels = load(file)
    scores, flags = maps.ravel().astype(float), masks.ravel()
    curves = pixel_curves(maps, masks, labels, error=2e-3)
    fpr, tpr, _ = roc_curve(flags, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(flags, scores)
    # The definition of the PR curve here: thresholds at anomalous scores, without (0, 1).
    steps = np.flatnonzero(np.diff(recall))
    exact = {
        "pixel_roc": (fpr, tpr),
        "pixel_pr": (recall[steps], precision[steps]),
    }
    for key, points in exact.items():
        assert distance(curves[key], *points) <= curves[key].error + 1e-9


def test_a_smooth_curve_needs_a_few_hundred_points() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 128, 128), bool)
    masks[4:, 30:60, 40:70] = True
    maps = (rng.standard_normal(masks.shape) + 2 * masks).astype(np.float32)
    curves = pixel_curves(maps, masks, masks.any((1, 2)).astype(int))
    assert all(len(curve.x) < 600 for curve in curves.values())
    assert all((np.diff(curve.x) >= 0).all() for curve in curves.values())


@pytest.mark.parametrize("error", [1e-3, 0.02, 0.3])
def test_random_rising_curves_keep_their_error(error: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        count = int(rng.integers(2, 400))
        # Ties make upright and level pieces.
        x = np.cumsum(np.maximum(rng.standard_normal(count), 0)) + 0.0
        y = np.cumsum(np.maximum(rng.standard_normal(count), 0)) + 0.0
        x, y = x / max(x[-1], 1), y / max(y[-1], 1)
        curve = simplify(x, y, error)
        assert curve.error <= error
        assert distance(curve, x, y) <= curve.error + 1e-12


def test_straight_lines_need_their_ends_only() -> None:
    x = np.linspace(0, 1, 1001)
    curve = simplify(x, x)
    assert curve.x.tolist() == [0, 1]
    assert curve.error == pytest.approx(0, abs=1e-15)


def test_constant_scores_give_the_diagonal() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 1:3, 1:3] = True
    curves = pixel_curves(np.ones((2, 4, 4)), masks, [0, 1])
    assert curves["pixel_roc"].x.tolist() == [0, 1]
    assert curves["pro"].area(0.3) == pytest.approx(0.045)
    assert curves["pixel_pr"].y.tolist() == [0.125, 0.125]


def test_single_curves_equal_those_of_the_set() -> None:
    maps, masks, labels = load(golden("metrics_ties9"))
    curves = pixel_curves(maps, masks, labels)
    single = {"pixel_roc": pixel_roc_curve, "pixel_pr": pr_curve, "pro": pro_curve}
    for name, function in single.items():
        curve = function(maps, masks, labels)
        assert curve is not None
        assert np.array_equal(curve.y, curves[name].y)


def test_one_class_has_no_curve() -> None:
    maps = np.arange(8.0).reshape(2, 2, 2)
    assert pixel_curves(maps, None, [0, 0]) == {}
    assert pixel_curves(maps, None, [1, 1]) == {}
    assert pro_curve(maps, None, [0, 0]) is None
    assert image_curves([1.0, 2.0], [1, 1]) == {}


def test_image_curves_are_those_of_the_scores() -> None:
    scores, labels = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
    curves = image_curves(scores, labels)
    assert curves["image_roc"].area() == pytest.approx(0.75)
    assert curves["image_pr"].y.tolist() == pytest.approx([1, 1, 2 / 3])


def test_curves_come_back_from_a_file(tmp_path: Path) -> None:
    maps, masks, labels = load(golden("metrics_ties9"))
    curves = pixel_curves(maps, masks, labels)
    path = tmp_path / "curves.npz"
    save_curves(path, curves)
    found = load_curves(path)
    assert found.keys() == curves.keys()
    for name, curve in curves.items():
        assert np.array_equal(found[name].x, curve.x)
        assert np.array_equal(found[name].y, curve.y)
        assert found[name].error == curve.error
    path.write_bytes(b"no archive")
    with pytest.raises(StoreError, match="cannot be read"):
        load_curves(path)


def test_bad_input_is_refused() -> None:
    maps = np.zeros((1, 2, 2))
    with pytest.raises(ConfigError, match="error = 0"):
        pixel_curves(maps, [np.eye(2)], [1], error=0)
    maps[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        pixel_curves(maps, [np.eye(2)], [1])
    with pytest.raises(DataError, match="one length"):
        image_curves([1.0, 2.0], [1])
