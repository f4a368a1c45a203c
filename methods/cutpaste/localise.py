"""Where a picture is anomalous: scores of patches spread over pixels, or Grad-CAM."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def patches(images: Tensor, side: int, stride: int) -> Tensor:
    """(B, rows, columns, C, side, side): every square of the (B, C, H, W) images, a view."""
    return images.unfold(2, side, stride).unfold(3, side, stride).permute(0, 2, 3, 1, 4, 5)


def gaussian_window(side: int) -> Tensor:
    """(side, side) weights of a patch's pixels, float64; `side` is even.

    As LilitYolyan/CutPaste at 0f342cc: a Gaussian of side - 1 samples whose centre stands twice,
    halved. Its width is 10 pixels from 32 pixels on.
    """
    sigma = 10.0 if side >= 32 else math.log10(0.45 * side + 1) + 0.25
    centre = side // 2 - 1
    positions = torch.arange(side, dtype=torch.float64)
    # The second half is one sample late: the centre stands twice.
    offset = torch.where(positions > centre, positions - 1, positions) - centre
    line = (-0.5 * (offset / sigma) ** 2).exp() / 2
    return line[:, None] * line[None]


def spread(scores: Tensor, window: Tensor, stride: int) -> Tensor:
    """(B, H, W) sums of the windows of all patches that cover a pixel, times their scores.

    Args:
        scores: (B, rows, columns).
        window: (side, side).
    """
    kernel = window.to(scores)[None, None]
    return functional.conv_transpose2d(scores[:, None], kernel, stride=stride)[:, 0]


def patch_map(scores: Tensor, side: int, stride: int, size: tuple[int, int]) -> Tensor:
    """(B, height, width) mean score of the patches over each pixel, weighted by `gaussian_window`.

    Divided by the weights, so that borders, which fewer patches cover, are not lower; pixels
    behind the last patch repeat the edge.
    """
    window = gaussian_window(side)
    total = spread(scores, window, stride)
    weight = spread(torch.ones_like(scores[:1]), window, stride)
    pad = (0, size[1] - total.shape[-1], 0, size[0] - total.shape[-2])
    return functional.pad((total / weight)[:, None], pad, mode="replicate")[:, 0]


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """(B, h, w) activations weighted by the spatial mean of the gradients, cut off below zero.

    Both (B, C, h, w): Selvaraju et al., arXiv:1610.02391, equations 1 and 2.
    """
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * activations).sum(1).clamp(min=0)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) to (B, height, width): bilinear, corners aligned, as the implementation does."""
    return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=True)[:, 0]
