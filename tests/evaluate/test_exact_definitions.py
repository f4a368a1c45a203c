"""The exact engine against slow definitions by loops, and its invariances."""

from __future__ import annotations

import math
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import DataError
from bench.evaluate import (
    Evaluation,
    aupimo,
    aupro,
    device,
    evaluate,
    inputs,
    label_masks,
    label_regions,
    ranks,
)
from bench.evaluate.binary import binary_metrics
from bench.evaluate.ranks import SearchedRanks
from bench.evaluate.samples import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from bench.evaluate.samples import Ranks

TYPES = ["float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that ties run across them."""
    monkeypatch.setattr(ranks, "BLOCK", 16)
    monkeypatch.setattr(ranks, "CHUNK", 64)


def planted(seed: int, levels: int | None = None) -> tuple[Any, Any, Any]:
    """Six 12 x 10 maps, four of them with blocks of anomalous pixels."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 12, 10), bool)
    for index in range(4):
        for _ in range(int(rng.integers(1, 4))):
            y, x = rng.integers(0, 10), rng.integers(0, 8)
            masks[index, y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = True
    maps = rng.standard_normal(masks.shape) + masks * rng.uniform(0, 2)
    if levels is not None:
        maps = np.round(maps * levels / 4)
    return maps.astype(np.float32), masks, masks.any((1, 2)).astype(int)


def counts_by_loops(scores: Any, flags: Any) -> list[tuple[float, int, int]]:
    """(threshold, hits, false alarms) at every distinct score, falling."""
    return [
        (t, int((scores[flags] >= t).sum()), int((scores[~flags] >= t).sum()))
        for t in sorted(set(scores.tolist()), reverse=True)
    ]


def binary_by_loops(scores: Any, flags: Any) -> tuple[float, float, float]:
    positives, negatives = int(flags.sum()), int((~flags).sum())
    area = precision = best = 0.0
    hits, false = 0, 0
    for _, tp, fp in counts_by_loops(scores, flags):
        area += (fp - false) * (tp + hits) / 2
        precision += (tp - hits) / positives * tp / (tp + fp)
        best = max(best, 2 * tp / (positives + tp + fp))
        hits, false = tp, fp
    return area / positives / negatives, precision, best


def regions_by_flooding(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """8-connected regions, each as its pixels."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        stack, region = [min(left)], set()
        left.discard(stack[0])
        while stack:
            y, x = stack.pop()
            region.add((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.discard(near)
                    stack.append(near)
        found.append(region)
    return found


def aupro_by_loops(maps: Any, masks: Any, limit: float) -> float:
    """The trapezium area under the curve of every threshold, cut at the limit."""
    regions = [
        (index, tuple(np.array(sorted(region)).T))
        for index, mask in enumerate(masks)
        for region in regions_by_flooding(mask)
    ]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for t in sorted(set(maps.ravel().tolist()), reverse=True):
        shares = [(maps[index][pixels] >= t).mean() for index, pixels in regions]
        points.append(((normal >= t).mean(), float(np.mean(shares))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            end = y0 + (limit - x0) / (x1 - x0) * (y1 - y0)
            area += (limit - x0) * (y0 + end) / 2
    return area / limit


def aupimo_by_loops(maps: Any, masks: Any, labels: Any, bounds: tuple[float, float]) -> float:
    """Recall as a step function of the shared rate, integrated over its logarithm."""
    normal = [m for m, label in zip(maps, labels, strict=True) if label == 0]
    lower, upper = bounds
    values = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        total, before = 0.0, 0.0
        for t in sorted({s for m in normal for s in m.ravel().tolist()}, reverse=True):
            rate = float(np.mean([(m >= t).mean() for m in normal]))
            low, high = max(before, lower), min(rate, upper)
            if high > low:
                total += math.log(high / low) * (anomaly_map[mask] >= t).mean()
            before = rate
        values.append(total / math.log(upper / lower))
    return float(np.mean(values))


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 1, 4, 20]))
@settings(max_examples=25)
def test_pixel_metrics_equal_their_definitions_by_loops(seed: int, levels: int | None) -> None:
    maps, masks, labels = planted(seed, levels)
    result = evaluate(maps, masks, labels, limits=(0.05, 0.3, 1.0), aupimo_bounds=(0.01, 0.2))
    area, precision, best = binary_by_loops(maps.ravel(), masks.ravel())
    assert result.values["pixel_auroc"] == pytest.approx(area, abs=1e-12)
    assert result.values["pixel_ap"] == pytest.approx(precision, abs=1e-12)
    assert result.values["pixel_f1max"] == pytest.approx(best, abs=1e-12)
    for limit, key in ((0.05, "aupro_05"), (0.3, "aupro_30"), (1.0, "aupro_100")):
        slow = aupro_by_loops(maps, masks, limit)
        assert result.values[key] == pytest.approx(slow, abs=1e-12)
        assert aupro(maps, masks, limit) == result.values[key]
    pimo = aupimo_by_loops(maps, masks, labels, (0.01, 0.2))
    assert result.values["aupimo"] == pytest.approx(pimo, abs=1e-12)
    assert aupimo(maps, masks, labels, (0.01, 0.2)) == result.values["aupimo"]


@given(
    dtype=st.sampled_from(TYPES),
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([1.0, 30.0, 1e4]),
)
@settings(max_examples=150)
def test_scores_of_every_type_are_ranked_as_stored(dtype: str, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 120))
    scores: Any = rng.standard_normal(size) * spread
    scores[rng.random(size) < 0.2] = 0
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        scores = np.clip(np.round(scores), info.min // 2, info.max // 2)
    scores = scores.astype(dtype)
    if np.dtype(dtype).kind == "f":
        scores[rng.random(size) < 0.1] = -0.0
    flags = np.append(rng.random(size - 1) < 0.4, True)
    flags[0] = False
    values = binary_metrics(scores, flags)
    assert values is not None
    expected = binary_by_loops(scores, flags)
    assert (values.auroc, values.ap, values.f1max) == pytest.approx(expected, abs=1e-12)
    predicted = scores >= values.threshold
    hits = int((predicted & flags).sum())
    assert values.precision == hits / predicted.sum()
    assert values.recall == hits / flags.sum()
    assert values.f1max == pytest.approx(2 * hits / (predicted.sum() + flags.sum()), abs=1e-15)


@pytest.mark.parametrize("scores", [[1e-44, -3e38, 3e38, 0.0], [-np.inf, -1e-30, 0.0, np.inf]])
def test_signed_scores_too_far_apart_for_31_bits_are_searched(scores: list[float]) -> None:
    values = np.array(scores, np.float32)
    ranked = ranks.rank([Piece(values, np.array([True, False, True, False]))])
    assert isinstance(ranked, SearchedRanks)
    wide = binary_metrics(values, [1, 0, 1, 0], nonfinite="rank")
    same = binary_metrics(np.argsort(np.argsort(values)), [1, 0, 1, 0])
    assert wide is not None
    assert same is not None
    assert (wide.auroc, wide.ap, wide.f1max) == (same.auroc, same.ap, same.f1max)


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(["float32", "uint8"]))
@settings(max_examples=40)
def test_all_engines_give_the_same_steps(seed: int, dtype: str) -> None:
    import torch

    maps, masks, _ = planted(seed, levels=6)
    scores = (maps - maps.min()).astype(dtype)
    regions = label_masks(list(masks))
    pieces = [Piece(*pair) for pair in zip(scores, masks, strict=True)]
    tensors = [Piece(torch.from_numpy(p.scores), p.anomalous) for p in pieces]
    keyed, *others = (
        ranks.rank(pieces, regions.ids),
        SearchedRanks(pieces, regions.ids),
        ranks.rank(tensors, regions.ids),
    )
    for other in others:
        assert steps_of(other) == steps_of(keyed)
        assert (other.positives, other.extremes()) == (keyed.positives, keyed.extremes())


def steps_of(ranked: Ranks) -> list[Any]:
    """Counts, scores and groups of every step."""
    found = []
    for block in ranked.blocks():
        assert block.groups is not None
        scores = [ranked.score_of(key) for key in block.keys]
        counts = (block.doubled, block.at_or_above, block.hits, block.groups)
        parts = [*(part.tolist() for part in counts), scores]
        found += [[part[step] for part in parts] for step in block.steps(0, len(scores))]
    return found


def assert_same(one: Evaluation, other: Evaluation) -> None:
    for key, value in one.values.items():
        if not key.endswith("threshold"):
            assert other.values[key] == pytest.approx(value, abs=1e-14), key
    assert one.counts == other.counts


@given(seed=st.integers(0, 10**6), stretch=st.sampled_from(["exp", "cube", "shift", "rank"]))
@settings(max_examples=40)
def test_an_increasing_function_of_the_scores_changes_no_metric(seed: int, stretch: str) -> None:
    maps, masks, labels = planted(seed)
    wide = maps.astype(np.float64)
    order = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    moved: dict[str, Any] = {
        "exp": np.exp(wide),
        "cube": wide**3,
        "shift": wide * 1000 + 5e4,
        "rank": order.astype(np.int32),
    }
    options: dict[str, Any] = {"aupimo_bounds": (0.01, 0.2)}
    scores = maps.max((1, 2))
    one = evaluate(maps, masks, labels, scores, **options)
    other = evaluate(moved[stretch], masks, labels, scores, **options)
    assert_same(one, other)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_the_order_of_images_and_the_container_change_no_metric(seed: int) -> None:
    import torch

    maps, masks, labels = planted(seed, levels=12)
    scores = maps.max((1, 2))
    order = np.random.default_rng(seed).permutation(len(maps))
    whole = evaluate(maps, masks, labels, scores)
    shuffled = [maps[i] for i in order], [masks[i] for i in order]
    assert_same(whole, evaluate(*shuffled, labels[order], scores[order]))
    some = [mask if mask.any() else None for mask in masks]
    assert_same(whole, evaluate(list(maps), some, labels.tolist(), scores.tolist()))
    tensors = torch.from_numpy(maps), torch.from_numpy(masks), torch.from_numpy(labels)
    assert_same(whole, evaluate(*tensors, torch.from_numpy(scores)))
    assert_same(whole, evaluate(maps, masks, labels, scores, regions=label_masks(list(masks))))
    strided = np.asfortranarray(maps)[:, ::1, :]
    assert_same(whole, evaluate(strided, masks, labels, scores))


def test_wider_types_hold_the_scores_of_narrower_ones_and_give_the_same_metrics() -> None:
    import torch

    maps, masks, labels = planted(3)
    half = maps.astype(np.float16)
    for dtype in (np.float32, np.float64):
        assert_same(evaluate(half, masks, labels), evaluate(half.astype(dtype), masks, labels))
    brain = torch.from_numpy(maps).bfloat16()
    assert_same(evaluate(brain, masks, labels), evaluate(brain.float(), masks, labels))


def test_evaluating_changes_no_input() -> None:
    maps, masks, labels = planted(5)
    maps[0, 0, 0] = -0.0
    before = maps.copy(), masks.copy(), labels.copy()
    evaluate(maps, masks, labels, maps.max((1, 2)))
    for now, then in zip((maps, masks, labels), before, strict=True):
        assert now.tobytes() == then.tobytes()


@given(seed=st.integers(0, 10**6), density=st.floats(0, 1))
@settings(max_examples=60)
def test_regions_are_those_that_flooding_finds(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 13, 2))) < density
    labels, count = label_regions(mask)
    flooded = regions_by_flooding(mask)
    found = [
        {(int(y), int(x)) for y, x in zip(*np.nonzero(labels == n), strict=True)}
        for n in range(1, count + 1)
    ]
    # Numbered in the order of their first pixel, rows first.
    assert found == sorted(flooded, key=min)
    assert (labels > 0).sum() == mask.sum()


