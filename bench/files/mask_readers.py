"""Masks at another size, as the readers of published codes make them: each its own rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bench.files import opencv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Mask = NDArray[np.uint8]
    Size = tuple[int, int]


def rounded(mask: NDArray[np.bool_], size: Size) -> Mask:
    """Antialiased, then rounded half to even, as the published PyramidFlow reader does.

    Its masks are grey / 255; ours are made binary first, which is the same for 0 and 255.
    """
    if mask.shape == size:
        return mask.astype(np.uint8)
    grey = Image.fromarray(mask.astype(np.float32))
    scaled: NDArray[np.float32] = np.asarray(grey.resize(size[::-1], Image.Resampling.BILINEAR))
    found: Mask = scaled.round().astype(np.uint8)
    return found


def enclosed(mask: NDArray[np.bool_], size: Size) -> Mask:
    """OpenCV's resize of 0 and 255, then only 255: defects shrink by their border.

    The published DRAEM reader divides by 255 and cuts to whole numbers.
    """
    grey = opencv.resize(mask.astype(np.uint8) * np.uint8(255), size)
    whole: Mask = (grey == 255).astype(np.uint8)
    return whole


def covered(mask: NDArray[np.bool_], size: Size) -> Mask:
    """Antialiased in whole grey values, then only the white pixels, as PatchCore's reader does."""
    if mask.shape == size:
        return mask.astype(np.uint8)
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    scaled: NDArray[np.uint8] = np.asarray(grey.resize(size[::-1], Image.Resampling.BILINEAR))
    white: Mask = (scaled == 255).astype(np.uint8)
    return white


def halved(mask: NDArray[np.bool_], size: Size) -> Mask:
    """scikit-image's antialiased resize, cut at one half: the reader of the published DFR."""
    if mask.shape == size:
        return mask.astype(np.uint8)
    from skimage.transform import resize

    values = mask.astype(np.float64)
    grey = resize(values, size, order=1, anti_aliasing=True)  # type: ignore[no-untyped-call]
    found: Mask = (grey > 0.5).astype(np.uint8)
    return found


def touched(mask: NDArray[np.bool_], size: Size) -> Mask:
    """Where bilinear interpolation without antialiasing gives more than zero: STFPM's reader.

    Borders grow by this, and lines thinner than the step between pixels can vanish.
    """
    rows = [mask[taps] for taps in _taps(mask.shape[0], size[0])]
    found = np.logical_or(*rows)
    columns = [found[:, taps] for taps in _taps(mask.shape[1], size[1])]
    return np.logical_or(*columns).astype(np.uint8)


def _taps(native: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The two native pixels that each of `size` pixels is interpolated from; one twice if alone.

    Centres lie at half pixels, and those before the first count as the first. In whole numbers, so
    that a weight of zero is zero.
    """
    twice = np.maximum((2 * np.arange(size) + 1) * native - size, 0)
    below, beyond = twice // (2 * size), twice % (2 * size) > 0
    return below, np.minimum(below + beyond, native - 1)


READERS: Mapping[str, Callable[[NDArray[np.bool_], Size], Mask]] = {
    "bilinear": rounded,
    "covered": covered,
    "enclosed": enclosed,
    "gaussian": halved,
    "touched": touched,
}
"""By `Protocol.mask_resample`; "nearest" keeps the numbers of regions and stands with the masks."""
