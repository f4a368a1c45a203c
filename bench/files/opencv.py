"""OpenCV's bilinear resize of 8-bit pictures, in its whole numbers, without OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHOLE = 2048
"""Weights are whole numbers of this."""


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`cv2.resize` with its default filter: between the four nearest pixels, not antialiased.

    Args:
        pixels: (H, W) or (H, W, C).
        size: (height, width).
    """
    if pixels.shape[:2] == size:
        return pixels
    values = pixels.reshape(*pixels.shape[:2], -1).astype(np.int32)
    (left, near), (right, far) = _neighbours(pixels.shape[1], size[1])
    values = values[:, left] * near[:, None] + values[:, right] * far[:, None]
    (above, near), (below, far) = _neighbours(pixels.shape[0], size[0])
    # Cut at each step, as OpenCV's vector code does: a level may be lower than rounding gives.
    values >>= 4
    upper = values[above] * near[:, None, None] >> 16
    lower = values[below] * far[:, None, None] >> 16
    levels: NDArray[np.uint8] = ((upper + lower + 2) >> 2).astype(np.uint8)
    return levels.reshape(*size, *pixels.shape[2:])


def _neighbours(native: int, size: int) -> list[tuple[NDArray[np.intp], NDArray[Any]]]:
    """The two native pixels around the centre of each of `size`, with their weights."""
    position = ((np.arange(size) + 0.5) * (native / size) - 0.5).astype(np.float32)
    before = np.floor(position)
    share = position - before
    first = before.astype(np.intp)
    # Rounded apart, so that they may sum to one more. Outside, the edge pixel stands for both.
    weights = [np.rint(part * _WHOLE).astype(np.int32) for part in (1 - share, share)]
    return [(np.clip(first + n, 0, native - 1), weights[n]) for n in (0, 1)]
