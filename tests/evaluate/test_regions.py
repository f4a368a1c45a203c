"""Positions of flags, and regions of a set of masks."""

from __future__ import annotations

import numpy as np
import pytest

from bench.evaluate import label_masks, label_regions
from bench.evaluate.positions import positions_of


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("length", [0, 5, 64, 1003])
def test_positions_are_those_of_the_set_flags(length: int, share: float) -> None:
    flags = np.random.default_rng(length).random(length) < share
    assert positions_of(flags).tolist() == [i for i, flag in enumerate(flags) if flag]


def test_regions_of_a_set_are_those_of_its_images_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random(tuple(rng.integers(1, 9, 2))) < 0.5 for _ in range(40)]
    regions = label_masks([*masks, None])
    at = 0
    for index, mask in enumerate(masks):
        labels, count = label_regions(mask)
        ids = regions.ids[regions.offsets[index] : regions.offsets[index + 1]]
        assert (ids == labels[mask] - 1 + at).all()
        assert (regions.images[at : at + count] == index).all()
        at += count
    assert at == len(regions)
    assert (np.bincount(regions.ids) == regions.sizes).all()
