"""Pixels as they were before the harness normalised them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.api import IMAGENET_MEAN, IMAGENET_STD
from bench.blocks.on_device import constant

if TYPE_CHECKING:
    from torch import Tensor


def unnormalised(images: Tensor) -> Tensor:
    """(..., 3, H, W) ImageNet-normalised -> values in [0, 1]."""
    mean, std = (constant(m, images).view(3, 1, 1) for m in (IMAGENET_MEAN, IMAGENET_STD))
    return (images * std + mean).clamp_(0, 1)
