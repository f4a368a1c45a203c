"""Streamed values against the golden metrics: exact where they claim it, enclosed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.evaluate.cells import Cells, adaptive_cells
from bench.evaluate.stream import StreamEvaluation, StreamEvaluator

GOLDEN = Path(__file__).parents[1] / "golden"
LIMITS = (0.01, 0.05, 0.3, 1.0)
SETS = (
    *("bad_with_empty_mask", "float16", "gauss", "heavy", "larger", "nonsquare", "pimo", "sat"),
    *("skew", "ties9", "tiny_regions", "uint8"),
)
EXACT = ("float16", "uint8", "ties9")


def load(name: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Arrays and expected values of one golden set."""
    with np.load(GOLDEN / f"metrics_{name}.npz") as file:
        data = {key: file[key] for key in file.files}
    everything = json.loads(str(data["expected_json"]))["expected"]
    pixel = everything.get("images_with_empty_mask_left_out_of_pixel_metrics", everything)
    levels = {"image": everything["sklearn_image"], "pixel": pixel["sklearn_pixel"]}
    expected = {
        f"{level}_{metric}": values[metric]
        for level, values in levels.items()
        for metric in ("auroc", "ap", "f1max", "f1max_threshold")
    }
    for limit in LIMITS:
        expected[f"aupro_{100 * limit:02g}"] = pixel["exact64"]["aupro"][str(limit)]
    return data, expected


def streamed(data: dict[str, Any], cells: int | Cells, batch: int = 5) -> StreamEvaluation:
    evaluator = StreamEvaluator(cells, LIMITS)
    for start in range(0, len(data["maps"]), batch):
        part = slice(start, start + batch)
        names = ("maps", "masks", "labels", "image_scores")
        evaluator.update(*(data[name][part] for name in names))
    return evaluator.result()


@pytest.mark.parametrize("name", SETS)
def test_golden_metrics_lie_in_the_streamed_intervals(name: str) -> None:
    data, expected = load(name)
    for cells in (1 << 8, 1 << 16, adaptive_cells(data["maps"][:4])):
        result = streamed(data, cells)
        for metric, interval in result.intervals.items():
            assert interval.lower - 1e-14 <= expected[metric] <= interval.upper + 1e-14, metric
        for metric in ("image_auroc", "image_ap", "image_f1max", "image_f1max_threshold"):
            assert result.values[metric] == pytest.approx(expected[metric], abs=1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_golden_metrics_of_short_or_tied_scores_are_exact(name: str) -> None:
    data, expected = load(name)
    result = streamed(data, 1 << 16)
    assert result.counts["cells_mixed"] == 0
    for metric, value in expected.items():
        assert result.values[metric] == pytest.approx(value, abs=1e-12), metric
    assert max(result.bounds.values()) < 1e-11


@pytest.mark.parametrize("name", ["gauss", "heavy", "pimo", "sat", "skew"])
def test_golden_metrics_bounds_are_small_with_a_representative_pilot(name: str) -> None:
    data, _ = load(name)
    result = streamed(data, adaptive_cells(data["maps"][:8]))
    assert result.bounds["pixel_auroc"] <= 1e-4
    assert result.bounds["aupro_30"] <= 3e-4
    assert result.bounds["pixel_ap"] <= 1.5e-3


def edge_maps(case: int) -> tuple[Any, Any]:
    with np.load(GOLDEN / "metrics_edge.npz") as file:
        maps, masks = file["maps"], file["masks"]
        points, ring = file["masks_points"], file["masks_ring"]
    if case == 17:
        maps[maps < 0] = -0.0
        maps[1][maps[1] == 0] = 0.0
    changed: dict[int, tuple[Any, Any]] = {
        0: (maps, masks),
        7: (maps, masks * np.uint8(255)),
        8: (maps, masks.astype(bool)),
        11: (np.round(maps), masks),
        12: (maps.astype(np.float16), masks),
        13: (np.clip((maps + 4) * 20, 0, 255).astype(np.uint8), masks),
        14: (maps, points),
        15: (maps, ring),
        16: ([maps[0], maps[1][:40, :44]], [masks[0], masks[1][:40, :44]]),
        17: (maps, masks),
        18: ((maps * 1000 + 50000).astype(np.float32), masks),
        20: (1 + maps.astype(np.float64) * 1e-9, masks),
    }
    return changed[case]


@pytest.mark.parametrize("case", [0, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 20])
def test_golden_metrics_edge_cases_have_the_recommended_outcome(case: int) -> None:
    with np.load(GOLDEN / "metrics_edge.npz") as file:
        cases = json.loads(str(file["expected_json"]))["cases"]
    wanted = next(v for k, v in cases.items() if k.split()[0] == str(case))["recommended"]
    maps, masks = edge_maps(case)
    labels = [int(np.any(m)) for m in masks]
    evaluator = StreamEvaluator(adaptive_cells(maps), (0.05, 0.3))
    evaluator.update(maps, masks, labels, np.zeros(len(maps)))
    result = evaluator.result()
    expected = {f"pixel_{name}": wanted[name] for name in ("auroc", "ap", "f1max")}
    expected |= {"aupro_05": wanted["aupro_0.05"], "aupro_30": wanted["aupro_0.3"]}
    for metric, value in expected.items():
        interval = result.intervals[metric]
        assert interval.lower - 1e-14 <= value <= interval.upper + 1e-14, metric
        assert interval.bound < 2e-3
    assert result.counts["regions"] == wanted["n_regions"]


def test_golden_metrics_of_constant_scores_are_those_of_chance() -> None:
    with np.load(GOLDEN / "metrics_edge.npz") as file:
        masks = file["masks"]
    evaluator = StreamEvaluator()
    labels = [int(m.any()) for m in masks]
    maps = np.full(masks.shape, 0.5, np.float32)
    evaluator.update(maps, masks, labels, np.zeros(len(masks)))
    result = evaluator.result()
    share = masks.mean()
    assert result.values["pixel_auroc"] == pytest.approx(0.5, abs=1e-12)
    assert result.values["pixel_ap"] == pytest.approx(share, abs=1e-12)
    assert result.values["pixel_f1max"] == pytest.approx(2 * share / (1 + share), abs=1e-12)
    assert result.values["aupro_30"] == pytest.approx(0.15, abs=1e-11)
    assert any("equal" in warning for warning in result.warnings)