def test_per_region_values_average_to_aupro_and_name_the_worst() -> None:
    maps, masks, labels = planted(11)
    result = evaluate(maps, masks, labels)
    each = [v for v in result.detail["region_aupro_30"] if v is not None]
    assert len(each) == result.counts["regions"]
    assert result.values["region_aupro_30_mean"] == pytest.approx(result.values["aupro_30"])
    assert result.values["region_aupro_30_median"] == pytest.approx(np.median(each))
    assert result.values["region_aupro_30_worst"] == min(each)


def test_detail_gives_the_pixel_auroc_of_every_masked_image() -> None:
    maps, masks, labels = planted(12)
    each = evaluate(maps, masks, labels, detail=True).detail["pixel_auroc"]
    for value, anomaly_map, mask in zip(each, maps, masks, strict=True):
        if mask.any():
            assert value == pytest.approx(
                binary_by_loops(anomaly_map.ravel(), mask.ravel())[0], abs=1e-12
            )
        else:
            assert value is None


@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([None, 2, 9]),
    dtype=st.sampled_from(["float16", "float32", "float64", "uint8", "int32", "int64"]),
    one_size=st.booleans(),
)
@settings(max_examples=80)
def test_the_engine_of_accelerators_gives_the_same_bits(
    seed: int, levels: int | None, dtype: str, one_size: bool
) -> None:
    import torch

    maps, masks, labels = planted(seed, levels)
    scores = np.clip(maps * 20 + (0 if dtype == "float32" else 100), -100, 255).astype(dtype)
    heights = [12 if one_size else 12 - i % 3 for i in range(len(maps))]
    parts = [m[:h] for m, h in zip(scores, heights, strict=True)]
    flags = [m[:h] for m, h in zip(masks, heights, strict=True)]
    labels = np.array([int(mask.any()) for mask in flags])
    options: dict[str, Any] = {"aupimo_bounds": (0.01, 0.2), "detail": True}
    expected = evaluate(parts, flags, labels, **options)
    with tensors_stay_tensors():
        found = evaluate(
            [torch.from_numpy(part.copy()) for part in parts], flags, labels, **options
        )
    assert found == expected


@contextmanager
def tensors_stay_tensors() -> Iterator[None]:
    """Tensors on the CPU share memory with arrays; here they stay tensors, as on an accelerator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "as_array", lambda value, what: value)
        patch.setattr(device, "DEVICE_BLOCK", 40)
        yield


def test_a_nan_in_a_tensor_is_named() -> None:
    import torch

    maps, masks, labels = planted(21)
    broken = torch.from_numpy(maps)
    broken[1, 2, 3] = torch.nan
    with tensors_stay_tensors(), pytest.raises(DataError, match=r"1 NaN .* image 1"):
        evaluate(broken, masks, labels)


@pytest.mark.gpu
def test_cuda_tensors_give_the_metrics_of_arrays() -> None:
    import torch

    maps, masks, labels = planted(22, levels=9)
    options: dict[str, Any] = {"aupimo_bounds": (0.01, 0.2), "detail": True}
    on_device = torch.from_numpy(maps).cuda(), torch.from_numpy(masks).cuda()
    expected = evaluate(maps, masks, labels, **options)
    assert evaluate(*on_device, labels, **options) == expected
