"""Pixels as they were before the harness normalised them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.api import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from torch import Tensor


def unnormalised(images: Tensor) -> Tensor:
    """(..., 3, H, W) ImageNet-normalised -> values in [0, 1]."""
    mean = images.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(3, 1, 1)
    return (images * std + mean).clamp_(0, 1)
