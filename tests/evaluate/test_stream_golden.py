"""Streamed values against the golden metrics: exact where they claim it, enclosed elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.evaluate.cells import Cells, adaptive_cells
from bench.evaluate.result import aupro_key
from bench.evaluate.stream import StreamEvaluation, StreamEvaluator
from tests.evaluate.metric_sets import (
    EDGE,
    SETS,
    Expected,
    arrays_of,
    each_set,
    edge_cases,
    edge_input,
)
from tests.golden_files import golden, present

if TYPE_CHECKING:
    from tests.golden_files import GoldenFile

METRICS = ("auroc", "ap", "f1max", "f1max_threshold")
# The families of scores for which the description of the metrics states small bounds.
FAMILIES = [golden(f"metrics_{name}") for name in ("gauss", "heavy", "pimo", "sat", "skew")]


def expected_values(file: GoldenFile) -> dict[str, tuple[Expected, tuple[str, ...]]]:
    """Our name of a value -> where the file has it."""
    expected = Expected(file)
    pixels = expected.pixels()
    found: dict[str, tuple[Expected, tuple[str, ...]]] = {
        f"{level}_{metric}": (values, (metric,))
        for level, values in (
            ("pixel", pixels.below("sklearn_pixel")),
            ("image", expected.below("sklearn_image")),
        )
        for metric in METRICS
    }
    for limit, key in expected.limits().items():
        found[aupro_key(limit)] = (pixels, ("exact64", "aupro", key))
    return found


def has_a_cell_for_each_score(file: GoldenFile) -> bool:
    """Whether the first 16 bits tell all scores apart, as they do for short or few ones."""
    if "maps" not in file:
        return False
    scores = np.unique(file.arrays["maps"])
    if scores.dtype.itemsize <= 2:
        return True
    return scores.dtype == np.float32 and len(np.unique(scores.view(np.uint32) >> 16)) == len(
        scores
    )


def streamed(file: GoldenFile, cells: int | Cells, batch: int = 5) -> StreamEvaluation:
    data = arrays_of(file)
    evaluator = StreamEvaluator(cells, tuple(Expected(file).limits()))
    for start in range(0, len(data["maps"]), batch):
        evaluator.update(*(array[start : start + batch] for array in data.values()))
    return evaluator.result()


@each_set
def test_golden_metrics_lie_in_the_streamed_intervals(file: GoldenFile) -> None:
    expected = expected_values(file)
    for cells in (1 << 8, 1 << 16, adaptive_cells(file["maps"][:4])):
        result = streamed(file, cells)
        for metric, interval in result.intervals.items():
            values, path = expected[metric]
            wanted = values.find(*path)
            if wanted is not None:
                assert interval.lower - 1e-14 <= wanted <= interval.upper + 1e-14, metric
        for metric, (values, path) in expected.items():
            if metric.startswith("image_"):
                values.check(result.values[metric], *path, absolute=1e-12)


@pytest.mark.parametrize("file", present(filter(has_a_cell_for_each_score, SETS)))
def test_golden_metrics_of_short_or_tied_scores_are_exact(file: GoldenFile) -> None:
    result = streamed(file, 1 << 16)
    assert result.counts["cells_mixed"] == 0
    for metric, (values, path) in expected_values(file).items():
        values.check(result.values[metric], *path, absolute=1e-12)
    assert max(result.bounds.values()) < 1e-11


@pytest.mark.parametrize("file", present(FAMILIES))
def test_golden_metrics_bounds_are_small_with_a_representative_pilot(file: GoldenFile) -> None:
    by_label = np.argsort(file["labels"], kind="stable")
    pilot = by_label[np.linspace(0, len(by_label) - 1, 8).round().astype(int)]
    result = streamed(file, adaptive_cells(file["maps"][np.unique(pilot)]))
    assert result.bounds["pixel_auroc"] <= 1e-4
    assert result.bounds["aupro_30"] <= 3e-4
    assert result.bounds["pixel_ap"] <= 1.5e-3


def is_a_value(case: Any) -> bool:
    """Whether an edge case has values, and scores that differ."""
    if not isinstance(case, str):
        return True
    wanted = Expected(EDGE, ("cases", case, "recommended")).find()
    return isinstance(wanted, dict) and not {"default", "flag"} & set(wanted)


@pytest.mark.parametrize("case", [case for case in edge_cases() if is_a_value(case)])
def test_golden_metrics_edge_cases_have_the_recommended_outcome(case: str) -> None:
    maps, masks = edge_input(case)
    wanted = Expected(EDGE, ("cases", case, "recommended")).tree()
    expected = {f"pixel_{k}": wanted[k] for k in ("auroc", "ap", "f1max") if k in wanted}
    limits = {k: float(k.removeprefix("aupro_")) for k in wanted if k.startswith("aupro_")}
    expected |= {aupro_key(limit): wanted[key] for key, limit in limits.items()}
    labels = [int(np.any(m)) for m in masks]
    evaluator = StreamEvaluator(adaptive_cells(maps), tuple(limits.values()))
    evaluator.update(maps, masks, labels, np.zeros(len(maps)))
    result = evaluator.result()
    for metric, value in expected.items():
        interval = result.intervals[metric]
        assert interval.lower - 1e-14 <= value <= interval.upper + 1e-14, metric
        assert interval.bound < 2e-3
    Expected(EDGE, ("cases", case, "recommended")).check(result.counts["regions"], "n_regions")


def test_golden_metrics_of_constant_scores_are_those_of_chance() -> None:
    masks = EDGE["masks"]
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
