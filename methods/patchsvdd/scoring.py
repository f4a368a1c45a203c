"""From distances of patches to maps of pixels."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def cover_map(distances: Tensor, side: int, stride: int, size: tuple[int, int]) -> Tensor:
    """Each pixel's mean over the patches that cover it.

    A patch covers a pixel if it does so on both axes, so the mean is that of rows and then of
    columns: A d B^T with one small matrix for each axis.

    Args:
        distances: (B, h, w), one for each patch.
        side, stride: of the patches, in pixels.
        size: (H, W) of the picture.

    Returns:
        (B, H, W) float64; 0 where no patch reaches.
    """
    rows, columns = (
        _cover(pixels, count, side, stride, distances.device)
        for pixels, count in zip(size, distances.shape[-2:], strict=True)
    )
    return rows @ distances.double() @ columns.T


@lru_cache(maxsize=32)
def _cover(pixels: int, count: int, side: int, stride: int, device: torch.device) -> Tensor:
    """(pixels, count) shares of the patches of one axis in the mean of each pixel."""
    # The cache outlives the caller's mode: a tensor made under inference mode would not serve all.
    with torch.inference_mode(False):
        pixel = torch.arange(pixels)[:, None]
        start = torch.arange(count) * stride
        covers = ((start <= pixel) & (pixel < start + side)).double()
        return (covers / covers.sum(1, keepdim=True).clamp(min=1)).to(device)


def uncovered(pixels: int, side: int, stride: int) -> int:
    """Pixels at the end of an axis that no patch reaches; all of them where none fits."""
    return pixels if pixels < side else (pixels - side) % stride
