"""Kept maps: what comes back, what a rescored row says, and what cannot be rescored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.errors import StoreError
from bench.evaluate import evaluate
from bench.evaluate.result import VERSION
from bench.files.packed import PackedMasks
from bench.rows.row_values import RESCORED
from bench.run.kept_maps import keep_maps, load_kept
from bench.run.rescoring import rescore
from tests.row_maker import make_row

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LABELS = [0, 1, 1, 1]


class Cell:
    """Four kept maps, the last of an image without a mask."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.masks: list[NDArray[np.uint8] | None] = []
        self.maps: list[NDArray[Any]] = []
        for index, label in enumerate(LABELS):
            mask = np.zeros((20, 16 + index), np.uint8)
            mask[3 : 6 + index, 4:9] = label
            self.maps.append((rng.normal(size=mask.shape) + mask).astype(np.float32))
            self.masks.append(None if index == 3 else mask)
        self.scores = np.array([0.1, 0.4, 0.3, 0.2])
        packed, names = PackedMasks(self.masks), [f"{i}.png" for i in range(4)]
        keep_maps(folder, self.maps, packed, LABELS, self.scores, names)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return Cell(tmp_path / "artifacts")


def test_maps_come_back_within_their_levels_and_the_rest_as_it_was(cell: Cell) -> None:
    kept = load_kept(cell.folder)
    for ours, theirs in zip(kept.maps, cell.maps, strict=True):
        assert np.array_equal(ours, theirs)  # fewer scores than levels
    assert [mask is None for mask in kept.masks] == [False, False, False, True]
    assert kept.tops.tolist() == [one.max() for one in cell.maps]
    assert (kept.labels.tolist(), kept.scores.tolist()) == (LABELS, cell.scores.tolist())
    sizes = [f.stat().st_size for f in (cell.folder / "kept").glob("*.npy")]
    assert sum(sizes) == sum(2 * one.size + 128 for one in cell.maps)


@pytest.mark.parametrize("budget_mb", [1000, 0.001])
@pytest.mark.parametrize("rule", ["method", "max"])
def test_a_row_gets_new_scores_and_keeps_its_cell(cell: Cell, rule: str, budget_mb: float) -> None:
    fields = {"image_score": rule}
    row = make_row(pixel_auroc=0.123, protocol_fields=fields, n_train=7, started="")
    found = rescore(row, cell.folder, budget_mb).new
    scores = cell.scores if rule == "method" else np.array([one.max() for one in cell.maps])
    wanted = evaluate(cell.maps, cell.masks, LABELS, scores).values
    assert (found.cell, found.n_train) == (row.cell, 7)
    assert (found.evaluator, found.evaluator_version) == (RESCORED, VERSION)
    for name, bound in found.bounds.items():
        assert getattr(found, name) == pytest.approx(wanted[name], abs=bound + 1e-12)
    assert found.image_auroc == wanted["image_auroc"]


def test_what_cannot_be_rescored_says_why(cell: Cell, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no maps were kept; `bench run --keep-maps`"):
        rescore(make_row(), tmp_path, 1000)
    oracle = make_row(protocol_fields={"epoch": "oracle-per-metric"})
    with pytest.raises(StoreError, match=r"each metric .* has an epoch of its own"):
        rescore(oracle, cell.folder, 1000)
    (cell.folder / "kept" / "00002.npy").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"00002.npy cannot be read"):
        rescore(make_row(), cell.folder, 1000)
    (cell.folder / "kept" / "index.npz").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"index.npz cannot be read"):
        rescore(make_row(), cell.folder, 1000)
