"""Which training images are kept for validation: drawn by the seed, named by a purpose."""

from __future__ import annotations

import math

import numpy as np
import torch

from bench.errors import MethodError
from bench.seeds import seed_of


def split_indices(count: int, share: float, seed: int, purpose: str) -> tuple[list[int], list[int]]:
    """(the rest, the part held out) of `count` images, each in ascending order.

    Args:
        share: in (0, 1); share * count rounded up are held out.

    Raises:
        MethodError: a share that leaves one of the two without an image.
    """
    # Rounded first, or 0.1 * 30 = 3.0000000000000004 would hold out four.
    held = _checked(math.ceil(round(share * count, 9)), count, share, purpose)
    generator = torch.Generator().manual_seed(seed_of(seed, "hold out", purpose))
    order = torch.randperm(count, generator=generator).tolist()
    return sorted(order[held:]), sorted(order[:held])


def published_split(
    count: int, share: float, seed: int, purpose: str
) -> tuple[list[int], list[int]]:
    """As `split_indices`, but drawn as scikit-learn's `train_test_split` draws.

    A permutation by NumPy's legacy generator: its first entries are held out. The share of the
    count is rounded up as it comes, so that 0.1 of 30 are four.

    Raises:
        MethodError: a share that leaves one of the two without an image.
    """
    held = _checked(math.ceil(share * count), count, share, purpose)
    order = np.random.RandomState(seed).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])


def _checked(held: int, count: int, share: float, purpose: str) -> int:
    if not (0 < share < 1 and 0 < held < count):
        raise MethodError(
            f"{purpose}: a share of {share} of {count} training images leaves no image on one "
            "side; choose a share between 0 and 1, and use at least 2 images"
        )
    return held
