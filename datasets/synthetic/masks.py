"""The mask: the pixels that the defect changed, as far as the camera can see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from .noise import Array, Mask

VISIBLE = 6 / 255
"""A pixel belongs to the defect from this change on, in its most changed channel."""
CLEAR = 10 / 255
"""A defect that nowhere changes more than this is drawn again."""
LARGEST = 0.25
EIGHT = np.ones((3, 3), dtype=np.bool_)


def mask_of_change(change: Array, fill: bool) -> Mask:
    """The defect mask from |bad - clean|, both before sensor noise.

    Args:
        change: (H, W) largest absolute difference over the channels, in 0..1.
        fill: a part moved: close wider and fill holes, so that where it was and where it is are
            one region.

    Returns:
        (H, W); components below 4 pixels at 256 are dropped.
    """
    scale = change.shape[0] / 256
    mask = change >= VISIBLE
    # Below 128 pixels one step of closing would join marks that are far apart in the scene.
    if scale >= 0.5:
        mask = _close(mask, max(1, round(scale)))
    if fill:
        mask = ndimage.binary_fill_holes(_close(mask, max(1, round(4 * scale))))
    labels, count = ndimage.label(mask, structure=EIGHT)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    keep = areas >= 4 * scale**2
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def _close(mask: Mask, iterations: int) -> Mask:
    # Padded: closing treats what lies beyond the border as background and would erode the rim.
    padded = np.pad(mask, iterations)
    closed = ndimage.binary_closing(padded, structure=EIGHT, iterations=iterations)
    return np.asarray(closed[iterations:-iterations, iterations:-iterations], dtype=np.bool_)


def is_visible(change: Array, mask: Mask) -> bool:
    """Whether the defect can be seen at all, and does not take over the image."""
    scale = change.shape[0] / 256
    area = int(mask.sum())
    largest = float(change.max())
    return 12 * scale**2 <= area <= LARGEST * mask.size and largest >= CLEAR and area > 0
