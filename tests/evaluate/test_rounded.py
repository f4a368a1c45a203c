"""Maps in 65,536 levels: the error of every metric stays within the bound that is given with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.evaluate import Evaluation, evaluate, rounded
from bench.evaluate.rounded import Levels, bounds, choose_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Maps = Sequence[NDArray[Any]]

LABELS = [0, 1, 0, 1, 1]


def images(dtype: str) -> tuple[list[NDArray[Any]], list[NDArray[np.uint8]]]:
    """Five maps of two sizes with a heavy tail, three with defects."""
    rng = np.random.default_rng(0)
    maps, masks = [], []
    for index, label in enumerate(LABELS):
        mask = np.zeros((40, 30 + 5 * (index % 2)), np.uint8)
        mask[5 : 9 + index, 4:12] = label
        mask[25:30, 15:24] = label
        maps.append(np.exp(rng.normal(size=mask.shape) + 1.5 * mask).astype(dtype))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("count", [1 << 16, 64, 8])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_errors_stay_within_their_bounds(
    dtype: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounded, "LEVELS", count)
    maps, masks = images(dtype)
    scores = np.array([float(one.max()) for one in maps])

    def measured(given: Maps) -> Evaluation:
        return evaluate(list(given), masks, LABELS, scores)

    levels = Levels.empty(choose_edges(maps))
    coded = [levels.encode(one) for one in maps]
    exact = measured(maps)
    found = measured([levels.decode(one) for one in coded])
    widths = bounds(found, levels, coded, masks, measured)
    assert {"pixel_auroc", "pixel_ap", "aupro_30", "aupimo", "region_aupro_30_worst"} <= set(widths)
    for name, width in widths.items():
        error = abs((found.values[name] or 0) - (exact.values[name] or 0))
        assert error <= width + 1e-12, name
    # Fewer levels than scores lose some order; as many lose none.
    assert (max(widths.values()) > 1e-3) == (count < 100)


def test_scores_that_each_have_a_level_come_back() -> None:
    maps: list[NDArray[Any]] = [np.arange(12, dtype=np.float32).reshape(3, 4) / 7]
    maps.append(np.zeros((2, 2), np.float32))
    levels = Levels.empty(choose_edges(maps))
    for one in maps:
        assert np.array_equal(levels.decode(levels.encode(one)), one)


def test_scores_that_no_edge_was_chosen_from_have_a_level_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounded, "SAMPLE", 50)
    maps, _ = images("float32")
    levels = Levels.empty(choose_edges(maps))
    for one in maps:
        coded = levels.encode(one)
        assert (levels.lowest[coded] <= one).all()
        assert (one <= levels.highest[coded]).all()
    occurred = levels.lowest <= levels.highest
    assert (levels.highest[occurred][:-1] < levels.lowest[occurred][1:]).all()
