"""Which training images are kept for validation: drawn by the seed, named by a purpose."""

from __future__ import annotations

import hashlib
import math

import torch

from bench.errors import MethodError


def split_indices(count: int, share: float, seed: int, purpose: str) -> tuple[list[int], list[int]]:
    """(the rest, the part held out) of `count` images, each in ascending order.

    Args:
        share: in (0, 1); share * count rounded up are held out.

    Raises:
        MethodError: a share that leaves one of the two without an image.
    """
    # Rounded first, or 0.1 * 30 = 3.0000000000000004 would hold out four.
    held = math.ceil(round(share * count, 9)) if 0 < share < 1 else 0
    if not 0 < held < count:
        raise MethodError(
            f"{purpose}: a share of {share} of {count} training images leaves no image on one "
            "side; choose a share between 0 and 1, and use at least 2 images"
        )
    digest = hashlib.sha256(f"{seed}/hold out/{purpose}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    order = torch.randperm(count, generator=generator).tolist()
    return sorted(order[held:]), sorted(order[:held])
