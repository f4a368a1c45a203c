"""Structural similarity of two batches of images: one formula, and the windows that differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from bench.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor

Border = Literal["valid", "zeros", "edge"]

_LUMINANCE, _CONTRAST = 0.01, 0.03


@dataclass(frozen=True)
class Window:
    """Where and how local means, variances and covariances are taken.

    Attributes:
        side: of the square window, in pixels; odd, at least 3.
        sigma: of a Gaussian window, in pixels; None: a uniform window.
        border: "valid": only positions where the window fits, so that a map is `side` - 1 smaller;
            "zeros": full size, zeros outside; "edge": full size, mirrored with the edge repeated
            (d c b a | a b c d), as SciPy's "reflect".
        is_sample: variances and covariances with divisor n - 1 instead of n, n = side squared.
        summed: type in which a Gaussian's weights are made to sum to 1, before they are rounded to
            float32. In float32, as published torch code does it, the sum ends 7e-8 short of 1;
            variances are differences of squares, so that losses show it.
    """

    side: int = 11
    sigma: float | None = 1.5
    border: Border = "valid"
    is_sample: bool = False
    summed: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.side < 3 or self.side % 2 == 0:
            raise MethodError(
                f"SSIM window of side {self.side}; choose an odd one from 3 on, 11 is usual"
            )
        if self.sigma is not None and not self.sigma > 0:
            raise MethodError(f"SSIM window with sigma {self.sigma}; it must be positive")


GAUSSIAN = Window()
"""Wang et al. 2004: 11x11, sigma 1.5, at the positions where it fits."""
UNIFORM = Window(sigma=None, border="edge", is_sample=True)
"""What scikit-image's `structural_similarity` does by default with `win_size=11`."""


def ssim_map(a: Tensor, b: Tensor, window: Window = GAUSSIAN, value_range: float = 1.0) -> Tensor:
    """SSIM of each channel at each position (Wang, Bovik, Sheikh, Simoncelli 2004, equation 13).

    Differences of nearly equal moments are taken, so float32 images of range 255 lose digits:
    give float64 where maps have to be exact.

    Args:
        a: (B, C, H, W).
        b: the same shape.
        value_range: distance between the smallest and the largest value that images may have.

    Returns:
        (B, C, h, w) in [-1, 1]; h and w are those of the images, less `side` - 1 where only valid
        positions count. Differentiable in both images.

    Raises:
        MethodError: shapes that differ, or images smaller than a window that has to fit.
    """
    if a.shape != b.shape or a.ndim != 4:
        raise MethodError(
            f"SSIM of shapes {tuple(a.shape)} and {tuple(b.shape)}; give (B, C, H, W)"
        )
    height, width = a.shape[-2:]
    if window.border == "valid" and min(height, width) < window.side:
        raise MethodError(
            f"SSIM window of {window.side}x{window.side} does not fit images of {height}x{width}; "
            "use larger images"
        )
    if window.border == "edge":
        a, b = _mirrored(a, window.side // 2), _mirrored(b, window.side // 2)
    # Apart, so that a target without gradient costs no backward pass.
    (mean_a,) = _filtered(a[None], window)
    mean_b, squares, product = _filtered(torch.stack((b, a * a + b * b, a * b)), window)
    count = window.side**2
    scale = count / (count - 1) if window.is_sample else 1.0
    means = mean_a * mean_b
    mean_squares = mean_a * mean_a + mean_b * mean_b
    covariance = scale * (product - means)
    variances = scale * (squares - mean_squares)
    c1, c2 = (_LUMINANCE * value_range) ** 2, (_CONTRAST * value_range) ** 2
    luminance = (2 * means + c1) / (mean_squares + c1)
    result: Tensor = luminance * (2 * covariance + c2) / (variances + c2)
    return result


def _filtered(planes: Tensor, window: Window) -> Tensor:
    """(M, B, C, H, W) -> weighted mean over the window around each position."""
    pad = window.side // 2 if window.border == "zeros" else 0
    *shape, height, width = planes.shape
    # Every plane a channel of one image: oneDNN then vectorises over planes, eight times as fast on
    # a CPU as a convolution of three channels, and as fast as two passes of one-sided windows.
    flat = planes.reshape(1, math.prod(shape), height, width)
    if window.sigma is None:
        flat = _uniform(flat, window.side, pad)
    else:
        flat = _convolved(flat, _gaussian(window), pad)
    return flat.view(*shape, *flat.shape[-2:])


def _uniform(flat: Tensor, side: int, pad: int) -> Tensor:
    """(1, N, H, W), means over windows: differences of running sums, along each axis.

    The sums are float64, and exact where values are whole numbers, as levels of 8 bits and their
    squares are.
    """
    sums = functional.pad(flat.double(), (pad,) * 4)
    for axis in (-2, -1):
        before = (1, 0) if axis == -1 else (0, 0, 1, 0)
        running = functional.pad(sums, before).cumsum(axis)
        count = running.shape[axis] - side
        sums = running.narrow(axis, side, count) - running.narrow(axis, 0, count)
    return (sums / side**2).to(flat.dtype)


def _convolved(flat: Tensor, kernel: Tensor, pad: int) -> Tensor:
    """(1, N, H, W), each plane with the same (side, side) kernel."""
    count = flat.shape[1]
    weight = kernel.to(flat.device, flat.dtype).expand(count, 1, -1, -1)
    result: Tensor = functional.conv2d(flat, weight, padding=pad, groups=count)
    return result


def _gaussian(window: Window) -> Tensor:
    """(side, side) weights in float32."""
    assert window.sigma is not None
    half, dtype = window.side // 2, getattr(torch, window.summed)
    line = [math.exp(-(x**2) / (2 * window.sigma**2)) for x in range(-half, half + 1)]
    taps = torch.tensor(line, dtype=dtype)
    taps /= taps.sum()
    return torch.outer(taps, taps).float()


def _mirrored(images: Tensor, pad: int) -> Tensor:
    """(B, C, H, W) continued by `pad` on all sides, the edge repeated."""
    rows, columns = (_mirrored_line(n, pad, images.device) for n in images.shape[-2:])
    return images.index_select(-2, rows).index_select(-1, columns)


def _mirrored_line(size: int, pad: int, device: torch.device) -> Tensor:
    """Indices of a line of `size` samples continued by `pad` on both sides."""
    index = torch.arange(-pad, size + pad, device=device) % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)
