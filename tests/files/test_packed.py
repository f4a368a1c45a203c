"""Compressed masks: the values come back, each time as an array of its own."""

from __future__ import annotations

import numpy as np
import pytest

from bench.files.packed import PackedMasks


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 48)])
def test_masks_come_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    masks = [(rng.random(shape) < 0.3).astype(np.uint8), None, np.zeros(shape, np.uint8)]
    packed = PackedMasks(masks)
    assert packed.shapes == [shape, None, shape]
    for mask, found in zip(masks, packed, strict=True):
        if mask is None or found is None:
            assert mask is found
            continue
        assert np.array_equal(mask, found)
        assert found.dtype == np.uint8


def test_a_mask_that_was_changed_by_its_reader_stays_as_it_was() -> None:
    packed = PackedMasks([np.eye(4, dtype=np.uint8)])
    first = packed[0]
    assert first is not None
    first[:] = 1
    (again,) = packed[0:1]
    assert again is not None
    assert np.array_equal(again, np.eye(4))


def test_large_masks_take_little_memory() -> None:
    mask = np.zeros((1024, 1024), np.uint8)
    mask[300:420, 500:640] = 1
    assert sum(map(len, PackedMasks([mask])._bits)) < mask.size / 500
