"""Rotated copies of a picture, and gradients rotated back."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from scipy.ndimage import spline_filter1d
from scipy.special import cosdg, sindg
from torch import Tensor

from bench.api import IMAGENET_MEAN, IMAGENET_STD

_BITS = 16


def rotate(image: Tensor, degrees: Tensor) -> Tensor:
    """Copies of a picture turned counter-clockwise about its centre, of its own size.

    Nearest neighbour, corners black before normalisation: the pixels that Pillow takes.

    Args:
        image: (3, H, W), normalised.
        degrees: (n,).

    Returns:
        (n, 3, H, W).
    """
    size = (image.shape[-2], image.shape[-1])
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    black = (-mean / std).to(image)[:, None]
    # Entry 0 is what lies outside.
    pixels = torch.cat([black, image.flatten(1)], 1)
    copies = [pixels[:, _source(size, float(angle), image.device)] for angle in degrees]
    return torch.stack(copies).view(-1, 3, *size)


def _source(size: tuple[int, int], degrees: float, device: torch.device) -> Tensor:
    """(H * W,) for each pixel of the result one more than the pixel it shows; 0: none.

    In whole 65536ths of a pixel, as Pillow computes, whose rounding decides where a centre falls
    between two pixels.
    """
    height, width = size
    angle = -math.radians(degrees % 360)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = (torch.arange(side, device=device) for side in (width, height))
    left = width / 2 - cosine * width / 2 - sine * height / 2 + cosine / 2 + sine / 2
    top = height / 2 + sine * width / 2 - cosine * height / 2 - sine / 2 + cosine / 2
    columns = (_fixed(left) + _fixed(sine) * y[:, None] + _fixed(cosine) * x) >> _BITS
    rows = (_fixed(top) + _fixed(cosine) * y[:, None] - _fixed(sine) * x) >> _BITS
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return torch.where(inside, rows * width + columns + 1, 0).flatten()


def _fixed(value: float) -> int:
    return math.floor(value * (1 << _BITS) + 0.5)


def rotate_back(maps: Tensor, degrees: float) -> Tensor:
    """Undo `rotate` on (C, H, W) maps: cubic splines, zero outside, as SciPy's `rotate`."""
    height, width = size = (maps.shape[-2], maps.shape[-1])
    cosine, sine = float(cosdg(degrees)), float(sindg(degrees))
    y, x = (
        torch.arange(side, dtype=torch.float64, device=maps.device) - (side - 1) / 2
        for side in size
    )
    y = y[:, None]
    rows = cosine * y - sine * x + (height - 1) / 2
    columns = sine * y + cosine * x + (width - 1) / 2
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    coefficients = _spline_matrix(height, maps.dtype, maps.device) @ maps
    coefficients = coefficients @ _spline_matrix(width, maps.dtype, maps.device).T
    pixels = coefficients.flatten(1)
    total = torch.zeros_like(maps)
    row_taps, column_taps = _taps(rows, height, maps.dtype), _taps(columns, width, maps.dtype)
    for row, row_weight in row_taps:
        for column, column_weight in column_taps:
            found = pixels[:, (row * width + column).flatten()].view_as(maps)
            total.addcmul_(found, row_weight * column_weight)
    return total * inside


def _taps(at: Tensor, count: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """The four samples around each coordinate, mirrored at the ends, and their weights."""
    start = at.floor()
    t = at - start
    weights = (
        (1 - t) ** 3 / 6,
        ((3 * t - 6) * t * t + 4) / 6,
        (((3 - 3 * t) * t + 3) * t + 1) / 6,
        t**3 / 6,
    )
    taps = []
    for offset, weight in enumerate(weights, -1):
        index = (start.long() + offset).clamp(-count + 1, 2 * count - 2).abs()
        index = torch.where(index >= count, 2 * count - 2 - index, index)
        taps.append((index, weight.to(dtype)))
    return taps


@lru_cache(maxsize=16)
def _spline_matrix(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(count, count) matrix from samples to coefficients of the cubic spline through them."""
    # The cache outlives the caller's mode: a tensor made under inference mode would not serve all.
    with torch.inference_mode(False):
        unit = torch.eye(count, dtype=torch.float64).numpy()
        matrix = spline_filter1d(unit, 3, axis=0, mode="mirror") if count > 1 else unit
        return torch.from_numpy(matrix).to(device, dtype)
