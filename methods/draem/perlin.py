"""Perlin noise by two matrix products, and rotations of pictures and noise."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional


def perlin(uniform: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient noise (Perlin 1985) with fade 6t^5 - 15t^4 + 10t^3, times sqrt(2).

    The gradients at the corners of the cells are unit vectors at angles 2 pi u, rows first. A
    pixel's value is a sum over the four corners around it of products of a row's and a column's
    weight: for all pixels, products of the weights' matrices with that of the gradients.

    Args:
        uniform: (rows + 1, columns + 1) numbers u in [0, 1).
        size: (height, width), multiples of rows and columns.

    Returns:
        (height, width), of the type of `uniform`.
    """
    rows, columns = uniform.shape[0] - 1, uniform.shape[1] - 1
    weight_y, slope_y = (m.to(uniform) for m in _corners(size[0], rows))
    weight_x, slope_x = (m.to(uniform) for m in _corners(size[1], columns))
    angles = 2 * math.pi * uniform
    down = slope_y @ angles.cos() @ weight_x.T
    across = weight_y @ angles.sin() @ slope_x.T
    return math.sqrt(2) * (down + across)


@functools.lru_cache(maxsize=64)
def _corners(size: int, cells: int) -> tuple[Tensor, Tensor]:
    """Weight of each of the cells' corners at each pixel of an axis, and weight times distance.

    Returns:
        two (size, cells + 1) matrices, float64.
    """
    if size % cells:
        raise ValueError(f"{cells} cells do not divide {size} pixels")
    pixels = torch.arange(size)
    width = size // cells
    cell, t = pixels // width, (pixels % width).double() / width
    fade = 6 * t**5 - 15 * t**4 + 10 * t**3
    weight = torch.zeros(size, cells + 1, dtype=torch.float64)
    slope = torch.zeros_like(weight)
    weight[pixels, cell], weight[pixels, cell + 1] = 1 - fade, fade
    slope[pixels, cell], slope[pixels, cell + 1] = (1 - fade) * t, fade * (t - 1)
    return weight, slope


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each of (B, C, H, W) images clockwise about its centre; bilinear, zero outside.

    Args:
        degrees: (B,).
    """
    height, width = images.shape[-2:]
    angles = torch.deg2rad(degrees.to(images))
    cosine, sine = angles.cos(), angles.sin()
    # In units of half a side, which differ between the axes.
    ratio = (height - 1) / (width - 1)
    zero = torch.zeros_like(cosine)
    rows = torch.stack(
        [
            torch.stack([cosine, sine * ratio, zero], 1),
            torch.stack([-sine / ratio, cosine, zero], 1),
        ],
        1,
    )
    grid = functional.affine_grid(rows, list(images.shape), align_corners=True)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="zeros", align_corners=True
    )
