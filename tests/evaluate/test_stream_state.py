"""A stream's state: the same bits in any order, merged or not, stored or not."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench.errors import ConfigError, DataError, StoreError
from bench.evaluate import evaluate
from bench.evaluate.cells import Cells, adaptive_cells, ordered_keys, score_of_key
from bench.evaluate.certificate import WEIGHT
from bench.evaluate.stream import StreamEvaluator
from bench.evaluate.stream_state import from_arrays, load_state, save_state, to_arrays
from bench.evaluate.tally import region_weights

if TYPE_CHECKING:
    from pathlib import Path

Array = npt.NDArray[Any]
DTYPES = ("float32", "float64", "float16", "uint8", "int16", "int32", "bool")


@pytest.fixture
def data() -> tuple[Array, Array, Array, Array]:
    """Twelve 24x20 maps, with masks, labels and image scores; some scores are tied."""
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 24, 20), bool)
    for index in range(4, 12):
        top, left = rng.integers(0, 14, 2)
        masks[index, top : top + 4, left : left + 5] = True
        masks[index, rng.integers(0, 24), rng.integers(0, 20)] = True
    maps = (rng.standard_normal(masks.shape) * 3 + 2 * masks).astype(np.float32)
    maps[maps < -2] = 0
    return maps, masks, masks.any((1, 2)).astype(int), maps.max((1, 2))


def fed(evaluator: StreamEvaluator, data: tuple[Array, ...], index: Any) -> StreamEvaluator:
    evaluator.update(*(part[index] for part in data))
    return evaluator


def same_bits(first: StreamEvaluator, second: StreamEvaluator) -> bool:
    mine, theirs = to_arrays(first), to_arrays(second)
    return mine.keys() == theirs.keys() and all(
        mine[key].dtype == theirs[key].dtype and np.array_equal(mine[key], theirs[key])
        for key in mine
    )


@pytest.mark.parametrize("kind", ["few", "many", "adaptive"])
def test_workers_merged_in_any_order_equal_one_pass_bit_for_bit(
    kind: str, data: tuple[Array, ...]
) -> None:
    uniform = {"few": 1 << 8, "many": 1 << 20}
    cells = uniform.get(kind) or adaptive_cells(data[0][3:6])
    whole = fed(StreamEvaluator(cells), data, slice(None))
    rng = np.random.default_rng(1)
    for _ in range(3):
        owner = rng.integers(0, 3, len(data[0]))
        workers = [StreamEvaluator(cells) for _ in range(3)]
        for image in rng.permutation(len(owner)):
            fed(workers[owner[image]], data, [image])
        rng.shuffle(workers)
        merged = functools.reduce(StreamEvaluator.merge, workers)
        assert same_bits(merged, whole)
        assert merged.result() == whole.result()


def test_merging_is_associative(data: tuple[Array, ...]) -> None:
    parts = (slice(0, 3), slice(3, 8), slice(8, 12))
    a, b, c = (fed(StreamEvaluator(256), data, part) for part in parts)
    left = from_arrays(to_arrays(a)).merge(b).merge(c)
    right = a.merge(b.merge(c))
    assert same_bits(left, right)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_score_type_encloses_the_exact_engine(dtype: str, data: tuple[Array, ...]) -> None:
    scaled = (data[0] - data[0].min()) * 12
    maps = scaled > 120 if dtype == "bool" else scaled.astype(dtype)
    exact = evaluate(maps, *data[1:]).values
    result = fed(StreamEvaluator(1 << 16), (maps, *data[1:]), slice(None)).result()
    for metric, interval in result.intervals.items():
        value = exact[metric]
        assert value is not None
        assert interval.lower - 1e-14 <= value <= interval.upper + 1e-14, metric
    if np.dtype(dtype).itemsize <= 2:
        assert max(result.bounds.values()) < 1e-11
        assert result.values["pixel_f1max_threshold"] == exact["pixel_f1max_threshold"]


def test_results_have_the_names_reasons_and_counts_of_the_exact_engine(
    data: tuple[Array, ...],
) -> None:
    maps, masks, labels, scores = data
    masks = masks.copy()
    masks[11] = False  # an anomalous image whose mask is not known
    exact = evaluate(maps, masks, labels, scores)
    result = fed(StreamEvaluator(), (maps, masks, labels, scores), slice(None)).result()
    assert result.values.keys() == exact.values.keys()
    assert result.counts["n_unmasked"] == 1
    assert {key: result.counts[key] for key in exact.counts} == exact.counts
    for metric in ("image_auroc", "image_ap", "image_f1max", "image_f1max_threshold"):
        assert result.values[metric] == exact.values[metric]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int16"])
def test_keys_have_the_order_of_the_scores_and_return_them(dtype: str) -> None:
    rng = np.random.default_rng(2)
    scores = (rng.standard_normal(500) * 100).astype(dtype)
    scores = np.concatenate([scores, -scores, scores[:3] * 0])
    keys = ordered_keys(scores)
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(scores, kind="stable"))
    for key, score in zip(keys[:50].tolist(), scores[:50].tolist(), strict=True):
        assert score_of_key(key, np.dtype(dtype)) == score


def test_minus_zero_is_zero() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        keys = ordered_keys(np.array([-0.0, 0.0], dtype))
        assert keys[0] == keys[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_rise_with_the_score_and_begin_at_their_lowest_key(dtype: str) -> None:
    rng = np.random.default_rng(4)
    pilot = np.exp(rng.standard_normal((2, 40, 40))).astype(dtype)
    wider = np.concatenate([pilot.ravel(), [-1e30, -1.0, 0.0, 1e-30, 50.0, 1e30]]).astype(dtype)
    keys = np.sort(ordered_keys(wider))
    for cells in (adaptive_cells(pilot), Cells(np.dtype(dtype), 20)):
        index = cells.index(keys)
        assert (np.diff(index) >= 0).all()
        assert index.min() >= 0
        assert index.max() < cells.count
        for key, cell in zip(keys.tolist(), index.tolist(), strict=True):
            assert cells.lowest_key(cell) <= key
            assert cell == cells.count - 1 or key < cells.lowest_key(cell + 1)


def test_region_weights_are_whole_and_sum_to_one_region() -> None:
    ids = np.random.default_rng(5).integers(0, 7, 1000).astype(np.int32)
    sizes = np.bincount(ids)
    weights = region_weights(ids, sizes)
    for region, size in enumerate(sizes):
        part = weights[ids == region]
        assert part.sum() == WEIGHT
        assert abs(part - WEIGHT / size).max() < 1


def test_tensors_and_images_of_different_sizes_are_accepted(data: tuple[Array, ...]) -> None:
    maps, masks, labels, scores = data
    whole = fed(StreamEvaluator(), data, slice(None))
    tensors = StreamEvaluator()
    tensors.update(torch.tensor(maps), torch.tensor(masks), torch.tensor(labels), scores)
    assert same_bits(whole, tensors)
    cut = StreamEvaluator()
    cut.update([maps[4], maps[0][:9, :7]], [masks[4], None], [1, 0], scores[:2])
    assert cut.result().counts["pixels"] == 24 * 20 + 9 * 7


def test_narrow_maps_enter_a_wider_stream_exactly(data: tuple[Array, ...]) -> None:
    half = (data[0].astype(np.float16), *data[1:])
    wide = fed(StreamEvaluator(1 << 16, dtype="float32"), half, slice(None)).result()
    exact = fed(StreamEvaluator(1 << 16), half, slice(None)).result()
    for metric, interval in wide.intervals.items():
        value = exact.values[metric]
        assert value is not None
        assert interval.lower - 1e-11 <= value <= interval.upper + 1e-11
    with pytest.raises(DataError, match="float64 do not fit cells of float32"):
        fed(StreamEvaluator(dtype="float32"), (data[0].astype(float), *data[1:]), slice(None))


def test_a_stored_state_goes_on_where_it_stopped(data: tuple[Array, ...], tmp_path: Path) -> None:
    cells = adaptive_cells(data[0][3:6])
    path = tmp_path / "worker.npz"
    save_state(fed(StreamEvaluator(cells), data, slice(0, 7)), path)
    resumed = fed(load_state(path), data, slice(7, None))
    assert same_bits(resumed, fed(StreamEvaluator(cells), data, slice(None)))
    empty = tmp_path / "empty.npz"
    save_state(StreamEvaluator(1 << 10), empty)
    assert load_state(empty).cells == 1 << 10
    path.write_bytes(b"no archive")
    with pytest.raises(StoreError, match="cannot be read"):
        load_state(path)
    np.savez(path, format=np.array(1))
    with pytest.raises(StoreError, match="no array"):
        load_state(path)


def test_scores_that_are_not_finite_are_refused_and_leave_no_trace(data: tuple[Array, ...]) -> None:
    evaluator = fed(StreamEvaluator(), data, slice(0, 6))
    before = to_arrays(evaluator)
    broken = data[0].copy()
    broken[8, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"1 NaN among the 480 scores of .*number 8 of the stream"):
        fed(evaluator, (broken, *data[1:]), slice(6, None))
    broken[8, 2, 3] = np.inf
    with pytest.raises(DataError, match="1 infinite"):
        fed(evaluator, (broken, *data[1:]), slice(6, None))
    after = to_arrays(evaluator)
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_infinite_scores_are_ranked_on_request(data: tuple[Array, ...]) -> None:
    maps = data[0].copy()
    maps[maps > 4] = np.inf
    maps[maps < -4] = -np.inf
    exact = evaluate(maps, data[1], data[2], data[3], nonfinite="rank").values
    evaluator = StreamEvaluator(1 << 20, nonfinite="rank")
    result = fed(evaluator, (maps, *data[1:]), slice(None)).result()
    value = exact["pixel_auroc"]
    assert value is not None
    assert result.intervals["pixel_auroc"].lower <= value <= result.intervals["pixel_auroc"].upper


def test_undefined_values_are_none_with_a_reason(data: tuple[Array, ...]) -> None:
    evaluator = StreamEvaluator()
    evaluator.update(data[0][:4], None, [0] * 4)
    result = evaluator.result()
    for metric in ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro_30"):
        assert result.values[metric] is None
        assert result.undefined[metric] == "no anomalous pixel in the test set"
    assert "no image scores" in result.undefined["image_auroc"]
    assert "exact engine" in result.undefined["aupimo"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": 1000}, "power of two"),
        ({"limits": (0.0,)}, "limit"),
        ({"nonfinite": "drop"}, "choose 'error' or 'rank'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamEvaluator(**settings)


def test_workers_with_different_cells_do_not_merge(data: tuple[Array, ...]) -> None:
    first = fed(StreamEvaluator(1 << 10), data, slice(0, 6))
    with pytest.raises(ConfigError, match="cannot merge"):
        first.merge(fed(StreamEvaluator(1 << 12), data, slice(6, 12)))
    with pytest.raises(ConfigError, match="cannot merge"):
        first.merge(fed(StreamEvaluator(adaptive_cells(data[0])), data, slice(6, 12)))


def test_image_scores_come_with_all_batches_or_none(data: tuple[Array, ...]) -> None:
    evaluator = fed(StreamEvaluator(), data, slice(0, 6))
    with pytest.raises(DataError, match="some batches only"):
        evaluator.update(data[0][6:], data[1][6:], data[2][6:])


def test_integers_beyond_the_exact_range_of_float64_are_refused() -> None:
    maps = np.full((1, 4, 4), (1 << 60) + 1)
    with pytest.raises(DataError, match=r"pass 2\^53"):
        StreamEvaluator().update(maps, None, [0], [0.0])


def test_a_pilot_of_no_or_mixed_types_is_refused() -> None:
    with pytest.raises(DataError, match="0 score types"):
        adaptive_cells([])
    with pytest.raises(DataError, match="2 score types"):
        adaptive_cells([np.zeros((2, 2), np.float32), np.zeros((2, 2))])
    with pytest.raises(DataError, match="not finite"):
        adaptive_cells([np.array([[np.nan]])])
    with pytest.raises(ConfigError, match="count"):
        adaptive_cells([np.zeros((2, 2))], count=100)
